import json
import os
import pickle
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio

from rsjax import landcover
from rsjax.datasets import bigearthnet_metadata, geotiff
from rsjax.datasets.bigearthnet import BigEarthNet
from rsjax.errors import DatasetError, NomenclatureError

COUNT = 40
BANDS = {
    "s2_10m": ("B02", "B03", "B04", "B08"),
    "s2_20m": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "s2_60m": ("B01", "B09"),
    "s1": ("VV", "VH"),
}
SHAPES = {"s2_10m": (120, 120, 4), "s2_20m": (60, 60, 6), "s2_60m": (20, 20, 2),
          "s1": (120, 120, 2)}  # fmt: skip


def by_gdal(path):
    with rasterio.open(path) as raster:
        return raster.read(1), raster.crs.to_string(), tuple(raster.transform)[:6]


def stack(pattern, bands):
    return np.stack([by_gdal(str(pattern).format(band))[0] for band in bands], axis=-1)


def s2_path(root, key):
    return root / "BigEarthNet-S2" / key.rsplit("_", 2)[0] / key


def map_path(root, key):
    return root / "Reference_Maps" / key.rsplit("_", 2)[0] / key / f"{key}_reference_map.tif"


def s1_path(root, name):
    return root / "BigEarthNet-S1" / name.rsplit("_", 3)[0] / name


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


@pytest.fixture
def root(downloads):
    return downloads("bigearthnet", COUNT)


@pytest.fixture
def damaged(copied):
    return copied("bigearthnet", 7)


def test_examples_equal_the_files(root):
    dataset = BigEarthNet(root)
    rows = {row["patch_id"]: row for row in pq.read_table(root / "metadata.parquet").to_pylist()}
    assert sorted(rows) == sorted(all_keys(dataset))
    names = landcover.load("bigearthnet19").names
    corine = landcover.load("corine_l3")
    for key in all_keys(dataset)[::4]:
        example, row = dataset.read(key), rows[key]
        for entry, bands in BANDS.items():
            stem = s1_path(root, row["s1_name"]) if entry == "s1" else s2_path(root, key)
            expected = stack(stem / f"{stem.name}_{{}}.tif", bands)
            np.testing.assert_array_equal(example[entry], expected)
            assert example[entry].dtype == expected.dtype
            assert example[entry].shape == SHAPES[entry]
        codes, crs, transform = by_gdal(map_path(root, key))
        np.testing.assert_array_equal(corine.decode(example["mask"]), codes)
        assert [names[i] for i in np.flatnonzero(example["label"])] == sorted(
            row["labels"], key=names.index
        )
        assert (example["id"], example["country"]) == (key, row["country"])
        assert example["s1_name"] == row["s1_name"]
        assert example["crs"] == crs
        assert example["transform"].dtype == np.float64
        assert tuple(example["transform"]) == transform
        assert set(example) == {*BANDS, "mask", "label", "id", "country", "s1_name", "crs",
                                "transform"}  # fmt: skip


def test_splits_and_order_are_those_of_the_metadata(root):
    table = pq.read_table(root / "metadata.parquet").to_pylist()
    dataset = BigEarthNet(root)
    for split in ("train", "validation", "test"):
        assert dataset.keys(split) == [r["patch_id"] for r in table if r["split"] == split]
        assert dataset.keys(split)
    assert dataset.simulated


@pytest.mark.parametrize(
    ("options", "entries"),
    [
        ({"sensors": ("s2",)}, {"s2_10m", "s2_20m", "s2_60m", "mask"}),
        ({"sensors": ("s1",), "maps": False}, {"s1"}),
        ({"sensors": ("s1",)}, {"s1", "mask"}),
        ({"maps": False}, {"s2_10m", "s2_20m", "s2_60m", "s1"}),
    ],
)
def test_leaving_out_parts(root, options, entries):
    full, part = BigEarthNet(root), BigEarthNet(root, **options)
    key = part.keys("train")[3]
    expected, found = full.read(key), part.read(key)
    assert {name for name in found if name in (*BANDS, "mask")} == entries
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])
    assert set(part.info.images) | ({"mask"} if part.info.mask else set()) == entries


def test_43_labels_are_the_classes_of_the_map(root):
    dataset = BigEarthNet(root, labels="bigearthnet43", maps=False)
    nomenclature = landcover.load("bigearthnet43")
    for key in all_keys(dataset)[::7]:
        codes = set(np.unique(by_gdal(map_path(root, key))[0]).tolist())
        label = dataset.read(key)["label"]
        assert {nomenclature.codes[i] for i in np.flatnonzero(label)} == codes - {999, 335}
        assert "mask" not in dataset.read(key)


