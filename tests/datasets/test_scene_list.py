import dataclasses
import json

import pytest

from rsjax.datasets import scene_list
from rsjax.datasets.scene_list import BandFile, Grid, Labels, Scene, SceneList, Split
from rsjax.errors import DatasetError

FILES = (BandFile("a/B02.tif", ("B02",), "ab" * 32), BandFile("a/rest.tif", ("B03", "", "B04")))
FULL = SceneList(
    sensor="sentinel2_l2a",
    unit="reflectance_1e4",
    nodata=0.0,
    bands=("B03", "B02"),
    scenes=(
        Scene("a", "2020-06-01", FILES, unit="reflectance_1e4_offset1000"),
        Scene("b.1-x", product="tiles/S2A_x.SAFE", labels=Labels("own.csv", vector="b.gpkg",
                                                              layer="fields", field="crop")),
    ),
    labels=Labels("worldcover", raster=("w.tif", "e.tif"), nodata=7.0, trust_transform=False),
    grid=Grid("EPSG:32631", 10.0, 128, 16),
    split=Split("blocks", 0.0, 3, (0.5, 0.0, 0.5), 4, 250.0),
    max_nodata=0.25,
    min_labelled=0.125,
    title="t", version="2.0.1", page="p", licence="l", citation="c",
)  # fmt: skip


def refused(data, message):
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    with pytest.raises(DatasetError, match=message) as caught:
        scene_list.read(content, "here/scenes.json")
    assert str(caught.value).startswith("here/scenes.json: ")


def plain(**changes):
    """The JSON of a small valid list."""
    return {
        "sensor": "rgb",
        "scenes": [{"id": "a", "files": [{"path": "a.tif", "bands": ["red"]}]}],
        "labels": {"raster": ["m.tif"], "nomenclature": "worldcover"},
        **changes,
    }


def test_what_is_written_is_read_again(tmp_path):
    for given in (FULL, scene_list.read(json.dumps(plain()).encode(), "x")):
        scene_list.write(given, tmp_path / "scenes.json")
        assert scene_list.read((tmp_path / "scenes.json").read_bytes(), "x") == given
    text = json.loads((tmp_path / "scenes.json").read_text())
    assert text == plain()  # nothing that is a default


def test_defaults():
    found = scene_list.read(json.dumps(plain()).encode(), "x")
    assert found.grid == Grid("scene", None, 120, 0)
    assert found.split == Split("blocks", 0.0, 4, (0.7, 0.1, 0.2), 0, 0.0)
    assert (found.max_nodata, found.min_labelled, found.nodata) == (0.5, 0.0, None)


def test_the_examples_of_messages_and_of_the_page_are_lists(request):
    scene_list.read(scene_list.EXAMPLE.encode(), "x")
    page = (request.config.rootpath / "docs" / "scenes.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```json\n")[1:]]
    assert blocks
    for block in blocks:
        scene_list.read(block.encode(), "docs")


def test_write_refuses_what_read_would(tmp_path):
    bad = dataclasses.replace(FULL, max_nodata=2.0)
    with pytest.raises(DatasetError, match=r"max_nodata=2\.0"):
        scene_list.write(bad, tmp_path / "scenes.json")
    assert not (tmp_path / "scenes.json").exists()


def scene(**changes):
    return [{"id": "a", "files": [{"path": "a.tif", "bands": ["red"]}], **changes}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "no JSON"),
        (b"[]", r"the file is \[\], expected an object"),
        ({"scenes": []}, "no field sensor"),
        (plain(sensr=1), "unknown field sensr; did you mean 'sensor'"),
        (plain(grid={"patch": 3}), "unknown field grid.patch; did you mean 'patch_px'"),
        (plain(grid={"patch_px": "3"}), "grid.patch_px='3', expected a whole number"),
        (plain(grid={"patch_px": True}), "grid.patch_px=True, expected a whole number"),
        (plain(nodata="0"), "nodata='0', expected a finite number"),
        (plain(title=3), "title=3, expected a text"),
        (plain(scenes=3), "scenes=3, expected a list"),
        (plain(scenes=[3]), r"scenes\[0\] is 3, expected an object"),
        (b'{"sensor": "rgb", "scenes": [], "nodata": NaN}', "nodata=nan, expected a finite"),
        (plain(scenes=[]), "scenes is empty"),
        (plain(scenes=scene() * 2), "scene id 'a' more than once"),
        (plain(scenes=scene(id="a b")), "'a b': expected an id"),
        (plain(scenes=scene(id="a@b")), "'a@b': expected an id"),
        (plain(scenes=scene(date="2020-13-01")), "date='2020-13-01'"),
        (plain(scenes=scene(product="x.SAFE")), "expected either files or product"),
        (plain(scenes=[{"id": "a"}]), "expected either files or product"),
        (plain(scenes=scene(split="train")), "needs split.rule 'scene'"),
        (plain(split={"rule": "scene"}), "split='', expected train, validation, test"),
        (plain(scenes=scene(files=[{"path": "a.tif", "bands": ["r", "r"]}])), "band r more than"),
        (plain(scenes=scene(files=[{"path": "a.tif", "bands": [""]}])), "without bands"),
        (plain(scenes=scene(files=[{"path": "a.tif", "bands": ["r"], "sha256": "F"}])), "sha256"),
        (plain(labels=None), "no labels, here or for all scenes"),
        (plain(labels={"nomenclature": "x"}), "labels: expected either raster or vector"),
        (plain(labels={"nomenclature": "x", "vector": "a.gpkg"}), "labels: no field"),
        (plain(labels={"nomenclature": "../x.csv", "raster": ["a.tif"]}), "'../x.csv', expected"),
        (plain(labels={"nomenclature": "x", "raster": ["/a.tif"]}), "'/a.tif', expected a path"),
        (plain(scenes=[{"id": "a", "product": "../b.SAFE"}]), "'../b.SAFE', expected a path"),
        (plain(grid={"crs": "utm"}), "grid.crs='utm'"),
        (plain(grid={"crs": "EPSG:32631"}), "without grid.gsd_m"),
        (plain(grid={"gsd_m": 0}), "grid.gsd_m=0.0, expected above 0"),
        (plain(grid={"overlap_px": 120}), "overlap_px=120, expected 0 to below"),
        (plain(split={"rule": "random"}), "split.rule='random', expected one of blocks"),
        (plain(split={"shares": [0.5, 0.6, 0.1]}), "expected three that add up to 1"),
        (plain(split={"shares": [0.5, 0.5]}), "expected three that add up to 1"),
        (plain(split={"buffer_m": -1}), "buffer_m=-1.0"),
        (plain(split={"rule": "vector"}), "split.vector ''"),
        (plain(version="1"), "version='1'"),
        (plain(min_labelled=1.5), "min_labelled=1.5"),
    ],
)
def test_what_is_wrong_is_named(data, message):
    refused(data, message)


def test_all_that_is_wrong_is_said_at_once():
    data = plain(version="1", max_nodata=3, grid={"gsd_m": -1})
    refused(data, r"version='1'.*max_nodata=3.*grid\.gsd_m=-1")
