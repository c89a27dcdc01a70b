import csv
import pickle
import re
import shutil
import zipfile

import numpy as np
import pytest
import rasterio

from rsjax import landcover
from rsjax.datasets import geotiff, seasonet_metadata
from rsjax.datasets.seasonet import SeasoNet
from rsjax.errors import ConfigError, DatasetError, NomenclatureError

pytestmark = pytest.mark.once

COUNT = 24
SHAPES = {"s2_10m": (120, 120, 4), "s2_20m": (60, 60, 6), "s2_60m": (20, 20, 2)}
FILES = {"s2_10m": ("10m_RGB", "10m_IR"), "s2_20m": ("20m",), "s2_60m": ("60m",)}
LISTS = {"train": "train", "validation": "val", "test": "test"}
# Value -> CORINE code, name and colour; typed from the paper's table and CORINE's legend.
CLASSES = """
1 111 230,0,77 Continuous urban fabric
2 112 255,0,0 Discontinuous urban fabric
3 121 204,77,242 Industrial or commercial units
4 122 204,0,0 Road and rail networks and associated land
5 123 230,204,204 Port areas
6 124 230,204,230 Airports
7 131 166,0,204 Mineral extraction sites
8 132 166,77,0 Dump sites
9 133 255,77,255 Construction sites
10 141 255,166,255 Green urban areas
11 142 255,230,255 Sport and leisure facilities
12 211 255,255,168 Non-irrigated arable land
13 221 230,128,0 Vineyards
14 222 242,166,77 Fruit trees and berry plantations
15 231 230,230,77 Pastures
16 311 128,255,0 Broad-leaved forest
17 312 0,166,0 Coniferous forest
18 313 77,255,0 Mixed forest
19 321 204,242,77 Natural grasslands
20 322 166,255,128 Moors and heathland
21 324 166,242,0 Transitional woodland/shrub
22 331 230,230,230 Beaches, dunes, sands
23 332 204,204,204 Bare rock
24 333 204,255,204 Sparsely vegetated areas
25 411 166,166,255 Inland marshes
26 412 77,77,255 Peat bogs
27 421 204,204,255 Salt marshes
28 423 166,166,230 Intertidal flats
29 511 0,204,242 Water courses
30 512 128,242,230 Water bodies
31 521 0,255,166 Coastal lagoons
32 522 166,255,230 Estuaries
33 523 230,242,255 Sea and ocean
"""
TO_19 = {
    **{1: 0, 2: 0, 3: 1, 12: 2, 13: 3, 14: 3, 15: 4, 16: 8, 17: 9, 18: 10, 19: 11, 20: 12},
    **{21: 13, 22: 14, 24: 11, 25: 15, 26: 15, 27: 16, 29: 17, 30: 17, 31: 18, 32: 18, 33: 18},
}


@pytest.fixture
def root(downloads):
    return downloads("seasonet", COUNT)


@pytest.fixture
def damaged(copied):
    return copied("seasonet", 9)


def table(root):
    with open(root / "meta.csv", newline="") as file:
        return list(csv.DictReader(file))


def listed(root, split):
    return [int(line) for line in (root / "splits" / f"{LISTS[split]}.csv").read_text().split()]


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


def by_gdal(path):
    with rasterio.open(path) as raster:
        return (
            np.moveaxis(raster.read(), 0, -1),
            raster.crs.to_string(),
            tuple(raster.transform)[:6],
        )


def test_examples_equal_files_and_table(root):
    dataset = SeasoNet(root)
    rows = {row["Path"]: row for row in table(root)}
    assert sorted(all_keys(dataset)) == sorted(rows)
    for key in all_keys(dataset):
        example, row = dataset.read(key), rows[key]
        stem = root / key / key.split("/")[-1]
        for entry, parts in FILES.items():
            expected = np.concatenate([by_gdal(f"{stem}_{part}.tif")[0] for part in parts], -1)
            np.testing.assert_array_equal(example[entry], expected)
            assert (example[entry].shape, example[entry].dtype) == (SHAPES[entry], np.uint16)
        codes, crs, transform = by_gdal(f"{stem}_labels.tif")
        np.testing.assert_array_equal(example["mask"] + 1, codes[..., 0])
        assert example["mask"].dtype == np.uint8
        named = {int(value) for value in row["Classes"].split(",")}
        assert set((np.flatnonzero(example["label"]) + 1).tolist()) == named
        assert set(np.unique(codes).tolist()) == named
        texts = {
            "id": key, "season": row["Season"], "grid": row["Grid"], "crs": crs,
            "satellite": row["Satellite"], "date": key.split("_")[1][:8],
        }  # fmt: skip
        assert {k: example[k].replace("-", "") if k == "date" else example[k]
                for k in texts} == texts  # fmt: skip
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", example["date"])
        place = [float(v) for v in example["place"].split(",")]
        assert place == [float(row["Latitude"]), float(row["Longitude"])]
        assert tuple(example["transform"]) == transform
        assert set(example) == {*SHAPES, *texts, "mask", "label", "place", "transform"}


