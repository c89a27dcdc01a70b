import hashlib
import json
import pickle
import re

import numpy as np
import pytest
import rasterio
import rasterio.warp

from rsjax import landcover
from rsjax.datasets import geotiff, multisenge_places
from rsjax.datasets.multisenge import MultiSenGE
from rsjax.datasets.multisenge_files import FOLDERS
from rsjax.errors import ConfigError, DatasetError, NomenclatureError

pytestmark = pytest.mark.once

COUNT = 10
BANDS = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
NAMES = (
    *("Dense Built-Up", "Sparse Built-Up", "Specialized Built-Up Areas"),
    *("Specialized but Vegetative Areas", "Large Scale Networks", "Arable Lands", "Vineyards"),
    *("Orchards", "Grasslands", "Groves, Hedges", "Forest", "Open Spaces, Mineral", "Wetlands"),
    "Water Surfaces",
)
# Tile, column and row of the 257 px grid -> longitude and latitude on the map of the authors,
# https://github.com/r-wenger/MultiSenGE-Tools, index.html.
CENTRES = {
    ("31TFN", 26, 0): (5.245751501088453, 47.8202143695279),
    ("31UEP", 34, 31): (4.188711355637041, 48.01859000111868),
    ("31UEQ", 35, 36): (4.242120878756504, 48.802275138506815),
    ("31UFP", 33, 22): (5.5047081068557, 48.20554940127825),
    ("31UFQ", 24, 22): (5.233026812087366, 49.11103166272852),
    ("31UFR", 20, 35): (5.117879127793394, 49.712419928070126),
    ("31UGP", 9, 21): (6.020623232992261, 48.216267549566105),
    ("31UGQ", 13, 36): (6.193321709534104, 48.76470986303091),
    ("32TLT", 21, 4): (7.0694236935521, 47.733450085421445),
    ("32ULU", 16, 37): (6.89264967870288, 47.86666003962406),
    ("32ULV", 22, 36): (7.064096564786882, 48.79270856428617),
    ("32UMV", 12, 33): (8.073719675362517, 48.87460550324812),
}


@pytest.fixture
def root(downloads):
    return downloads("multisenge", COUNT)


@pytest.fixture
def damaged(copied):
    return copied("multisenge", 3)


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


def note_of(root, key):
    return json.loads((root / "labels" / f"{key}.json").read_text())


def map_of(root, key):
    tile, x, y = key.split("_")
    return root / "ground_reference" / f"{tile}_GR_{x}_{y}.tif"


def first_of(root, key, kind):
    return root / kind / note_of(root, key)[f"corresponding_{kind}"].split(";")[0]


def by_gdal(path):
    with rasterio.open(path) as raster:
        pixels = np.moveaxis(raster.read(), 0, -1)
        return pixels, raster.crs.to_string(), tuple(raster.transform)[:6]


# The card and examples.


def test_card(tmp_path):
    info = MultiSenGE(tmp_path).info
    assert set(info.images) == {"s2"}
    assert info.images["s2"].shape == (0, 256, 256, 10)
    assert info.images["s2"].bands == BANDS
    assert (info.images["s2"].dtype, info.images["s2"].nodata) == ("uint16", 0)
    both = MultiSenGE(tmp_path, sensors="s1,s2", s2_dtype="int16", s1_unit="linear_power").info
    assert (both.images["s2"].dtype, both.images["s2"].nodata) == ("int16", -10000)
    assert both.images["s1"].shape == (0, 256, 256, 2)
    assert both.images["s1"].unit == "linear_power"
    assert both.metadata == ("tile", "block", "s2_dates", "s1_dates")
    other = MultiSenGE(tmp_path, band_order="wavelength").info.images["s2"].bands
    assert other == ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
    classes = landcover.load("multisenge")
    assert (classes.codes, classes.names) == (tuple(range(1, 15)), NAMES)
    assert classes.ignore == (0,)


