import pathlib
import pickle
import re
import shutil
import zipfile

import numpy as np
import PIL.Image
import pytest
import rasterio

from rsjax.datasets import geotiff, oscd
from rsjax.datasets.oscd import OSCD
from rsjax.errors import ConfigError, DatasetError

COUNT = 27
PARTS = [f"Onera Satellite Change Detection dataset - {part}"
         for part in ("Images", "Train Labels", "Test Labels")]  # fmt: skip
BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
TRAIN = {"aguasclaras", "bercy", "bordeaux", "nantes", "paris", "rennes", "saclay_e", "abudhabi",
         "cupertino", "pisa", "beihai", "hongkong", "beirut", "mumbai"}  # fmt: skip
TEST = {"brasilia", "montpellier", "norcia", "rio", "saclay_w", "valencia", "dubai", "lasvegas",
        "milano", "chongqing"}  # fmt: skip

pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]


@pytest.fixture(scope="module")
def root(downloads):
    return downloads("oscd", COUNT)


@pytest.fixture
def some(root, tmp_path):
    """A copy to be damaged: all bands of four cities, of the others what says their size."""

    def left_out(folder, names):
        whole = {"rio", "brasilia", "milano", "paris"} & set(pathlib.Path(folder).parts)
        return [] if whole else [n for n in names if n.startswith("B") and n != "B01.tif"]

    return shutil.copytree(root, tmp_path / "copy", ignore=left_out)


def band(root, city, step, name):
    return root / PARTS[0] / city / f"imgs_{step}_rect" / f"{name}.tif"


def label(root, city):
    return root / PARTS[1 + (city in TEST)] / city / "cm" / "cm.png"


def whole(root, city):
    """A city by rasterio and PIL: (2, height, width, 13) and the mask of 0 and 1."""
    steps = []
    for step in (1, 2):
        planes = []
        for name in BANDS:
            with rasterio.open(band(root, city, step, name)) as raster:
                planes.append(raster.read(1))
        steps.append(np.stack(planes, axis=-1))
    with PIL.Image.open(label(root, city)) as image:
        return np.stack(steps), np.asarray(image) // 255


def by_city(dataset):
    found = {}
    for split in dataset.info.splits:
        for key in dataset.keys(split):
            found.setdefault((split, key.split("@")[0]), []).append(key)
    return found


def test_tiles_equal_rasterio_and_pillow(root):
    dataset = OSCD(root)
    shapes = set()
    for (_, city), keys in by_city(dataset).items():
        images, changed = whole(root, city)
        height = changed.shape[0]
        shapes.add(changed.shape)
        seen = np.zeros(changed.shape, int)
        for key in keys:
            example = dataset.read(key)
            assert set(example) == {"id", "s2", "mask", "city", "s2_dates"}
            assert (example["id"], example["city"]) == (key, city)
            row, column = map(int, key.split("@")[1].split("_"))
            assert row == 0 or row + 96 <= height
            part = np.s_[row : row + 96, column : column + 96]
            high, wide = changed[part].shape
            np.testing.assert_array_equal(example["s2"][:, :high, :wide], images[:, *part])
            assert example["s2"].shape == (2, 96, 96, 13)
            assert example["s2"].dtype == np.uint16
            inside = example["mask"][:high, :wide]
            counts = inside != 255
            np.testing.assert_array_equal(inside[counts], changed[part][counts])
            assert (example["mask"][high:] == 255).all()
            seen[part] += counts
        assert (seen == 1).all()  # every pixel of the city counts once
        dates = (root / PARTS[0] / city / "dates.txt").read_text()
        assert example["s2_dates"].replace("-", "").split(";") == re.findall(r"\d{8}", dates)
    assert len(shapes) > 4
    assert dataset.simulated


def test_bands_are_not_in_the_order_of_their_names(root):
    dataset = OSCD(root)
    spec = dataset.info.images["s2"]
    assert list(spec.bands) == BANDS
    pixels = np.concatenate([dataset.read(key)["s2"] for key in dataset.keys("train")])
    means = dict(zip(BANDS, pixels.mean(axis=(0, 1, 2)), strict=True))
    assert means["B10"] < 100 < means["B09"] < means["B8A"]
    statistics = dataset.info.published_statistics["sentinel2_l1c"]
    assert statistics["B8A"] == (2182.68, 895.76)
    assert statistics["B10"] == (14.86, 9.42)
    assert spec.nodata == 0


def test_splits_are_whole_official_cities(root):
    cities = {}
    for split, city in by_city(OSCD(root)):
        cities.setdefault(split, set()).add(city)
    assert cities["test"] == TEST
    assert cities["validation"] == {"beihai", "nantes"}
    assert cities["train"] == TRAIN - cities["validation"]
    other = OSCD(root, validation="pisa,mumbai")
    assert {key.split("@")[0] for key in other.keys("validation")} == {"mumbai", "pisa"}
    options = ({}, {"validation": ("pisa",)}, {"tile_px": 64}, {"labels": "tif"})
    assert len({OSCD(root, **one).fingerprint() for one in options}) == 4


