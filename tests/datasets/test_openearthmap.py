import pickle
import shutil

import numpy as np
import pytest
import rasterio
import rasterio.warp

from rsjax import landcover
from rsjax.datasets import geotiff, tiff, tiling
from rsjax.datasets.openearthmap import OpenEarthMap, ground_distance
from rsjax.errors import ConfigError, DatasetError, NomenclatureError

pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

COUNT = 24
NAMES = (
    "Bareland", "Rangeland", "Developed space", "Road", "Tree", "Water", "Agriculture land",
    "Building",
)  # fmt: skip
PLACE = {"crs": "EPSG:25832", "transform": (0.3, 0.0, 5e5, 0.0, -0.3, 5e5)}


@pytest.fixture
def root(downloads):
    return downloads("openearthmap", COUNT) / "OpenEarthMap_wo_xBD"


@pytest.fixture
def damaged(copied):
    return copied("openearthmap", COUNT) / "OpenEarthMap_wo_xBD"


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


def path_of(root, name, folder):
    return root / name.rsplit("_", 1)[0] / folder / f"{name}.tif"


def test_classes_are_the_official_ones():
    table = landcover.load("openearthmap")
    assert table.names == NAMES
    assert table.codes == (1, 2, 3, 4, 5, 6, 7, 8)
    assert 0 in table.ignore
    rgb = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in table.colours]
    assert rgb == [(128, 0, 0), (0, 255, 36), (148, 148, 148), (255, 255, 255), (34, 97, 38),
                   (0, 69, 255), (75, 181, 73), (222, 31, 7)]  # fmt: skip


def test_every_tile_equals_rasterio(root):
    dataset = OpenEarthMap(root)
    bands = set()
    for split in ("train", "validation"):
        listed = (root / {"train": "train.txt", "validation": "val.txt"}[split]).read_text()
        keys = dataset.keys(split)
        assert [k.split("@")[0] + ".tif" for k in keys if k.endswith("@0_0")] == listed.split()
        for key in keys:
            name, row, column = tiling.parse_key(key)
            example = dataset.read(key)
            window = rasterio.windows.Window(column, row, 512, 512)
            with rasterio.open(path_of(root, name, "images")) as raster:
                bands.add(raster.count)
                pixels = np.moveaxis(raster.read([1, 2, 3], window=window), 0, -1)
                height, width = raster.shape
            with rasterio.open(path_of(root, name, "labels")) as raster:
                codes = raster.read(1, window=window)
            rows, columns = codes.shape
            assert (row + rows, column + columns) <= (height, width)
            np.testing.assert_array_equal(example["rgb"][:rows, :columns], pixels)
            expected = np.full((512, 512), 255, np.uint8)
            expected[:rows, :columns] = codes - 1  # 0 wraps to 255, which is what it becomes
            if split == "train":
                np.testing.assert_array_equal(example["mask"], expected)
            else:
                kept = example["mask"] != 255
                np.testing.assert_array_equal(example["mask"][kept], expected[kept])
            assert example["id"] == key
            assert example["region"] == name.rsplit("_", 1)[0]
            assert set(example) == {"id", "rgb", "mask", "region", "gsd"}
    assert bands == {3, 4}
    assert len(all_keys(dataset)) == COUNT
    assert "aachen_999" in (root / "test.txt").read_text()
    assert not [key for key in all_keys(dataset) if key.startswith("aachen_999")]


def test_validation_has_each_label_once(root):
    dataset = OpenEarthMap(root)
    ours = np.zeros(256, np.int64)
    for key in dataset.keys("validation"):
        ours += np.bincount(dataset.read(key)["mask"].ravel(), minlength=256)
    theirs = np.zeros(9, np.int64)
    for line in (root / "val.txt").read_text().split():
        with rasterio.open(path_of(root, line.removesuffix(".tif"), "labels")) as raster:
            theirs += np.bincount(raster.read(1).ravel(), minlength=9)
    assert ours[:8].tolist() == theirs[1:].tolist()
    assert len(dataset.keys("validation")) > len((root / "val.txt").read_text().split())


def test_ground_distance_whatever_the_coordinate_system(root):
    dataset = OpenEarthMap(root)
    found = {(e := dataset.read(key))["region"]: e["gsd"] for key in all_keys(dataset)}
    assert found["houston"] == ""  # xBD: not georeferenced
    assert (found["aachen"], found["kujawsko-pomorskie"]) == ("0.300", "0.250")
    # A degree of longitude shrinks with the cosine of the latitude (31 degrees north), a metre of
    # Web Mercator too (19 degrees).
    assert float(found["al_qurnah"]) == pytest.approx(3e-6 * 111_320 * (1 + 0.857) / 2, rel=0.01)
    assert float(found["mexico_city"]) == pytest.approx(0.5 * np.cos(np.radians(19.37)), rel=0.01)


