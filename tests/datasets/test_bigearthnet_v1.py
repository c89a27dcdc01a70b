import json
import shutil

import numpy as np
import pytest
import rasterio

from rsjax import landcover
from rsjax.datasets import geotiff
from rsjax.datasets.bigearthnet_v1 import BigEarthNetV1
from rsjax.errors import DatasetError, NomenclatureError

COUNT = 24
BANDS = {
    "s2_10m": ("B02", "B03", "B04", "B08"),
    "s2_20m": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "s2_60m": ("B01", "B09"),
    "s1": ("VV", "VH"),
}
S2, S1 = "BigEarthNet-v1.0", "BigEarthNet-S1-v1.0"


def by_gdal(path):
    with rasterio.open(path) as raster:
        return raster.read(1), raster.crs.to_string(), tuple(raster.transform)[:6]


def check(root, dataset, key, s2_dir=S2, s1_dir=S1):
    example = dataset.read(key)
    for entry, bands in BANDS.items():
        folder, name = (s1_dir, example["s1_name"]) if entry == "s1" else (s2_dir, key)
        expected = [by_gdal(root / folder / name / f"{name}_{band}.tif") for band in bands]
        np.testing.assert_array_equal(example[entry], np.stack([e[0] for e in expected], -1))
        assert example[entry].dtype == expected[0][0].dtype
        assert example["crs"] == expected[0][1]
        if entry in ("s1", "s2_10m"):
            assert tuple(example["transform"]) == expected[0][2]
    note = json.loads((root / s2_dir / key / f"{key}_labels_metadata.json").read_text())
    other = example["s1_name"]
    radar = json.loads((root / s1_dir / other / f"{other}_labels_metadata.json").read_text())
    names = landcover.load("bigearthnet43").names
    assert {names[i] for i in np.flatnonzero(example["label"])} == set(note["labels"])
    assert radar["corresponding_s2_patch"] == key
    assert example["acquisition_time"] == note["acquisition_date"]
    assert example["id"] == key
    assert "mask" not in example
    return example


@pytest.fixture
def root(downloads):
    return downloads("bigearthnet_v1", COUNT)


@pytest.fixture
def damaged(copied):
    return copied("bigearthnet_v1", 9)


def test_examples_equal_the_files(root):
    dataset = BigEarthNetV1(root)
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        lines = (root / f"{name}.csv").read_text().splitlines()
        assert dataset.keys(split) == [line.split(",")[0] for line in lines]
        key = dataset.keys(split)[-1]
        assert check(root, dataset, key)["s1_name"] == lines[-1].split(",")[1]


def test_19_labels_follow_from_the_43(root):
    many, few = BigEarthNetV1(root), BigEarthNetV1(root, labels="bigearthnet19")
    names = landcover.load("bigearthnet43").names
    walk = landcover.load("bigearthnet43").crosswalk(landcover.load("bigearthnet19"))
    for key in many.keys("train"):
        classes = walk[np.flatnonzero(many.read(key)["label"])]
        expected = np.zeros(19, np.uint8)
        expected[classes[classes != 255]] = 1
        np.testing.assert_array_equal(few.read(key)["label"], expected)
        assert len(names) == 43


def test_without_lists_there_is_one_split(damaged):
    listed = BigEarthNetV1(damaged)
    keys = [key for split in listed.info.splits for key in listed.keys(split)]
    expected = listed.read(keys[5])
    for name in ("train", "val", "test"):
        (damaged / f"{name}.csv").unlink()
    for sensors in (("s2", "s1"), ("s1",), ("s2",)):
        dataset = BigEarthNetV1(damaged, sensors=sensors)
        assert dataset.info.splits == {"all": 0}
        assert dataset.keys("all") == sorted(keys)
        found = dataset.read(keys[5])
        for name in found:
            if name != "acquisition_time":
                np.testing.assert_array_equal(found[name], expected[name])


def test_patch_without_any_of_the_19_classes_has_no_label(damaged):
    dataset = BigEarthNetV1(damaged, labels="bigearthnet19")
    key = dataset.keys("test")[0]
    path = damaged / S2 / key / f"{key}_labels_metadata.json"
    note = json.loads(path.read_text())
    path.write_text(json.dumps(note | {"labels": ["Airports", "Burnt areas"]}))
    assert dataset.read(key)["label"].sum() == 0
    assert BigEarthNetV1(damaged).read(key)["label"].sum() == 2


def test_real_pairs(samples):
    root = samples / "bigearthnet_v1"
    folders = {"s2_dir": "BigEarthNet-S2-Example", "s1_dir": "BigEarthNet-S1-Example"}
    dataset = BigEarthNetV1(root, **folders)
    keys = dataset.keys("all")
    assert len(keys) == 6
    for key in keys:
        check(root, dataset, key, *folders.values())
    radar = BigEarthNetV1(root, sensors=("s1",), **folders)
    assert radar.keys("all") == keys
    for key in keys:  # the JSON of the radar patch has other keys, and the same labels
        found, expected = radar.read(key), dataset.read(key)
        np.testing.assert_array_equal(found["label"], expected["label"])
        np.testing.assert_array_equal(found["transform"], expected["transform"])
        assert found["acquisition_time"][10] == "T"


