import json
import math
import pickle
import shutil
import struct

import numpy as np
import pytest
import rasterio
from matplotlib.path import Path

from rsjax import landcover, sensors
from rsjax.datasets import geotiff, spacenet2
from rsjax.datasets.spacenet2 import SpaceNet2
from rsjax.errors import ConfigError, DatasetError

pytestmark = pytest.mark.once

COUNT = 12
NAMES = {"Vegas": "AOI_2_Vegas", "Paris": "AOI_3_Paris", "Shanghai": "AOI_4_Shanghai",
         "Khartoum": "AOI_5_Khartoum"}  # fmt: skip
EIGHT = ["Coastal", "Blue", "Green", "Yellow", "Red", "RedEdge", "NIR1", "NIR2"]


@pytest.fixture(scope="module")
def root(downloads):
    return downloads("spacenet2", COUNT)


def image_of(root, key, product="MUL-PanSharpen"):
    area, number = key.split("/")
    name = NAMES[area]
    return root / f"{name}_Train" / product / f"{product}_{name}_{number}.tif"


def label_of(root, key):
    area, number = key.split("/")
    folder = root / f"{NAMES[area]}_Train" / "geojson" / "buildings"
    return folder / f"buildings_{NAMES[area]}_{number}.geojson"


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


def by_centres(path, raster):
    """Which pixel centres lie in a polygon of a GeoJSON, by matplotlib."""
    t = raster.transform
    mask = np.zeros(raster.shape, bool)
    for feature in json.loads(path.read_text())["features"]:
        (ring,) = feature["geometry"]["coordinates"]
        corners = (np.array(ring)[:, :2] - (t.c, t.f)) / (t.a, t.e)  # in pixels
        left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
        right, bottom = np.ceil(corners.max(axis=0)).astype(int)
        part = mask[top:bottom, left:right]
        rows, columns = np.indices(part.shape) + 0.5
        centres = np.stack([columns.ravel() + left, rows.ravel() + top], axis=1)
        part |= Path(corners).contains_points(centres).reshape(part.shape)
    return mask


@pytest.mark.parametrize("product", list(spacenet2.PRODUCTS))
def test_examples_equal_rasterio(root, product):
    dataset = SpaceNet2(root, product=product)
    side = 163 if product == "MUL" else 650
    keys = sorted(all_keys(dataset))
    assert len(keys) == COUNT
    seen = {"empty": 0, "border": 0}
    for key in keys[:: 1 if product == "MUL" else 5]:
        example = dataset.read(key)
        assert set(example) == {"id", "image", "mask", "area", "crs", "transform"}
        assert (example["id"], example["area"]) == (key, key.split("/")[0])
        with rasterio.open(image_of(root, key, product)) as raster:
            expected = np.moveaxis(raster.read(), 0, -1)
            assert example["crs"] == raster.crs.to_string() == "EPSG:4326"
            assert tuple(example["transform"]) == tuple(raster.transform)[:6]
            mask = by_centres(label_of(root, key), raster)
        np.testing.assert_array_equal(example["image"], expected)
        assert example["image"].dtype == np.uint16
        black = (expected == 0).all(axis=-1)
        assert example["mask"].shape == (side, side)
        np.testing.assert_array_equal(example["mask"], np.where(black, 255, mask))
        seen["empty"] += not mask.any()
        seen["border"] += black.any()
    if product == "MUL":
        assert seen["empty"] == 2
        assert seen["border"] == 2
    assert dataset.simulated


def test_card(root):
    info = SpaceNet2(root).info
    assert list(info.images["image"].bands) == EIGHT
    assert [b.name for b in sensors.get("worldview3").bands] == [*EIGHT, "PAN"]
    assert info.images["image"].nodata == 0
    assert landcover.load(info.mask_nomenclature).names == ("background", "building")
    assert SpaceNet2(root, product="RGB-PanSharpen").info.rgb[1] == ("Red", "Green", "Blue")
    assert SpaceNet2(root, product="PAN").info.images["image"].shape == (650, 650, 1)
    # 3,850 chips of Vegas, 1,148 of Paris, 4,582 of Shanghai, 1,012 of Khartoum.
    assert SpaceNet2(root, split_rule="areas").info.splits == {
        "train": 3850 + 4582, "validation": 1148, "test": 1012,
    }  # fmt: skip
    sizes = SpaceNet2(root, split_rule="stratified").info.splits
    assert sum(sizes.values()) == 10_592
    assert sizes["test"] == 770 + 230 + 916 + 202