def test_snow_and_cloud_patches_are_added_by_name(root):
    plain, more = BigEarthNet(root), BigEarthNet(root, snow_cloud=True)
    extra = set(all_keys(more)) - set(all_keys(plain))
    table = pq.read_table(
        root / "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
    ).to_pylist()
    assert extra == {row["patch_id"] for row in table}
    assert extra
    for row in table:
        example = more.read(row["patch_id"])
        for flag in ("contains_seasonal_snow", "contains_cloud_or_shadow"):
            assert example[flag] == str(row[flag]).lower()
    example = more.read(plain.keys("test")[0])
    assert example["contains_seasonal_snow"] == "false"
    with pytest.raises(DatasetError, match="no sample"):
        plain.read(next(iter(extra)))


def test_tars_read_as_folders(damaged):
    folders = BigEarthNet(damaged)
    key = folders.keys("test")[0]
    expected = folders.read(key)
    for part in ("BigEarthNet-S2", "BigEarthNet-S1", "Reference_Maps"):
        with tarfile.open(damaged / f"{part}.tar", "w") as archive:
            archive.add(damaged / part, part)
        shutil.rmtree(damaged / part)
    found = BigEarthNet(damaged).read(key)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    (partial,) = [BigEarthNet(damaged, only_on_disk=True)]
    assert all_keys(partial) == all_keys(folders)


def test_only_on_disk(damaged):
    keys = BigEarthNet(damaged).keys("train")
    shutil.rmtree(s2_path(damaged, keys[1]))
    s1_name = BigEarthNet(damaged, sensors="s1").read(keys[2])["s1_name"]
    shutil.rmtree(s1_path(damaged, s1_name))
    assert BigEarthNet(damaged).keys("train") == keys
    found = BigEarthNet(damaged, only_on_disk=True).keys("train")
    assert found == [k for i, k in enumerate(keys) if i != 1]
    found = BigEarthNet(damaged, only_on_disk=True, sensors="s1").keys("train")
    assert found == [k for i, k in enumerate(keys) if i != 2]


def test_fingerprint(root):
    plain = BigEarthNet(root).fingerprint()
    assert plain == BigEarthNet(str(root)).fingerprint()
    others = [{"sensors": "s2"}, {"maps": False}, {"labels": "bigearthnet43"},
              {"snow_cloud": True}, {"only_on_disk": True}]  # fmt: skip
    assert len({plain, *(BigEarthNet(root, **o).fingerprint() for o in others)}) == 6


def test_pickle(root):
    dataset = BigEarthNet(root)
    key = dataset.keys("train")[0]
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again.read(key)["s1"], dataset.read(key)["s1"])


# Damage. Each case: how to damage the download, what the error must say.


def first(root):
    dataset = BigEarthNet(root)
    key = dataset.keys("train")[0]
    return key, dataset.read(key)["s1_name"]


def band(root, name):
    key, s1_name = first(root)
    if name in ("VV", "VH"):
        return s1_path(root, s1_name) / f"{s1_name}_{name}.tif"
    return map_path(root, key) if name == "map" else s2_path(root, key) / f"{key}_{name}.tif"


def rewrite(path, change=lambda a: a, crs=None, shift=0.0):
    array, found, t = by_gdal(path)
    transform = (t[0], 0.0, t[2] + shift, 0.0, t[4], t[5])
    geotiff.write_geotiff(path, change(array), crs=crs or found, transform=transform)


