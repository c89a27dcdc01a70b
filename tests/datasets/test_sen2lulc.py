import pickle
import shutil
import zipfile

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import rasterio

from rsjax import landcover
from rsjax.datasets import geotiff, sen2lulc
from rsjax.datasets.sen2lulc import Sen2LULC
from rsjax.errors import ConfigError, DatasetError, NomenclatureError
from rsjax.input import build

pytestmark = pytest.mark.once

COUNT = 25
SPLITS = {"train": "train", "validation": "val", "test": "test"}


@pytest.fixture
def root(downloads):
    return downloads("sen2lulc", COUNT) / "SEN-2 LULC"


@pytest.fixture
def damaged(copied):
    return copied("sen2lulc", COUNT) / "SEN-2 LULC"


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


def files(root, key):
    split, name = key.split("/")
    images, masks = root / f"{split}_images" / split, root / f"{split}_masks" / split
    return images / f"{name}.png", masks / f"{name}.tif"


def by_gdal(path):
    with rasterio.open(path) as raster:
        return raster.read(1)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_examples_equal_the_files(root):
    dataset, codes = Sen2LULC(root), set()
    for key in all_keys(dataset):
        example = dataset.read(key)
        image, mask = files(root, key)
        np.testing.assert_array_equal(example["rgb"], np.asarray(PIL.Image.open(image)))
        expected = by_gdal(mask)
        np.testing.assert_array_equal(example["mask"], np.where(expected, expected - 1.0, 255))
        assert (example["rgb"].shape, example["rgb"].dtype) == ((64, 64, 3), np.uint8)
        assert (example["mask"].shape, example["mask"].dtype) == ((64, 64), np.uint8)
        assert set(example) == {"id", "rgb", "mask"}
        assert example["id"] == key
        codes |= set(np.unique(expected).tolist())
    assert codes == set(range(8))
    assert Sen2LULC(root.parent).simulated


def test_splits_are_the_folders(root):
    dataset = Sen2LULC(root)
    assert {split: len(dataset.keys(split)) for split in SPLITS} == {
        "train": 15, "validation": 5, "test": 5,
    }  # fmt: skip
    for split, theirs in SPLITS.items():
        names = {path.stem for path in root.glob(f"{theirs}_images/{theirs}/*.png")}
        assert dataset.keys(split) == sorted(f"{theirs}/{name}" for name in names)


def test_source_may_be_the_folder_above_or_a_zip(root, tmp_path):
    expected = Sen2LULC(root)
    path = tmp_path / "download.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in root.rglob("*.*"):
            archive.write(file, file.relative_to(root.parent))
    for source in (root.parent, path):
        dataset = Sen2LULC(source)
        assert all_keys(dataset) == all_keys(expected)
        assert dataset.fingerprint() == expected.fingerprint()
        same(dataset.read("test/5"), expected.read("test/5"))


def test_flat_copies_read_as_nested_ones(damaged):
    nested = Sen2LULC(damaged)
    expected = {key: nested.read(key) for key in all_keys(nested)}
    for folder in damaged.glob("*/*"):
        for file in folder.iterdir():
            file.rename(folder.parent / file.name)
        folder.rmdir()
    flat = Sen2LULC(damaged)
    assert all_keys(flat) == list(expected)
    for key, example in expected.items():
        same(flat.read(key), example)


def test_other_files_are_left_alone(damaged):
    keys = all_keys(Sen2LULC(damaged))
    for name in ("Thumbs.db", "._1.png", ".DS_Store"):
        (damaged / "train_images" / "train" / name).write_bytes(b"x")
    assert all_keys(Sen2LULC(damaged)) == keys


def test_the_same_name_in_two_splits_is_two_samples(damaged):
    first = Sen2LULC(damaged).keys("test")[0]
    name = first.split("/")[1]
    for source, target in zip(files(damaged, first), files(damaged, f"val/{name}"), strict=True):
        shutil.copy(source, target)
    assert {f"val/{name}", f"test/{name}"} <= set(all_keys(Sen2LULC(damaged)))


def test_nomenclature_is_the_official_table():
    found = landcover.load("sen2lulc")
    assert dict(zip(found.codes, found.names, strict=True)) == {
        1: "Water", 2: "Dense Forest", 3: "Sparse Forest", 4: "Barren Land", 5: "Built-up",
        6: "Agriculture Land", 7: "Fallow Land",
    }  # fmt: skip
    assert found.ignore == (0,)


