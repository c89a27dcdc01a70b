import hashlib
import io
import zipfile

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import rasterio

from rsjax import landcover
from rsjax.datasets import geotiff
from rsjax.datasets.eurosat import ALL_BANDS, EuroSAT, EuroSATAllBands
from rsjax.errors import DatasetError, NomenclatureError

COUNT = 60
TIF = "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
BOTH = pytest.mark.parametrize("make", [EuroSAT, EuroSATAllBands])


@pytest.fixture
def rgb(downloads):
    return downloads("eurosat", COUNT)


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


def zipped(folder, path, top):
    files = sorted(file for file in folder.rglob("*.*") if file.suffix in (".jpg", ".txt"))
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, file.relative_to(folder).as_posix().replace("2750", top))
    return path


def test_rgb_equals_pillow(rgb):
    dataset = EuroSAT(rgb)
    names = landcover.load("eurosat").names
    for key in all_keys(dataset)[::7]:
        example = dataset.read(key)
        expected = np.asarray(PIL.Image.open(rgb / "2750" / f"{key}.jpg"))
        np.testing.assert_array_equal(example["rgb"], expected)
        assert names[example["label"]] == key.split("/")[0]
        assert set(example) == {"id", "rgb", "label"}
        assert example["id"] == key
    assert dataset.simulated


def test_all_bands_equal_rasterio(downloads):
    root = downloads("eurosat_allbands", COUNT)
    dataset = EuroSATAllBands(root)
    for key in all_keys(dataset)[::7]:
        example = dataset.read(key)
        with rasterio.open(root / TIF / f"{key}.tif") as raster:
            expected = np.moveaxis(raster.read(), 0, -1)
            assert example["crs"] == raster.crs.to_string()
            assert tuple(example["transform"]) == tuple(raster.transform)[:6]
            assert raster.nodata is None
            assert raster.interleaving == rasterio.enums.Interleaving.pixel
        np.testing.assert_array_equal(example["s2"], expected)
        assert example["s2"].dtype == np.uint16
    bands = dataset.info.images["s2"].bands
    assert bands == ALL_BANDS
    assert bands[8:] == ("B09", "B10", "B11", "B12", "B8A")
    pixels = np.concatenate([dataset.read(key)["s2"] for key in all_keys(dataset)])
    means = dict(zip(bands, pixels.mean(axis=(0, 1)), strict=True))
    assert means["B10"] < 100 < means["B09"] < means["B8A"]


def test_both_variants_have_the_same_splits(rgb, downloads):
    other = EuroSATAllBands(downloads("eurosat_allbands", COUNT))
    for split in ("train", "validation", "test"):
        assert EuroSAT(rgb).keys(split) == other.keys(split)


def test_split_rule_is_the_stated_one(rgb):
    dataset = EuroSAT(rgb)
    test = set(dataset.keys("test"))
    for name in landcover.load("eurosat").names:
        stems = [f"{name}_{i}" for i in range(1, 7)]
        order = sorted(stems, key=lambda s: hashlib.sha256(s.encode()).hexdigest())
        assert {k.split("/")[1] for k in test if k.startswith(name)} == {order[0]}
    assert len(test) == 10


@pytest.mark.parametrize("top", ["2750", "EuroSAT_RGB"])
def test_zip_reads_as_folder(rgb, tmp_path, top):
    expected = EuroSAT(rgb)
    path = zipped(rgb, tmp_path / "EuroSAT.zip", top)
    for source in (path, tmp_path):  # the zip, or the folder it lies in
        dataset = EuroSAT(source)
        assert all_keys(dataset) == all_keys(expected)
        assert dataset.fingerprint() == expected.fingerprint()
        key = dataset.keys("test")[4]
        np.testing.assert_array_equal(dataset.read(key)["rgb"], expected.read(key)["rgb"])


def test_class_folders_themselves_as_source(rgb):
    assert all_keys(EuroSAT(rgb / "2750")) == all_keys(EuroSAT(rgb))


@pytest.mark.parametrize(("rule", "name"), [("lists", "eurosat"), ("spatial", "eurosat-spatial")])
def test_lists(copied, rule, name):
    root = copied("eurosat", COUNT)
    keys = sorted(all_keys(EuroSAT(root)))
    parts = {"train": keys[:30], "val": keys[30:40][::-1], "test": keys[40:58]}
    for split, part in parts.items():
        (root / f"{name}-{split}.txt").write_text("".join(f"{k.split('/')[1]}.jpg\n" for k in part))
    for source in (root, zipped(root, root / "EuroSAT.zip", "2750")):
        dataset = EuroSAT(source, split_rule=rule)
        assert dataset.keys("train") == parts["train"]
        assert dataset.keys("validation") == parts["val"]
        assert dataset.keys("test") == parts["test"]
    assert dataset.fingerprint() != EuroSAT(root).fingerprint()
    (root / f"{name}-val.txt").unlink()
    with pytest.raises(DatasetError, match=rf"{name}-val\.txt: no such file"):
        EuroSAT(root, split_rule=rule).keys("train")