def test_crs_and_transform_are_those_of_the_window(damaged):
    dataset = OpenEarthMap(damaged, georeferenced=True)
    key = next(k for k in dataset.keys("train") if k.startswith("aachen") and "@0_0" not in k)
    name, row, column = tiling.parse_key(key)
    example = dataset.read(key)
    with rasterio.open(path_of(damaged, name, "images")) as raster:
        assert example["crs"] == raster.crs.to_string()
        left, across, _, top, _, down = raster.get_transform()
        expected = (0.3, 0.0, left + column * across, 0.0, -0.3, top + row * down)
        np.testing.assert_allclose(example["transform"], expected, rtol=0, atol=1e-6)
    assert dataset.info.georeferenced
    houston = next(k for k in all_keys(dataset) if k.startswith("houston"))
    with pytest.raises(DatasetError, match=r"houston_\d\.tif: .*georeferenced=false"):
        dataset.read(houston)


def test_xbd_images_are_required_or_skipped_by_their_list(damaged):
    full = OpenEarthMap(damaged)
    keys, fingerprint = all_keys(full), full.fingerprint()
    shutil.rmtree(damaged / "houston" / "images")
    gone = {k.split("@")[0] for k in keys if k.startswith("houston")}
    assert len(gone) >= 2
    with pytest.raises(DatasetError, match=r"2 images of split 'train' that come from xBD are not "
                       r"there, the first houston_1, houston_2\. Add them .*xbd=skip"):  # fmt: skip
        OpenEarthMap(damaged).keys("train")
    skipping = OpenEarthMap(damaged, xbd="skip")
    assert all_keys(skipping) == [k for k in keys if k.split("@")[0] not in gone]
    assert skipping.fingerprint() != fingerprint
    # Any other missing image is an error, whatever the option.
    path_of(damaged, "aachen_1", "images").unlink()
    with pytest.raises(DatasetError, match=r"aachen_1\.tif: no such file"):
        OpenEarthMap(damaged, xbd="skip").keys("train")
    with pytest.raises(ConfigError, match="xbd='keep', expected one of 'require', 'skip'"):
        OpenEarthMap(damaged, xbd="keep")


def test_source_folders(root, tmp_path):
    expected = OpenEarthMap(root)
    above = OpenEarthMap(root.parent)
    assert all_keys(above) == all_keys(expected)
    assert above.fingerprint() == expected.fingerprint()
    assert above.simulated
    key = expected.keys("train")[-1]
    copy = pickle.loads(pickle.dumps(above))
    np.testing.assert_array_equal(copy.read(key)["rgb"], expected.read(key)["rgb"])
    with pytest.raises(DatasetError, match=r"aachen: not the official layout, expected one of "
                       r"train\.txt, .*Download"):  # fmt: skip
        OpenEarthMap(root / "aachen").keys("train")
    zipped = shutil.make_archive(str(tmp_path / "oem"), "zip", root.parent)
    from_zip = OpenEarthMap(zipped)
    assert all_keys(from_zip) == all_keys(expected)
    np.testing.assert_array_equal(from_zip.read(key)["mask"], expected.read(key)["mask"])


def test_tiles_of_another_size(root):
    dataset = OpenEarthMap(root, tile_px=256, overlap_px=64, edges="pad")
    key = dataset.keys("train")[5]
    assert dataset.info.mask == dataset.read(key)["mask"].shape == (256, 256)
    assert dataset.info.images["rgb"].height == 256
    assert {k.split("@")[1] for k in dataset.keys("train")} >= {"0_0", "0_192", "192_384"}
    assert dataset.fingerprint() != OpenEarthMap(root).fingerprint()


def test_each_image_is_decoded_once(root, monkeypatch):
    dataset = OpenEarthMap(root)
    decoded = []
    real = OpenEarthMap._decode
    monkeypatch.setattr(OpenEarthMap, "_decode", lambda s, n, p: decoded.append(n) or real(s, n, p))
    keys = dataset.keys("train")
    for key in keys:
        dataset.read(key)
    assert decoded == list(dict.fromkeys(key.split("@")[0] for key in keys))


def test_unknown_key(root):
    dataset = OpenEarthMap(root)
    for key in ("x", "aachen_1", "aachen_1@1_0", "aachen_999@0_0", "../aachen_1@0_0"):
        with pytest.raises(DatasetError, match="no sample"):
            dataset.read(key)


GOOD = np.ones((520, 530, 3), np.uint8)


