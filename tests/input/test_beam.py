"""Apache Beam and object stores write the bytes that local processes write."""

import os
import subprocess
import sys

import fsspec
import pytest

from rsjax import storage
from rsjax.datasets.simulate import simulate
from rsjax.errors import ConfigError, DatasetError, RsjaxError, ShardError
from rsjax.input import build, lease, notes, on_beam, shards, verify

DIRECT = "--direct_num_workers=1"


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    path = tmp_path_factory.mktemp("download") / "bigearthnet"
    simulate("bigearthnet", path, 20, seed=1)
    return path


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 2**20)
    monkeypatch.setattr(on_beam, "POLL_S", 0.2)


@pytest.fixture(scope="module")
def prepared(download, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", 2**20)
        return build.build("bigearthnet", download, tmp_path_factory.mktemp("data"), workers=1)


def read_all(root):
    """Every file below a folder or URL, but the lock."""
    system, name = fsspec.core.url_to_fs(str(root))
    names = [one.removeprefix(f"{name}/") for one in system.find(name)]
    return {n: system.cat_file(f"{name}/{n}") for n in names if not n.startswith(".lock")}


def test_beam_writes_the_same_bytes(download, prepared, tmp_path):
    pytest.importorskip("apache_beam", reason="pip install 'rsjax[beam]'")
    made = build.build("bigearthnet", download, tmp_path, runner="DirectRunner", beam=DIRECT)
    assert len(read_all(prepared.root)) > 12
    assert read_all(made.root) == read_all(prepared.root)


def test_beam_in_processes_of_its_own_and_from_the_command_line(download, prepared, tmp_path):
    pytest.importorskip("apache_beam", reason="pip install 'rsjax[beam]'")
    made = prepared.root.parent.parent
    victim = next(iter(prepared.splits["train"]["shards"]))["file"]
    root = tmp_path / "bigearthnet" / "2.0.0"
    for name, content in read_all(made / "bigearthnet" / "2.0.0").items():
        if victim not in name and name != "manifest.json":  # one shard is left to write
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    code = "from rsjax import doors, prepare\nfrom rsjax.input import shards\n" \
        "shards.SHARD_BYTES = 2**20\ndoors.run(prepare.main)"  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-c", code, "--dataset=bigearthnet", f"--source={download}",
         f"--data_dir={tmp_path}", "--runner=DirectRunner",
         "--beam=--direct_num_workers=2 --direct_running_mode=multi_processing"],
        text=True, check=False, capture_output=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert str(root) in found.stdout
    assert read_all(root) == read_all(prepared.root)


def test_a_damaged_sample_stops_beam_with_its_own_message(download, tmp_path):
    pytest.importorskip("apache_beam", reason="pip install 'rsjax[beam]'")
    victim = sorted((download / "BigEarthNet-S2").rglob("*_B05.tif"))[3]
    content = victim.read_bytes()
    victim.write_bytes(content[:500])
    run = {"runner": "DirectRunner", "beam": DIRECT}
    try:
        with pytest.raises(DatasetError, match=rf"^\S*{victim.name}: "):
            build.build("bigearthnet", download, tmp_path, **run)
    finally:
        victim.write_bytes(content)
    root = tmp_path / "bigearthnet" / "2.0.0"
    kept = {p.name: p.stat().st_mtime_ns for p in root.glob("*array_record*")}
    assert len(kept) >= 3  # all but the damaged one
    assert not (root / "manifest.json").exists()
    made = build.build("bigearthnet", download, tmp_path, **run)
    assert {n: (root / n).stat().st_mtime_ns for n in kept} == kept
    assert sum(e["records"] for e in made.splits.values()) == 20
    assert not list((root / notes.FOLDER).glob("*.error"))


def test_a_shard_without_a_note_is_named(download, tmp_path, monkeypatch):
    pytest.importorskip("apache_beam", reason="pip install 'rsjax[beam]'")
    monkeypatch.setattr(on_beam, "write", print)
    with pytest.raises(ShardError, match=r"left out bigearthnet-test\.array_record-00000-of"):
        build.build("bigearthnet", download, tmp_path, runner="DirectRunner", beam=DIRECT)

    def broken(job):
        raise OSError("machine lost")

    monkeypatch.setattr(on_beam, "write", broken)
    with pytest.raises(ShardError, match=r"not written: .*machine lost"):
        build.build("bigearthnet", download, tmp_path, runner="DirectRunner", beam=DIRECT)


@pytest.mark.parametrize(
    ("runner", "flags", "message"),
    [
        ("NoRunner", "", "Unexpected pipeline runner: NoRunner"),
        ("DirectRunner", "--direct_num_wrkers=2", "knows no option direct_num_wrkers"),
        ("DirectRunner", "--direct_num_workers=x", "invalid int value: 'x'"),
        ("DirectRunner", "'", "No closing quotation"),
    ],
)
def test_what_beam_does_not_know_is_one_line(runner, flags, message):
    pytest.importorskip("apache_beam", reason="pip install 'rsjax[beam]'")
    with pytest.raises(ConfigError, match=message) as found:
        on_beam.parse(runner, flags)
    assert "\n" not in str(found.value)


def test_without_beam_the_extra_is_named(download, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    with pytest.raises(ConfigError, match=r"pip install 'rsjax\[beam\]'"):
        build.build("bigearthnet", download, tmp_path, runner="DirectRunner")
    assert list(tmp_path.iterdir()) == []


def test_an_object_store_gets_the_same_bytes(download, prepared, tmp_path):
    source, data_dir = "memory://downloads/ben", "memory://prepared"
    store = fsspec.filesystem("memory")
    store.put(str(download), source, recursive=True)
    made = build.build("bigearthnet", source, data_dir, workers=1)
    root = build.root_of(data_dir, made.info)
    assert read_all(root) == read_all(prepared.root)
    assert not storage.is_file(f"{root}/{lease.FILE}")
    assert list(storage.stage(root).iterdir()) == []
    storage.stage(root).rmdir()
    assert verify.find(data_dir, "bigearthnet") == root
    count = sum(records for _, records in verify.verify(root))
    assert count == 20

    victim = f"{root}/{made.splits['test']['shards'][0]['file']}"
    content = bytearray(store.cat_file(victim))
    content[len(content) // 2] ^= 1
    store.pipe_file(victim, bytes(content))
    with pytest.raises(ShardError, match=rf"{victim}: its sha256 is not"):
        list(verify.verify(root))
    store.rm_file(victim)
    with pytest.raises(ShardError, match=rf"{victim}: missing"):
        list(verify.verify(root))
    build.build("bigearthnet", source, data_dir, workers=1)  # the remedy
    assert read_all(root) == read_all(prepared.root)


def test_two_jobs_on_one_url_are_refused(download):
    root = "memory://locked/bigearthnet/2.0.0"
    with (
        lease.exclusive(root),
        pytest.raises(RsjaxError, match=f"in use by process {os.getpid()} on"),
    ):
        build.build("bigearthnet", download, "memory://locked", workers=1)
    with lease.exclusive(root):
        notes.write(root, lease.FILE, {"host": "elsewhere", "pid": 1, "since": "then", "fresh": 0})
        with lease.exclusive(root):  # its job stopped to say that it lives
            pass


def test_names_of_stores_are_checked_before_anything_is_done(download):
    with pytest.raises(ConfigError, match="nor a bucket or folder in one of gs://"):
        build.build("bigearthnet", download, "ftp://host/data", workers=1)
