import datetime
import json

import area_maps as maps
import numpy as np
import pystac
import pytest
import rasterio
from rasterio import Affine

from rsjax.errors import DatasetError, SceneError, SensorError
from rsjax.mapping import landmap, view_bands, view_scene

S2 = ("B02", "B03", "B04", "B08")


@pytest.mark.parametrize(
    ("names", "said", "known", "chosen", "phrase"),
    [
        (S2, (), (), ("B04", "B03", "B02"), "B04 (664.6 nm), B03 (559.8 nm), B02 (492.4 nm) as"),
        (("landsat8/B2", "landsat8/B3", "landsat8/B4"), (), (),
         ("landsat8/B4", "landsat8/B3", "landsat8/B2"), "as red, green, blue"),
        (("B1", "B2", "B3", "B4"), (), ("landsat7/B1", "landsat7/B2", "landsat7/B3", "landsat7/B4"),
         ("B3", "B2", "B1"), "B3 (660 nm)"),
        (("B1", "B2", "B3"), ("B3", "B2", "B1"), (), ("B3", "B2", "B1"), "B3, B2, B1 as red"),
        (("B02@0", "B03@0", "B04@0", "B04@1", "B03@1", "B02@1"), (), (),
         ("B04@0", "B03@0", "B02@0"), "B04@0"),
        (("blue", "green", "red"), (), (), ("red", "green", "blue"), "red, green, blue as red"),
        (("VV", "VH"), (), ("sentinel1/VV", "sentinel1/VH"), ("VV",), "VV in grey"),
        (("B08", "B11"), (), (), ("B08",), "B08 (832.8 nm) in grey"),
        (("sentinel1/VV", "B02", "B03", "B04"), (), (), ("B04", "B03", "B02"), "B04"),
    ],
)  # fmt: skip
def test_bands_are_those_nearest_to_red_green_and_blue(names, said, known, chosen, phrase):
    found, words = view_bands.choose(names, said, known)
    assert found == chosen
    assert phrase in words


@pytest.mark.parametrize(
    ("names", "said", "message"),
    [
        (("B1", "B2", "B3", "B4"), (), r"are of several sensors: B3, B2, B1 of landsat7; .*--rgb="),
        (("one", "two"), (), "no sensor that rsjax knows has the bands one, two; say which"),
        (S2, ("B04", "B03"), "--rgb=B04,B03: expected three bands"),
        (S2, ("B04", "B03", "B01"), "band B01 is missing; the scene has B02, B03, B04, B08"),
        (("B02", "B02", "B03", "B04"), (), "band B02 is there more than once"),
    ],
)
def test_bands_that_nobody_can_tell_are_refused(names, said, message):
    with pytest.raises(SensorError, match=message):
        view_bands.choose(names, said)


def write(path, planes, transform=maps.UTM, names=(), **options):
    profile = {"driver": "GTiff", "count": len(planes), "height": planes.shape[1],
               "width": planes.shape[2], "dtype": planes.dtype, "crs": "EPSG:32632",
               "transform": transform, **options}  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(planes)
        for i, name in enumerate(names, 1):
            raster.set_band_description(i, name)
    return str(path)


@pytest.fixture
def land_map(tmp_path):
    return landmap.read_map(maps.write(tmp_path / "map.tif", maps.random_codes((20, 30))))


def test_a_scene_is_stretched_by_percentiles_of_each_band(land_map, tmp_path):
    planes = np.random.default_rng(0).gamma(2, 500, (4, 20, 30)).astype(np.uint16) + 1
    planes[:, :3] = 0
    planes[2, 5, 5] = 0
    path = write(tmp_path / "s.tif", planes, names=S2, nodata=0)
    found = view_scene.draw([path], land_map, max_px=256)
    assert found.box == (0, 0, 30, 20)
    gone = (planes[[2, 1, 0]] == 0).any(axis=0)
    np.testing.assert_array_equal(found.rgba[..., 3], np.where(gone, 0, 255))
    for place, plane in enumerate(planes[[2, 1, 0]]):
        low, high = np.percentile(plane[plane != 0], (2, 98))
        shade = np.clip((plane - low) / (high - low), 0, 1) * 255
        apart = found.rgba[..., place] - shade
        assert np.abs(apart[~gone]).max() < 0.51
    assert "B04 (664.6 nm)" in found.said
    assert "percentiles 2 and 98" in found.said


