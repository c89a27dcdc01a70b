import re
import shutil

import numpy as np
import pytest
import rasterio

from rsjax import landcover
from rsjax.datasets import geotiff, tiling
from rsjax.datasets.inria import CITIES, Inria
from rsjax.errors import DatasetError

pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

COUNT = 24


@pytest.fixture
def root(downloads):
    return downloads("inria", COUNT) / "AerialImageDataset"


@pytest.fixture
def damaged(copied):
    return copied("inria", COUNT) / "AerialImageDataset"


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


def test_official_sizes():
    assert CITIES == ("austin", "chicago", "kitsap", "tyrol-w", "vienna")
    assert Inria("x").info.splits == {"train": 15_500, "validation": 2_500}  # 10 x 10 tiles each
    assert Inria("x", tile_px=500).info.splits == {"train": 15_500, "validation": 2_500}
    assert Inria("x", tile_px=1000).info.splits == {"train": 3_875, "validation": 625}
    assert landcover.load("buildings").names == ("background", "building")


def test_every_tile_equals_rasterio(root):
    dataset = Inria(root)
    buildings = []
    for key in all_keys(dataset):
        name, row, column = tiling.parse_key(key)
        example = dataset.read(key)
        window = rasterio.windows.Window(column, row, 512, 512)
        with rasterio.open(root / "train" / "images" / f"{name}.tif") as raster:
            np.testing.assert_array_equal(
                example["rgb"], np.moveaxis(raster.read(window=window), 0, -1)
            )
            assert example["crs"] == raster.crs.to_string()
            left, across, _, top, _, down = raster.get_transform()
            np.testing.assert_allclose(
                example["transform"],
                (0.3, 0, left + column * across, 0, -0.3, top + row * down),
                rtol=0,
                atol=1e-6,
            )
        with rasterio.open(root / "train" / "gt" / f"{name}.tif") as raster:
            assert set(np.unique(raster.read())) <= {0, 255}
            expected = raster.read(1, window=window) == 255
        kept = example["mask"] != 255
        assert kept.all() or key in dataset.keys("validation")
        np.testing.assert_array_equal(example["mask"][kept], expected[kept])
        buildings.append(expected.mean())
        assert example["city"] == re.sub(r"\d+$", "", name)
        assert set(example) == {"id", "rgb", "mask", "city", "crs", "transform"}
    assert len(buildings) == COUNT
    assert 0.05 < np.mean(buildings) < 0.5


def test_split_is_by_number(damaged):
    for path in damaged.rglob("train/*/*.tif"):
        path.unlink()
    image, gt = np.ones((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    for city in CITIES:
        for number in range(1, 37):
            for folder, array in (("images", image), ("gt", gt)):
                geotiff.write_geotiff(damaged / "train" / folder / f"{city}{number}.tif", array)
    dataset = Inria(damaged, tile_px=64, georeferenced=False)
    names = {s: [k.removesuffix("@0_0") for k in dataset.keys(s)] for s in dataset.info.splits}
    assert names["validation"] == [f"{city}{number}" for city in CITIES for number in range(1, 6)]
    assert names["train"] == [f"{city}{number}" for city in CITIES for number in range(6, 37)]
    assert not [key for key in all_keys(dataset) if "sfo" in key]  # test images have no labels
    assert set(dataset.read("austin7@0_0")) == {"id", "rgb", "mask", "city"}
    with pytest.raises(DatasetError, match=r"austin7\.tif: .*georeferenced=false"):
        Inria(damaged, tile_px=64).read("austin7@0_0")


def test_source_folders_and_other_files(root, damaged):
    expected = all_keys(Inria(root))
    assert all_keys(Inria(root.parent)) == expected
    (damaged / "train" / "images" / "._austin6.tif").write_bytes(b"x")
    (damaged / "train" / "images" / "austin6.tif.aux.xml").write_bytes(b"x")
    assert all_keys(Inria(damaged)) == expected
    with pytest.raises(DatasetError, match=r"train: not the official layout, expected one of"):
        Inria(root / "train").keys("train")
    for key in ("austin6", "austin6@3_0", "sfo1@0_0"):
        with pytest.raises(DatasetError, match="no sample"):
            Inria(root).read(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: (p / "gt/austin6.tif").unlink(), r"images/austin6\.tif: no file of this "
         r"name in train/gt, expected images and masks in pairs"),
        (lambda p: (p / "images/austin6.tif").unlink(), r"gt/austin6\.tif: no file of this"),
        (lambda p: [(p / f / "sfo1.tif").write_bytes(b"x") for f in ("images", "gt")],
         r"images/sfo1\.tif: not an image of the training cities, expected austin, "),
        (lambda p: [(p / f / "vienna37.tif").write_bytes(b"x") for f in ("images", "gt")],
         r"vienna37\.tif: not an image .* from 1 to 36"),
        (lambda p: shutil.rmtree(p / "gt"), r"train/gt: no such file"),
        (lambda p: [path.unlink() for path in p.glob("*/*[a-z][1-5].tif")],
         r"train/images: no images with numbers from 1 to 5, .* 'validation'"),
    ],
)  # fmt: skip
def test_unpaired_and_foreign_files(damaged, change, message):
    change(damaged / "train")
    with pytest.raises(DatasetError, match=message):
        Inria(damaged).keys("train")


def spoiled(mask):
    mask[3, 5] = 254
    mask[9, 9] = 1
    return mask


@pytest.mark.parametrize(
    ("folder", "change", "message"),
    [
        ("gt", spoiled, r"value 254 at \(row, column\) \(3, 5\), and 1 more pixels of unknown "
         "value, expected 0, 255"),
        ("gt", lambda a: np.stack([a] * 3, -1), "3 bands of uint8, expected .* 1 band of uint8"),
        ("gt", lambda a: a[:-1], r"\(height, width\), expected \("),
        ("gt", lambda a: a.astype(np.uint16), "1 band of uint16, expected"),
        ("images", lambda a: a[..., :1], "1 band of uint8, expected .* 3 bands of uint8"),
        ("images", lambda a: a.astype(np.uint16), "3 bands of uint16, expected"),
    ],
)  # fmt: skip
def test_damage_is_named(damaged, folder, change, message):
    path = damaged / "train" / folder / "austin6.tif"
    with rasterio.open(path) as raster:
        place = {"crs": raster.crs, "transform": tuple(raster.transform)[:6]}
        array = np.moveaxis(raster.read(), 0, -1)
    geotiff.write_geotiff(path, change(array[..., 0] if folder == "gt" else array), **place)
    with pytest.raises(DatasetError, match=rf"austin6\.tif: .*{message}"):
        Inria(damaged).read("austin6@0_0")


def test_truncated_and_misplaced_files(damaged):
    path = damaged / "train" / "gt" / "austin6.tif"
    content = path.read_bytes()
    path.write_bytes(content[:-900])
    with pytest.raises(DatasetError, match=r"gt/austin6\.tif: \d+ bytes \(truncated\)"):
        Inria(damaged).read("austin6@0_0")
    with rasterio.open(damaged / "train" / "gt" / "austin7.tif") as raster:
        shape = raster.shape
    geotiff.write_geotiff(
        damaged / "train" / "gt" / "austin7.tif",
        np.zeros(shape, np.uint8),
        crs="EPSG:32633",
        transform=(0.3, 0.0, 0.0, 0.0, -0.3, 0.0),
    )
    with pytest.raises(DatasetError, match=r"gt/austin7\.tif: transform .* as its image"):
        Inria(damaged).read("austin7@0_0")