def test_examples_equal_rasterio(root):
    dataset = MultiSenGE(root, sensors="s2,s1")
    classes = landcover.load("multisenge")
    lengths, met = set(), set()
    for key in all_keys(dataset):
        example, note = dataset.read(key), note_of(root, key)
        for kind, dtype in (("s2", np.uint16), ("s1", np.float32)):
            names = note[f"corresponding_{kind}"].split(";")
            days = {re.findall(r"_(\d{8})_", name)[0]: name for name in names}
            images = [by_gdal(root / kind / days[day]) for day in sorted(days)]
            np.testing.assert_array_equal(example[kind], [image[0] for image in images])
            assert example[kind].dtype == dtype
            assert {image[1:] for image in images} == {
                (example["crs"], tuple(example["transform"]))
            }
            dates = [f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in sorted(days)]
            assert example[f"{kind}_dates"] == ";".join(dates)
        lengths.add(len(example["s2"]))
        codes, crs, transform = by_gdal(map_of(root, key))
        np.testing.assert_array_equal(classes.decode(example["mask"]), codes[..., 0])
        assert (example["crs"], tuple(example["transform"])) == (crs, transform)
        listed = [classes.codes[i] for i in np.flatnonzero(example["label"])]
        assert ";".join(map(str, listed)) == note["labels"]
        met |= set(np.unique(codes).tolist())
        assert example["tile"] == key.split("_")[0]
        assert example["id"] == key
        assert set(example) == {"id", "s2", "s2_dates", "s1", "s1_dates", "mask", "label", "tile",
                                "block", "crs", "transform"}  # fmt: skip
    assert 23 in lengths
    assert len(lengths) > 2
    assert 0 in met
    assert {dataset.read(key)["crs"] for key in all_keys(dataset)} == {"EPSG:32631", "EPSG:32632"}
    assert dataset.simulated


def test_sensors_and_labels(root):
    key = all_keys(MultiSenGE(root))[0]
    assert "s1" not in MultiSenGE(root).read(key)
    assert "s2" not in MultiSenGE(root, sensors="s1").read(key)
    np.testing.assert_array_equal(
        MultiSenGE(root, labels="map").read(key)["label"], MultiSenGE(root).read(key)["label"]
    )


def test_pickle_and_fingerprint(root):
    dataset = MultiSenGE(root)
    assert pickle.loads(pickle.dumps(dataset)).fingerprint() == dataset.fingerprint()
    others = [{}, {"sensors": "s1"}, {"labels": "map"}, {"s1_unit": "linear_power"}]
    assert len({MultiSenGE(root, **options).fingerprint() for options in others}) == 4


@pytest.mark.parametrize(("part", "name"), [("s2", "S2"), ("gr", "gr"), ("labels", "json")])
def test_other_folder_names(damaged, part, name):
    expected = all_keys(MultiSenGE(damaged))
    assert name in FOLDERS[part]
    (damaged / FOLDERS[part][0]).rename(damaged / name)
    dataset = MultiSenGE(damaged)
    assert all_keys(dataset) == expected
    assert dataset.read(expected[0])["s2"].shape[1:] == (256, 256, 10)


# Places and splits.


def test_patches_lie_where_the_authors_show_them():
    for (tile, column, row), expected in CENTRES.items():
        place = multisenge_places.place(f"{tile}_{257 * column}_{257 * row}")
        centre = [place.x + 1280], [place.y - 1280]
        lon, lat = rasterio.warp.transform(place.crs, "EPSG:4326", *centre)
        np.testing.assert_allclose((lon[0], lat[0]), expected, rtol=0, atol=1e-8)  # a millimetre


def test_blocks_are_squares_of_one_projection():
    keys = ["31UFQ_9766_2570", "31UGQ_0_2570", "32ULV_0_2570"]
    for key, block in zip(keys, multisenge_places.blocks(keys), strict=True):
        place = multisenge_places.place(key)
        xs, ys = rasterio.warp.transform(place.crs, "EPSG:2154", [place.x + 1280], [place.y - 1280])
        assert block == f"{int(xs[0] // 20_000)}_{int(ys[0] // 20_000)}"
    for block in ("41_341", "42_341", "51_330"):
        number = int(hashlib.sha256(block.encode()).hexdigest(), 16) % 100
        expected = "train" if number >= 30 else "test" if number < 20 else "validation"
        assert multisenge_places.split_of(block) == expected
    names = [multisenge_places.split_of(f"{x}_{y}") for x in range(40) for y in range(40)]
    assert 0.17 < names.count("test") / 1600 < 0.23
    assert 0.08 < names.count("validation") / 1600 < 0.12