def test_a_large_scene_is_averaged(land_map, tmp_path):
    fine = Affine(0.1, 0, 440_000, 0, -0.1, 5_300_000)  # 300 x its pixels fill one of the map
    planes = np.random.default_rng(0).integers(1, 255, (3, 699, 498)).astype(np.uint8)
    path = write(tmp_path / "s.tif", planes, fine, photometric="RGB")
    found = view_scene.draw([path], land_map, max_px=256)
    assert found.factor == 3
    assert found.rgba.shape == (233, 166, 4)
    means = planes.reshape(3, 233, 3, 166, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(found.rgba[..., :3], np.moveaxis(means, 0, -1), atol=0.51)
    assert "0 to 255" in found.said
    assert "mean over 3 x 3 pixels" in found.said


@pytest.mark.parametrize(
    ("size", "corner", "shape", "box", "window"),
    [
        (30.0, (0, 0), (20, 30), (0, 0, 30, 20), (0, 0, 20, 30)),
        (30.0, (-2, 3), (40, 60), (0, 3, 30, 20), (0, 2, 17, 30)),  # larger than the map
        (30.0, (25, 15), (20, 30), (25, 15, 30, 20), (0, 0, 5, 5)),  # part of it
        (10.0, (-1, 0), (60, 96), (0, 0, 30, 20), (0, 3, 60, 90)),
        (10.0, (1 / 3, 0), (60, 60), (1 / 3, 0, 20 + 1 / 3, 20), (0, 0, 60, 60)),
        (90.0, (-1, -1), (8, 11), (-1, -1, 32, 20), (0, 0, 7, 11)),
    ],
)
def test_a_scene_lies_where_its_transform_says(
    land_map, tmp_path, size, corner, shape, box, window
):
    transform = Affine(size, 0, 440_000 + 30 * corner[0], 0, -size, 5_300_000 - 30 * corner[1])
    plane = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    path = write(tmp_path / "s.tif", plane, transform)
    found = view_scene.draw([f"VV={path}"], land_map, rgb=["VV"] * 3, max_px=256)
    assert found.box == pytest.approx(box)
    row, col, height, width = window
    part = plane[0, row : row + height, col : col + width]
    low, high = np.percentile(part, (2, 98))
    shade = (np.clip((part - low) / (high - low), 0, 1) * 255).round()
    np.testing.assert_allclose(found.rgba[..., 0], shade, atol=1)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (
            Affine(30.0, 0, 440_010, 0, -30, 5_300_000),
            "expected pixels of the same size, or a whol",
        ),
        (Affine(20.0, 0, 440_000, 0, -20, 5_300_000), "expected pixels of the same size"),
        (Affine(30.0, 0, 440_000, 0, 30, 5_300_000), "expected pixels of the same size"),
        (Affine(0, 30.0, 440_000, -30, 0, 5_300_000), "expected pixels of the same size"),
        (Affine(30.0, 0, 440_900, 0, -30, 5_300_000), "covers no ground of the map"),
    ],
)
def test_a_scene_on_another_grid_is_refused(land_map, tmp_path, transform, message):
    path = write(tmp_path / "s.tif", np.ones((3, 20, 30), np.uint8), transform, photometric="RGB")
    with pytest.raises(SceneError, match=message):
        view_scene.draw([path], land_map, max_px=256)


def test_a_product_or_item_needs_no_bands_but_those_drawn(land_map, tmp_path):
    planes = np.random.default_rng(3).integers(1, 3000, (3, 20, 30)).astype(np.uint16)
    name = "S2A_MSIL2A_20230601T100031_N0509_R122_T33UUP_20230601T160000.SAFE"
    folder = tmp_path / name / "GRANULE" / "x" / "IMG_DATA" / "R10m"
    folder.mkdir(parents=True)
    for band, plane in zip(("B04", "B03", "B02"), planes, strict=True):
        write(folder / f"T33UUP_20230601T100031_{band}_10m.tif", plane[None])
    write(tmp_path / "r.tif", planes)
    bands = [{"name": name} for name in ("B04", "B03", "B02")]
    item = pystac.Item("one", None, None, datetime.datetime(2020, 6, 1), {})
    media = "image/tiff; application=geotiff"
    item.add_asset("a", pystac.Asset("./r.tif", media_type=media, extra_fields={"bands": bands}))
    (tmp_path / "item.json").write_text(json.dumps(item.to_dict(transform_hrefs=False)))
    with rasterio.open(land_map.path, "r+") as raster:
        raster.update_tags(RSJAX_PROVENANCE="words of another program")
    files = [{"path": "r.tif", "bands": ["B04", "B03", "B02"]}]
    listed = {"sensor": "sentinel2_l2a", "scenes": [{"id": "a", "files": files}]}
    (tmp_path / "scenes.json").write_text(json.dumps(listed))
    plain = view_scene.draw([f"B04,B03,B02={tmp_path / 'r.tif'}"], land_map, max_px=256)
    for given in (name, "item.json", "scenes.json"):
        for rgb in ((), ("B04", "B03", "B02")):
            found = view_scene.draw([str(tmp_path / given)], land_map, rgb=rgb, max_px=256)
            np.testing.assert_array_equal(found.rgba, plain.rgba)
    with pytest.raises(DatasetError, match="0 files of band B08"):
        view_scene.draw([str(tmp_path / name)], land_map, rgb=("B08", "B04", "B03"), max_px=256)
    with pytest.raises(SceneError, match=r"item.json: no asset .* bands that are wanted"):
        view_scene.draw([str(tmp_path / "item.json")], land_map, rgb=("VV",) * 3, max_px=256)
    with pytest.raises(SceneError, match="no sensor has the bands of --rgb"):
        view_scene.draw([str(tmp_path / "item.json")], land_map, rgb=("X",) * 3, max_px=256)


def test_another_coordinate_system_is_refused_unless_trusted(land_map, tmp_path):
    options = {"photometric": "RGB", "crs": "EPSG:25832"}
    path = write(tmp_path / "s.tif", np.ones((3, 20, 30), np.uint8), **options)
    with pytest.raises(
        SceneError, match=r"EPSG:25832, but the map has EPSG:32632.*--trust_transfo"
    ):
        view_scene.draw([path], land_map, max_px=256)
    found = view_scene.draw([path], land_map, max_px=256, trust_transform=True)
    assert found.box == (0, 0, 30, 20)


def test_bands_on_grids_of_their_own_are_refused(land_map, tmp_path):
    one = np.ones((1, 20, 30), np.uint8)
    given = [f"B04={write(tmp_path / 'r.tif', one)}", f"B03={write(tmp_path / 'g.tif', one)}",
             f"B02={write(tmp_path / 'b.tif', one[:, :19])}"]  # fmt: skip
    with pytest.raises(SceneError, match=r"b\.tif: bands on grids of their own"):
        view_scene.draw(given, land_map, max_px=256)