def test_fingerprint_and_pickle(root):
    dataset = Sen2LULC(root)
    assert dataset.fingerprint() != Sen2LULC(root, code0="error").fingerprint()
    same(pickle.loads(pickle.dumps(dataset)).read("val/3"), dataset.read("val/3"))


# What code 0 means.


def test_code_0_is_not_labelled_or_an_error(root):
    strict, seen = Sen2LULC(root, code0="error"), 0
    for key in all_keys(strict):
        example = Sen2LULC(root).read(key)
        if zeros := int((example["mask"] == 255).sum()):
            seen += 1
            with pytest.raises(DatasetError, match=rf"\.tif: {zeros} pixels of code 0, .*ignore"):
                strict.read(key)
        else:
            same(strict.read(key), example)
    assert seen


@pytest.fixture
def shifted(damaged):
    """A download whose codes are 0 to 6."""
    for path in damaged.glob("*_masks/*/*.tif"):
        geotiff.write_geotiff(path, np.maximum(imagecodecs.imread(path), 1) - 1)
    return damaged


def test_codes_that_begin_at_0_are_refused(root, shifted):
    with pytest.raises(DatasetError, match=r"\.tif: .*code 7 in none of 15 .* numbered from 0"):
        Sen2LULC(shifted).check()
    # The damage of a mask is not what `check` is about.
    damage = files(shifted, "train/1")[1]
    damage.write_bytes(b"II*")
    with pytest.raises(DatasetError, match="numbered from 0") as caught:
        Sen2LULC(shifted).check()
    assert str(damage) not in str(caught.value)
    Sen2LULC(root).check()
    assert (Sen2LULC(root).read("train/4")["mask"] == 255).any()  # zeros, and sevens elsewhere


def test_the_search_for_code_7_ends(root, shifted, monkeypatch):
    monkeypatch.setattr(sen2lulc, "_LOOKED_AT", 3)
    looked, codes = [], Sen2LULC._codes

    def counted(self, name):
        looked.append(name)
        return codes(self, name)

    monkeypatch.setattr(Sen2LULC, "_codes", counted)
    Sen2LULC(root).check()
    assert len(looked) < 15
    looked.clear()
    with pytest.raises(DatasetError, match=r"code 7 in none of \d+ training"):
        Sen2LULC(shifted).check()
    assert 3 <= len(looked) < 15
    looked.clear()
    Sen2LULC(shifted, code0="error").check()  # `read` refuses each 0
    assert not looked


def test_preparing_checks_the_codes(shifted, tmp_path):
    with pytest.raises(DatasetError, match="numbered from 0"):
        build.build("sen2lulc", shifted, tmp_path / "shards", workers=1)


# Damage. Each case: how to damage the download, what the error must say.


def png(array):
    return lambda path: path.write_bytes(imagecodecs.png_encode(array))


def flip(place):
    def damage(path):
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)

    return damage


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def html(path):
    path.write_bytes(b"<html>quota exceeded</html>")


def as_jpeg(path):
    path.write_bytes(imagecodecs.jpeg8_encode(np.ones((64, 64, 3), np.uint8)))


def palette(path):
    PIL.Image.new("P", (64, 64)).save(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "do not decode .*expected a whole file"),
        (html, "begins with b'<html>"),
        (flip(29), "CRC error"),
        (flip(-14), "CRC error"),
        (flip(500), "incorrect data check|CRC error"),
        (as_jpeg, "a jpeg of 64x64 pixels, 3 bands of uint8, expected a png"),
        (palette, "a png of 64x64 pixels, 1 band of uint8, expected a png of .*3 bands"),
        (png(np.ones((64, 32, 3), np.uint8)), "64x32 pixels, 3 bands of uint8, expected"),
        (png(np.ones((64, 64, 4), np.uint8)), "4 bands of uint8, expected .* 3 bands"),
        (png(np.ones((64, 64, 3), np.uint16)), "3 bands of uint16, expected .*uint8"),
    ],
)
def test_damaged_image_is_named(damaged, damage, message):
    path = files(damaged, "train/1")[0]
    damage(path)
    with pytest.raises(DatasetError, match=message) as caught:
        Sen2LULC(damaged).read("train/1")
    assert str(path) in str(caught.value)


