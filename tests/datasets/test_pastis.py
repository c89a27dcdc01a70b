import functools
import io
import json
import math
import pickle
import struct
import zipfile

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform as warp

from rsjax import landcover
from rsjax.datasets import npy
from rsjax.datasets.pastis import PASTIS
from rsjax.errors import ConfigError, DatasetError, NomenclatureError

pytestmark = pytest.mark.once

COUNT = 6
BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
CLASSES = ["background", "meadow", "soft_winter_wheat", "corn", "winter_barley", "winter_rapeseed",
           "spring_barley", "sunflower", "grapevine", "beet", "winter_triticale",
           "winter_durum_wheat", "fruits_vegetables_flowers", "potatoes", "leguminous_fodder",
           "soybeans", "orchard", "mixed_cereal", "sorghum"]  # fmt: skip
ALL = functools.partial(PASTIS, sensors="s2,s1a,s1d")


@pytest.fixture(scope="module")
def root(downloads):
    return downloads("pastis", COUNT)


def features(root):
    data = json.loads((root / "PASTIS-R" / "metadata.geojson").read_text())
    return {str(one["properties"]["ID_PATCH"]): one for one in data["features"]}


def by_struct(path):
    """The values of a .npy file by its documented form, without numpy's reader."""
    data = path.read_bytes()
    assert data[:6] == b"\x93NUMPY"
    (length,) = struct.unpack("<H", data[8:10])
    header = eval(data[10 : 10 + length], {"__builtins__": {}})
    assert not header["fortran_order"]
    assert header["descr"] in ("<i2", "<f4", "|u1")
    count = math.prod(header["shape"])
    kind = {"<i2": "h", "<f4": "f", "|u1": "B"}[header["descr"]]
    values = struct.unpack(f"<{count}{kind}", data[10 + length :])
    return np.array(values).reshape(header["shape"]), header["descr"][1:]


def test_examples_equal_the_files(root):
    dataset = ALL(root)
    rows = features(root)
    lengths = set()
    for split in dataset.info.splits:
        for key in dataset.keys(split)[:2]:
            example = dataset.read(key)
            row = rows[key]["properties"]
            assert set(example) == {"id", "tile", "fold", "mask", "crs", "transform", "s2", "s1a",
                                    "s1d", "s2_dates", "s1a_dates", "s1d_dates"}  # fmt: skip
            assert example["tile"] == row["TILE"].upper()
            assert example["fold"] == str(row["Fold"])
            for entry, name in (("s2", "S2"), ("s1a", "S1A"), ("s1d", "S1D")):
                path = root / "PASTIS-R" / f"DATA_{name}" / f"{name}_{key}.npy"
                values, kind = by_struct(path)
                assert kind == ("i2" if entry == "s2" else "f4")
                found = example[entry]
                assert found.shape[1:3] == (128, 128)
                assert found.dtype == ("int16" if entry == "s2" else "float32")
                for step in range(len(values)):
                    for band in range(values.shape[1]):
                        np.testing.assert_array_equal(found[step, ..., band], values[step, band])
                dates = example[f"{entry}_dates"].split(";")
                days = row[f"dates-{name}"]
                assert [d.replace("-", "") for d in dates] == [
                    str(days[str(i)]) for i in range(len(values))
                ]
                lengths.add(len(values))
            codes, _ = by_struct(root / "PASTIS-R" / "ANNOTATIONS" / f"TARGET_{key}.npy")
            np.testing.assert_array_equal(
                example["mask"], np.where(codes[0] == 19, 255, codes[0]).astype(np.uint8)
            )
    assert len(lengths) > 2
    assert dataset.simulated


