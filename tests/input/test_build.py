import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from rsjax import datasets, landcover
from rsjax.datasets.simulate import simulate
from rsjax.errors import ConfigError, DatasetError, RsjaxError, ShardError
from rsjax.input import build, notes, shards, verify
from rsjax.input import manifest as manifests
from rsjax.input.source import ShardSource

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    path = tmp_path_factory.mktemp("download") / "bigearthnet"
    simulate("bigearthnet", path, 24, seed=1)
    return path


@pytest.fixture(scope="module")
def prepared(download, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    with many_shards():
        return build.build("bigearthnet", download, data_dir, workers=1)


class many_shards:
    """Small shards, so that a few samples make several."""

    def __enter__(self):
        self.before, shards.SHARD_BYTES = shards.SHARD_BYTES, 2**20

    def __exit__(self, *_):
        shards.SHARD_BYTES = self.before


def digests(root):
    return {p.name: manifests.digest(p) for p in sorted(root.glob("*.array_record*"))}


def test_every_sample_arrives_unchanged(download, prepared):
    dataset = datasets.get("bigearthnet")(download)
    assert prepared.simulated
    assert len(prepared.splits["train"]["shards"]) > 1
    for split in prepared.splits:
        source = ShardSource(prepared.root, split)
        keys = dataset.keys(split)
        assert source.ids(range(len(source))) == keys
        batch = source.read(np.arange(len(source)))
        for row, key in enumerate(keys):
            example = dataset.read(key)
            for name in batch:
                np.testing.assert_array_equal(batch[name][row], example[name], err_msg=name)
            assert source.texts([row], "crs") == [example["crs"]]
            assert source.texts([row], "country") == [example["country"]]


def test_statistics_and_counts_are_those_of_the_train_split(prepared):
    batch = ShardSource(prepared.root, "train").read(np.arange(prepared.splits["train"]["records"]))
    for name, spec in prepared.info.images.items():
        for i, band in enumerate(spec.bands):
            values = batch[name][..., i].astype(np.float64)
            if spec.nodata is not None:
                values = values[(batch[name] != spec.nodata).any(-1)]
            found = prepared.statistics[spec.sensor][band]
            assert found["mean"] == pytest.approx(values.mean(), rel=1e-12)
            assert found["std"] == pytest.approx(values.std(), rel=1e-9)
    entry = prepared.splits["train"]
    np.testing.assert_array_equal(entry["class_counts"], batch["label"].sum(0))
    np.testing.assert_array_equal(
        entry["mask_counts"], np.bincount(batch["mask"].ravel(), minlength=256)
    )
    assert "split 'train'" in prepared.statistics_origin


def test_shards_do_not_depend_on_the_number_of_workers(download, prepared, tmp_path, monkeypatch):
    # Worker processes read SHARD_BYTES from their job list, made here.
    with many_shards():
        again = build.build("bigearthnet", download, tmp_path, workers=2)
    assert digests(again.root) == digests(prepared.root)
    assert again.statistics == prepared.statistics


def test_a_process_without_rsjax_reads_them_through_tfds(prepared):
    code = textwrap.dedent(f"""
        import sys
        import tensorflow_datasets as tfds
        source = tfds.builder_from_directory({str(prepared.root)!r}).as_data_source("train")
        print(len(source), source[0]["s2_10m"].shape, source[0]["s2_10m"].dtype,
              int(source[0]["s1"].sum()), source[0]["id"].decode())
        assert not {{"rsjax", "tensorflow"}} & set(sys.modules)
    """)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                           check=False, cwd="/")  # fmt: skip
    assert found.returncode == 0, found.stderr
    source = ShardSource(prepared.root, "train")
    batch = source.read(np.arange(1))
    expected = [str(len(source)), "(120,", "120,", "4)", "uint16", str(int(batch["s1"][0].sum())),
                source.ids([0])[0]]  # fmt: skip
    assert found.stdout.split() == expected


def test_killed_at_any_moment_the_next_run_goes_on(download, prepared, tmp_path):
    code = textwrap.dedent(f"""
        import sys, time
        from rsjax.input import build, shards
        shards.SHARD_BYTES = 2**20
        write = shards.write_shard
        def slow(*args):
            time.sleep(0.15)
            return write(*args)
        shards.write_shard = slow
        print("ready", flush=True)
        build.build("bigearthnet", {str(download)!r}, {str(tmp_path)!r}, workers=1)
    """)
    root = tmp_path / "bigearthnet" / "2.0.0"
    for attempt in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
        process.stdout.readline()
        while len(digests(root)) <= attempt and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.05 * attempt)  # into the next shard, at different places
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert not (root / "manifest.json").exists()
    kept = {n for n in digests(root) if (root / notes.FOLDER / f"{n}.json").exists()}
    stamps = {name: (root / name).stat().st_mtime_ns for name in kept}
    with many_shards():
        build.build("bigearthnet", download, tmp_path, workers=1)
    assert digests(root) == digests(prepared.root)
    assert not list(root.glob(".*.tmp"))
    assert len(kept) >= 2
    for name in kept:
        assert (root / name).stat().st_mtime_ns == stamps[name], f"{name} was written again"
    assert [f for f, _ in verify.verify(root)]


