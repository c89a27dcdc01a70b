import concurrent.futures
import dataclasses
import json

import identity
import numpy as np
import pytest
import rasterio

from rsjax.datasets.info import ImageSpec
from rsjax.errors import DatasetError, SceneError, SensorError
from rsjax.input.preprocess import Inputs, preprocess
from rsjax.mapping import scene, scene_check, scene_files

FINE, COARSE, RADAR = ("B02", "B03"), ("B05", "B06"), ("VV", "VH")
SPECS = {
    "s2_10m": ImageSpec("sentinel2_l2a", FINE, 8, 8, "uint16", "reflectance_1e4", 10.0, 0),
    "s2_20m": ImageSpec("sentinel2_l2a", COARSE, 4, 4, "uint16", "reflectance_1e4", 20.0, 0),
    "s1": ImageSpec("sentinel1", RADAR, 8, 8, "float32", "db", 10.0, np.nan),
}
UNIT = ("reflectance_1e4",)


def inputs(*bands):
    bands = tuple(b if "/" in b else f"sentinel2_l2a/{b}" for b in bands)
    used = {n: s for n, s in SPECS.items() if any(b.split("/")[0] == s.sensor and
            b.split("/")[1].split("@")[0] in s.bands for b in bands)}  # fmt: skip
    return Inputs(used, bands, (0.0,) * len(bands), (1.0,) * len(bands), (8, 8))


def open_scene(given, takes, bands=(), unit=UNIT):
    layers = scene_files.layers([str(one) for one in given], bands, takes.bands)
    return scene.open_scene(layers, takes, unit)


def read(opened, rows, columns):
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        return opened.read(rows, columns, pool)


def pixels(bands, shape=(10, 12), seed=0):
    return np.random.default_rng(seed).integers(1000, 5000, (bands, *shape)).astype(np.uint16)


def test_bands_are_found_by_name_wherever_they_are(tmp_path):
    image = pixels(4)
    takes = inputs("B03", "B06", "B02")
    expected = image[[0, 1]]
    described = identity.write(tmp_path / "a.tif", image, ("B02", "B03", "B05", "B06"))
    mixed = identity.write(tmp_path / "b.tif", image[[3, 1, 2, 0]], None)
    alone = [identity.write(tmp_path / f"{i}.tif", image[i : i + 1], None) for i in range(4)]
    for given, bands in (
        ([described], ()),
        ([mixed], ("B06", "B03", "", "B02")),
        ([described], ("B02", "B03", "B05", "sentinel2_l2a/B06")),
        ([f"B02={alone[0]}", f"B06={alone[3]}", f"sentinel2_l2a/B03={alone[1]}"], ()),
        ([f"B06,B03,,B02={mixed}"], ()),
    ):
        opened = open_scene(given, takes, bands)
        found = read(opened, (0, 10), (0, 12)).entries
        np.testing.assert_array_equal(found["s2_10m_1"], expected)
        np.testing.assert_array_equal(found["s2_20m_1"], image[3:])  # given at 10 m, taken so
        assert found["s2_10m_1"].dtype == np.uint16


def test_a_time_series_is_named_step_by_step(tmp_path):
    image = pixels(4, (8, 8))
    spec = dataclasses.replace(SPECS["s2_10m"], steps=0)
    takes = Inputs({"s2": spec}, ("sentinel2_l2a/B02@1", "sentinel2_l2a/B03@0"), (0.0, 0.0),
                   (1.0, 2.0), (8, 8))  # fmt: skip
    path = identity.write(tmp_path / "a.tif", image, ("B02@0", "B03@0", "B02@1", "B03@1"))
    opened = open_scene([path], takes)
    entries = read(opened, (0, 8), (0, 8)).entries
    batch = {name: np.moveaxis(block, 0, -1)[None] for name, block in entries.items()}
    found = preprocess(opened.inputs(takes, 8, 8))(batch)
    np.testing.assert_allclose(found[0, ..., 0], image[2])
    np.testing.assert_allclose(found[0, ..., 1], image[1] / 2)