def test_card_and_classes(root):
    info = ALL(root).info
    assert list(info.images["s2"].bands) == BANDS
    assert info.images["s2"].shape == (0, 128, 128, 10)
    assert [info.images[name].sensor for name in ("s1a", "s1d")] == [
        "sentinel1_ascending", "sentinel1_descending",
    ]  # fmt: skip
    assert info.images["s1a"].bands == ("VV", "VH", "ratio")
    assert info.images["s1a"].missing_is_nan
    classes = landcover.load("pastis")
    assert list(classes.names) == CLASSES
    assert (classes.codes, classes.ignore) == (tuple(range(19)), (19,))
    assert list(PASTIS(root).info.images) == ["s2"]
    means = PASTIS(root).read(PASTIS(root).keys("test")[0])["s2"].mean(axis=(0, 1, 2))
    assert means[BANDS.index("B08")] > means[BANDS.index("B04")]
    radar = PASTIS(root, sensors=("s1d",))
    example = radar.read(radar.keys("test")[0])
    vv, vh, ratio = np.moveaxis(example["s1d"], -1, 0)
    np.testing.assert_allclose(ratio, vv - vh, atol=1e-4)


@pytest.mark.parametrize("fold", [1, 2, 3, 4, 5])
def test_folds_rotate_as_in_the_official_code(root, fold):
    official = [
        [[1, 2, 3], [4], [5]],
        [[2, 3, 4], [5], [1]],
        [[3, 4, 5], [1], [2]],
        [[4, 5, 1], [2], [3]],
        [[5, 1, 2], [3], [4]],
    ]
    dataset, rows = PASTIS(root, fold=fold), features(root)
    seen = []
    for split, folds in zip(dataset.info.splits, official[fold - 1], strict=True):
        keys = dataset.keys(split)
        assert [rows[key]["properties"]["Fold"] for key in keys] == sorted(
            (rows[key]["properties"]["Fold"] for key in keys), key=folds.index
        )
        assert {rows[key]["properties"]["Fold"] for key in keys} == set(folds)
        seen += keys
    assert sorted(seen) == sorted(rows)


def test_places_lie_in_the_outlines(root):
    dataset, rows = PASTIS(root), features(root)
    codes = {"T30UXV": 32630, "T31TFM": 32631, "T31TFJ": 32631, "T32ULU": 32632}
    found = set()
    for split in dataset.info.splits:
        for key in dataset.keys(split):
            example = dataset.read(key)
            assert example["crs"] == f"EPSG:{codes[example['tile']]}"
            a, b, c, d, e, f = example["transform"]
            assert (a, b, d, e) == (10, 0, 0, -10)
            assert c % 10 == f % 10 == 0
            outline = np.array(rows[key]["geometry"]["coordinates"][0][0])
            x, y = warp(example["crs"], "EPSG:2154", [c, c + 1280], [f, f - 1280])
            for corner in zip(x, y, strict=True):
                assert np.hypot(*(outline - corner).T).min() < 0.01
            found.add(example["crs"])
    assert len(found) == 3
    plain = PASTIS(root, georeferenced=False)
    assert not plain.info.georeferenced
    assert "crs" not in plain.read(plain.keys("test")[0])


def test_zip_subfolder_and_pickle_hold_the_same(root, tmp_path):
    plain = PASTIS(root)
    with zipfile.ZipFile(tmp_path / "PASTIS-R.zip", "w") as archive:
        for path in (root / "PASTIS-R").rglob("*.*"):
            if "S1" not in path.name:
                archive.write(path, path.relative_to(root))
    others = (PASTIS(tmp_path / "PASTIS-R.zip"), PASTIS(root / "PASTIS-R"),
              pickle.loads(pickle.dumps(plain)))  # fmt: skip
    key = plain.keys("validation")[0]
    for other in others:
        assert other.fingerprint() == plain.fingerprint()
        np.testing.assert_array_equal(other.read(key)["s2"], plain.read(key)["s2"])
    options = ({}, {"fold": 2}, {"sensors": "s2,s1d"}, {"georeferenced": False})
    assert len({PASTIS(root, **one).fingerprint() for one in options}) == 4


# Damage: how, and what the error must say.