def unlink(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def html(path):
    path.write_bytes(b"<!DOCTYPE html><html>quota exceeded</html>")


def vrt(path):
    path.write_bytes(b'<VRTDataset rasterXSize="120" rasterYSize="120"></VRTDataset>')


def smaller(path):
    rewrite(path, lambda a: a[:-1])


def floats(path):
    rewrite(path, lambda a: a.astype("float64"))


def two_bands(path):
    rewrite(path, lambda a: np.stack([a, a], axis=-1))


def moved(path):
    rewrite(path, shift=10.0)


def other_zone(path):
    rewrite(path, crs="EPSG:32601")


FILES = ("B02", "B8A", "B09", "VH", "map")
DAMAGE = {
    unlink: "no such file",
    cut: "truncated|broken tags",
    html: "HTML page or a VRT",
    vrt: "HTML page or a VRT",
    smaller: "pixels, 1 band of .*, expected",
    floats: "of float64, expected",
    two_bands: "2 bands of .*, expected .* 1 band",
    moved: "lies at .*, expected .* as the other files",
    other_zone: "lies at .*EPSG:32601",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
def test_damaged_file_is_named(damaged, damage, name):
    path = band(damaged, name)
    key, _ = first(damaged)
    damage(path)
    with pytest.raises(DatasetError, match=DAMAGE[damage]) as caught:
        BigEarthNet(damaged).read(key)
    if name != "B02" or damage not in (moved, other_zone):  # the first file sets the place
        assert str(path) in str(caught.value)


def test_unknown_map_code_is_named(damaged):
    path = band(damaged, "map")
    rewrite(path, lambda a: np.where(np.arange(120) < 3, 777, a).astype(np.uint16))
    with pytest.raises(NomenclatureError, match=r"reference_map\.tif.*777"):
        BigEarthNet(damaged).read(path.parent.name)


@pytest.mark.parametrize(
    ("part", "option"),
    [
        ("BigEarthNet-S2", {"sensors": ("s1",)}),
        ("BigEarthNet-S1", {"sensors": ("s2",)}),
        ("Reference_Maps", {"maps": False}),
    ],
)
def test_missing_part_names_the_option_that_leaves_it_out(damaged, part, option):
    shutil.rmtree(damaged / part)
    name, value = next(iter(option.items()))
    with pytest.raises(DatasetError) as caught:
        BigEarthNet(damaged).keys("train")
    assert f"{name}={value!r}" in str(caught.value)
    assert part in str(caught.value)
    dataset = BigEarthNet(damaged, **option)
    dataset.read(dataset.keys("train")[0])
    (damaged / f"{part}.tar.zst").write_bytes(b"x")
    with pytest.raises(DatasetError, match=f"zstd -d .*{part}.tar.zst"):
        BigEarthNet(damaged).keys("train")


def change_metadata(root, change):
    path = root / "metadata.parquet"
    table = pq.read_table(path)
    pq.write_table(change(table.to_pydict()), path)


def set_value(column, value):
    def change(data):
        data[column][2] = value
        return pa.table(data)

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (set_value("split", "val"), DatasetError, r"unknown splits \['val'\], expected train"),
        (set_value("labels", ["Arable lande"]), NomenclatureError, "Arable lande.*did you mean"),
        (set_value("labels", [None]), DatasetError, "'labels'.*1 missing"),
        (set_value("s1_name", None), DatasetError, "'s1_name'.*1 missing"),
        (lambda d: pa.table({**d, "extra": d["split"]}), DatasetError, "columns .*extra; expected"),
        (lambda d: pa.table({k: v for k, v in d.items() if k != "country"}), DatasetError,
         "expected .*country"),
        (lambda d: pa.table({**d, "country": range(len(d["split"]))}), DatasetError,
         "column 'country' of type int64"),
        (lambda d: pa.table({**d, "labels": d["split"]}), DatasetError, "column 'labels'"),
        (lambda d: pa.table({k: [*v, v[0]] for k, v in d.items()}), DatasetError,
         "patch S2._MSIL2A.* is there twice"),
    ],
)  # fmt: skip
def test_damaged_metadata(damaged, change, error, message):
    change_metadata(damaged, change)
    with pytest.raises(error, match=message) as caught:
        BigEarthNet(damaged).keys("train")
    assert "metadata.parquet" in str(caught.value)


def test_metadata_that_is_missing_or_no_parquet(damaged):
    key = BigEarthNet(damaged).keys("train")[0]
    path = damaged / "metadata.parquet"
    for content in (b"", b"<html>", path.read_bytes()[:-100]):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"metadata\.parquet: not a readable parquet"):
            BigEarthNet(damaged).read(key)
    path.unlink()
    with pytest.raises(DatasetError, match=r"metadata\.parquet: no such file.*zenodo"):
        BigEarthNet(damaged).read(key)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "S2A_MSIL2A_x"])
def test_metadata_cannot_lead_out_of_the_folder(damaged, name):
    change_metadata(damaged, set_value("patch_id", name))
    with pytest.raises(DatasetError, match="not named as officially"):
        BigEarthNet(damaged).read(name)


def test_unknown_key(root):
    for key in ("x", "../x", BigEarthNet(root).keys("test")[0] + "0"):
        with pytest.raises(DatasetError, match="no sample"):
            BigEarthNet(root).read(key)


# Real files.