def inside(key, others, step=8):
    """Whether points of a patch, `step` x `step` of them, lie inside each of some patches."""
    place = multisenge_places.place(key)
    at = (np.arange(step) + 0.5) / step * 2560
    xs, ys = np.meshgrid(place.x + at, place.y - at)
    found = []
    for other in map(multisenge_places.place, others):
        points = rasterio.warp.transform(place.crs, other.crs, xs.ravel(), ys.ravel())
        x, y = np.array(points[0]) - other.x, other.y - np.array(points[1])
        found.append(((x > 0) & (x < 2560) & (y > 0) & (y < 2560)).any())
    return np.array(found)


def test_no_two_splits_share_ground():
    grid = [("31UFQ", range(35, 39)), ("31UGQ", range(3)), ("31UGQ", range(17, 22)),
            ("32ULV", range(5))]  # fmt: skip
    keys = [f"{tile}_{257 * x}_{257 * y}" for tile, xs in grid for x in xs for y in range(16)]
    parts = multisenge_places.split(keys)
    assert sorted(key for part in parts.values() for key in part) == sorted(keys)
    assert all(parts.values())
    centres = dict(zip(keys, multisenge_places.corners(keys).mean(axis=1), strict=True))

    def sharing(key, names):
        near = [k for n in names for k in parts[n] if k != key
                and abs(centres[k] - centres[key]).max() < 3700]  # fmt: skip
        return [k for k, yes in zip(near, inside(key, near), strict=True) if yes]

    for split, others in (("validation", ("train", "test")), ("test", ("train",))):
        for key in parts[split]:
            assert not sharing(key, others), (split, key)
    # What is put aside does share ground with another split, and its block is for training or
    # validation.
    for key in parts["border"]:
        block = multisenge_places.split_of(multisenge_places.blocks([key])[0])
        assert block in ("train", "validation")
        assert sharing(key, {"train", "validation", "test", "border"} - {block})


def test_neighbours_in_a_tile_share_no_ground():
    for tile in ("31UFQ", "32ULU"):
        keys = [f"{tile}_{257 * x}_{257 * y}" for x in range(38) for y in range(10)]
        assert not multisenge_places.split(keys)["border"]
        assert not inside(keys[11], [keys[0], keys[1], keys[10], keys[12], keys[21]]).any()


def test_splits_are_those_of_the_blocks(root):
    dataset = MultiSenGE(root)
    keys = sorted(path.stem for path in (root / "labels").glob("*.json"))
    assert sorted(all_keys(dataset)) == keys
    for split in dataset.info.splits:
        assert dataset.keys(split) == sorted(dataset.keys(split))
        assert dataset.keys(split)
        for key in dataset.keys(split):
            if split != "border":
                assert multisenge_places.split_of(dataset.read(key)["block"]) == split
    (border,) = dataset.keys("border")
    assert any(inside(border, [key for key in keys if key != border]))


def test_report_of_the_distances(root):
    dataset = MultiSenGE(root)
    told = dataset.report()
    assert told["patches"] == {s: len(dataset.keys(s)) for s in ("train", "validation", "test")}
    assert told["overlaps"] == 0
    assert list(told["dropped"].values()) == [1]
    centres = {
        split: multisenge_places.corners(dataset.keys(split)).mean(axis=1)
        for split in told["patches"]
    }
    for pair, metres in told["nearest_m"].items():
        one, other = (centres[split] for split in pair.split("-"))
        apart = np.linalg.norm(one[:, None] - other, axis=-1).min()
        assert apart - 2**0.5 * 2560 - 30 < metres < apart - 2560 + 30


# What is not known for sure is checked.


def rewrite(path, change=lambda a: a, shift=(0.0, 0.0), crs=None):
    pixels, found, t = by_gdal(path)
    transform = (t[0], 0.0, t[2] + shift[0], 0.0, t[4], t[5] + shift[1])
    changed = change(pixels)
    geotiff.write_geotiff(path, changed, crs=crs or found, transform=transform)


def test_wrong_band_order_is_refused(root):
    assert MultiSenGE(root).keys("train")
    with pytest.raises(DatasetError, match=r"in (\d) of \1 patches forest.*use another of resol"):
        MultiSenGE(root, band_order="wavelength").keys("train")
    assert MultiSenGE(root, band_order="wavelength", sensors="s1").keys("train")


