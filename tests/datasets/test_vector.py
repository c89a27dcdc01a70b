import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.crs import CRS

from rsjax import landcover
from rsjax.datasets import vector
from rsjax.errors import DatasetError, NomenclatureError

UTM = CRS.from_epsg(32631)
PLACE = rasterio.Affine(10, 0, 600_000, 0, -10, 5_700_000)
BOUNDS = (600_000.0, 5_699_800.0, 600_200.0, 5_700_000.0)  # 20 x 20 pixels


def square(col, row, width, height):
    left, top = 600_000 + 10 * col, 5_700_000 - 10 * row
    return shapely.box(left, top - 10 * height, left + 10 * width, top)


SHAPES = np.array(
    [
        square(2, 3, 6, 4),
        square(5, 4, 6, 8),
        shapely.Point(600_155, 5_699_955),
        shapely.MultiPolygon([square(0, 15, 2, 2), square(15, 15.4, 3.4, 3)]),
    ]
)
VALUES = np.array(["Tree cover", "Cropland", "Built-up", "Grassland"], dtype=object)


def write(path, shapes=SHAPES, values=VALUES, crs="EPSG:32631", layer=None, name="class"):
    kinds = {shape.geom_type for shape in shapes if shape is not None}
    kind = kinds.pop() if len(kinds) == 1 else "Unknown"
    pyogrio.raw.write(
        path, shapely.to_wkb(shapes), [values], [name], geometry_type=kind, crs=crs, layer=layer
    )
    return str(path)


def painted(found, crs=UTM, transform=PLACE, bounds=BOUNDS):
    classes = vector.classes(found, landcover.load("worldcover"))
    return vector.Painter(found, classes, crs).paint(transform, (20, 20), bounds)


def expected():
    """Pixels whose centre is in a polygon, later ones over earlier; the point's own pixel."""
    names = landcover.load("worldcover").names
    out = np.full((20, 20), 255)
    y, x = np.mgrid[:20, :20] + 0.5
    for shape, name in zip(SHAPES, VALUES, strict=True):
        if shape.geom_type == "Point":
            out[4, 15] = names.index(name)
        else:
            inside = shapely.contains_xy(shape, 600_000 + 10 * x, 5_700_000 - 10 * y)
            out[inside] = names.index(name)
    return out


def test_pixels_of_polygons_and_points(tmp_path):
    found = vector.read(write(tmp_path / "a.gpkg"), "", "class")
    np.testing.assert_array_equal(painted(found), expected())
    assert (expected() != 255).sum() == 24 + 48 - 9 + 1 + 4 + 9
    # A window is a cut of the whole.
    classes = vector.classes(found, landcover.load("worldcover"))
    shifted = rasterio.Affine(10, 0, 600_040, 0, -10, 5_699_970)
    window = vector.Painter(found, classes, UTM).paint(
        shifted, (5, 6), (600_040, 5_699_920, 600_100, 5_699_970)
    )
    np.testing.assert_array_equal(window, expected()[3:8, 4:10])
    empty = vector.Painter(found, classes, UTM).paint(
        rasterio.Affine(10, 0, 700_000, 0, -10, 5_700_000), (4, 4), (7e5, 5_699_960, 700_040, 5.7e6)
    )
    assert (empty == 255).all()


def test_codes_and_formats(tmp_path):
    codes = np.array([10, 40, 50, 30], np.int32)
    for values in (codes, codes.astype(np.float64), codes.astype(str).astype(object)):
        path = write(tmp_path / f"{values.dtype}.fgb", values=values)
        found = vector.read(path, "", "class")
        kept = painted(found)
        if path.endswith("object.fgb") or values.dtype != object:
            # FlatGeobuf keeps an order of its own: only what does not overlap is compared.
            alone = np.ones((20, 20), bool)
            alone[4:7, 5:8] = False
            np.testing.assert_array_equal(kept[alone], expected()[alone])
    polygons = SHAPES[:2]
    found = vector.read(write(tmp_path / "a.shp", polygons, VALUES[:2]), "", "class")
    assert (painted(found)[3:7, 2:5] == 0).all()


