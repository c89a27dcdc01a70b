import http.server
import json
import threading

import numpy as np
import pyogrio
import pytest
import shapely

from rsjax import vectors
from rsjax.errors import SceneError

SHAPES = np.array([shapely.box(8, 50, 9, 51), shapely.box(9, 50, 10, 52)])
NAMES = np.array(["one", "two"], dtype=object)


def write(path, **more):
    given = {"geometry_type": "Polygon", "crs": "EPSG:4326", **more}
    driver = {".json": "GeoJSON"}.get(path.suffix.lower())
    pyogrio.raw.write(path, shapely.to_wkb(SHAPES), [NAMES, np.array([3, 4])], ["name", "code"],
                      driver=driver, **given)  # fmt: skip
    return path


@pytest.fixture
def server():
    """(address, list of what was asked for) of a server on this machine."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.json", "a.shp", "a.fgb", "A.FGB"])
def test_every_format_by_its_own_driver(tmp_path, name):
    (tmp_path / "a:b").mkdir()
    path = write(tmp_path / "a:b" / name)
    found = vectors.read(path)
    order = np.argsort(found.fields["name"])
    assert shapely.equals(found.geometry[order], SHAPES).all()
    assert found.fields["name"][order].tolist() == ["one", "two"]
    assert found.fields["code"][order].tolist() == [3, 4]
    assert found.crs == "EPSG:4326"
    assert list(vectors.read(path, field="code").fields) == ["code"]


def test_tables_without_geometry_are_no_layers(tmp_path):
    path = write(tmp_path / "a.gpkg", layer="parks")
    pyogrio.raw.write(path, None, [NAMES], ["style"], layer="layer_styles", append=False)
    assert len(vectors.read(path).geometry) == 2
    write(path, layer="more", append=False)
    with pytest.raises(SceneError, match=r"layers parks, more, expected one"):
        vectors.read(path)


@pytest.mark.parametrize("ending", [*vectors._FORMATS, ".gml", ".vrt"])
def test_content_never_leads_to_the_network(tmp_path, server, ending):
    address, asked = server
    contents = {
        "wfs": f"<OGRWFSDataSource><URL>{address}/wfs</URL></OGRWFSDataSource>",
        "vrt": f"<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>/vsicurl/{address}/a.fgb"
        "</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>",
        "pipeline": json.dumps(
            {
                "type": "gdal_streamed_alg",
                "command_line": f"gdal vector filter /vsicurl/{address}/a.fgb --output-format "
                "stream streamed --bbox 0,0,1,1",
            }
        ),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}{ending}"
        path.write_text(content)
        with pytest.raises(SceneError, match=f"{name}{ending}"):
            vectors.read(path)
    assert asked == []
    # The server is one that GDAL left to itself does reach.
    with pytest.raises(pyogrio.errors.DataSourceError):
        pyogrio.list_layers(tmp_path / f"wfs{ending}")
    assert asked


def test_other_formats_and_geometries_that_are_missing_are_named(tmp_path):
    (tmp_path / "a.kml").write_text("<kml/>")
    with pytest.raises(SceneError, match=r"a\.kml: expected one of \.gpkg, \.geojson.*ogr2ogr"):
        vectors.read(tmp_path / "a.kml")
    path = tmp_path / "a.gpkg"
    shapes = shapely.to_wkb(np.array([SHAPES[0], None]))
    pyogrio.raw.write(path, shapes, [NAMES], ["name"], geometry_type="Polygon", crs="EPSG:4326")
    with pytest.raises(SceneError, match="feature 2 has no geometry"):
        vectors.read(path)