def test_zips_tif_labels_and_pickle_hold_the_same(root, tmp_path):
    plain = OSCD(root)
    for part in PARTS:
        with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as archive:
            for path in (root / part).rglob("*.*"):
                archive.write(path, path.relative_to(root))
    others = (OSCD(tmp_path), OSCD(root, labels="tif"), pickle.loads(pickle.dumps(plain)))
    for split in plain.info.splits:
        key = plain.keys(split)[0]
        for other in others:
            assert other.keys(split) == plain.keys(split)
            for entry in ("s2", "mask"):
                np.testing.assert_array_equal(other.read(key)[entry], plain.read(key)[entry])


# Damage: how, and what the error must say.


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(change):
    def damage(path):
        with rasterio.open(path) as raster:
            geotiff.write_geotiff(path, change(raster.read(1)))

    return damage


def unlink(path):
    path.unlink()


def html(path):
    path.write_bytes(b"<!DOCTYPE html>")


@pytest.mark.parametrize(("step", "name"), [(1, "B8A"), (2, "B10")])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unlink, "no such file"),
        (cut, "truncated|broken tags"),
        (html, "HTML page or a VRT"),
        (rewrite(lambda a: a[:-1]), r"95x96 pixels.*expected 96x96"),
        (rewrite(lambda a: a.astype("float32")), "of float32, expected .* uint16"),
        (rewrite(lambda a: np.stack([a, a], axis=-1)), "2 bands of .*, expected .* 1 band"),
    ],
)
def test_damaged_band_is_named(some, damage, message, step, name):
    path = band(some, "brasilia", step, name)
    size = rasterio.open(path).shape
    damage(path)
    message = (
        message.replace("95x96", f"{size[0] - 1}x{size[1]}").replace("96x96", "{}x{}").format(*size)
    )
    with pytest.raises(DatasetError, match=message) as caught:
        OSCD(some).read("brasilia@0_0")
    assert str(path) in str(caught.value)


def values(*found):
    def damage(path):
        with PIL.Image.open(path) as image:
            pixels = np.array(image)
        pixels[3, 5 : 5 + len(found)] = found
        PIL.Image.fromarray(pixels).save(path)

    return damage


@pytest.mark.parametrize("city", ["milano", "paris"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unlink, "no such file"),
        (cut, "do not decode"),
        (html, "begins with"),
        (values(128, 7), r"value 128 at \(row, col\) \(3, 5\) and 2 such"),
        (lambda p: PIL.Image.fromarray(np.zeros((9, 8), np.uint8)).save(p), "9x8 pixels.*expected"),
    ],
)
def test_damaged_label_is_named(some, damage, message, city):
    damage(label(some, city))
    with pytest.raises(DatasetError, match=message) as caught:
        OSCD(some).read(f"{city}@0_0")
    assert str(label(some, city)) in str(caught.value)


def test_labels_that_contradict_each_other(some):
    path = label(some, "rio")
    with PIL.Image.open(path) as image:
        first = int(np.asarray(image)[3, 5])
    values(255 - first)(path)
    for labels in ("png", "tif"):
        with pytest.raises(DatasetError, match=r"rio.cm: 1 pixels differ between cm\.png and rio"):
            OSCD(some, labels=labels).read("rio@0_0")
    path.unlink()
    OSCD(some, labels="tif").read("rio@0_0")
    tif = path.with_name("rio-cm.tif")
    rewrite(lambda a: a - 1)(tif)
    with pytest.raises(DatasetError, match=r"rio-cm\.tif: value 0 at .*expected 1 .* and 2"):
        OSCD(some, labels="tif").read("rio@0_0")
    tif.unlink()
    with pytest.raises(DatasetError, match=r"rio-cm\.tif: no such file"):
        OSCD(some, labels="tif").read("rio@0_0")


@pytest.mark.parametrize(
    "text", ["", "20180101", "20180101 20190101 20200101", "20181301 20190101", "20190101 20180101"]
)
def test_dates_that_are_none(some, text):
    path = some / PARTS[0] / "rio" / "dates.txt"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"dates\.txt: .*expected two dates"):
        OSCD(some).read("rio@0_0")


@pytest.mark.parametrize("part", PARTS)
def test_missing_part_and_other_cities(some, part):
    (some / PARTS[0] / "train.txt").write_text("paris,oslo")
    with pytest.raises(DatasetError, match=r"train\.txt: paris, oslo, expected aguasclaras"):
        OSCD(some).keys("train")
    (some / PARTS[0] / "train.txt").unlink()
    (some / part).rename(some / "other")
    with pytest.raises(DatasetError, match=f"neither the folder {part} nor {part}.zip"):
        OSCD(some).read("rio@0_0")


def test_unknown_keys_and_options(root):
    for key in ("x", "oslo@0_0", "rio@1_0", "rio@0_96", "../rio@0_0", "rio"):
        with pytest.raises(DatasetError, match="no sample"):
            OSCD(root).read(key)
    for options in ({"tile_px": -1}, {"validation": "rio"}, {"validation": ()},
                    {"validation": oscd.TRAIN}, {"labels": "jpg"}):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{next(iter(options))}=.*expected"):
            OSCD(root, **options)
