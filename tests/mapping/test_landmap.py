import area_maps as maps
import numpy as np
import pytest
import rasterio
from rasterio import Affine

from rsjax.errors import NomenclatureError, SceneError
from rsjax.landcover import nomenclature
from rsjax.mapping import landmap

WORLDCOVER = nomenclature.load("worldcover")


def whole(land_map):
    """The map put together from its blocks; every pixel must come once."""
    found = np.full(land_map.shape, 254, np.uint8)
    for window, classes in land_map.blocks():
        place = window.toslices()
        assert (found[place] == 254).all()
        found[place] = classes
    assert (found != 254).all()
    return found


@pytest.mark.parametrize(
    ("shape", "block"), [((7, 5), (1, 5)), ((100, 70), (16, 32)), ((33, 65), (33, 65))]
)
def test_windows_cover_a_grid_once_and_stay_small(shape, block):
    for pixels in (1, 50, 600, 10**9):
        seen = np.zeros(shape, int)
        for window in landmap.windows(shape, block, pixels):
            seen[window.toslices()] += 1
            assert window.width * window.height <= max(pixels, min(block[0] * block[1], 1) * 65)
        assert (seen == 1).all()


@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
def test_a_map_is_read_as_class_indices_with_its_own_nomenclature(tmp_path, options, monkeypatch):
    codes = maps.random_codes((50, 37))
    codes[3, 4:9] = 0  # WorldCover's own "no data" is nodata of the file, too
    path = maps.write(tmp_path / "map.tif", codes, **options)
    monkeypatch.setattr(landmap.windows, "__defaults__", (300,))
    land_map = landmap.read_map(path)
    assert (land_map.shape, land_map.dtype, land_map.nodata) == ((50, 37), np.uint8, 0)
    assert land_map.nomenclature == WORLDCOVER
    assert np.array_equal(whole(land_map), WORLDCOVER.encode(codes))
    row, col = np.array([3, 49, 0]), np.array([4, 36, 0])
    assert np.array_equal(land_map.classes_at(row, col), WORLDCOVER.encode(codes)[row, col])


def test_codes_stored_as_floats_and_masks_are_understood(tmp_path):
    codes = maps.random_codes((9, 9)).astype(np.float32)
    codes[0, 0], codes[1, 1] = -99999, np.nan
    path = maps.write(tmp_path / "map.tif", codes, tag="", nodata=-99999)
    with pytest.raises(SceneError, match=r"nan at \(row, col\) \(1, 1\) is no class code"):
        whole(landmap.read_map(path, "worldcover"))
    codes[1, 1] = 10
    maps.write(path, codes, tag="", nodata=-99999)
    found = whole(landmap.read_map(path, "worldcover"))
    assert found[0, 0] == 255
    assert (found.ravel()[1:] != 255).all()
    codes[0, 0] = np.nan
    maps.write(path, codes, tag="", nodata=np.nan)
    assert np.array_equal(whole(landmap.read_map(path, "worldcover")), found)
    masked = tmp_path / "masked.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        maps.write(masked, np.full((4, 4), 10, np.uint8), nodata=None)
        with rasterio.open(masked, "r+") as raster:
            raster.write_mask(np.tri(4, dtype=bool))
    assert np.array_equal(whole(landmap.read_map(masked)) == 255, ~np.tri(4, dtype=bool))


def test_an_unknown_code_is_named_with_its_pixel_in_the_map(tmp_path, monkeypatch):
    codes = maps.random_codes((40, 30))
    codes[31, 7] = 77
    monkeypatch.setattr(landmap.windows, "__defaults__", (100,))
    land_map = landmap.read_map(maps.write(tmp_path / "map.tif", codes))
    with pytest.raises(NomenclatureError, match=r"map.tif: code 77 at \(row, col\) \(31, 7\)"):
        whole(land_map)


def test_codes_too_large_for_the_file_are_no_trouble(tmp_path):
    table = tmp_path / "own.csv"
    rows = "300,far,#000000,,\n7,near,#ffffff,,\n"
    table.write_text(f"# source: test\ncode,name,colour,parent,ignore\n{rows}")
    codes = np.full((3, 3), 7, np.uint8)
    codes[1, 1] = 0
    path = maps.write(tmp_path / "map.tif", codes, tag="")
    found = whole(landmap.read_map(path, str(table)))
    assert np.array_equal(found, np.where(codes == 7, 1, 255))


@pytest.mark.parametrize(
    ("options", "named", "message"),
    [
        ({"codes": np.ones((2, 4, 4), np.uint8)}, "", "2 bands, expected one"),
        ({"crs": None}, "", "no coordinate system"),
        ({"transform": Affine.identity()}, "", "no transform"),
        ({"tag": ""}, "", "--nomenclature=NAME, one of bigearthnet19"),
        ({}, "igbp", "other codes or names than --nomenclature=igbp"),
        ({"nodata": 10}, "", "nodata is 10, which is also the code of class 'Tree cover'"),
    ],
)
def test_what_is_no_map_is_refused(tmp_path, options, named, message):
    options = {"codes": np.full((4, 4), 10, np.uint8), **options}
    path = maps.write(tmp_path / "map.tif", **options)
    with pytest.raises(SceneError, match=message):
        landmap.read_map(path, named)


def test_only_sound_local_geotiffs_are_opened(tmp_path):
    real = maps.write(tmp_path / "real.tif", maps.random_codes((256, 256)))
    virtual = tmp_path / "virtual.tif"
    virtual.write_text(
        '<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1"/>'
        "</VRTDataset>"
    )
    for path, message in ((virtual, "as a GeoTIFF"), (tmp_path / "none.tif", "no such file"),
                          (f"/vsizip/{real}", "no such file")):  # fmt: skip
        with pytest.raises(SceneError, match=message):
            landmap.read_map(path)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(real.read_bytes()[:40_000])
    with pytest.raises(SceneError, match=r"cannot be read|as a GeoTIFF"):
        whole(landmap.read_map(cut))
    damaged = maps.write(tmp_path / "tag.tif", maps.random_codes((4, 4)), tag="")
    with rasterio.open(damaged, "r+") as raster:
        raster.update_tags(RSJAX_NOMENCLATURE='{"name": 1')
    with pytest.raises(SceneError, match="tag RSJAX_NOMENCLATURE is damaged"):
        landmap.read_map(damaged)