def test_rules_of_the_splits(root, tmp_path):
    areas = SpaceNet2(root, split_rule="areas")
    cities = {s: {k.split("/")[0] for k in areas.keys(s)} for s in areas.info.splits}
    assert cities == {"train": {"Vegas", "Shanghai"}, "validation": {"Paris"}, "test": {"Khartoum"}}
    assert areas.keys("test") == ["Khartoum/img1", "Khartoum/img4", "Khartoum/img7"]
    blocks = SpaceNet2(root, product="MUL")
    for split in blocks.info.splits:
        assert blocks.keys(split)
    assert sorted(all_keys(blocks)) == sorted(all_keys(areas))
    # A chip that lies 200 m beside another is in the same split, whichever that is.
    for name in NAMES.values():
        shutil.copytree(root / f"{name}_Train" / "MUL", tmp_path / f"{name}_Train" / "MUL")
        labels = f"{name}_Train/geojson"
        shutil.copytree(root / labels, tmp_path / labels)
    twins = {}
    for key in all_keys(blocks):
        area, number = key.split("/")
        twin = f"{area}/img{int(number[3:]) + 100}"
        with rasterio.open(image_of(root, key, "MUL")) as raster:
            pixels, t = np.moveaxis(raster.read(), 0, -1), raster.transform
        place = (t.a, 0.0, t.c + 1e-5, 0.0, t.e, t.f)
        geotiff.write_geotiff(image_of(tmp_path, twin, "MUL"), pixels, crs="EPSG:4326",
                              transform=place)  # fmt: skip
        shutil.copy(label_of(root, key), label_of(tmp_path, twin))
        twins[key] = twin
    doubled = SpaceNet2(tmp_path, product="MUL")
    split_of = {key: split for split in doubled.info.splits for key in doubled.keys(split)}
    assert len(split_of) == 2 * COUNT
    assert all(split_of[key] == split_of[twin] for key, twin in twins.items())


def test_report_of_the_distances(root, small):
    """Chips of a city lie in a row, 0.021 degrees from corner to corner."""
    dataset = SpaceNet2(root, product="MUL")
    split_of = {key: split for split in dataset.info.splits for key in dataset.keys(split)}
    east = {}
    for key in split_of:
        with rasterio.open(image_of(root, key, "MUL")) as raster:
            left, _, right, _ = raster.bounds
        shrink = math.cos(math.radians(spacenet2.AREAS[key.split("/")[0]][2]))
        east[key] = left * 111_320 * shrink, right * 111_320 * shrink
    told = dataset.report()
    assert told["patches"] == {s: len(dataset.keys(s)) for s in dataset.info.splits}
    assert told["overlaps"] == 0
    for pair, metres in told["nearest_m"].items():
        one, other = pair.split("-")
        apart = [
            max(east[a][0], east[b][0]) - min(east[a][1], east[b][1])
            for a in dataset.keys(one)
            for b in dataset.keys(other)
            if a.split("/")[0] == b.split("/")[0]
        ]
        assert metres == pytest.approx(min(apart), rel=1e-3)
    # Two chips of the same ground in two splits are counted.
    rule = {"product": "MUL", "split_rule": "stratified", "areas": "Vegas"}
    for number in range(20, 30):
        twin = f"Vegas/img{number}"
        shutil.copy(image_of(small, KEY, "MUL"), image_of(small, twin, "MUL"))
        shutil.copy(label_of(small, KEY), label_of(small, twin))
    twins = {f"Vegas/img{number}" for number in (1, *range(20, 30))}
    dataset = SpaceNet2(small, **rule)
    counts = [len(twins & set(dataset.keys(split))) for split in dataset.info.splits]
    expected = (sum(counts) ** 2 - sum(count**2 for count in counts)) // 2
    assert dataset.report()["overlaps"] == expected > 0


