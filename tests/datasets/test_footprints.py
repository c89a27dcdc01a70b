import json

import numpy as np
import PIL.Image
import pytest
import rasterio
from matplotlib.path import Path

from rsjax.datasets import footprints
from rsjax.errors import DatasetError

CRS84 = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
PLACE = {"crs": "EPSG:4326", "transform": (0.01, 0.0, 10.0, 0.0, -0.01, 50.0)}


def collection(*geometries, **more):
    features = [{"type": "Feature", "properties": {}, "geometry": one} for one in geometries]
    return json.dumps({"type": "FeatureCollection", "features": features, **more}).encode()


def ring(*corners):
    """A closed ring of corners in pixels (column, row) as longitude and latitude."""
    return [[10 + 0.01 * x, 50 - 0.01 * y] for x, y in (*corners, corners[0])]


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def draw(content, shape=(20, 30)):
    return footprints.draw(footprints.read(content, "f.geojson"), "f.geojson", shape=shape, **PLACE)


def by_centres(shape, outer, holes=()):
    """Pixels whose centre lies in a polygon, by matplotlib."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    points = np.stack([columns.ravel(), rows.ravel()], axis=1)
    inside = Path(outer).contains_points(points)
    for hole in holes:
        inside &= ~Path(hole).contains_points(points)
    return inside.reshape(shape).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_a_pixel_counts_where_its_centre_lies_inside(seed):
    rng = np.random.default_rng(seed)
    turns = np.sort(rng.uniform(0, 2 * np.pi, 9))
    reach = rng.uniform(4, 12, 9)[:, None]
    corners = [14.2, 9.3] + reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    hole = [(13.1, 8.2), (16.4, 8.2), (16.4, 11.7), (13.1, 11.7)]
    mask = draw(collection(polygon(ring(*corners), ring(*hole)), crs=CRS84))
    assert (mask.dtype, mask.shape) == (np.uint8, (20, 30))
    expected = by_centres((20, 30), corners)
    inner = by_centres((20, 30), hole)
    np.testing.assert_array_equal(mask[inner == 0], expected[inner == 0])
    assert 0 < mask.sum() < 600


def test_several_parts_heights_and_none():
    first, second = [(1, 1), (4, 1), (4, 3), (1, 3)], [(20, 10), (40, 10), (40, 30), (20, 30)]
    parts = {"type": "MultiPolygon", "coordinates": [[ring(*first)], [ring(*second)]]}
    expected = np.zeros((20, 30), np.uint8)
    expected[1:3, 1:4] = 1
    expected[10:, 20:] = 1  # cut at the image's edge
    np.testing.assert_array_equal(draw(collection(parts)), expected)
    high = polygon([[*corner, 7.5] for corner in ring(*first)])
    assert draw(collection(high, crs=CRS84)).sum() == 6
    assert draw(collection(crs=CRS84)).sum() == 0  # a chip without buildings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not usable as GeoJSON"),
        (b"{}", "not usable as GeoJSON"),
        (collection(polygon(ring((1, 1), (4, 1), (4, 3))))[:-30], "not usable as GeoJSON"),
        (b'{"type": "Feature"}', "type 'Feature'.*expected a FeatureCollection"),
        (collection(crs={"type": "name", "properties": {"name": "EPSG:32611"}}),
         "coordinates in EPSG:32611, expected longitude and latitude"),
        (collection(None), "feature 0 is None, expected a Polygon or MultiPolygon"),
        (collection({"type": "Point", "coordinates": [1, 2]}), "feature 0 is .*Point"),
        (collection(polygon([[1, 2]])), "feature 0 is"),
        (collection(polygon(ring((400, 1), (440, 1), (440, 3)))),
         r"footprints from \[14\.0.* expected some on the image, which lies from \[10\.0"),
    ],
)  # fmt: skip
def test_what_is_no_footprint_is_refused(content, message):
    with pytest.raises(DatasetError, match=rf"f\.geojson: .*{message}"):
        draw(content)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    "rings",
    [
        None, 5, "ab", [], [None], [[]], [[1, 2, 3, 4]], {"a": 1},
        [[[10.1, 49.9], [10.2, 49.9], ["10.2", 49.8], [10.1, 49.9]]],
        [[[10.1, 49.9], [10.2, 49.9], [None, 49.8], [10.1, 49.9]]],
        [[[10.1, 49.9], [10.2, 49.9], [10.2], [10.1, 49.9]]],
        [[[10.1, 49.9], [10.2, 49.9], [float("nan"), 49.8], [10.1, 49.9]]],
        [[[10.1, 49.9], [10.2, 49.9], [1e999, 49.8], [10.1, 49.9]]],
        [ring((1, 1), (4, 1), (4, 3)), ring((2, 2), (3, 2))],
    ],
)  # fmt: skip
def test_coordinates_that_are_none_name_file_and_feature(rings, several):
    sound = polygon(ring((1, 1), (4, 1), (4, 3)))
    geometry = {"type": "Polygon", "coordinates": rings}
    if several:
        geometry = {"type": "MultiPolygon", "coordinates": [sound["coordinates"], rings]}
    with pytest.raises(DatasetError, match=r"f\.geojson: feature 1 is .*expected a Polygon or"):
        draw(collection(sound, geometry))


def test_an_image_in_another_system_is_refused():
    with pytest.raises(DatasetError, match="for an image in EPSG:32611, expected both"):
        footprints.draw(
            [], "f", shape=(2, 2), crs="EPSG:32611", transform=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
        )


def test_real_chip(samples):
    """Buildings of a SpaceNet chip, drawn, agree with the mask that others made of the file."""
    folder = samples / "spacenet_chip"
    data = json.loads((folder / "tiff_3channel_uint8.geojson").read_text())
    buildings = [one for one in data["features"] if one["properties"]["label"] == 1]
    content = json.dumps({**data, "features": buildings}).encode()
    with rasterio.open(folder / "tiff_8channel_uint8.tif") as raster:
        place = {"crs": raster.crs.to_string(), "transform": tuple(raster.transform)[:6]}
        shape = raster.shape
    polygons = footprints.read(content, "chip")
    assert len(polygons) == 26
    mask = footprints.draw(polygons, "chip", shape=shape, **place)
    with PIL.Image.open(folder / "mask_tiff_3channel_uint8.png") as image:
        codes = np.asarray(image)
    assert (mask == (codes == 1)).mean() > 0.993
    # They drew streets and trees on top; everywhere else the two are the same, pixel by pixel.
    alone = (codes == 0) | (codes == 1)
    assert alone.mean() > 0.6
    np.testing.assert_array_equal(mask[alone], codes[alone])
    assert mask.sum() == 100_535