def tif(array):
    return lambda path: geotiff.write_geotiff(path, array)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (cut, DatasetError, "truncated|broken tags"),
        (html, DatasetError, "begins with b'<html>"),
        (png(np.ones((64, 64), np.uint8)), DatasetError, "a png of .*, expected a tiff"),
        (tif(np.ones((64, 63), np.uint8)), DatasetError, "64x63 pixels, 1 band .*expected a tiff"),
        (tif(np.ones((64, 64, 3), np.uint8)), DatasetError, "3 bands, expected a mask of one band"),
        (tif(np.ones((64, 64), np.float32)), NomenclatureError, "dtype float32, expected integers"),
        (tif(np.full((64, 64), 8, np.uint8)), NomenclatureError, r"codes 8 .*expected 1, .* 7, 0"),
    ],
)
def test_damaged_mask_is_named(damaged, damage, error, message):
    path = files(damaged, "train/1")[1]
    damage(path)
    with pytest.raises(error, match=message) as caught:
        Sen2LULC(damaged).read("train/1")
    assert str(path) in str(caught.value)


def test_masks_of_wider_integers_read_the_same(damaged):
    expected = Sen2LULC(damaged).read("train/1")
    path = files(damaged, "train/1")[1]
    geotiff.write_geotiff(path, imagecodecs.imread(path).astype(np.int32))
    same(Sen2LULC(damaged).read("train/1"), expected)


@pytest.mark.parametrize(("lost", "folder"), [(0, "val_images"), (1, "val_masks")])
def test_a_lost_file_is_named(damaged, lost, folder):
    pair = files(damaged, "val/3")
    pair[lost].unlink()
    with pytest.raises(DatasetError, match=rf"no file of this name in {folder}") as caught:
        Sen2LULC(damaged).keys("validation")
    assert str(pair[1 - lost]) in str(caught.value)
    assert len(Sen2LULC(damaged).keys("train")) == 15


def test_a_file_lost_after_listing(damaged):
    dataset = Sen2LULC(damaged)
    assert "test/5" in dataset.keys("test")
    files(damaged, "test/5")[0].unlink()
    with pytest.raises(DatasetError, match=r"5\.png: no such file"):
        dataset.read("test/5")


def test_the_same_name_twice_in_a_split(damaged):
    (damaged / "train_images" / "more").mkdir()
    shutil.copy(files(damaged, "train/1")[0], damaged / "train_images" / "more" / "1.png")
    with pytest.raises(DatasetError, match=r"1\.png: '1' is also .*1\.png, expected each once"):
        Sen2LULC(damaged).keys("train")


@pytest.mark.parametrize(
    ("folder", "other"), [("val_images", "val_masks"), ("val_masks", "val_images")]
)
def test_missing_or_empty_folder(damaged, folder, other):
    shutil.rmtree(damaged / folder)
    with pytest.raises(DatasetError, match=rf"{folder}: no such file.*mendeley"):
        Sen2LULC(damaged).keys("validation")
    (damaged / folder).mkdir()
    with pytest.raises(
        DatasetError, match=rf"{other}.* \(and 4 more\): no file of this name in {folder}"
    ):
        Sen2LULC(damaged).keys("validation")


@pytest.mark.parametrize("split", SPLITS)
def test_no_images_at_all(damaged, split):
    for folder in (f"{SPLITS[split]}_images", f"{SPLITS[split]}_masks"):
        shutil.rmtree(damaged / folder)
        (damaged / folder).mkdir()
    with pytest.raises(DatasetError, match=r"_images: no images .*mendeley"):
        Sen2LULC(damaged).keys(split)


def test_wrong_source(downloads):
    with pytest.raises(DatasetError, match=r"not the official layout, .* train_images, "):
        Sen2LULC(downloads("eurosat", 60)).keys("train")


def test_unknown_key_and_option(root):
    for key in ("x", "../x", "validation/3", "train/3", "train/../1", "val/3/"):
        with pytest.raises(DatasetError, match="no sample"):
            Sen2LULC(root).read(key)
    with pytest.raises(ConfigError, match="code0='class', expected one of"):
        Sen2LULC(root, code0="class")
