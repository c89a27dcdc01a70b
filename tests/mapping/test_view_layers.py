import area_maps as maps
import numpy as np
import pyproj
import pytest
import rasterio
from rasterio import Affine

from rsjax.datasets.scene_area import Area
from rsjax.errors import SceneError
from rsjax.landcover import nomenclature
from rsjax.mapping import area_table, landmap, pixel_area, view_layers, view_place, writer


def areas_of(land_map):
    return pixel_area.of_grid(land_map.crs, land_map.transform, land_map.shape)


@pytest.mark.parametrize(("shape", "factor"), [((300, 200), 2), ((517, 700), 3), ((256, 9), 1)])
def test_what_is_drawn_are_centre_pixels_and_what_is_counted_is_all(tmp_path, shape, factor):
    codes = maps.random_codes(shape)
    codes[:7] = 0
    path = maps.write(tmp_path / "a.tif", codes, tiled=True, blockxsize=64, blockysize=64)
    land_map = landmap.read_map(path)
    areas = areas_of(land_map)
    thin = view_layers.thinning(shape, 256)
    assert thin.factor == factor
    tally, layer = view_layers.classes(land_map, areas, thin)
    truth = area_table.tally(land_map, areas)
    np.testing.assert_array_equal(tally.pixels, truth.pixels)
    np.testing.assert_array_equal(tally.hectares, truth.hectares)
    assert tally.nodata_pixels == truth.nodata_pixels == 7 * shape[1]
    known = nomenclature.load("worldcover").codes
    for i in range(layer.shape[0]):
        for j in range(layer.shape[1]):
            row = min(i * factor + factor // 2, shape[0] - 1)
            col = min(j * factor + factor // 2, shape[1] - 1)
            code = codes[row, col]
            assert layer[i, j] == (known.index(code) if code else 255)


def made(folder, confidence="margin", provenance=None):
    """A map with its confidence, as rsjax writes them."""
    classes = nomenclature.load("worldcover")
    area = Area(rasterio.crs.CRS.from_epsg(32632), maps.UTM, 20, 30)
    given = (area, classes, provenance or {"model": "unet"}, confidence, False)
    sure = np.random.default_rng(1).integers(0, 251, (20, 30)).astype(np.uint8)
    with writer.open_writer(folder / "map.tif", *given) as out:
        out.write({"classes": np.zeros((20, 30), np.uint8), "confidence": sure},
                  sure < 25)  # fmt: skip
        out.finish()
    return folder / "map.tif", np.where(sure < 25, 255, sure)


def test_the_confidence_beside_a_map_is_the_one_of_its_pixels(tmp_path):
    path, sure = made(tmp_path)
    land_map = landmap.read_map(path)
    layer, meaning, note = view_layers.confidence(land_map, view_layers.thinning((20, 30), 10))
    np.testing.assert_array_equal(layer, sure[1::3][:, 1::3])
    assert (meaning, note) == ("probability of the class less that of the next", "")


def test_a_confidence_of_another_map_is_left_out_and_said(tmp_path):
    path, _ = made(tmp_path)
    (tmp_path / "other").mkdir()
    other, _ = made(tmp_path / "other", provenance={"model": "segnet"})
    beside = tmp_path / "map_confidence.tif"
    (other.parent / "map_confidence.tif").rename(beside)
    thin = view_layers.thinning((20, 30), 100)
    layer, _, note = view_layers.confidence(landmap.read_map(path), thin)
    assert layer is None
    assert note == f"{beside}: was written with another map; it is not shown"
    maps.write(beside, np.zeros((20, 30), np.uint8))
    assert "not a confidence that rsjax wrote" in view_layers.confidence(
        landmap.read_map(path), thin
    )[2]  # fmt: skip
    beside.unlink()
    assert view_layers.confidence(landmap.read_map(path), thin) == (None, "", "")


def test_another_grid_is_refused(tmp_path):
    land_map = landmap.read_map(maps.write(tmp_path / "a.tif", maps.random_codes((20, 30))))
    same = (land_map.crs, land_map.transform, land_map.shape)
    view_layers.same_grid(land_map, "b.tif", *same)
    hair = Affine(30.0, 0, 440_000.01, 0, -30, 5_300_000)
    view_layers.same_grid(land_map, "b.tif", land_map.crs, hair, land_map.shape)
    system = rasterio.crs.CRS.from_epsg(32633)
    with pytest.raises(SceneError, match=r"b\.tif: EPSG:32633, but .* has EPSG:32632.*-t_srs"):
        view_layers.same_grid(land_map, "b.tif", system, *same[1:])
    view_layers.same_grid(land_map, "b.tif", system, *same[1:], trust=True)
    for other in (Affine(30.0, 0, 440_015, 0, -30, 5_300_000),
                  Affine(30.03, 0, 440_000, 0, -30.03, 5_300_000)):  # fmt: skip
        with pytest.raises(SceneError, match="expected the same grid"):
            view_layers.same_grid(land_map, "b.tif", same[0], other, same[2])
    with pytest.raises(SceneError, match="20 x 31 pixels"):
        view_layers.same_grid(land_map, "b.tif", *same[:2], (20, 31))


def interpolated(place, row, col, shape):
    """Bilinear, node by node, as the page does it."""
    steps = len(place["lon"]) - 1
    found = []
    for grid in (place["lon"], place["lat"]):
        (i, y), (j, x) = (
            divmod(at / size * steps, 1) for at, size in zip((row, col), shape, strict=True)
        )
        i, j = int(i), int(j)
        top = grid[i][j] * (1 - x) + grid[i][j + 1] * x
        found.append(top * (1 - y) + (grid[i + 1][j] * (1 - x) + grid[i + 1][j + 1] * x) * y)
    return np.array(found)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32632", Affine(1000.0, 0, 300_000, 0, -1000.0, 6_600_000)),
        ("EPSG:3358", Affine(28.5, 0, 630_534, 0, -28.5, 228_114)),
        ("EPSG:3035", Affine(0, 500.0, 4_000_000, -500.0, 0, 3_000_000)),  # rotated
        ("EPSG:32601", Affine(2000.0, 0, 100_000, 0, -2000.0, 7_000_000)),  # across 180 degrees
        ("EPSG:4326", maps.DEGREES),
    ],
)
def test_places_are_those_of_proj(tmp_path, crs, transform):
    shape = (300, 200)
    path = maps.write(tmp_path / "a.tif", np.full(shape, 10, np.uint8), crs=crs,
                      transform=transform)  # fmt: skip
    land_map = landmap.read_map(path)
    place = view_place.lattice(land_map)
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    pixel = np.hypot(transform.a, transform.d) / (1 if crs == "EPSG:4326" else 111_000)
    for row, col in np.random.default_rng(0).uniform(0, 1, (40, 2)) * shape:
        a, b, c, d, e, f = tuple(transform)[:6]
        x, y = a * col + b * row + c, d * col + e * row + f
        truth = np.array(to_degrees.transform(x, y))
        found = interpolated(place, row, col, shape)
        apart = np.abs((found - truth + 180) % 360 - 180)
        assert apart[1] < 0.15 * pixel
        assert apart[0] * np.cos(np.radians(truth[1])) < 0.15 * pixel


def test_no_places_around_a_pole(tmp_path):
    path = maps.write(tmp_path / "a.tif", np.full((20, 20), 10, np.uint8), crs="EPSG:3413",
                      transform=Affine(1000.0, 0, -10_000, 0, -1000.0, 10_000))  # fmt: skip
    assert view_place.lattice(landmap.read_map(path)) is None