def copy_of(prepared, tmp_path):
    import shutil

    root = tmp_path / "bigearthnet" / "2.0.0"
    shutil.copytree(prepared.root, root)
    return root


def test_damage_is_found_named_and_mended(download, prepared, tmp_path):
    root = copy_of(prepared, tmp_path)
    victim = sorted(root.glob("*train*"))[1]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 4
    victim.write_bytes(content)
    with pytest.raises(ShardError, match=f"{victim.name}.*sha256"):
        list(verify.verify(root))
    source = ShardSource(root, "train")
    with pytest.raises(ShardError, match=rf"{victim.name}: record \d+ is damaged"):
        source.read(np.arange(len(source)))

    victim.write_bytes(content[: len(content) // 2])
    with pytest.raises(ShardError, match=f"{victim.name}: .*bytes, expected"):
        ShardSource(root, "train")
    victim.unlink()
    with pytest.raises(ShardError, match=f"{victim.name}: missing"):
        ShardSource(root, "train")
    with many_shards():  # the remedy of the message
        build.build("bigearthnet", download, tmp_path, workers=1)
    assert digests(root) == digests(prepared.root)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "LICENSE"])
def test_damage_of_what_tfds_reads_is_found_and_mended(name, download, prepared, tmp_path):
    root = copy_of(prepared, tmp_path)
    content = bytearray((root / name).read_bytes())
    content[len(content) // 2] ^= 1
    (root / name).write_bytes(content)
    with pytest.raises(ShardError, match=rf"{name}: its sha256 is not.*prepare. again"):
        list(verify.verify(root))
    (root / name).unlink()
    with pytest.raises(ShardError, match=f"{name}: missing"):
        list(verify.verify(root))
    with many_shards():
        build.build("bigearthnet", download, tmp_path, workers=1)
    assert len(list(verify.verify(root))) == len(digests(root))


def test_keys_are_listed_once_and_not_for_every_shard(download, tmp_path, monkeypatch):
    import pickle

    listed = []
    bigearthnet = datasets.get("bigearthnet")
    keys = bigearthnet.keys
    monkeypatch.setattr(bigearthnet, "keys", lambda self, s: listed.append(s) or keys(self, s))
    shards.forget()
    with many_shards():
        todo = [j for j in shards.jobs("bigearthnet", str(download), {}, tmp_path)
                if j.split == "train"]  # fmt: skip
        (tmp_path / notes.FOLDER).mkdir()
        listed.clear()
        for job in todo:
            shards.write_shard(job)
    assert len(todo) > 2
    assert listed == ["train"]
    assert max(len(pickle.dumps(job)) for job in todo) < 1000


def test_a_download_that_changed_is_read_again_and_its_fingerprint_taken_once(
    tmp_path, monkeypatch
):
    taken = []
    ucmerced = datasets.get("ucmerced")
    fingerprint = ucmerced.fingerprint
    monkeypatch.setattr(ucmerced, "fingerprint", lambda self: taken.append(1) or fingerprint(self))
    source = tmp_path / "source"
    simulate("ucmerced", source, 21)
    first = build.build("ucmerced", source, tmp_path / "a", workers=1)
    victim = sorted(source.rglob("*.tif"))[0]
    victim.unlink()
    second = build.build("ucmerced", source, tmp_path / "b", workers=1)
    counts = [sum(e["records"] for e in made.splits.values()) for made in (first, second)]
    assert counts == [21, 20]
    assert len(taken) == 2  # a listed file of many gigabytes would be hashed again each time
    assert first.source_fingerprint != second.source_fingerprint


def test_unknown_splits_and_entries_are_refused(prepared):
    with pytest.raises(ShardError, match="no split 'val'; it has train, validation, test"):
        ShardSource(prepared.root, "val")
    with pytest.raises(ShardError, match="no entries"):
        ShardSource(prepared.root, "train", columns=["s3"])
    with pytest.raises(ShardError, match="not there"):
        manifests.load(prepared.root.parent)
    joined = ShardSource(prepared.root, "train+test")
    assert len(joined) == sum(prepared.splits[s]["records"] for s in ("train", "test"))


def test_other_options_do_not_mix_in_one_folder(download, prepared, tmp_path):
    copy_of(prepared, tmp_path)
    with many_shards(), pytest.raises(ShardError, match=r"options(.|\n)*Use another --data_dir"):
        build.build("bigearthnet", download, tmp_path, {"maps": False}, workers=1)


@pytest.mark.parametrize(
    ("name", "told"), [("eurosat", "it has split_rule"), ("epfl_roofs", "it has none")]
)
def test_an_option_that_a_dataset_does_not_have_is_one_message(name, told, tmp_path):
    with pytest.raises(ConfigError, match=rf"--option=nope: {name} has no such option; {told}"):
        build.build(name, tmp_path, tmp_path / "data", {"nope": 1}, workers=1)
    assert not (tmp_path / "data").exists()


def test_damaged_samples_stop_the_run_or_are_listed(download, tmp_path):
    import shutil

    source = tmp_path / "source"
    shutil.copytree(download, source)
    victim = sorted((source / "BigEarthNet-S2").rglob("*_B05.tif"))[3]
    victim.write_bytes(victim.read_bytes()[:500])
    with pytest.raises(DatasetError, match=victim.name):
        build.build("bigearthnet", source, tmp_path / "a", workers=1)
    assert not list((tmp_path / "a").rglob("manifest.json"))
    with pytest.raises(ShardError, match=r"max_skipped.*The first: .*_B05.tif"):
        build.build("bigearthnet", source, tmp_path / "b", workers=1, on_error="skip")
    made = build.build("bigearthnet", source, tmp_path / "b", workers=1, on_error="skip",
                       max_skipped=0.5)  # fmt: skip
    skipped = [s for entry in made.splits.values() for s in entry["skipped"]]
    assert [s["key"] for s in skipped] == [victim.parent.name]
    assert victim.name in skipped[0]["reason"]
    assert sum(e["records"] for e in made.splits.values()) == 23


def test_images_of_varying_size_are_fitted_only_when_asked(tmp_path):
    simulate("ucmerced", tmp_path / "source", 63)
    made = build.build("ucmerced", tmp_path / "source", tmp_path / "data", workers=1)
    with pytest.raises(ShardError, match=r"differ in size.*fit_px"):
        ShardSource(made.root, "train")
    source = ShardSource(made.root, "train", fit=(0, 250, 260))
    batch = source.read(np.arange(4))
    assert batch["rgb"].shape == (4, 250, 260, 3)
    dataset = datasets.get("ucmerced")(tmp_path / "source")
    image = dataset.read(source.ids([0])[0])["rgb"]
    top = (image.shape[0] - 250) // 2
    inner = image[top : top + 250]
    left = (260 - image.shape[1]) // 2
    np.testing.assert_array_equal(batch["rgb"][0][:, left : left + image.shape[1]], inner)


def test_real_bigearthnet_patches_equal_what_rasterio_reads(samples, tmp_path):
    import rasterio

    folder = samples / "bigearthnet_v2"
    made = build.build("bigearthnet", folder, tmp_path / "s2",
                       {"sensors": ("s2",), "only_on_disk": True}, workers=1)  # fmt: skip
    corine = landcover.load("corine_l3")
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "metadata.parquet", columns=["patch_id", "labels", "split"])
    labels = {r["patch_id"]: r for r in table.to_pylist()}
    seen = 0
    for split in made.splits:
        source = ShardSource(made.root, split)
        batch = source.read(np.arange(len(source)))
        for row, key in enumerate(source.ids(range(len(source)))):
            product = key.rsplit("_", 2)[0]
            seen += 1
            assert labels[key]["split"] == split
            names = [n for n, v in zip(made.nomenclature.names, batch["label"][row], strict=True)
                     if v]  # fmt: skip
            assert sorted(names) == labels[key]["labels"]
            for name, spec in made.info.images.items():
                for i, band in enumerate(spec.bands):
                    path = folder / "BigEarthNet-S2" / product / key / f"{key}_{band}.tif"
                    with rasterio.open(path, driver="GTiff") as file:
                        np.testing.assert_array_equal(batch[name][row][..., i], file.read(1))
                        if band == "B02":
                            assert source.texts([row], "crs") == [str(file.crs)]
                            transform = tuple(file.transform)[:6]
            path = folder / "Reference_Maps" / product / key / f"{key}_reference_map.tif"
            with rasterio.open(path, driver="GTiff") as file:
                np.testing.assert_array_equal(corine.decode(batch["mask"][row]), file.read(1))
            entries = source.entries(row)
            from rsjax.input.records import tensor

            np.testing.assert_array_equal(tensor(entries, "transform", "float64", (6,)), transform)
    assert seen == 4

    options = {"sensors": ("s1",), "maps": False, "only_on_disk": True}
    made = build.build("bigearthnet", folder, tmp_path / "s1", options, workers=1)
    (split,) = made.splits
    batch = ShardSource(made.root, split).read(np.arange(1))
    for i, band in enumerate(("VV", "VH")):
        (path,) = (folder / "BigEarthNet-S1").rglob(f"*_{band}.tif")
        with rasterio.open(path, driver="GTiff") as file:
            np.testing.assert_array_equal(batch["s1"][0][..., i], file.read(1))