def test_other_coordinate_systems_are_brought_to_the_grid(tmp_path):
    x, y = rasterio.warp.transform(UTM, CRS.from_epsg(4326), *SHAPES[0].exterior.xy)
    ring = [list(point) for point in zip(x, y, strict=True)]
    feature = {
        "type": "Feature",
        "properties": {"class": "Tree cover"},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    found = vector.read(str(path), "", "class")
    assert found.crs == CRS.from_epsg(4326)
    np.testing.assert_array_equal(painted(found)[3:7, 2:8], np.zeros((4, 6)))
    assert (painted(found) != 255).sum() == 24


def test_layers_are_chosen_by_name(tmp_path):
    path = write(tmp_path / "a.gpkg", layer="one")
    pyogrio.raw.write(
        path, shapely.to_wkb(SHAPES[:1]), [VALUES[:1]], ["kind"], geometry_type="Polygon",
        crs="EPSG:32631", layer="two", append=False,
    )  # fmt: skip
    assert len(vector.read(path, "one", "class").shapes) == 4
    assert len(vector.read(path, "two", "kind").shapes) == 1
    for layer in ("", "three"):
        with pytest.raises(DatasetError, match="layers one, two, expected"):
            vector.read(path, layer, "class")


def test_what_is_wrong_is_named(tmp_path):
    def refused(path, message, field="class"):
        with pytest.raises(DatasetError, match=message):
            vector.read(str(path), "", field)

    refused(tmp_path / "no.gpkg", "no.gpkg: no such file")
    (tmp_path / "page.geojson").write_text("<html>404</html>")
    refused(tmp_path / "page.geojson", "does not read as vector data")
    path = write(tmp_path / "a.gpkg")
    refused(path, "no field 'kind', expected one of class", "kind")
    whole = (tmp_path / "a.gpkg").read_bytes()
    (tmp_path / "cut.gpkg").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.gpkg", "cut.gpkg.*does not read")
    (tmp_path / "v.shp").write_text(
        f"<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>{path}</SrcDataSource>"
        "</OGRVRTLayer></OGRVRTDataSource>"
    )
    refused(tmp_path / "v.shp", "a GDAL VRT")
    line = np.array([shapely.LineString([(6e5, 5.7e6), (6.1e5, 5.7e6)])])
    refused(write(tmp_path / "l.gpkg", line, VALUES[:1]), "feature 1 has a LineString")
    gone = np.array([SHAPES[0], None])
    refused(write(tmp_path / "g.gpkg", gone, VALUES[:2]), "feature 2 has no geometry")
    blank = np.array(["Cropland", None], dtype=object)
    refused(write(tmp_path / "b.gpkg", SHAPES[:2], blank), "feature 2 has nothing in field")
    with pytest.warns(UserWarning, match="crs"):
        path = write(tmp_path / "n.gpkg", crs=None)
    refused(path, "no coordinate system")
    refused(write(tmp_path / "e.gpkg", SHAPES[:0], VALUES[:0]), "no features")


def test_unknown_classes_are_named(tmp_path):
    names = landcover.load("worldcover")
    for value, message in (("Trees", "'Trees' is no class.*Tree cover"), ("11", "codes 11")):
        path = write(tmp_path / f"{value}.gpkg", SHAPES[:1], np.array([value], dtype=object))
        with pytest.raises(NomenclatureError, match=message) as caught:
            vector.classes(vector.read(path, "", "class"), names)
        assert path in str(caught.value)
    path = write(tmp_path / "f.gpkg", SHAPES[:1], np.array([10.5]))
    with pytest.raises(NomenclatureError, match=r"10\.5 is neither"):
        vector.classes(vector.read(path, "", "class"), names)
    path = write(tmp_path / "i.gpkg", SHAPES[:1], np.array([0]))  # not labelled
    assert vector.classes(vector.read(path, "", "class"), names).tolist() == [255]
