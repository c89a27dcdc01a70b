"""Classes of each record, counted when shards are written."""

import io
import shutil

import fsspec
import numpy as np
import pytest
import toy

from rsjax import sealed
from rsjax.datasets.simulate import simulate
from rsjax.errors import ShardError
from rsjax.input import build, histograms, notes, shards, verify
from rsjax.input import manifest as manifests
from rsjax.input.source import ShardSource


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 2**20)


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    path = tmp_path_factory.mktemp("download") / "bigearthnet"
    simulate("bigearthnet", path, 16, seed=2)
    return path


@pytest.fixture(scope="module")
def prepared(download, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", 2**20)
        return build.build("bigearthnet", download, tmp_path_factory.mktemp("data"), workers=1)


def copy_of(prepared, tmp_path):
    root = tmp_path / "bigearthnet" / "2.0.0"
    shutil.copytree(prepared.root, root)
    return root


def forget(root):
    """Makes of shards what an rsjax left that did not count classes."""
    for path in (root / notes.FOLDER).glob("*.array_record*.json"):
        note = sealed.read(path)
        del note["histograms"]
        sealed.write(path, note)
    data = sealed.read(root / manifests.FILE)
    del data["histograms"]
    sealed.write(root / manifests.FILE, data)
    for path in root.glob("*.npy"):
        path.unlink()


def content(root):
    return {p.name: p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


def test_they_are_what_the_shards_hold(prepared):
    made = manifests.load(prepared.root)
    assert made.histograms == prepared.histograms
    classes = len(made.mask_nomenclature)
    assert len(made.splits["train"]["shards"]) > 1
    for split in ("train", "validation", "test", "test+train"):
        source = ShardSource(made.root, split, columns=["label", "mask"])
        batch = source.read(np.arange(len(source)))
        labels = manifests.histograms(made, split, "label")
        masks = manifests.histograms(made, split, "mask")
        np.testing.assert_array_equal(labels, batch["label"])
        expected = [[(mask == c).sum() for c in (*range(classes), 255)] for mask in batch["mask"]]
        np.testing.assert_array_equal(masks, expected)
        assert (masks > 0).sum(axis=1).max() > 1
        assert masks.dtype == np.uint16
    with pytest.raises(ShardError, match="no split 'val'; it has train"):
        manifests.histograms(made, "train+val", "label")


def test_labels_of_one_class_count_one(tmp_path):
    simulate("ucmerced", tmp_path / "source", 21)
    made = build.build("ucmerced", tmp_path / "source", tmp_path / "data", workers=1)
    found = manifests.histograms(made, "train", "label")
    source = ShardSource(made.root, "train", columns=["label"])
    label = source.read(np.arange(len(source)))["label"]
    np.testing.assert_array_equal(found, np.eye(21, dtype=int)[label])
    with pytest.raises(ShardError, match="has no masks"):
        manifests.histograms(made, "train", "mask")
    assert list(verify.verify(made.root))


@pytest.mark.parametrize("kind", ["label", "mask"])
def test_damage_is_found_named_and_mended(kind, download, prepared, tmp_path):
    root = copy_of(prepared, tmp_path)
    path = root / prepared.histograms["train"][kind]["file"]
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    made = manifests.load(root)
    for read in (lambda: list(verify.verify(root)),
                 lambda: manifests.histograms(made, "train", kind)):  # fmt: skip
        with pytest.raises(ShardError, match=f"{path.name}: its sha256 is not.*prepare. again"):
            read()
    path.unlink()
    with pytest.raises(ShardError, match=f"{path.name}: missing"):
        list(verify.verify(root))
    with pytest.raises(ShardError, match=f"{path.name}: No such file"):
        manifests.histograms(made, "train", kind)
    build.build("bigearthnet", download, tmp_path, workers=1)
    assert content(root) == content(prepared.root)

    # Wrong numbers under a right checksum.
    wrong = np.load(io.BytesIO(before))
    wrong[1] = wrong[1][::-1]
    listed = histograms.save(root, "train", {kind: wrong})
    toy.rewrite(root, histograms={**made.histograms, "train": listed})
    with pytest.raises(ShardError, match=f"{path.name}: row 1 is not what record 1 of .*00000-of"):
        list(verify.verify(root))
    histograms.save(root, "train", {kind: wrong[:-1]})
    toy.rewrite(root, histograms={"train": histograms.save(root, "train", {kind: wrong[:-1]})})
    with pytest.raises(ShardError, match=r"rows, not one for each record"):
        list(verify.verify(root))


def test_shards_of_before_are_counted_and_not_written_again(download, prepared, tmp_path):
    root = copy_of(prepared, tmp_path)
    forget(root)
    old = manifests.load(root)
    assert old.fingerprint() == prepared.fingerprint()
    assert sum(count for _, count in verify.verify(root)) == 16
    with pytest.raises(ShardError, match=r"did not count the classes.*finished shards are kept"):
        manifests.histograms(old, "train", "mask")
    victim, *kept = sorted(root.glob("*.array_record*"))
    damaged = bytearray(victim.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    victim.write_bytes(damaged)  # it is not counted as it is, but written again
    stamps = {path: path.stat().st_ino for path in kept}
    build.build("bigearthnet", download, tmp_path, workers=1)
    assert content(root) == content(prepared.root)
    assert {path: path.stat().st_ino for path in kept} == stamps


def test_shards_of_before_on_an_object_store(download, prepared, tmp_path):
    local = copy_of(prepared, tmp_path)
    forget(local)
    store = fsspec.filesystem("memory")
    store.put(str(local), "memory://histograms/bigearthnet/2.0.0", recursive=True)
    build.build("bigearthnet", download, "memory://histograms", workers=1)
    root = "histograms/bigearthnet/2.0.0"
    found = {n.rpartition("/")[2]: store.cat_file(n) for n in store.find(f"/{root}")}
    found = {name: data for name, data in found.items() if not name.startswith(".lock")}
    assert found == content(prepared.root)
    store.pipe_file(f"/{root}/mask_histograms-test.npy", b"")
    with pytest.raises(ShardError, match=r"mask_histograms-test\.npy: its sha256 is not"):
        list(verify.verify(f"memory://{root}"))


def test_classes_without_a_column_are_refused():
    wanted = {"label": (3, np.dtype("u1")), "mask": (3, np.dtype("u2"))}
    good = {"label": 1, "mask": np.array([[0, 1], [255, 1]], np.uint8)}
    found = histograms.of_example(good, wanted)
    assert [found[k].tolist() for k in ("label", "mask")] == [[0, 1, 0], [1, 2, 1]]
    assert histograms.of_example({**good, "label": np.zeros(3)}, wanted)["label"].sum() == 0
    for name, value in (("label", 3), ("label", np.zeros(2)), ("mask", np.full((2, 2), 2))):
        with pytest.raises(ValueError, match=name):
            histograms.of_example({**good, name: value}, wanted)