def unlink(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def beheaded(path):
    path.write_bytes(path.read_bytes()[:40])


def html(path):
    path.write_bytes(b"<!DOCTYPE html>")


def save(change):
    def damage(path):
        np.save(path, change(np.load(path)))

    return damage


def pickled(path):
    np.save(path, np.array([{"run": "me"}], object), allow_pickle=True)


FILES = ["DATA_S2/S2_{}.npy", "DATA_S1D/S1D_{}.npy", "ANNOTATIONS/TARGET_{}.npy"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unlink, "no such file"),
        (cut, r"\d+ bytes of values, expected \d+ for"),
        (beheaded, "begins with .*expected a whole"),
        (html, "begins with .*expected a whole"),
        (pickled, r"object of shape \(1,\), expected"),
        (save(lambda a: a.astype("float64")), r"float64 of shape .*expected"),
        (save(lambda a: a[..., :-1]), r"of shape \(.*128, 127\), expected .*128, 128\)"),
        (save(lambda a: a[:0]), r"shape \(0, "),
    ],
)
def test_damaged_file_is_named(copied, damage, message, name):
    root = copied("pastis", COUNT)
    dataset = ALL(root)
    key = dataset.keys("train")[0]
    path = root / "PASTIS-R" / name.format(key)
    damage(path)
    with pytest.raises(DatasetError, match=message) as caught:
        dataset.read(key)
    assert str(path) in str(caught.value)


def test_series_of_another_length_than_its_dates(copied):
    root = copied("pastis", COUNT)
    dataset = ALL(root)
    key = dataset.keys("train")[0]
    path = root / "PASTIS-R" / "DATA_S1A" / f"S1A_{key}.npy"
    save(lambda a: a[1:])(path)
    with pytest.raises(DatasetError, match=r"S1A_\d+\.npy: \d images, expected \d, as many"):
        dataset.read(key)


def test_unknown_class_code(copied):
    root = copied("pastis", COUNT)
    key = PASTIS(root).keys("train")[0]
    path = root / "PASTIS-R" / "ANNOTATIONS" / f"TARGET_{key}.npy"
    save(lambda a: np.where(np.arange(128) == 5, 77, a).astype("uint8"))(path)
    with pytest.raises(NomenclatureError, match=rf"TARGET_{key}\.npy: .*77 .*\(0, 5\)"):
        PASTIS(root).read(key)


def change(root, edit):
    path = root / "PASTIS-R" / "metadata.geojson"
    data = json.loads(path.read_text())
    edit(data["features"][0], data)
    path.write_text(json.dumps(data))


def put(name, value):
    return lambda one, data: one["properties"].__setitem__(name, value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("Fold", 0), "has Fold 0 and TILE .*expected a fold from 1 to 5"),
        (put("Fold", "1"), "has Fold '1'"),
        (put("TILE", "31"), "TILE '31', expected .*T31TFM"),
        (put("ID_PATCH", "x"), "no usable property .*expected ID_PATCH"),
        (put("ID_PATCH", 10007), "patch 10007 is there twice"),
        (put("dates-S2", None), r"dates-S2 .None. .*expected \{"),
        (put("dates-S2", {"0": 20191301}), "dates-S2 .*20191301"),
        (put("dates-S2", {"1": 20190101}), "dates-S2 .*KeyError"),
        (put("dates-S2", {"0": 20190104, "1": 20190203, "2": 20190202}),
         "dates-S2 with 2019-02-02 at step 2 after 2019-02-03, expected days that ascend"),
        (lambda one, data: one["properties"].pop("TILE"), "no usable property 'TILE'"),
        (lambda one, data: data.pop("features"), "not a GeoJSON collection"),
    ],
)  # fmt: skip
def test_damaged_metadata(copied, edit, message):
    root = copied("pastis", COUNT)
    change(root, edit)
    with pytest.raises(DatasetError, match=message) as caught:
        PASTIS(root).keys("train")
    assert "metadata.geojson" in str(caught.value)


def lambert_box(one, data):
    """The outline as its own bounding box in EPSG:2154, which is turned against the tile's grid."""
    x, y = zip(*one["geometry"]["coordinates"][0][0], strict=True)
    low, high = (min(x), min(y)), (max(x), max(y))
    ring = [low, (low[0], high[1]), high, (high[0], low[1]), low]
    one["geometry"]["coordinates"] = [[ring]]