def test_bands_are_named_in_the_order_of_the_files(root):
    dataset = SeasoNet(root)
    assert {entry: spec.bands for entry, spec in dataset.info.images.items()} == {
        "s2_10m": ("B04", "B03", "B02", "B08"),
        "s2_20m": ("B05", "B06", "B07", "B8A", "B11", "B12"),
        "s2_60m": ("B01", "B09"),
    }
    summer = SeasoNet(root, seasons="Summer")
    pixels = [x["s2_10m"][x["mask"] == 14] for x in map(summer.read, all_keys(summer))]
    red, green, blue, infrared = np.concatenate(pixels).mean(axis=0)  # of pastures
    assert blue < red < green < infrared / 3


def test_places_are_seen_in_several_seasons_with_one_map_and_stay_in_one_split(root):
    dataset, seen = SeasoNet(root), {}
    for split in dataset.info.splits:
        for key in dataset.keys(split):
            example = dataset.read(key)
            seen.setdefault(example["place"], []).append((split, example))
    assert len(seen) == COUNT / 3
    for visits in seen.values():
        assert len({example["season"] for _, example in visits}) == len(visits) == 3
        assert len({(split, x["mask"].tobytes(), x["grid"]) for split, x in visits}) == 1
    assert {x["grid"] for visits in seen.values() for _, x in visits} == {"1", "2"}


def test_splits_are_positions_and_not_the_index_and_are_filtered_afterwards(root):
    rows = table(root)
    assert [int(row["Index"]) for row in rows] != list(range(COUNT))
    for options, season, grid in (
        ({}, None, None),
        ({"seasons": ("Summer", "Snow")}, ("Summer", "Snow"), None),
        ({"grids": 1}, None, "1"),
        ({"seasons": "Snow,Fall", "grids": "2"}, ("Snow", "Fall"), "2"),
        ({"grids": (2, 1)}, None, None),
    ):
        for split in LISTS:
            chosen = [rows[position] for position in listed(root, split)]
            expected = [
                row["Path"] for row in chosen
                if (season is None or row["Season"] in season) and grid in (None, row["Grid"])
            ]  # fmt: skip
            assert SeasoNet(root, **options).keys(split) == expected
    assert sorted(row for split in LISTS for row in listed(root, split)) == list(range(COUNT))


def test_a_list_keeps_its_order(damaged):
    path = damaged / "splits" / "val.csv"
    path.write_text("5\n1\n3\n")
    for other, row in (("train", 0), ("test", 8)):
        (damaged / "splits" / f"{other}.csv").write_text(f"{row}\n")
    rows = table(damaged)
    assert SeasoNet(damaged).keys("validation") == [rows[i]["Path"] for i in (5, 1, 3)]


def test_a_sample_of_another_season_or_grid_is_unknown(root):
    whole = SeasoNet(root)
    for key in all_keys(whole):
        example = whole.read(key)
        other = SeasoNet(root, seasons="Fall" if example["season"] != "Fall" else "Snow")
        with pytest.raises(DatasetError, match="no sample"):
            other.read(key)
        with pytest.raises(DatasetError, match="no sample"):
            SeasoNet(root, grids=3 - int(example["grid"])).read(key)