def test_a_band_that_is_not_there_or_unclear_is_named(tmp_path):
    image = pixels(2)
    path = identity.write(tmp_path / "a.tif", image, FINE)
    for given, takes, bands, kind, text in (
        ([path], inputs("B02", "B05"), (), SensorError, "B05 is missing.*the scene has B02, B03"),
        ([path, path], inputs("B02"), (), SensorError, "B02 is given more than once"),
        ([path], inputs("B02"), ("B02",), SceneError, "2 bands, expected 1"),
        ([f"B02={path}"], inputs("B02"), (), SceneError, "2 bands, expected 1"),
        ([identity.write(tmp_path / "n.tif", image, None)], inputs("B02"), (), SceneError,
         "its 2 bands have no names"),
        ([], inputs("B02"), (), SceneError, "no scene"),
        ([tmp_path / "no.tif"], inputs("B02"), (), DatasetError, "no such file"),
        (["https://example.org/a.tif"], inputs("B02"), (), DatasetError, "expected a local one"),
        ([tmp_path], inputs("B02"), (), DatasetError, "not the name of a product"),
    ):  # fmt: skip
        with pytest.raises(kind, match=text):
            open_scene(given, takes, bands)
    twins = inputs("B02")
    twins = Inputs(
        {**twins.images, "l1c": ImageSpec("sentinel2_l1c", FINE, 8, 8, "uint16", *UNIT, 10.0)},
        ("sentinel2_l2a/B02", "sentinel2_l1c/B02"), (0.0, 0.0), (1.0, 1.0), (8, 8),
    )  # fmt: skip
    with pytest.raises(SensorError, match="may be sentinel2_l2a/B02 or sentinel2_l1c/B02"):
        open_scene([path], twins)


def test_coarser_files_keep_their_pixels_and_windows_reach_beyond_the_scene(tmp_path):
    fine, coarse = pixels(2, (11, 13)), pixels(2, (6, 7), 1)
    given = [identity.write(tmp_path / "a.tif", fine, FINE),
             identity.write(tmp_path / "b.tif", coarse, COARSE, side=20.0)]  # fmt: skip
    opened = open_scene(given, inputs("B02", "B03", "B05", "B06"))
    assert (opened.step, opened.area.height, opened.area.width) == (2, 11, 13)
    found = read(opened, (-4, 16), (-2, 30)).entries
    expected = np.pad(fine, ((0, 0), (4, 5), (2, 17)), mode="symmetric")
    np.testing.assert_array_equal(found["s2_10m_1"], expected)
    expected = np.pad(coarse, ((0, 0), (2, 2), (1, 8)), mode="symmetric")
    np.testing.assert_array_equal(found["s2_20m_2"], expected)


def test_files_of_other_grids_are_refused(tmp_path):
    fine = identity.write(tmp_path / "a.tif", pixels(2), FINE)
    takes = inputs("B02", "B03", "B05", "B06")
    for more, text in (
        ({"epsg": 32634}, "EPSG:32634, but .*a.tif has EPSG:32633"),
        ({"corner": (5e5 + 5, 5e6)}, "same corner"),
        ({"side": 15.0}, "whole multiple"),
        ({"side": 20.0}, "12 x 10 pixels"),
    ):
        coarse = identity.write(tmp_path / "b.tif", pixels(2), COARSE, **more)
        with pytest.raises(SceneError, match=text):
            open_scene([fine, coarse], takes)
    nowhere = tmp_path / "c.tif"
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(
            nowhere, "w", driver="GTiff", dtype="uint16", count=2, height=10, width=12
        ) as r,
    ):
        r.write(pixels(2))
    with pytest.raises(DatasetError, match="no coordinate system"):
        open_scene([nowhere], inputs("B02", "B03"), ("B02", "B03"))


def test_a_pixel_is_missing_where_values_say_so_and_dark_ones_stay(tmp_path):
    image = pixels(2)
    image[0, 0, :3] = 0  # dark in one band
    image[:, 1, :3] = 0  # missing in both
    takes = inputs("B02", "B03")
    opened = open_scene([identity.write(tmp_path / "a.tif", image, FINE, nodata=0)], takes)
    found = read(opened, (0, 10), (0, 12))
    expected = np.zeros((10, 12), bool)
    expected[1, :3] = True
    np.testing.assert_array_equal(found.missing, expected)
    np.testing.assert_array_equal(found.entries["s2_10m_1"], image)

    other = image.astype(np.int32)
    other[0, 2, :3] = -9999  # no measurement: one band is enough
    opened = open_scene([identity.write(tmp_path / "b.tif", other, FINE, nodata=-9999)], takes)
    found = read(opened, (0, 10), (0, 12))
    np.testing.assert_array_equal(np.argwhere(found.missing), [[2, 0], [2, 1], [2, 2]])
    assert (found.entries["s2_10m_1"][0, 2, :3] == 0).all()  # what training had there

    radar = np.full((2, 10, 12), -10, np.float32)
    radar[1, 3, 4] = np.nan
    both = inputs("B02", "B03", "sentinel1/VV", "sentinel1/VH")
    given = [tmp_path / "a.tif", identity.write(tmp_path / "c.tif", radar, RADAR)]
    found = read(
        open_scene(given, both, unit=("reflectance_1e4", "sentinel1=db")), (0, 10), (0, 12)
    )
    expected[3, 4] = True
    np.testing.assert_array_equal(found.missing, expected)
    assert np.isnan(found.entries["s1_1"][1, 3, 4])

    path = identity.write(tmp_path / "d.tif", image, FINE)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as raster:
        raster.write_mask(np.arange(12)[None].repeat(10, 0) != 5)
    found = read(open_scene([path], takes), (0, 10), (0, 12))
    np.testing.assert_array_equal(found.missing, np.arange(12)[None].repeat(10, 0) == 5)