def test_files_of_the_other_order_are_refused_until_it_is_named(copied):
    root = copied("multisenge", COUNT)
    info = MultiSenGE(root, band_order="wavelength").info
    order = [BANDS.index(band) for band in info.images["s2"].bands]
    for path in (root / "s2").glob("*.tif"):
        rewrite(path, lambda a: a[..., order])
    with pytest.raises(DatasetError, match="not the bands of band_order='resolution'"):
        MultiSenGE(root).keys("train")
    assert MultiSenGE(root, band_order="wavelength").keys("train")


def test_one_odd_or_damaged_patch_does_not_decide_the_order(copied):
    root = copied("multisenge", COUNT)
    dataset = MultiSenGE(root)
    keys = sorted(all_keys(dataset))
    forest = [key for key in keys if "11" in note_of(root, key)["labels"].split(";")]
    assert len(forest) > 3
    first_of(root, forest[0], "s2").write_bytes(b"")
    for name in note_of(root, forest[1])["corresponding_s2"].split(";"):
        rewrite(root / "s2" / name, lambda a: a[..., ::-1])
    assert sorted(all_keys(MultiSenGE(root))) == keys


def test_wrong_radar_unit_is_refused(damaged):
    key = MultiSenGE(damaged).keys("train")[0]
    with pytest.raises(DatasetError, match=r"_S1_.*\.tif: median -.*use s1_unit='db'"):
        MultiSenGE(damaged, sensors="s1", s1_unit="linear_power").read(key)
    for name in note_of(damaged, key)["corresponding_s1"].split(";"):
        rewrite(damaged / "s1" / name, lambda a: 10 ** (a / 10))
    assert (MultiSenGE(damaged, sensors="s1", s1_unit="linear_power").read(key)["s1"] > 0).all()
    with pytest.raises(DatasetError, match=r"_S1_.*\.tif: median 0.*use s1_unit='linear_power'"):
        MultiSenGE(damaged, sensors="s1").read(key)


def test_signed_images_are_read_when_named(damaged):
    key = MultiSenGE(damaged).keys("train")[0]
    for name in note_of(damaged, key)["corresponding_s2"].split(";"):
        rewrite(damaged / "s2" / name, lambda a: np.minimum(a, 30000).astype(np.int16))
    assert MultiSenGE(damaged, s2_dtype="int16").read(key)["s2"].dtype == np.int16
    with pytest.raises(DatasetError, match=r"10 bands of int16, expected .* 10 bands of uint16"):
        MultiSenGE(damaged).read(key)


def test_labels_that_contradict_the_map_are_refused(damaged):
    dataset = MultiSenGE(damaged)
    key = dataset.keys("train")[0]
    note = note_of(damaged, key)
    before = note["labels"]
    note["labels"] = before.split(";")[0]
    (damaged / "labels" / f"{key}.json").write_text(json.dumps(note))
    with pytest.raises(DatasetError, match=rf"{key}\.json: labels .*expected '{before}'.*'map'"):
        dataset.read(key)
    found = MultiSenGE(damaged, labels="map").read(key)["label"]
    assert ";".join(str(i + 1) for i in np.flatnonzero(found)) == before


# Damage. Each case: file, what to do to it, what the error must say.


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def code(value):
    def change(pixels):
        pixels[3, 5] = value
        return pixels

    return lambda path: rewrite(path, change)


def noted(**changes):
    def change(path):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