def test_a_second_prepare_in_one_folder_is_refused(download, prepared, tmp_path):
    from rsjax import lock

    with (
        lock.exclusive(tmp_path / "bigearthnet" / "2.0.0"),
        pytest.raises(RsjaxError, match=f"in use by process {os.getpid()}"),
    ):
        build.build("bigearthnet", download, tmp_path, workers=1)


def test_labels_out_of_range_never_reach_a_shard(download):
    info = datasets.get("bigearthnet")(download).info
    classes = landcover.load("bigearthnet19")
    example = datasets.get("bigearthnet")(download)
    example = example.read(example.keys("train")[0])
    check = shards._check
    check(example, info, classes, landcover.load("corine_l3"), "x")
    for entry, value in (
        ("label", np.full(19, 2, np.uint8)), ("label", np.ones(18, np.uint8)),
        ("mask", np.full((120, 120), 44, np.uint8)),
        ("s1", np.full((120, 120, 2), np.nan, np.float32)),
        ("s2_10m", np.zeros((120, 120, 3), np.uint16)),
        ("s2_20m", np.zeros((60, 60, 6), np.uint8)),
    ):  # fmt: skip
        with pytest.raises(DatasetError, match=f"sample x, entry '{entry}'"):
            check({**example, entry: value}, info, classes, landcover.load("corine_l3"), "x")


