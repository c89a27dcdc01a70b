"""Lists of scenes to maps: each once, resumed by scene, on hosts and with Beam."""

import dataclasses
import json
import os
import pathlib

import identity
import numpy as np
import pytest
import rasterio

from rsjax import predict
from rsjax.errors import BundleError, ConfigError, DatasetError, SceneError
from rsjax.input import on_beam
from rsjax.mapping import compute, ensemble, many, mapper, scene_files, scene_names
from rsjax.mapping.mapper import Options

HOW = ((), (), Options(window=8, overlap=4, batch=4), False)
NAMES = ("a", "b", "c")


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A list of three scenes without labels, and the maps that they must give."""
    rng = np.random.default_rng(3)
    expected = {}
    for name in NAMES:
        pixels = identity.values(rng, (13, 15))
        identity.write(tmp_path / f"{name}.tif", pixels[::-1], None)
        expected[name] = 10 * (1 + pixels.argmax(axis=0))
    write_list(tmp_path)
    identity.save(tmp_path / "run", monkeypatch)
    monkeypatch.setattr(on_beam, "POLL_S", 0.1)
    return tmp_path, expected


def write_list(folder, **more):
    files = [{"path": f"{name}.tif", "bands": identity.BANDS[::-1]} for name in NAMES]
    scenes = [{"id": name, "date": f"2020-06-0{i}", "files": [file]}
              for i, (name, file) in enumerate(zip(NAMES, files, strict=True), 1)]  # fmt: skip
    data = {"sensor": "sentinel2_l2a", "unit": "reflectance", "scenes": scenes} | more
    (folder / "scenes.json").write_text(json.dumps(data))


def run(folder, output="maps", **more):
    return many.map_all(
        [str(folder / "run")], str(folder / "scenes.json"), str(folder / output), HOW, **more
    )


def codes(path):
    with rasterio.open(path) as raster:
        return raster.read(1)


def manifest(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def statuses(rows):
    return [(row["scene"], row["status"]) for row in rows]


def test_a_list_becomes_maps_and_goes_on_where_it_stopped(listed, monkeypatch):
    folder, expected = listed
    victim = (folder / "b.tif").read_bytes()
    compiled = []
    compile_for = compute.compile_for
    monkeypatch.setattr(
        compute, "compile_for", lambda *a, **k: compiled.append(a) or compile_for(*a, **k)
    )
    (folder / "b.tif").write_bytes(victim[:200])
    with pytest.raises(SceneError, match=r"1 of 3 scenes failed: b; the others are"):
        run(folder)
    rows = manifest(folder / "maps" / "manifest.jsonl")
    assert statuses(rows) == [("a", "made"), ("b", "failed"), ("c", "made")]
    assert "b.tif: " in rows[1]["error"]
    assert len(compiled) == 1  # for all scenes that are alike
    assert [row["pixels"] for row in rows] == [195, 0, 195]
    assert all(row["seconds"] > 0 for row in rows)
    assert not (folder / "maps" / "b.tif").exists()
    for name in ("a", "c"):
        np.testing.assert_array_equal(codes(folder / "maps" / f"{name}.tif"), expected[name])
    with rasterio.open(folder / "maps" / "c.tif") as raster:
        assert json.loads(raster.tags()["RSJAX_PROVENANCE"])["scene_dates"] == ["2020-06-03"]

    (folder / "b.tif").write_bytes(victim)
    (folder / "maps" / "c_confidence.tif").unlink()  # of a map that is not whole any more
    kept = (folder / "maps" / "a.tif").stat().st_mtime_ns
    assert statuses(run(folder)) == [("a", "kept"), ("b", "made"), ("c", "made")]
    assert (folder / "maps" / "a.tif").stat().st_mtime_ns == kept
    assert statuses(run(folder)) == [(name, "kept") for name in NAMES]

    other = folder / "maps" / "c_confidence.tif"
    other.write_bytes((folder / "maps" / "a_confidence.tif").read_bytes())  # of another map
    assert statuses(run(folder)) == [("a", "kept"), ("b", "kept"), ("c", "made")]

    os.utime(folder / "a.tif", ns=(1, 1))  # another file, as far as anyone can tell
    with monkeypatch.context() as patch:
        patch.setattr(mapper, "make", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(folder)
    assert manifest(folder / "maps" / "manifest.jsonl") == []
    assert statuses(run(folder)) == [("a", "made"), ("b", "kept"), ("c", "kept")]
    identity.save(folder / "run", temperature=2.0)  # another model
    assert statuses(run(folder, shard="1/3")) == [("b", "made")]
    assert statuses(manifest(folder / "maps" / "manifest-1-of-3.jsonl")) == [("b", "made")]


def test_a_list_may_have_any_name(listed):
    folder, _ = listed
    odd = folder.rename(folder.with_name(f"{folder.name}#1"))
    (odd / "scenes.json").rename(odd / "mine#a.txt")
    for name, given in scene_names.find(str(odd / "mine#a.txt")):
        (layer,) = scene_files.layers([given], (), [f"sentinel2_l2a/{b}" for b in identity.BANDS])
        assert (layer.path, layer.names[3]) == (str(odd / f"{name}.tif"), "sentinel2_l2a/B02")
    assert scene_files.split("no#where") == ("no", "where")


def test_scenes_of_many_widths_and_kinds_share_few_compilations(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    run_of = [str(identity.save(tmp_path / "run", monkeypatch))]
    members = ensemble.load(run_of)
    widths = (65, 66, 67, 70, 71)
    for i, width in enumerate(widths):
        pixels = identity.values(rng, (9, width))
        scene = identity.write(tmp_path / "scene.tif", pixels)
        planned = mapper.plan_map(members, [scene], tmp_path / f"{i}.tif", (), ["reflectance"],
                                  HOW[2])  # fmt: skip
        mapper.make(planned)
        np.testing.assert_array_equal(codes(tmp_path / f"{i}.tif"), 10 * (1 + pixels.argmax(0)))
    (network,) = members.networks.values()
    assert (network.add._cache_size(), network.finish._cache_size()) == (1, 1)
    for window in (8, 16, 24, 32):  # as if of other kinds; nothing is compiled
        plan = dataclasses.replace(planned.plan, window=window)
        mapper._network(members, planned.opened, plan, planned.options)
    assert len(members.networks) == mapper.KEPT
    assert network not in members.networks.values()


def interrupt(_):
    raise KeyboardInterrupt


def test_beam_makes_the_same_maps_and_reports_the_same_failures(listed):
    pytest.importorskip("apache_beam", reason="pip install 'rsjax[beam]'")
    folder, _ = listed
    (folder / "b.tif").write_bytes(b"")
    for output, more in (("local", {}), ("beam", {"runner": "DirectRunner"})):
        with pytest.raises(SceneError, match=r"1 of 3 scenes failed: b"):
            run(folder, output, **more)
    one, two = (manifest(folder / name / "manifest.jsonl") for name in ("local", "beam"))
    assert statuses(one) == statuses(two)
    assert [row["error"] for row in one] == [row["error"] for row in two]
    files = sorted(path.name for path in (folder / "local").iterdir())
    assert sorted(path.name for path in (folder / "beam").iterdir()) == files
    for name in files:
        if name.endswith(".tif"):
            with (
                rasterio.open(folder / "local" / name) as a,
                rasterio.open(folder / "beam" / name) as b,
            ):
                np.testing.assert_array_equal(a.read(), b.read())
                about = [json.loads(x.tags()["RSJAX_PROVENANCE"]) for x in (a, b)]
                assert about[0]["fingerprint"] == about[1]["fingerprint"]
    with pytest.raises(ConfigError, match=r"--beam_runner=NoRunner: Unexpected"):
        run(folder, "beam", runner="NoRunner")


def test_scenes_are_found_in_lists_and_folders_of_products(tmp_path):
    names = ["S2A_MSIL2A_20230601T100031_N0509_R122_T33UUP_20230601T160000.SAFE",
             "LC08_L2SP_186060_20210115_20210308_02_T1", "notes"]  # fmt: skip
    for name in names:
        (tmp_path / name).mkdir()
    found = scene_names.find(str(tmp_path))
    assert [name for name, _ in found] == [names[1], names[0].removesuffix(".SAFE")]
    assert found[1][1] == str(tmp_path / names[0])
    with pytest.raises(SceneError, match=r"no scenes.json and no product"):
        scene_names.find(str(tmp_path / "notes"))
    with pytest.raises(SceneError, match=r"nowhere.json: no such file or folder"):
        scene_names.find("nowhere.json")
    files = [{"path": "a.tif", "bands": ["B02"]}]
    scenes = [{"id": name, "files": files} for name in ("a", "a_confidence")]
    (tmp_path / "scenes.json").write_text(json.dumps({"sensor": "sentinel2_l2a", "scenes": scenes}))
    with pytest.raises(SceneError, match=r"would be a_confidence.tif"):
        scene_names.find(str(tmp_path))
    (tmp_path / "scenes.json").write_text("{")
    with pytest.raises(DatasetError, match="no JSON"):
        scene_names.find(str(tmp_path))
    seven = [(str(i), "") for i in range(7)]
    parts = [scene_names.shard(seven, f"{i}/3") for i in range(3)]
    assert sorted(one for part in parts for one in part) == seven
    for wrong in ("3/3", "1", "a/b"):
        with pytest.raises(ConfigError, match="expected i/n"):
            scene_names.shard(seven, wrong)


def test_maps_never_replace_what_another_scene_of_the_list_is_made_of(listed):
    folder, _ = listed
    before = {path: path.read_bytes() for path in folder.iterdir() if path.suffix == ".tif"}

    def refused(text, names, **more):
        write_list(folder, **more)
        data = json.loads((folder / "scenes.json").read_text())
        for scene, name in zip(data["scenes"], names, strict=False):
            scene["id"] = name
        (folder / "scenes.json").write_text(json.dumps(data))
        with pytest.raises(ConfigError, match=text):
            run(folder, ".")
        assert not (folder / "manifest.jsonl").exists()
        assert all(path.read_bytes() == was for path, was in before.items())

    refused(r"the map of scene c would replace \S*/c.tif, which is an input of", ("x", "y", "c"))
    os.replace(folder / "b.tif", folder / "b_confidence.tif")
    (folder / "b.tif").symlink_to("b_confidence.tif")
    refused(r"scene b would replace \S*/b.tif", ("x", "b"))
    for path in ("x.png", "y_probabilities.tif"):
        labels = {"nomenclature": "worldcover", "raster": [path]}
        refused(rf"scene {path[0]} would replace \S*/{path}", "xyz", labels=labels)


def test_what_holds_for_all_scenes_is_told_once(listed):
    folder, _ = listed
    with pytest.raises(ConfigError, match=r"expected a folder, e.g. --output=maps"):
        run(folder, "maps.tif")
    with pytest.raises(ConfigError, match="expected a local folder"):
        many.map_all([str(folder / "run")], str(folder), "gs://bucket/maps", HOW)
    with pytest.raises(BundleError, match="no bundle"):
        many.map_all([str(folder / "no")], str(folder), str(folder / "maps"), HOW)
    with pytest.raises(ConfigError, match="tta='d5'"):
        many.map_all([str(folder / "run")], str(folder), str(folder / "maps"),
                     ((), (), Options(tta="d5"), False))  # fmt: skip
    assert not (folder / "maps").exists()
    with pytest.raises(ConfigError, match="both given"):
        many.is_asked("scenes.json", ["a.tif"], "", "")
    with pytest.raises(ConfigError, match="are for --scenes"):
        many.is_asked("", ["a.tif"], "0/2", "")
    assert len(pathlib.Path(predict.__file__).read_text().splitlines()) <= 60