# Damage.


def note_of(root, key, folder=S2):
    return root / folder / key / f"{key}_labels_metadata.json"


def edit(path, change):
    note = json.loads(path.read_text())
    change(note)
    path.write_text(json.dumps(note))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda n: n.update(labels=["Arable lande"]), NomenclatureError, "Arable lande"),
        (lambda n: n.pop("labels"), DatasetError, "not the JSON of a patch .*labels"),
        (lambda n: n.update(labels="Airports"), DatasetError, "has labels"),
        (lambda n: n.pop("coordinates"), DatasetError, "not the JSON of a patch"),
        (lambda n: n["coordinates"].update(ulx=0), DatasetError, "upper left corner"),
        (lambda n: n.pop("acquisition_date"), DatasetError, "has time"),
    ],
)
def test_damaged_json_is_named(damaged, change, error, message):
    dataset = BigEarthNetV1(damaged)
    key = dataset.keys("train")[0]
    edit(note_of(damaged, key), change)
    with pytest.raises(error, match=message) as caught:
        dataset.read(key)
    assert str(note_of(damaged, key)) in str(caught.value)


def test_json_that_is_none(damaged):
    dataset = BigEarthNetV1(damaged)
    key = dataset.keys("train")[0]
    for content in (b"", b"<html>", b"\xff\xfe", b"[]", b"null"):
        note_of(damaged, key).write_bytes(content)
        with pytest.raises(DatasetError, match=r"labels_metadata\.json: not the JSON of a patch"):
            dataset.read(key)
    note_of(damaged, key).unlink()
    with pytest.raises(DatasetError, match=r"labels_metadata\.json: no such file"):
        dataset.read(key)


def test_wrong_pair_is_found(damaged):
    dataset = BigEarthNetV1(damaged)
    key, other = dataset.keys("train")[:2]
    name = dataset.read(key)["s1_name"]
    edit(note_of(damaged, name, S1), lambda n: n.update(corresponding_s2_patch=other))
    with pytest.raises(DatasetError, match=rf"{name}_labels_metadata\.json.*partner"):
        dataset.read(key)


def test_wrong_pair_in_the_list_is_found(damaged):
    lines = (damaged / "train.csv").read_text().splitlines()
    (one, a), (two, b) = (line.split(",") for line in (lines[0], lines[-1]))
    (damaged / "train.csv").write_text(f"{one},{b}\n{two},{a}\n")
    with pytest.raises(DatasetError, match=r"_VV\.tif: lies at .* as the other files"):
        BigEarthNetV1(damaged).read(one)


def test_damaged_band_is_named(damaged):
    dataset = BigEarthNetV1(damaged)
    key = dataset.keys("train")[0]
    path = damaged / S2 / key / f"{key}_B8A.tif"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DatasetError, match=rf"{key}_B8A\.tif: .*truncated"):
        dataset.read(key)
    geotiff.write_geotiff(path, np.ones((60, 60), np.uint16), crs="EPSG:32633",
                          transform=(20.0, 0.0, 0.0, 0.0, -20.0, 0.0))  # fmt: skip
    with pytest.raises(DatasetError, match=rf"{key}_B8A\.tif: lies at"):
        dataset.read(key)


@pytest.mark.parametrize("content", ["only_one_column\n", "a,b\na,c\n", "a,\n"])
def test_damaged_list_is_named(damaged, content):
    (damaged / "val.csv").write_text(content)
    with pytest.raises(DatasetError, match=r"val\.csv:\d: .*expected 'S2 name,S1 name'"):
        BigEarthNetV1(damaged).keys("validation")


def test_missing_list_is_named(damaged):
    (damaged / "val.csv").unlink()
    with pytest.raises(DatasetError, match=r"val\.csv: no such file"):
        BigEarthNetV1(damaged).keys("validation")


def test_missing_part_names_the_option(damaged):
    shutil.rmtree(damaged / S1)
    with pytest.raises(DatasetError, match=r"sensors=\('s2',\)"):
        BigEarthNetV1(damaged).keys("train")
    dataset = BigEarthNetV1(damaged, sensors=("s2",))
    assert "s1_name" not in dataset.read(dataset.keys("train")[0])


def test_unknown_key(root):
    for key in ("../../etc/passwd", "x"):
        with pytest.raises(DatasetError, match="no sample"):
            BigEarthNetV1(root).read(key)
    key = BigEarthNetV1(root).keys("train")[0].rsplit("_", 1)[0] + "_99"
    with pytest.raises(DatasetError, match="no such file"):
        BigEarthNetV1(root).read(key)