def test_zips_read_as_folders(damaged):
    whole = SeasoNet(damaged)
    keys = {split: whole.keys(split) for split in LISTS}
    expected = {key: whole.read(key) for part in keys.values() for key in part}
    fingerprint = whole.fingerprint()
    for folder in [p for p in damaged.iterdir() if p.is_dir()]:
        with zipfile.ZipFile(damaged / f"{folder.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in folder.rglob("*.*"):
                archive.write(file, file.relative_to(damaged))
        shutil.rmtree(folder)
    seasons = {example["season"] for example in expected.values()}
    zipped = SeasoNet(damaged, seasons=tuple(seasons))
    assert {split: zipped.keys(split) for split in LISTS} == keys
    for key, example in expected.items():
        found = zipped.read(key)
        for entry in (*SHAPES, "mask", "label"):
            np.testing.assert_array_equal(found[entry], example[entry])
    assert (fingerprint == zipped.fingerprint()) == (len(seasons) == 5)


def test_only_the_seasons_asked_for_are_needed(damaged):
    present = sorted({row["Season"] for row in table(damaged)})
    shutil.rmtree(damaged / present[0].lower())
    with pytest.raises(DatasetError, match=rf"{present[0].lower()}\.zip .*with the option seas"):
        SeasoNet(damaged, seasons=tuple(present)).keys("train")
    dataset = SeasoNet(damaged, seasons=tuple(present[1:]))
    for key in all_keys(dataset):
        assert dataset.read(key)["season"] != present[0]


def test_fingerprint_and_pickle(root):
    made = [{}, {"seasons": "Summer"}, {"grids": 1}, {"labels": "map"}, {"georeferenced": False}]
    assert len({SeasoNet(root, **options).fingerprint() for options in made}) == 5
    dataset = SeasoNet(root)
    key = dataset.keys("test")[0]
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again.read(key)["s2_20m"], dataset.read(key)["s2_20m"])


# The table of classes.


def test_nomenclature_is_the_official_table():
    found, expected = landcover.load("seasonet"), []
    for line in CLASSES.strip().splitlines():
        value, code, colour, name = line.split(" ", 3)
        rgb = "#" + "".join(f"{int(part):02x}" for part in colour.split(","))
        expected.append((int(value), name, rgb, int(code)))
    assert list(zip(found.codes, found.names, found.colours, found.parents,
                    strict=True)) == expected  # fmt: skip
    np.testing.assert_array_equal(found.encode(np.array([0, 1, 33, 255])), [255, 0, 32, 255])


def test_crosswalks():
    source = landcover.load("seasonet")
    walk = source.crosswalk(landcover.load("bigearthnet19"))
    assert {v: int(walk[v - 1]) for v in range(1, 34) if walk[v - 1] != 255} == TO_19
    for name, digits in (("corine_l3", 1), ("corine_l2", 10), ("corine_l1", 100)):
        target = landcover.load(name)
        found = [target.codes[i] for i in source.crosswalk(target)[:33]]
        assert found == [code // digits for code in source.parents]


# Damage. Each case: how to damage the download, what the error must say.


def first(root):
    return SeasoNet(root).keys("train")[0]


def rewrite(path, change=lambda a: a, crs=None, shift=0.0, **profile):
    array, found, t = by_gdal(path)
    geotiff.write_geotiff(
        path, change(array), crs=crs or found,
        transform=(t[0], 0.0, t[2] + shift, 0.0, t[4], t[5]), **profile,
    )  # fmt: skip


DAMAGE = {
    "missing": (lambda path: path.unlink(), "no such file"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-300]), "truncated|broken tags"),
    "html": (lambda path: path.write_bytes(b"<html>quota</html>"), "HTML page or a VRT"),
    "smaller": (lambda path: rewrite(path, lambda a: a[:-1]), r"pixels, \d band.*, expected"),
    "floats": (lambda path: rewrite(path, lambda a: a.astype("float32")), "of float32, expected"),
    "one band more": (
        lambda path: rewrite(path, lambda a: np.concatenate([a, a[..., :1]], -1)),
        r"\d bands of .*, expected .* \d band",
    ),
    "moved": (lambda path: rewrite(path, shift=10.0), "lies at .*, expected .* as the other files"),
    "other zone": (lambda path: rewrite(path, crs="EPSG:32631"), "lies at .*EPSG:32631"),
}


