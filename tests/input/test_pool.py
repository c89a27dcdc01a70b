"""What becomes of a prepare whose workers, parent or disk fail."""

import os
import pathlib
import resource
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from rsjax.datasets.simulate import simulate
from rsjax.errors import DiskError
from rsjax.input import build, notes, shards

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    path = tmp_path_factory.mktemp("download") / "bigearthnet"
    simulate("bigearthnet", path, 16, seed=1)
    return path


# Prepares with two workers; a worker that begins a shard whose name holds WORD does ACT.
SCRIPT = """
import os, signal, sys, time
from rsjax import doors, prepare
from rsjax.input import pool, shards

shards.SHARD_BYTES = 2**20
write = shards.write_shard

def act(job, beat):
    beat(0)
    if {word!r} in job.file:
        {act}
    return write(job, beat)

shards.write_shard = act
if __name__ == "__main__":
    doors.run(prepare.main)
"""


def start(tmp_path, download, word="", act="pass", *flags):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(word=word, act=act))
    return subprocess.Popen(
        [sys.executable, str(script), "--dataset=bigearthnet", f"--source={download}",
         f"--data_dir={tmp_path / 'data'}", "--workers=2", *flags],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def root_of(tmp_path):
    return tmp_path / "data" / "bigearthnet" / "2.0.0"


def temporaries(tmp_path):
    return list(root_of(tmp_path).rglob(".*.tmp"))


def goes_on(tmp_path, download):
    """The next run keeps what is finished, and ends."""
    root = root_of(tmp_path)
    kept = [p.stem for p in (root / notes.FOLDER).glob("*array_record*.json")]
    stamps = {name: (root / name).stat().st_mtime_ns for name in kept}
    before, shards.SHARD_BYTES = shards.SHARD_BYTES, 2**20
    try:
        made = build.build("bigearthnet", download, tmp_path / "data", workers=1)
    finally:
        shards.SHARD_BYTES = before
    assert sum(entry["records"] for entry in made.splits.values()) == 16
    assert all((root / name).stat().st_mtime_ns == stamps[name] for name in kept)
    assert not temporaries(tmp_path)
    return len(kept)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)", "ended (killed by SIGKILL)"),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "no sample was done for 3 s"),
    ],
)
def test_a_dead_or_hung_worker_is_named_and_ends_the_run(act, message, tmp_path, download):
    process = start(tmp_path, download, "validation", act, "--stall_s=3")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("ShardError: bigearthnet-validation.array_record-0000"), said
    assert message in last
    assert "run the same command again" in last
    assert "Traceback" not in said
    assert not temporaries(tmp_path)
    assert goes_on(tmp_path, download) >= 1


def children(pid):
    path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_stopped_from_outside_no_worker_outlives_it(number, tmp_path, download):
    process = start(tmp_path, download, "train", "print('in', flush=True); time.sleep(60)")
    assert process.stdout.readline() == "in\n"
    workers = children(process.pid)
    assert len(workers) >= 2
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert said.strip().splitlines()[-1] == (
            f"stopped by {number.name}. Finished shards are kept: run the same command again"
        )
        assert not temporaries(tmp_path)
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    if number == signal.SIGKILL:
        goes_on(tmp_path, download)


def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(tmp_path, download):
    code = textwrap.dedent(f"""
        import resource
        from rsjax import errors
        from rsjax.input import build
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        try:
            build.build("bigearthnet", {str(download)!r}, {str(tmp_path / "data")!r}, workers=1)
        except errors.DiskError as error:
            print(error)
    """)
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, check=False,
                           capture_output=True)  # fmt: skip
    assert found.returncode == 0, found.stderr
    for part in (
        "array_record-00000-of-00001",
        "File too large",
        "MB are free in",
        "run the same command again",
    ):
        assert part in found.stdout
    assert not temporaries(tmp_path)
    assert not list(root_of(tmp_path).glob("*array_record*"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    goes_on(tmp_path, download)


def test_a_note_that_cannot_be_written_names_itself(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DiskError, match=r"plan\.json: could not be written .*No space left"):
        notes.write(str(tmp_path), "plan.json", {})