def test_one_area_other_places_and_pickle(root, tmp_path):
    below = tmp_path / "SN2_buildings" / "train"
    shutil.copytree(root / "AOI_3_Paris_Train" / "MUL", below / "AOI_3_Paris_Train" / "MUL")
    shutil.copytree(root / "AOI_3_Paris_Train" / "geojson", below / "AOI_3_Paris_Train/geojson")
    paris = SpaceNet2(tmp_path, product="MUL", areas="Paris", split_rule="stratified")
    assert sorted(all_keys(paris)) == ["Paris/img1", "Paris/img4", "Paris/img7"]
    whole = SpaceNet2(root, product="MUL")
    key = "Paris/img4"
    np.testing.assert_array_equal(paris.read(key)["image"], whole.read(key)["image"])
    again = pickle.loads(pickle.dumps(whole))
    np.testing.assert_array_equal(again.read(key)["mask"], whole.read(key)["mask"])
    with pytest.raises(DatasetError, match=r"no folder AOI_2_Vegas_Train, .*areas='Paris,Shang"):
        SpaceNet2(tmp_path).keys("train")
    options = ({}, {"product": "PAN"}, {"split_rule": "areas"}, {"areas": "Paris,Vegas"})
    assert len({SpaceNet2(root, **one).fingerprint() for one in options}) == 4


# Damage: how, and what the error must say.


@pytest.fixture
def small(root, tmp_path):
    """A copy with one product, to be damaged."""
    for name in NAMES.values():
        for part in ("MUL", "geojson"):
            folder = f"{name}_Train/{part}"
            shutil.copytree(root / folder, tmp_path / folder)
    return tmp_path


def unlink(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def html(path):
    path.write_bytes(b"<!DOCTYPE html>")


def rewrite(change, crs="EPSG:4326"):
    def damage(path):
        with rasterio.open(path) as raster:
            pixels, place = np.moveaxis(raster.read(), 0, -1), tuple(raster.transform)[:6]
        geotiff.write_geotiff(path, change(pixels), crs=crs, transform=place)

    return damage


KEY = "Vegas/img1"
RULE = {"product": "MUL", "split_rule": "areas"}


def test_other_footprints_are_another_source(small):
    before = SpaceNet2(small, **RULE).fingerprint()
    assert SpaceNet2(small, **RULE).fingerprint() == before
    path = label_of(small, KEY)
    path.write_text(path.read_text().replace("[[[", "[ [[", 1))
    assert SpaceNet2(small, **RULE).fingerprint() != before


def read(root, **options):
    dataset = SpaceNet2(root, **RULE, **options)
    return [dataset.read(key) for key in dataset.keys("train")]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "truncated|broken tags"),
        (html, "HTML page or a VRT"),
        (rewrite(lambda a: a[:162, :162]), "162x162 pixels.*expected 163x163"),
        (rewrite(lambda a: a.astype("uint8")), "of uint8, expected .* uint16"),
        (rewrite(lambda a: a[..., :3]), "3 bands of .*, expected .* 8 bands"),
        (rewrite(lambda a: a, crs=None), "no coordinate system"),
    ],
)
def test_damaged_image_is_named(small, damage, message):
    path = image_of(small, KEY, "MUL")
    damage(path)
    with pytest.raises(DatasetError, match=message) as caught:
        read(small)
    assert str(path) in str(caught.value)


def test_image_without_a_place_has_no_block(small):
    path = image_of(small, KEY, "MUL")
    html(path)
    with pytest.raises(DatasetError, match=r"img1\.tif: begins with .*HTML"):
        SpaceNet2(small, product="MUL").keys("train")
    geotiff.write_geotiff(path, np.ones((163, 163, 8), np.uint16))
    with pytest.raises(DatasetError, match=r"img1\.tif: no geographic position"):
        SpaceNet2(small, product="MUL").keys("train")


