import pickle
import shutil

import numpy as np
import PIL.Image
import pytest

from rsjax.datasets.epfl_roofs import EPFLRoofs
from rsjax.errors import DatasetError

pytestmark = pytest.mark.once

COUNT = 24
FOLDERS = {"train": "train", "validation": "val", "test": "test"}


@pytest.fixture
def root(downloads):
    return downloads("epfl_roofs", COUNT)


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


def save(path, array):
    PIL.Image.fromarray(array).save(path)


def test_official_card():
    info = EPFLRoofs("x").info
    assert info.splits == {"train": 244, "validation": 30, "test": 31}
    assert sum(info.splits.values()) == 305
    assert info.mask == (250, 250)
    assert info.images["rgb"].gsd_m == 0.25


def test_every_image_equals_pillow(root):
    dataset = pickle.loads(pickle.dumps(EPFLRoofs(root)))
    shares = []
    for split, folder in FOLDERS.items():
        names = sorted(path.stem for path in (root / folder / "images").iterdir())
        assert dataset.keys(split) == [f"{folder}/{name}" for name in names]
        assert names
        for key, name in zip(dataset.keys(split), names, strict=True):
            example = dataset.read(key)
            with PIL.Image.open(root / folder / "images" / f"{name}.png") as image:
                np.testing.assert_array_equal(example["rgb"], np.asarray(image))
            with PIL.Image.open(root / folder / "labels" / f"{name}.png") as image:
                stored = np.asarray(image)
            assert stored.shape == (250, 250, 3)
            np.testing.assert_array_equal(example["mask"], stored.max(axis=-1) // 255)
            assert example["mask"].dtype == np.uint8
            assert set(example) == {"id", "rgb", "mask"}
            assert example["id"] == key
            shares.append(example["mask"].mean())
    assert len(shares) == COUNT
    assert 0.05 < np.mean(shares) < 0.6
    assert dataset.simulated


def test_zip_and_masks_named_label(root, copied, tmp_path):
    expected = EPFLRoofs(root)
    dataset = EPFLRoofs(shutil.make_archive(str(tmp_path / "epfl"), "zip", root))
    assert all_keys(dataset) == all_keys(expected)
    key = all_keys(expected)[-1]
    np.testing.assert_array_equal(dataset.read(key)["rgb"], expected.read(key)["rgb"])
    other = copied("epfl_roofs", COUNT)
    for path in other.rglob("labels/*.png"):
        path.rename(path.with_name(f"{path.stem}_label.png"))
    assert all_keys(EPFLRoofs(other)) == all_keys(expected)
    np.testing.assert_array_equal(EPFLRoofs(other).read(key)["mask"], expected.read(key)["mask"])


def test_wrong_source_and_unknown_key(root):
    with pytest.raises(DatasetError, match=r"train: not the official layout, expected .*Download"):
        EPFLRoofs(root / "train").keys("train")
    for key in ("x", "train/x", "images/x", EPFLRoofs(root).keys("test")[0].replace("test", "val")):
        with pytest.raises(DatasetError, match="no sample"):
            EPFLRoofs(root).read(key)


WHITE = np.full((250, 250, 3), 255, np.uint8)
GREY = WHITE.copy()
GREY[200, 100] = 128
TINTED = WHITE.copy()
TINTED[3, 4] = (255, 0, 0)


@pytest.mark.parametrize(
    ("folder", "array", "message"),
    [
        ("labels", GREY, r"value \(128, 128, 128\) at \(row, column\) \(200, 100\), and 0 more"),
        ("labels", TINTED, r"value \(255, 0, 0\) at .* expected \(0, 0, 0\), \(255, 255, 255\)"),
        ("labels", WHITE[..., 0], "png of 250x250 pixels, 1 band of uint8, expected png of"),
        ("images", WHITE[:-1], "png of 249x250 pixels, 3 bands of uint8, expected"),
        ("images", np.dstack([WHITE, WHITE[..., 0]]), "250x250 pixels, 4 bands of uint8"),
    ],
)
def test_damage_is_named(copied, folder, array, message):
    root = copied("epfl_roofs", COUNT)
    dataset = EPFLRoofs(root)
    key = dataset.keys("validation")[0]
    path = root / "val" / folder / f"{key.split('/')[1]}.png"
    save(path, array)
    with pytest.raises(DatasetError, match=rf"{path.stem}\.png: .*{message}"):
        dataset.read(key)


def test_files_that_are_missing_or_damaged(copied):
    root = copied("epfl_roofs", COUNT)
    dataset = EPFLRoofs(root)
    key = dataset.keys("train")[0]
    image = root / "train" / "images" / f"{key.split('/')[1]}.png"
    content = image.read_bytes()
    for damage, message in (
        (content[: len(content) // 2], "pixels that do not decode"),
        (content[:5000] + b"\1\2\3\4" + content[5004:], "pixels that do not decode"),  # bad CRC
        (b"", "begins with b''"),
        (b"<html>", "begins with"),
        (content[:20], "damaged header"),
    ):
        image.write_bytes(damage)
        with pytest.raises(DatasetError, match=rf"{image.stem}\.png: .*{message}"):
            dataset.read(key)
    PIL.Image.open(root / "train" / "labels" / image.name).save(image, format="JPEG")
    with pytest.raises(DatasetError, match=r"\.png: jpeg of 250x250 .*, expected png of 250x250"):
        dataset.read(key)
    image.unlink()
    with pytest.raises(DatasetError, match=r"no such file"):
        dataset.read(key)
    with pytest.raises(DatasetError, match=r"labels.*: no file of this name in train/images"):
        EPFLRoofs(root).keys("train")
    image.write_bytes(content)
    shutil.rmtree(root / "test")
    with pytest.raises(DatasetError, match=r"test.images: no such file"):
        EPFLRoofs(root).keys("test")


def test_an_emptied_split_is_refused(copied):
    root = copied("epfl_roofs", COUNT)
    for path in (root / "test").glob("*/*"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"test/images: no images"):
        EPFLRoofs(root).keys("train")
