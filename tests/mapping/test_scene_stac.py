"""STAC items as scenes."""

import datetime
import json

import identity
import numpy as np
import pystac
import pytest
from test_scene import inputs, open_scene, pixels, read

from rsjax.datasets import stac_files
from rsjax.errors import DatasetError, SceneError, SensorError
from rsjax.mapping import scene_names, scene_stac

UNIT = ("reflectance_1e4",)


def item(name, assets, **properties):
    """A STAC item of {key: (file, bands, more fields)}."""
    when = datetime.datetime(2020, 6, 1, 10, tzinfo=datetime.UTC)
    made = pystac.Item(name, None, None, when, properties)
    for key, (href, bands, more) in assets.items():
        fields = {"href": href, "type": "image/tiff; application=geotiff", "eo:bands": bands}
        made.add_asset(key, pystac.Asset.from_dict(fields | more))
    return made.to_dict(transform_hrefs=False)


def save(path, *items):
    data = items[0] if len(items) == 1 else {"type": "FeatureCollection", "features": list(items)}
    path.write_text(json.dumps(data))
    return str(path)


@pytest.fixture
def scene(tmp_path):
    """An item of two files: one by names, one by a common name; and their pixels."""
    image = pixels(3)
    identity.write(tmp_path / "two.tif", image[:2], None)
    identity.write(tmp_path / "edge.tif", image[2:, ::2, ::2], None, side=20.0)
    scaling = {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}
    assets = {
        "x": ("./two.tif", [{"name": "B03"}, {"name": "b2"}], scaling),
        "y": ("./edge.tif", [{"name": "z", "common_name": "rededge071"}], scaling),
        "visual": ("./two.tif", [{"name": "B02"}], {"roles": ["visual"]}),
    }
    return tmp_path, image, assets


def test_an_item_brings_bands_unit_and_date(scene):
    folder, image, assets = scene
    path = save(folder / "item.json", item("one", assets, platform="sentinel-2a"))
    opened = open_scene([path], inputs("B02", "B03", "B05"), unit=())
    found = read(opened, (0, 10), (0, 12)).entries
    np.testing.assert_allclose(
        found["s2_10m_1"], image[[1, 0]].astype(np.float32) - 1000, atol=0.01
    )
    assert found["s2_20m_2"].shape == (1, 5, 6)
    assert opened.dates == ("2020-06-01",)
    plain = save(folder / "plain.json", item("two", {"x": (*assets["x"][:2], {})}))
    assert open_scene([plain], inputs("B02")).dates  # unit as stated by the user
    with pytest.raises(SceneError, match="unit of its values is not known"):
        open_scene([plain], inputs("B02"), unit=())
    both = save(folder / "both.json", item("one", assets), item("t w:o", assets))
    assert scene_names.find(both) == [("one", f"{both}#one"), ("t_w_o", f"{both}#t w:o")]
    assert open_scene([f"{both}#t w:o"], inputs("B02"), unit=()).step == 1
    with pytest.raises(SceneError, match=r"several items, expected one of one, t w:o; name it as"):
        open_scene([both], inputs("B02"), unit=())


def test_what_an_item_does_not_have_is_named(scene):
    folder, _, assets = scene
    path = folder / "item.json"
    takes = inputs("B02", "B08")

    def fails(kind, text, **properties):
        with pytest.raises(kind, match=text):
            open_scene([save(path, item("one", assets, **properties))], takes)

    fails(SensorError, "B08 is missing.*the scene has .*B02")
    fails(SceneError, "item one has one of the bands.*platform is landsat-8", platform="landsat-8")
    takes = inputs("B02")
    assets["z"] = ("./two.tif", [{"name": "B02"}, {"name": "B11"}], {})
    fails(SceneError, r"B02 is in the assets x, z, expected one. Name the file: --scene=B02=FILE")
    del assets["z"], assets["x"]
    assets["x"] = ("./gone.tif", [{"name": "B02"}], {})
    fails(SceneError, r"asset x: .*gone.tif: no such file")
    path.write_text("{}")
    with pytest.raises(DatasetError, match="type None, expected a STAC Feature"):
        open_scene([path], takes)


def test_files_on_a_server_are_refused_or_got_once(scene, monkeypatch):
    folder, image, assets = scene
    content = (folder / "two.tif").read_bytes()
    size = {"file:size": len(content)}
    assets = {"x": ("https://example.org/two.tif?key=1", assets["x"][1], size)}
    path = save(folder / "item.json", item("o/ne", assets))
    with pytest.raises(SceneError, match=r"1 of its 1 files .*org/two.tif\. Add --download"):
        scene_stac.files(path, "", ["sentinel2_l2a/B02"])
    got = []

    def download(asset, target):
        got.append(asset.href)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)

    monkeypatch.setattr(stac_files, "download", download)
    for _ in range(2):
        (file,) = scene_stac.files(path, "", ["sentinel2_l2a/B02"], UNIT, download=True)
    assert got == ["https://example.org/two.tif?key=1"]
    assert file.path == str(folder / "o_ne" / "x.tif")
    found = read(open_scene([path], inputs("B02")), (0, 10), (0, 12)).entries
    np.testing.assert_array_equal(found["s2_10m_1"], image[1:2])