REAL_COUNTS = {  # patches with each of the 19 classes
    "train": [33626, 6398, 88236, 15190, 42968, 51034, 60127, 15082, 64164, 76344, 78791, 6984,
              6329, 64198, 738, 11344, 670, 30466, 35914],
    "validation": [17308, 2726, 49737, 8688, 25915, 26486, 32736, 8157, 35387, 39554, 42705, 2687,
                   3806, 36429, 426, 5056, 610, 15900, 14064],
    "test": [12824, 2018, 50052, 5710, 26722, 22078, 29846, 9942, 36377, 39043, 44284, 2211, 3759,
             40523, 152, 4519, 117, 16846, 11854],
}  # fmt: skip


def test_real_metadata(samples):
    name = "metadata.parquet"
    content = (samples / "bigearthnet_v2" / name).read_bytes()
    table = bigearthnet_metadata.load({name: content}, landcover.load("bigearthnet19"))
    assert len(table.ids) == 480_038
    rows = np.repeat(np.arange(len(table.ids)), np.diff(table.starts))
    for i, (split, counts) in enumerate(REAL_COUNTS.items()):
        chosen = table.split == i
        assert chosen.sum() == {"train": 237_871, "validation": 122_342, "test": 119_825}[split]
        assert np.bincount(table.labels[chosen[rows]], minlength=19).tolist() == counts
    assert len(table.countries) == 10
    assert not table.flags.any()
    size = sum(v.nbytes for v in vars(table).values() if isinstance(v, np.ndarray))
    assert size < 64e6
    both = bigearthnet_metadata.load(
        {n: (samples / "bigearthnet_v2" / n).read_bytes()
         for n in (name, "metadata_for_patches_with_snow_cloud_or_shadow.parquet")},
        landcover.load("bigearthnet19"),
    )  # fmt: skip
    assert len(both.ids) == 549_488
    assert np.bincount(both.split).tolist() == [272_544, 139_577, 137_367]
    assert both.flags.sum(axis=0).tolist() == [60_773, 8_677]
    for row in (0, 480_037, 480_038, 549_487):
        assert both.row(both.ids[row].decode()) == row


def test_real_optical_patches_with_maps(samples):
    root = samples / "bigearthnet_v2"
    dataset = BigEarthNet(root, sensors=("s2",), only_on_disk=True)
    keys = all_keys(dataset)
    assert len(keys) == 4
    wanted = pq.read_table(root / "metadata.parquet", filters=[("patch_id", "in", keys)])
    rows = {row["patch_id"]: row for row in wanted.to_pylist()}
    names = landcover.load("bigearthnet19").names
    walk = landcover.load("corine_l3").crosswalk(landcover.load("bigearthnet19"))
    for key in keys:
        example = dataset.read(key)
        for entry in ("s2_10m", "s2_20m", "s2_60m"):
            expected = stack(s2_path(root, key) / f"{key}_{{}}.tif", BANDS[entry])
            np.testing.assert_array_equal(example[entry], expected)
        codes, crs, transform = by_gdal(map_path(root, key))
        decoded = landcover.load("corine_l3").decode(example["mask"])
        np.testing.assert_array_equal(decoded, codes)
        assert (example["crs"], tuple(example["transform"])) == (crs, transform)
        labels = {names[i] for i in np.flatnonzero(example["label"])}
        assert labels == set(rows[key]["labels"])
        assert labels == {names[i] for i in walk[np.unique(example["mask"])] if i != 255}
    assert not dataset.simulated


def test_real_radar_patch(samples):
    root = samples / "bigearthnet_v2"
    dataset = BigEarthNet(root, sensors=("s1",), maps=False, only_on_disk=True)
    (key,) = all_keys(dataset)
    example = dataset.read(key)
    stem = s1_path(root, example["s1_name"])
    expected = stack(stem / f"{stem.name}_{{}}.tif", ("VV", "VH"))
    np.testing.assert_array_equal(example["s1"], expected)
    assert example["s1"].dtype == np.float32
    assert -40 < example["s1"].min() < example["s1"].max() < 15
    assert os.path.basename(stem).startswith("S1A_IW_GRDH_1SDV_20170613T165043_33UUP")


def test_card_survives_json(root):
    info = BigEarthNet(root, snow_cloud=True).info
    assert json.loads(json.dumps(info.to_json()))["metadata"][-1] == "contains_cloud_or_shadow"
    assert info.splits == {"train": 272_544, "validation": 139_577, "test": 137_367}