DAMAGE = {
    "missing": ("s2", lambda p: p.unlink(), DatasetError, "no such file"),
    "no radar": ("s1", lambda p: p.unlink(), DatasetError, "no such file"),
    "no map": ("gr", lambda p: p.unlink(), DatasetError, "no such file"),
    "truncated": ("s2", cut, DatasetError, "truncated"),
    "html": ("s1", lambda p: p.write_bytes(b"<html>"), DatasetError, "begins with"),
    "bands": ("s2", lambda p: rewrite(p, lambda a: a[..., :9]), DatasetError, "9 bands of uint16"),
    "size": ("gr", lambda p: rewrite(p, lambda a: a[1:]), DatasetError, "255x256 pixels"),
    "dtype": ("s1", lambda p: rewrite(p, lambda a: a.astype(np.float64)), DatasetError,
              "2 bands of float64, expected 256x256 pixels, 2 bands of float32"),
    "float map": ("gr", lambda p: rewrite(p, lambda a: a.astype(np.float32)), DatasetError,
                  "pixels of float32, expected class codes"),
    "nan": ("s1", code(np.nan), DatasetError, "2 values that are NaN or infinite"),
    "code": ("gr", code(15), NomenclatureError, r"codes 15 .*'multisenge'.*\(3, 5\)"),
    "rows for columns": ("gr", lambda p: rewrite(p, shift=(2570.0, 0.0)), DatasetError,
                         "lies at .* by its name"),
    "moved": ("s2", lambda p: rewrite(p, shift=(0.0, 10.0)), DatasetError, "lies at .* by its"),
    "zone": ("s1", lambda p: rewrite(p, crs="EPSG:2154"), DatasetError, "lies at .*2154"),
    "json": ("json", cut, DatasetError, "no JSON"),
    "json list": ("json", lambda p: p.write_text("[]"), DatasetError, "no text 'corresponding_s2'"),
    "json lacks": ("json", noted(corresponding_s1=["a"]), DatasetError,
                   "no text 'corresponding_s1', expected values joined by ';'"),
    "json labels": ("json", noted(labels="2;x"), DatasetError, "labels '2;x', expected class"),
    "json code": ("json", noted(labels="99"), NomenclatureError, "codes 99 are not in"),
    "json name": ("json", noted(corresponding_s2="../../etc/passwd"), DatasetError,
                  "'../../etc/passwd' in 'corresponding_s2', expected names as"),
    "json empty": ("json", noted(corresponding_s2=""), DatasetError, "'' in 'corresponding_s2'"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(damaged, case):
    part, damage, kind_of_error, message = DAMAGE[case]
    dataset = MultiSenGE(damaged, sensors="s2,s1")
    key = dataset.keys("test" if dataset.keys("test") else "train")[0]
    paths = {"gr": map_of(damaged, key), "json": damaged / "labels" / f"{key}.json"}
    path = paths[part] if part in paths else first_of(damaged, key, part)
    damage(path)
    with pytest.raises(kind_of_error, match=rf"{re.escape(str(path))}: .*{message}"):
        dataset.read(key)


def test_a_date_given_twice_or_impossible_is_refused(damaged):
    key = MultiSenGE(damaged).keys("train")[0]
    name = note_of(damaged, key)["corresponding_s2"].split(";")[0]
    for text in (f"{name};{name}", re.sub(r"_\d{8}_", "_20200230_", name)):
        noted(corresponding_s2=text)(damaged / "labels" / f"{key}.json")
        with pytest.raises(DatasetError, match=r"'corresponding_s2', expected .* each date once"):
            MultiSenGE(damaged, sensors="s2").read(key)


@pytest.mark.parametrize("part", ["labels", "ground_reference", "s2"])
def test_missing_folder_is_named(damaged, part):
    (damaged / part).rename(damaged / "elsewhere")
    with pytest.raises(DatasetError, match=rf"no folder {part} \(nor .*zenodo"):
        MultiSenGE(damaged).keys("train")


def test_misnamed_or_no_json_is_refused(damaged):
    (damaged / "labels" / "._31UFQ_0_0.json").touch()
    (damaged / "labels" / "readme.txt").touch()
    assert MultiSenGE(damaged).keys("train")
    (damaged / "labels" / "32UFQ_0_0.json").touch()  # zone 32 has no column F
    with pytest.raises(DatasetError, match=r"32UFQ_0_0\.json: not named as officially"):
        MultiSenGE(damaged).keys("train")
    for path in (damaged / "labels").glob("*.json"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"labels: no \*\.json"):
        MultiSenGE(damaged).keys("train")


def test_wrong_source(root, downloads):
    for source in (root / "s2", downloads("sen12ms", 3)):
        with pytest.raises(DatasetError, match=r"no folder labels .*for the JSON files"):
            MultiSenGE(source).keys("train")


def test_unknown_keys_and_options(root):
    for key in ("x", "../x", "31UFQ_0", "32UFQ_0_0", "31UFQ_0_0.json"):
        with pytest.raises(DatasetError, match="no sample"):
            MultiSenGE(root).read(key)
    with pytest.raises(DatasetError, match=r"31UFQ_1_1\.json: no such file"):
        MultiSenGE(root).read("31UFQ_1_1")
    for options in ({"sensors": "s3"}, {"band_order": "none"}, {"s2_dtype": "float32"},
                    {"s1_unit": "dn8"}, {"labels": "none"}):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{next(iter(options))}=.*expected"):
            MultiSenGE(root, **options)