def shifted(one, data):
    ring = one["geometry"]["coordinates"][0][0]
    one["geometry"]["coordinates"] = [[[(x + 4, y + 4) for x, y in ring]]]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambert_box, r"misses such a square by \d+\.\d m"),
        (shifted, r"misses such a square by [78]\.\d m"),
        (put("TILE", "t32tfm"), "misses such a square"),
        (lambda one, data: one.__setitem__("geometry", None), "0 corners"),
        (lambda one, data: data.pop("crs"), "corners in no coordinates"),
        (lambda one, data: data["crs"]["properties"].__setitem__("name", "EPSG:1"), "EPSG:1"),
    ],
)
def test_outline_that_is_no_square_of_the_grid(copied, edit, message):
    root = copied("pastis", COUNT)
    change(root, edit)
    with pytest.raises(DatasetError, match=message) as caught:
        PASTIS(root).read("10000")
    assert "georeferenced=False" in str(caught.value)
    PASTIS(root, georeferenced=False).read("10000")


def test_dates_as_text_as_gdal_copies_them(copied):
    root = copied("pastis", COUNT)
    expected = PASTIS(root).read("10000")["s2_dates"]
    change(root, lambda one, data: put(
        "dates-S2", json.dumps(one["properties"]["dates-S2"]))(one, data))  # fmt: skip
    assert PASTIS(root).read("10000")["s2_dates"] == expected


def test_pastis_without_radar_says_so(copied):
    root = copied("pastis", COUNT)
    change(root, lambda one, data: one["properties"].pop("dates-S1A"))
    PASTIS(root).keys("train")
    with pytest.raises(DatasetError, match=r"dates-S1A .None. .*sensors='s2' for PASTIS"):
        ALL(root).keys("train")


def test_half_precision_and_missing_radar_values(copied):
    root = copied("pastis", COUNT)
    path = root / "PASTIS-R" / "DATA_S1A" / "S1A_10000.npy"
    save(lambda a: np.where(np.arange(128) < 3, np.nan, a).astype("float16"))(path)
    example = ALL(root).read("10000")
    assert example["s1a"].dtype == np.float32
    np.testing.assert_array_equal(example["s1a"], np.moveaxis(np.load(path), 1, -1).astype("f4"))
    assert np.isnan(example["s1a"][:, :, :3]).all()


def test_fortran_order_and_big_endian_are_read():
    values = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    for array in (values, np.asfortranarray(values)):
        stream = io.BytesIO()
        np.save(stream, array)
        found = npy.read_npy(stream.getvalue(), "x", shape=(None, 3, 4), dtypes=("int16",))
        np.testing.assert_array_equal(found, values)


# numpy itself warns of old names of dtypes.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_any_flipped_bit_of_a_header_is_refused_or_harmless():
    values = np.arange(24, dtype="<i2").reshape(2, 3, 4)
    stream = io.BytesIO()
    np.save(stream, values)
    data, refused = stream.getvalue(), 0
    header = len(data) - values.nbytes
    for bit in range(8 * header):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = npy.read_npy(bytes(flipped), "x", shape=(2, 3, 4), dtypes=("int16",))
        except DatasetError:
            refused += 1
        else:
            assert found.tobytes() == values.tobytes()
    assert refused > 0.98 * 8 * header


def test_wrong_source_keys_and_options(root, tmp_path):
    with pytest.raises(DatasetError, match=r"expected one of metadata\.geojson, .*zenodo"):
        PASTIS(root / "PASTIS-R" / "DATA_S2").keys("train")
    for key in ("x", "../10000", "1"):
        with pytest.raises(DatasetError, match="no sample"):
            PASTIS(root).read(key)
    for options in ({"fold": 0}, {"fold": "1"}, {"sensors": "s3"}, {"s2_dtype": "int8"}):
        with pytest.raises(ConfigError, match=f"{next(iter(options))}=.*expected"):
            PASTIS(root, **options)
    assert rasterio.CRS.from_epsg(2154).is_projected  # the outlines' system is known here