@pytest.mark.parametrize(
    ("folder", "array", "message"),
    [
        ("images", GOOD[..., :2], "2 bands, expected red, green and blue"),
        ("images", GOOD.astype(np.uint16) * 300, "uint16 from 300 to 300, expected whole values"),
        ("images", GOOD * np.float32(0.5), r"float32 from 0\.5 to 0\.5, expected whole values"),
        ("images", GOOD * np.float32(np.nan), "float32 from .*nan"),
        ("labels", GOOD, "3 bands, expected one band of codes"),
        ("labels", GOOD[:, :9, 0], r"\(520, 9\) \(height, width\), expected \(520, 530\) as"),
        ("labels", GOOD[..., 0] * 9, "codes 9 are not in nomenclature 'openearthmap' .*first at"),
    ],
)
@pytest.mark.filterwarnings("ignore:All-NaN")
def test_damage_is_named(damaged, folder, array, message):
    name = "aachen_1"
    geotiff.write_geotiff(path_of(damaged, name, "images"), GOOD, **PLACE)
    geotiff.write_geotiff(path_of(damaged, name, folder), array, **PLACE)
    with pytest.raises((DatasetError, NomenclatureError), match=rf"{name}\.tif: .*{message}"):
        OpenEarthMap(damaged).read(f"{name}@0_0")


def test_other_types_are_taken_where_8_bits_hold_them(damaged):
    for dtype in (np.uint16, np.int32, np.float32):
        image, codes = (GOOD * 200).astype(dtype), (GOOD[..., 0] * 8).astype(dtype)
        geotiff.write_geotiff(path_of(damaged, "aachen_1", "images"), image, **PLACE)
        geotiff.write_geotiff(path_of(damaged, "aachen_1", "labels"), codes, **PLACE)
        example = OpenEarthMap(damaged).read("aachen_1@0_0")
        assert (example["rgb"].dtype, example["mask"].dtype) == (np.uint8, np.uint8)
        assert set(np.unique(example["rgb"])) == {200}
        assert set(np.unique(example["mask"])) == {7}


def test_mask_of_another_place_missing_and_truncated_files(damaged):
    dataset = OpenEarthMap(damaged)
    dataset.keys("train")
    labels, image = (path_of(damaged, "aachen_1", f) for f in ("labels", "images"))
    with rasterio.open(labels) as raster:
        codes, (a, b, c, d, e, f) = raster.read(1), tuple(raster.transform)[:6]
    for shift, fails in ((0.1, False), (1.0, True)):
        place = (a, b, c + shift, d, e, f)
        geotiff.write_geotiff(labels, codes, crs="EPSG:25832", transform=place)
        if fails:
            with pytest.raises(DatasetError, match=r"labels/aachen_1\.tif: transform .* as its "):
                OpenEarthMap(damaged).read("aachen_1@0_0")
        else:
            OpenEarthMap(damaged).read("aachen_1@0_0")
    labels.unlink()
    with pytest.raises(DatasetError, match=r"labels/aachen_1\.tif: no such file"):
        dataset.read("aachen_1@0_0")
    image.write_bytes(image.read_bytes()[:-5000])
    with pytest.raises(DatasetError, match=r"images/aachen_1\.tif: .*truncated"):
        dataset.read("aachen_1@0_0")
    image.write_bytes(b"<html>")
    with pytest.raises(DatasetError, match=r"images/aachen_1\.tif: begins with"):
        OpenEarthMap(damaged).keys("train")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.txt", "aachen_1.tif\naachen_1.tif\n", r"train\.txt:2: 'aachen_1\.tif', expected"),
        ("train.txt", "\n../x_1.tif\n", r"train\.txt:2: '\.\./x_1\.tif', expected names"),
        ("val.txt", "aachen_1.tif\n", "'aachen_1' is both in split 'train' and in 'validation'"),
        ("xbd_files.csv", "a.png\n", r"xbd_files\.csv:1: 'a\.png', expected"),
        ("xbd_files.csv", None, r"xbd_files\.csv: no such file"),
    ],
)
def test_damaged_lists(damaged, name, text, message):
    if text is None:
        (damaged / name).unlink()
    else:
        (damaged / name).write_text(text)
    with pytest.raises(DatasetError, match=message):
        OpenEarthMap(damaged).keys("train")


def test_distance_of_a_turned_grid():
    a = 0.3 / np.sqrt(2)
    place = {"crs": "EPSG:25832", "transform": (a, a, 5e5, a, -a, 5e6)}
    data = geotiff.write_geotiff(None, GOOD, **place)
    assert ground_distance(tiff.parse(data, "x")) == pytest.approx(0.3, rel=0.005)


@pytest.mark.parametrize(
    ("crs", "corner", "metres"),
    [
        ("EPSG:2263", (3e5, 5e4), 0.5 * 0.3048006),  # feet
        ('LOCAL_CS["site",UNIT["metre",1]]', (0.0, 0.0), None),
        ("EPSG:25832", (3e9, 5e9), None),
        (None, (0.0, 0.0), None),
    ],
)
def test_distance_in_feet_and_where_it_cannot_be_told(crs, corner, metres):
    place = (0.5, 0.0, corner[0], 0.0, -0.5, corner[1])
    data = geotiff.write_geotiff(None, GOOD, crs=crs, transform=place)
    found = ground_distance(tiff.parse(data, "x"))
    assert found == (metres and pytest.approx(metres, rel=1e-3))
