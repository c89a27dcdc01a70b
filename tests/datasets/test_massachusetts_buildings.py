import shutil

import numpy as np
import PIL.Image
import pytest

from rsjax.datasets import geotiff, tiling
from rsjax.datasets.massachusetts_buildings import MassachusettsBuildings
from rsjax.errors import DatasetError

pytestmark = pytest.mark.once

COUNT = 24
FOLDERS = {"train": "train", "validation": "valid", "test": "test"}


@pytest.fixture
def root(downloads):
    return downloads("massachusetts_buildings", COUNT) / "mass_buildings"


@pytest.fixture
def damaged(copied):
    return copied("massachusetts_buildings", COUNT) / "mass_buildings"


def test_official_sizes():
    made = MassachusettsBuildings("x")
    assert made.info.splits == {"train": 137 * 9, "validation": 4 * 9, "test": 10 * 9}
    assert MassachusettsBuildings("x", tile_px=1500).info.splits == {
        "train": 137,
        "validation": 4,
        "test": 10,
    }
    assert made.info.images["rgb"].gsd_m == 1.0
    assert not made.info.georeferenced


def test_every_tile_equals_pillow(root):
    dataset = MassachusettsBuildings(root)
    count = 0
    for split, folder in FOLDERS.items():
        names = sorted(path.stem for path in (root / folder / "sat").glob("*.tiff"))
        keys = dataset.keys(split)
        assert list(dict.fromkeys(key.split("@")[0] for key in keys)) == names
        total = labelled = 0
        for key in keys:
            name, row, column = tiling.parse_key(key)
            box = (column, row, column + 512, row + 512)
            example = dataset.read(key)
            with PIL.Image.open(root / folder / "sat" / f"{name}.tiff") as image:
                np.testing.assert_array_equal(example["rgb"], np.asarray(image.crop(box)))
            with PIL.Image.open(root / folder / "map" / f"{name}.tif") as image:
                red = np.asarray(image.crop(box))[..., 0]
                total += image.size[0] * image.size[1] if (row, column) == (0, 0) else 0
            kept = example["mask"] != 255
            assert kept.all() or split != "train"
            labelled += kept.sum()
            np.testing.assert_array_equal(example["mask"][kept], (red == 255)[kept])
            assert set(example) == {"id", "rgb", "mask"}
            count += 1
        if split != "train":
            assert labelled == total  # each label once
    assert count == COUNT


def test_source_folders(root):
    keys = MassachusettsBuildings(root).keys("train")
    assert MassachusettsBuildings(root.parent).keys("train") == keys
    with pytest.raises(DatasetError, match=r"sat: not the official layout, expected one of train/"):
        MassachusettsBuildings(root / "train" / "sat").keys("train")
    for key in ("x", keys[0] + "1"):
        with pytest.raises(DatasetError, match="no sample"):
            MassachusettsBuildings(root).read(key)


def test_white_masks_and_other_endings_are_taken(damaged):
    dataset = MassachusettsBuildings(damaged)
    key = dataset.keys("train")[0]
    before = dataset.read(key)
    name = key.split("@")[0]
    path = damaged / "train" / "map" / f"{name}.tif"
    with PIL.Image.open(path) as image:
        red = np.asarray(image)[..., 0]
    path.unlink()
    assert {0, 1} <= set(np.unique(before["mask"]))
    for mask in (np.stack([red] * 3, -1), red):
        geotiff.write_geotiff(path.with_suffix(".tiff"), mask, interleave="pixel")
        after = MassachusettsBuildings(damaged).read(key)
        np.testing.assert_array_equal(after["mask"], before["mask"])


def colours(array, *values):
    for i, value in enumerate(values):
        array[7, 11 + i] = value
    return array


@pytest.mark.parametrize(
    ("folder", "change", "message"),
    [
        ("map", lambda a: colours(a, (254, 0, 0), (255, 255, 0)), r"value \(254, 0, 0\) at \(row, "
         r"column\) \(7, 11\), and 1 more pixels .* expected \(0, 0, 0\), \(255, 0, 0\)"),
        ("map", lambda a: colours(a, (200, 200, 200)), r"value \(200, 200, 200\) at"),
        ("map", lambda a: colours(a[..., 0], 76), r"value 76 at .* \(7, 11\), .* expected 0, 255"),
        ("map", lambda a: a[..., :2], "2 bands of uint8, expected .* 3 bands of uint8"),
        ("map", lambda a: a[:, 1:], r"\(height, width\), expected \("),
        ("sat", lambda a: a[..., :2], "2 bands of uint8, expected .* 3 bands of uint8"),
        ("sat", lambda a: a.astype(np.float32), "3 bands of float32, expected"),
    ],
)  # fmt: skip
def test_damage_is_named(damaged, folder, change, message):
    key = MassachusettsBuildings(damaged).keys("train")[0]
    path = next((damaged / "train" / folder).glob(f"{key.split('@')[0]}.tif*"))
    with PIL.Image.open(path) as image:
        array = np.array(image)
    geotiff.write_geotiff(path, change(array), interleave="pixel")
    with pytest.raises(DatasetError, match=rf"{path.name}: .*{message}"):
        MassachusettsBuildings(damaged).read(key)


def test_files_that_are_missing_truncated_or_twice(damaged):
    key = MassachusettsBuildings(damaged).keys("train")[0]
    image = damaged / "train" / "sat" / f"{key.split('@')[0]}.tiff"
    mask = damaged / "train" / "map" / f"{key.split('@')[0]}.tif"
    shutil.copy(image, damaged / "test" / "sat")
    shutil.copy(mask, damaged / "test" / "map")
    with pytest.raises(DatasetError, match="is both in split 'train' and in 'test'"):
        MassachusettsBuildings(damaged).keys("train")
    (damaged / "test" / "sat" / image.name).unlink()
    (damaged / "test" / "map" / mask.name).unlink()
    shutil.copy(image, image.with_suffix(".tif"))
    with pytest.raises(DatasetError, match=r"\.tiff: '\w+' is also train/sat/.*\.tif, expected"):
        MassachusettsBuildings(damaged).keys("train")
    image.with_suffix(".tif").unlink()
    content = mask.read_bytes()
    mask.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=rf"{mask.name}: .*truncated"):
        MassachusettsBuildings(damaged).read(key)
    mask.unlink()
    with pytest.raises(DatasetError, match=rf"{image.name}: no file of this name in train/map"):
        MassachusettsBuildings(damaged).keys("train")
    mask.write_bytes(content)
    shutil.rmtree(damaged / "valid")
    with pytest.raises(DatasetError, match=r"valid.sat: no such file"):
        MassachusettsBuildings(damaged).keys("validation")


def test_an_emptied_split_is_refused(damaged):
    for path in (damaged / "valid").glob("*/*"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"valid/sat: no images \(\*\.tiff, \*\.tif\), expected"):
        MassachusettsBuildings(damaged).keys("train")


def test_windows_are_made_once_an_image(root, monkeypatch):
    dataset = MassachusettsBuildings(root, tile_px=64)
    keys = dataset.keys("test")
    made, windows = [], tiling.Tiling.windows
    monkeypatch.setattr(
        tiling.Tiling, "windows", lambda self, *size: made.append(size) or windows(self, *size)
    )
    for key in keys:
        dataset.read(key)
    assert len(made) == len({key.split("@")[0] for key in keys})
    assert len(keys) > 60 * len(made)