@pytest.mark.parametrize("part", ["10m_RGB", "10m_IR", "20m", "60m", "labels"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file_is_named(damaged, part, damage):
    key = first(damaged)
    path = damaged / key / f"{key.split('/')[-1]}_{part}.tif"
    change, message = DAMAGE[damage]
    change(path)
    with pytest.raises(DatasetError, match=message) as caught:
        SeasoNet(damaged).read(key)
    if part != "10m_RGB" or damage not in ("moved", "other zone"):  # the first sets the place
        assert str(path) in str(caught.value)


def test_values_that_mean_not_labelled_and_unknown_ones(damaged):
    key = first(damaged)
    path = damaged / key / f"{key.split('/')[-1]}_labels.tif"
    before = SeasoNet(damaged).read(key)
    rows = np.arange(120)[:, None, None]
    rewrite(path, lambda a: np.where(rows == 0, 0, np.where(rows == 1, 255, a)).astype(np.uint8))
    found = SeasoNet(damaged).read(key)["mask"]
    assert (found[:2] == 255).all()
    np.testing.assert_array_equal(found[2:], before["mask"][2:])
    rewrite(path, lambda a: np.where(rows == 7, 34, a).astype(np.uint8))
    with pytest.raises(NomenclatureError, match=r"_labels\.tif: codes 34 .*\(7, 0\)"):
        SeasoNet(damaged).read(key)


def test_classes_that_disagree_with_the_map(damaged):
    key = first(damaged)
    path = damaged / key / f"{key.split('/')[-1]}_labels.tif"
    before = SeasoNet(damaged).read(key)
    rewrite(path, lambda a: np.full_like(a, 33))
    with pytest.raises(DatasetError, match=r"has the classes \[33\], expected \[.*labels='map'"):
        SeasoNet(damaged).read(key)
    label = SeasoNet(damaged, labels="map").read(key)["label"]
    assert np.flatnonzero(label).tolist() == [32]
    column = SeasoNet(damaged, labels="column").read(key)
    np.testing.assert_array_equal(column["label"], before["label"])
    assert (column["mask"] == 32).all()


def test_files_without_coordinates(damaged):
    key = first(damaged)
    before = SeasoNet(damaged).read(key)
    for path in (damaged / key).iterdir():
        geotiff.write_geotiff(path, by_gdal(path)[0])
    with pytest.raises(DatasetError, match=r"no geographic position.*georeferenced=False"):
        SeasoNet(damaged).read(key)
    dataset = SeasoNet(damaged, georeferenced=False)
    found = dataset.read(key)
    assert not dataset.info.georeferenced
    assert before.keys() - found.keys() == {"crs", "transform"}
    np.testing.assert_array_equal(found["s2_60m"], before["s2_60m"])


def change_table(root, change):
    path = root / "meta.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")


def replace(column, value, row=2):
    def change(lines):
        rows = list(csv.reader(lines))
        rows[row][rows[0].index(column)] = value
        return [",".join(f'"{cell}"' if "," in cell else cell for cell in cells) for cells in rows]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace("Season", "Autumn"), r"unknown \['Autumn'\], expected one of Spring"),
        (replace("Grid", "3"), r"unknown \['3'\], expected one of 1, 2"),
        (replace("Classes", "12,34"), "Classes '12,34', expected values from 1 to 33"),
        (replace("Classes", "0"), "Classes '0', expected values"),
        (replace("Classes", "12;2"), "Classes '12;2', expected values"),
        (replace("Path", ""), "missing values under Path"),
        (replace("Latitude", "north"), "unreadable .*north"),
        (replace("Month", "13"), "date 2018-13-.* in row 1, expected a day"),
        (replace("Day", "0"), "date 2018-.*-0 in row 1, expected a day"),
        (lambda lines: replace("Month", "2")(replace("Day", "30")(lines)), "date 2018-2-30 in row"),
        (replace("Path", "Folder", row=0), "unreadable .*Path.*expected columns Season"),
        (lambda lines: lines[:1], "no rows"),
        (lambda lines: [*lines, lines[1]], r"patch .*grid\d/.* is there twice"),
        (lambda lines: [*lines, "1,Spring"], "unreadable .*columns"),
        (lambda lines: ["<html>quota exceeded</html>"], "unreadable"),
    ],
)
def test_damaged_table(damaged, change, message):
    change_table(damaged, change)
    with pytest.raises(DatasetError, match=message) as caught:
        SeasoNet(damaged).keys("train")
    assert str(damaged / "meta.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "an empty file"),
        ("row\n1\n", "'row'.*no header"),
        ("1\n2.5\n", "2.5.*one whole number"),
        ("1\n-1\n", "rows -1 to 1, expected positions from 0 to 8"),
        ("1\n9\n", "rows 1 to 9, expected positions from 0 to 8"),
        ("3\n1\n3\n", "row 3 is listed twice"),
    ],
)
def test_damaged_list(damaged, content, message):
    path = damaged / "splits" / "val.csv"
    path.write_text(content)
    with pytest.raises(DatasetError, match=message) as caught:
        SeasoNet(damaged).keys("validation")
    assert str(path) in str(caught.value)