# Damage.


def test_unknown_class_folder_is_refused(copied):
    root = copied("eurosat", COUNT)
    (root / "2750" / "Forrest").mkdir()
    (root / "2750" / "Forrest" / "Forrest_1.jpg").write_bytes(b"x")
    with pytest.raises(
        NomenclatureError, match=r"Forrest_1\.jpg: 'Forrest'.*did you mean 'Forest'"
    ):
        EuroSAT(root).keys("train")


def test_misnamed_image_is_refused_and_other_files_left_alone(copied):
    root = copied("eurosat", COUNT)
    keys = all_keys(EuroSAT(root))
    (root / "2750" / "Thumbs.db").write_bytes(b"x")
    (root / "2750" / "Forest" / "._Forest_1.jpg").write_bytes(b"x")
    assert all_keys(EuroSAT(root)) == keys
    (root / "2750" / "Forest" / "River_1.jpg").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"River_1\.jpg: expected images of Forest"):
        EuroSAT(root).keys("train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with"),
        (b"<html>", "begins with"),
        (imagecodecs.jpeg8_encode(np.ones((64, 32, 3), np.uint8)), r"\(64, 32, 3\), expected"),
        (imagecodecs.jpeg8_encode(np.ones((64, 64), np.uint8)), r"\(64, 64, 1\), expected"),
        (imagecodecs.jpeg8_encode(np.ones((64, 64, 3), np.uint8))[:-30], "truncated"),
    ],
)
def test_damaged_jpeg_is_named(copied, content, message):
    root = copied("eurosat", COUNT)
    dataset = EuroSAT(root)
    key = dataset.keys("train")[0]
    (root / "2750" / f"{key}.jpg").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{key}\.jpg: .*{message}"):
        dataset.read(key)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((64, 64, 12), np.uint16), "12 bands of uint16, expected 64x64 pixels, 13 bands"),
        (np.ones((64, 64, 13), np.uint8), "13 bands of uint8, expected"),
        (np.ones((63, 64, 13), np.uint16), "63x64 pixels, 13 bands of uint16, expected 64x64"),
    ],
)
def test_damaged_tiff_is_named(copied, array, message):
    root = copied("eurosat_allbands", COUNT)
    dataset = EuroSATAllBands(root)
    key = dataset.keys("train")[0]
    path = root / TIF / f"{key}.tif"
    geotiff.write_geotiff(path, array, crs="EPSG:32633", transform=(10.0, 0, 1, 0, -10.0, 2))
    with pytest.raises(DatasetError, match=rf"{key}\.tif: .*{message}"):
        dataset.read(key)


@BOTH
def test_wrong_variant_is_an_error(make, downloads):
    other = "eurosat_allbands" if make is EuroSAT else "eurosat"
    with pytest.raises(DatasetError, match=r"no .* images|no class folders"):
        make(downloads(other, COUNT)).keys("train")


def test_unknown_key(rgb):
    dataset = EuroSAT(rgb)
    for key in ("x", "Forest/../../x/y", "Lake/Lake_1", "../Forest_1"):
        with pytest.raises(DatasetError, match="no sample"):
            dataset.read(key)
    for key in ("Forest/..", "Forest/Forest_9999"):
        with pytest.raises(DatasetError, match="no such file"):
            dataset.read(key)


def test_real_zip(samples):
    path = samples / "EuroSAT_RGB.zip"
    dataset = EuroSAT(path)
    assert {split: len(dataset.keys(split)) for split in dataset.info.splits} == dataset.info.splits
    assert len(set(all_keys(dataset))) == 27_000
    sizes = np.bincount([dataset.read(k)["label"] for k in dataset.keys("test")[::20]])
    assert sizes.tolist() == [30, 30, 30, 25, 25, 20, 25, 30, 25, 30]
    for key in dataset.keys("train")[::4000]:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(f"EuroSAT_RGB/{key}.jpg")
        expected = np.asarray(PIL.Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(dataset.read(key)["rgb"], expected)
    assert not dataset.simulated