def test_two_shards_of_equal_size_that_were_swapped_are_refused(prepared, tmp_path):
    root = copy_of(prepared, tmp_path)
    size = {}
    for path in sorted(root.glob("*.array_record*")):
        size.setdefault(path.stat().st_size, []).append(path)
    one, other = next(paths for paths in size.values() if len(paths) > 1)[:2]
    one.rename(root / "aside")
    other.rename(one)
    (root / "aside").rename(other)
    split = one.name.split("-")[1].split(".")[0]
    source = ShardSource(root, split)
    with pytest.raises(ShardError, match=f"{one.name}: not the shard"):
        source.read(np.arange(len(source)))


def test_a_shard_that_is_replaced_while_it_is_read_is_refused(prepared, tmp_path):
    import shutil

    root = copy_of(prepared, tmp_path)
    source = ShardSource(root, "train")
    everything = np.arange(len(source))
    before = source.read(everything)
    one, other = (root / shard["file"] for shard in source.shards[:2])
    os.utime(one)
    np.testing.assert_array_equal(source.read(everything)["label"], before["label"])
    shutil.copyfile(other, one)
    with pytest.raises(ShardError, match=f"{one.name}: (changed while it was read|record)"):
        source.read(everything)
    shutil.copyfile(prepared.root / one.name, one)
    source = ShardSource(root, "train")
    source.read(everything)
    one.unlink()  # the open file stays what it was
    np.testing.assert_array_equal(source.read(everything)["label"], before["label"])


def test_labels_out_of_range_in_a_shard_are_refused_when_read(tmp_path, monkeypatch):
    import toy

    example = toy.example

    def spoilt(rng, label, number, maps=False):
        one = example(rng, label, number)
        if number == 7:
            one["label"][4] = 255
        return one

    monkeypatch.setattr(toy, "example", spoilt)
    root = toy.write(tmp_path)
    source = ShardSource(root, "train")
    with pytest.raises(ShardError, match=r"00000-of-00002: record 7 .*label 255.*zeros and ones"):
        source.read(np.arange(20))
    with pytest.raises(ShardError, match="record 7"):
        source.check(np.arange(20))


def test_sizes_that_are_not_official_are_said(tmp_path, caplog):
    source = tmp_path / "source"
    simulate("epfl_roofs", source, 8)
    shards.jobs("epfl_roofs", str(source), {}, tmp_path)
    assert not caplog.records  # a simulation is smaller, and says that it is one
    (source / "SIMULATED.json").unlink()
    shards.forget()
    shards.jobs("epfl_roofs", str(source), {}, tmp_path)
    told = [record.message.partition(": ")[2].partition(":")[0] for record in caplog.records]
    assert told == [
        "6 samples in split 'train', expected 244",
        "1 samples in split 'validation', expected 30",
        "1 samples in split 'test', expected 31",
    ]