def test_a_row_in_two_lists(damaged):
    row = listed(damaged, "train")[2]
    path = damaged / "splits" / "test.csv"
    path.write_text(f"{path.read_text().rstrip()}\n{row}\n")
    for split in LISTS:
        with pytest.raises(
            DatasetError, match=rf"row {row} and 0 more are in train\.csv"
        ) as caught:
            SeasoNet(damaged).keys(split)
        assert str(path) in str(caught.value)


def test_a_place_in_two_splits(root, damaged, caplog):
    SeasoNet(root).check()
    assert not caplog.records
    rows, one, other = table(damaged), listed(damaged, "train")[0], listed(damaged, "test")[0]
    for column in ("Latitude", "Longitude"):
        change_table(damaged, replace(column, rows[one][column], row=other + 1))
    SeasoNet(damaged).check()
    (record,) = caplog.records
    place = f"{float(rows[one]['Latitude'])},{float(rows[one]['Longitude'])}"
    assert f"1 places are in the lists of both 'train' and 'test', e.g. {place}" in record.message


@pytest.mark.parametrize("name", ["meta.csv", "splits/val.csv"])
def test_missing_table_or_list(damaged, name):
    (damaged / name).unlink()
    with pytest.raises(DatasetError, match=rf"{name}: no such file.*zenodo"):
        SeasoNet(damaged).keys("validation")
    shutil.rmtree(damaged / "splits")
    with pytest.raises(DatasetError, match=r"zenodo"):
        SeasoNet(damaged).keys("test")


@pytest.mark.parametrize("path", ["../../../etc/passwd", "spring/grid1/x", "spring/grid1/.."])
def test_the_table_cannot_lead_out_of_the_folder(damaged, path):
    change_table(damaged, replace("Path", path))
    with pytest.raises(DatasetError, match="not named as officially"):
        SeasoNet(damaged).read(path)


def test_a_path_of_another_season_is_refused(damaged):
    row = table(damaged)[1]
    season = "Snow" if row["Season"] != "Snow" else "Fall"
    change_table(damaged, replace("Season", season))
    with pytest.raises(DatasetError, match=f"of {season}, grid .*not named as officially"):
        SeasoNet(damaged).read(row["Path"])


def test_wrong_source(root, downloads):
    with pytest.raises(DatasetError, match=r"meta\.csv: a file, expected the folder"):
        SeasoNet(root / "meta.csv").keys("train")
    with pytest.raises(DatasetError, match=r"neither the folder spring nor spring\.zip"):
        SeasoNet(downloads("eurosat", 60)).keys("train")


def test_unknown_key(root):
    for key in ("x", "../x", SeasoNet(root).keys("test")[0] + "0"):
        with pytest.raises(DatasetError, match="no sample"):
            SeasoNet(root).read(key)


@pytest.mark.parametrize(
    "options",
    [{"seasons": "summer"}, {"seasons": ()}, {"grids": 3}, {"grids": (1, 1)}, {"labels": "both"}],
)
def test_unknown_option_value_lists_the_known(options, tmp_path):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}=.*expected"):
        SeasoNet(tmp_path, **options)


def test_too_large_a_table_is_refused(damaged, monkeypatch):
    monkeypatch.setattr(seasonet_metadata, "_MAX_BYTES", 100)
    with pytest.raises(DatasetError, match=r"meta\.csv: .* bytes, expected at most 100"):
        SeasoNet(damaged).keys("train")