def test_tags_behind_the_pixels(small):
    expected = {split: SpaceNet2(small, product="MUL").keys(split) for split in ("train", "test")}
    for path in small.rglob("*.tif"):
        with rasterio.open(path, "r+") as raster:  # a longer directory is written at the end
            raster.update_tags(note="x" * 99)
        assert struct.unpack_from("<I", path.read_bytes(), 4)[0] > 2**16
    found = SpaceNet2(small, product="MUL")
    assert {split: found.keys(split) for split in expected} == expected


def edit(change):
    def damage(path):
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return damage


def elsewhere(data):
    for feature in data["features"]:
        for ring in feature["geometry"]["coordinates"]:
            ring[:] = [[x + 1, y] for x, y, _ in ring]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "not usable as GeoJSON"),
        (html, "not usable as GeoJSON"),
        (edit(elsewhere), "footprints from .*expected some on the image"),
        (edit(lambda d: d["crs"]["properties"].__setitem__("name", "EPSG:32611")), "EPSG:32611"),
        (edit(lambda d: d["features"][0].__setitem__("geometry", None)), "feature 0 is None"),
    ],
)
def test_damaged_footprints_are_named(small, damage, message):
    path = label_of(small, KEY)
    damage(path)
    with pytest.raises(DatasetError, match=message) as caught:
        read(small)
    assert str(path) in str(caught.value)


def test_image_in_another_system(small):
    rewrite(lambda a: a, crs="EPSG:32611")(image_of(small, KEY, "MUL"))
    with pytest.raises(DatasetError, match=r"image in EPSG:32611, expected both"):
        read(small)


def test_chips_without_a_partner_and_strange_names(small):
    label = label_of(small, KEY)
    image = image_of(small, KEY, "MUL")
    shutil.copy(label, label.with_name("buildings_img1.geojson"))
    with pytest.raises(DatasetError, match=r"_img<number>\.geojson, each number once"):
        read(small)
    label.with_name("buildings_img1.geojson").unlink()
    shutil.copy(image, image.with_name("chip.tif"))
    with pytest.raises(DatasetError, match=r"chip\.tif: expected names that end in _img<number>"):
        read(small)
    image.with_name("chip.tif").unlink()
    label.unlink()
    with pytest.raises(DatasetError, match=r"img1\.tif: no footprints of img1, and 1 such in all"):
        read(small)
    shutil.rmtree(label.parent)
    with pytest.raises(DatasetError, match=r"geojson.buildings.*: no such file"):
        read(small)


def test_other_prefixes_are_the_same_chips(small):
    before = read(small)
    image = image_of(small, KEY, "MUL")
    image.rename(image.with_name("08-01-2017_RGB_img1.tif"))
    after = read(small)
    np.testing.assert_array_equal(before[0]["image"], after[0]["image"])


def test_chips_of_another_size_by_option(small):
    for path in small.rglob("*.tif"):
        rewrite(lambda a: a[:162, :162])(path)
    examples = read(small, chip_px=162)
    assert examples[0]["mask"].shape == (162, 162)
    assert not math.isnan(examples[0]["transform"].sum())


def test_wrong_source_keys_and_options(root):
    with pytest.raises(DatasetError, match="no folder AOI_2_Vegas_Train"):
        SpaceNet2(root / "AOI_2_Vegas_Train").keys("train")
    for key in ("x", "Vegas/img2", "../Vegas/img1", "Rio/img1"):
        with pytest.raises(DatasetError, match="no sample"):
            SpaceNet2(root).read(key)
    for options in ({"product": "PS"}, {"areas": "Rio"}, {"split_rule": "random"}, {"chip_px": -1},
                    {"areas": "Paris", "split_rule": "areas"}):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{next(iter(options))}=.*expected"):
            SpaceNet2(root, **options)