def test_infinite_values_and_backscatter_without_decibels_are_refused(tmp_path):
    takes = inputs("sentinel1/VV", "sentinel1/VH")
    radar = np.full((2, 10, 12), 0.1, np.float32)
    for bad, unit, text in ((np.inf, "db", "infinite"), (0.0, "linear_power", "no decibels")):
        radar[0, 4, 4] = bad
        path = identity.write(tmp_path / "a.tif", radar, RADAR)
        with pytest.raises(SceneError, match=f"a.tif: .*{text}"):
            read(open_scene([path], takes, unit=(unit,)), (0, 10), (0, 12))


def test_units_are_stated_once_and_checked_against_the_values(tmp_path):
    path = identity.write(tmp_path / "a.tif", pixels(2), FINE)
    takes = inputs("B02", "B03")
    with pytest.raises(SceneError, match=r"unit of its values is not known.*--unit="):
        open_scene([path], takes, unit=())
    with pytest.raises(SensorError, match="do not come in 'db'"):
        open_scene([path], takes, unit=("db",))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        scene_check.check_values(open_scene([path], takes), pool)
        with pytest.raises(SceneError, match=r"band B02 has the median .*--unit="):
            scene_check.check_values(open_scene([path], takes, unit=("reflectance",)), pool)
        small = (pixels(2, (40, 40)) / 1e4).astype(np.float32)
        path = identity.write(tmp_path / "b.tif", small, FINE)
        with pytest.raises(SceneError, match="reaches beyond 2"):
            scene_check.check_values(open_scene([path], takes), pool)
        scene_check.check_values(open_scene([path], takes, unit=("reflectance",)), pool)
    far = open_scene([identity.write(tmp_path / "c.tif", pixels(2), FINE, side=30.0)], takes)
    assert "30 m" in scene_check.notes(far.gsd_m, takes)[0]


def test_products_bring_their_unit_and_lists_their_names(tmp_path):
    name = "S2A_MSIL2A_20230601T100031_N0509_R122_T33UUP_20230601T160000.SAFE"
    folder = tmp_path / name / "GRANULE" / "L2A_T33UUP" / "IMG_DATA"
    image = pixels(3)
    image[:, 4, 4] = 0
    for band, gsd, plane in zip(("B02", "B03", "B05"), (10, 10, 20), image, strict=True):
        (folder / f"R{gsd}m").mkdir(parents=True, exist_ok=True)
        path = folder / f"R{gsd}m" / f"T33UUP_20230601T100031_{band}_{gsd}m.tif"
        identity.write(path, plane[None][:, :: gsd // 10, :: gsd // 10], None, side=float(gsd))
    takes = inputs("B02", "B03", "B05")
    opened = open_scene([tmp_path / name], takes, unit=())
    found = read(opened, (0, 10), (0, 12))
    expected = np.where(image[:2] == 0, 0, image[:2].astype(np.float32) - 1000)
    np.testing.assert_allclose(found.entries["s2_10m_1"], expected, atol=0.01)
    assert np.argwhere(found.missing).tolist() == [[4, 4]]
    with pytest.raises(SceneError, match="its product says reflectance_1e4_offset1000"):
        open_scene([tmp_path / name], takes)
    with pytest.raises(SensorError, match="VV is missing"):
        open_scene([tmp_path / name], inputs("B02", "sentinel1/VV"), unit=())

    labels = {"raster": ["map.tif"], "nomenclature": "worldcover"}
    identity.write(tmp_path / "two.tif", image[:2], None)
    scenes = [
        {"id": "a", "product": name},
        {"id": "b", "files": [{"path": "two.tif", "bands": ["B03", "B02"]}], "unit": UNIT[0]},
    ]
    text = json.dumps({"sensor": "sentinel2_l2a", "scenes": scenes, "labels": labels})
    (tmp_path / "scenes.json").write_text(text)
    with pytest.raises(SceneError, match="several scenes, expected one of a, b"):
        open_scene([tmp_path], takes, unit=())
    found = read(open_scene([f"{tmp_path}#a"], takes, unit=()), (0, 10), (0, 12))
    np.testing.assert_allclose(found.entries["s2_10m_1"], expected, atol=0.01)
    found = read(open_scene([f"{tmp_path}#b"], inputs("B02"), unit=()), (0, 10), (0, 12))
    np.testing.assert_array_equal(found.entries["s2_10m_1"], image[1:2])
