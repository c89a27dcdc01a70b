import numpy as np
import pyproj
import pytest
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from rsjax.errors import SceneError
from rsjax.mapping import pixel_area

# WGS 84: 4 pi times the square of the authalic radius 6371007.1809 m
EARTH_HA = 4 * np.pi * 6371007.1809184738**2 / 1e4


SIDE = 20  # pixels; of single small ones the polygons are known to 1e-6 only


def geodesic(crs, transform, row, col, parts=SIDE):
    """Hectares of a square of pixels by Karney's geodesic polygons, its sides in `parts`."""
    system = pyproj.CRS.from_wkt(crs.to_wkt(version="WKT2_2019"))
    to_degrees = pyproj.Transformer.from_crs(system, system.geodetic_crs, always_xy=True)
    s = np.arange(parts) / parts * SIDE
    zero = np.zeros(parts)
    cols = col + np.concatenate([s, zero + SIDE, SIDE - s, zero])
    rows = row + np.concatenate([zero, s, zero + SIDE, SIDE - s])
    t = transform
    x, y = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    lon, lat = to_degrees.transform(x, y)
    return abs(system.get_geod().polygon_area_perimeter(lon, lat)[0]) / 1e4


GRIDS = {
    "UTM, a Sentinel-2 tile": ("EPSG:32632", Affine(10, 0, 3e5, 0, -10, 5.2e6), (10980, 10980)),
    "UTM, rotated": ("EPSG:32632", Affine(8, 6, 3e5, 6, -8, 5.2e6), (3000, 3000)),
    "Web Mercator": ("EPSG:3857", Affine(30, 0, 0, 0, -30, 8.4e6), (20000, 30000)),
    "conic of North Carolina": (
        "EPSG:3358", Affine(28.5, 0, 630534, 0, -28.5, 228114), (443, 489)),
    "feet": ("EPSG:2263", Affine(100, 0, 9e5, 0, -100, 3e5), (1000, 1000)),
    "over the pole": ("EPSG:3031", Affine(300, 0, -3e5, 0, -300, 3e5), (2000, 2000)),
    "Mollweide, of a sphere": ("ESRI:54009", Affine(1e3, 0, -1e6, 0, -1e3, 5e6), (2000, 2000)),
    "degrees": ("EPSG:4326", Affine(0.01, 0, 6, 0, -0.01, 70), (3000, 300)),
    "degrees, rotated": ("EPSG:4326", Affine(0.01, 2e-3, 6, 1e-3, -0.01, 70), (300, 300)),
    "degrees, south up": ("EPSG:4258", Affine(0.01, 0, 6, 0, 0.01, 40), (300, 300)),
}  # fmt: skip


@pytest.mark.parametrize("name", GRIDS)
def test_pixels_have_the_area_of_geodesic_polygons(name):
    code, transform, shape = GRIDS[name]
    crs = CRS.from_string(code)
    areas = pixel_area.of_grid(crs, transform, shape)
    random = np.random.default_rng(0)
    row, col = (random.integers(0, size - SIDE + 1, 8) for size in shape)
    row[:2], col[:2] = (0, shape[0] - SIDE), (shape[1] - SIDE, 0)
    parts = 4000 if crs.is_geographic else SIDE  # parallels are no geodesics
    truth = [geodesic(crs, transform, r, c, parts) for r, c in zip(row, col, strict=True)]
    blocks = [areas.block(Window(c, r, SIDE, SIDE))
              for r, c in zip(row.tolist(), col.tolist(), strict=True)]  # fmt: skip
    found = [np.broadcast_to(block, (SIDE, SIDE)).sum() for block in blocks]
    np.testing.assert_allclose(found, truth, rtol=1.5e-7)
    corners = [np.broadcast_to(block, (SIDE, SIDE))[0, 0] for block in blocks]
    np.testing.assert_allclose(areas.at(row, col), corners, rtol=1e-12)


@pytest.mark.parametrize(
    ("code", "x", "y"),
    [("EPSG:3035", 4e6, 3e6), ("EPSG:6933", -1e6, 5e6), ("EPSG:5070", 0, 2e6),
     ("EPSG:8857", -1e6, 5e6), ("ESRI:54008", -1e6, 5e6)],
)  # fmt: skip
def test_equal_area_projections_keep_the_area_in_the_plane_exactly(code, x, y):
    areas = pixel_area.of_grid(CRS.from_string(code), Affine(10, 0, x, 0, -10, y), (5000, 5000))
    assert areas.method == "equal-area"
    assert areas.block(Window(4000, 100, 50, 60)) == np.array([[0.01]])


def test_the_whole_earth_has_the_area_of_the_ellipsoid():
    crs = CRS.from_epsg(4326)
    for transform, shape in ((Affine(0.5, 0, -180, 0, -0.5, 90), (360, 720)),
                             (Affine(0.5, 0, -180, 0, -0.5, 90.25), (361, 720))):  # fmt: skip
        areas = pixel_area.of_grid(crs, transform, shape)
        assert areas.rows.sum() * shape[1] == pytest.approx(EARTH_HA, rel=1e-12)


def test_a_sphere_is_a_sphere():
    crs = CRS.from_proj4("+proj=longlat +R=6371000 +no_defs")
    areas = pixel_area.of_grid(crs, Affine(1, 0, 0, 0, -1, 30), (30, 1))
    assert areas.rows.sum() == pytest.approx(np.radians(1) * 6371000**2 * 0.5 / 1e4, rel=1e-12)


def test_real_tile_of_three_degrees(samples):
    from rsjax.mapping import landmap

    found = list((samples / "scenes" / "worldcover_N00E006").glob("*.tif"))
    land_map = landmap.read_map(found[0], "worldcover")
    areas = pixel_area.of_grid(land_map.crs, land_map.transform, land_map.shape)
    a, f = 6378137.0, 1 / 298.257223563
    e2 = f * (2 - f)
    # The integral of M N cos(latitude), by a quadrature that knows nothing of authalic latitudes.
    nodes, weights = np.polynomial.legendre.leggauss(60)
    lat = np.radians(3) * (nodes + 1) / 2
    density = a**2 * (1 - e2) * np.cos(lat) / (1 - e2 * np.sin(lat) ** 2) ** 2
    truth = np.radians(3) * np.radians(3) / 2 * (weights @ density) / 1e4
    assert areas.rows.sum() * land_map.shape[1] == pytest.approx(truth, rel=1e-9)


def test_grids_without_an_area_are_refused():
    with pytest.raises(SceneError, match="need a geographic or projected"):
        pixel_area.of_grid(CRS.from_epsg(4978), Affine(1, 0, 0, 0, -1, 0), (4, 4))
    with pytest.raises(SceneError, match="beyond where its projection is defined"):
        pixel_area.of_grid(
            CRS.from_string("ESRI:54009"), Affine(1e5, 0, -2e7, 0, -1e5, 1e7), (200, 400)
        )
