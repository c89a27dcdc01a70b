"""Mosaics of maps against a loop over pixels."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tracemalloc

import area_maps
import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rio_cogeo import cog_validate

from rsjax.errors import ConfigError, SceneError
from rsjax.mapping import mosaic, mosaic_sources, writer

# rows, columns, row and column of the corner; they overlap, and leave a corner without any
MAPS = {"a": (20, 23, 4, 0), "b": (17, 30, 0, 9), "c": (12, 15, 11, 20)}
DATES = {"a": "2020-06-03", "b": "2020-06-09", "c": "2020-06-09"}
SHAPE = (24, 39)


def shifted(cols, rows, side=30.0):
    return Affine(side, 0, 440_000 + 30.0 * cols, 0, -side, 5_300_000 - 30.0 * rows)


def make(folder, name, dated=True, kind="probability", confidence=True, seed=5, **more):
    """A map with holes and its confidence of few values, so that there are ties."""
    rows, cols, top, left = MAPS[name]
    rng = np.random.default_rng([seed, ord(name)])
    codes = area_maps.random_codes((rows, cols), seed + ord(name))
    codes[rng.random(codes.shape) < 0.2] = 0
    transform = shifted(left, top)
    path = area_maps.write(folder / f"{name}.tif", codes, transform=transform, **more)
    sure = np.where(codes == 0, 255, rng.integers(0, 4, codes.shape) * 60).astype(np.uint8)
    about = {"scene_dates": [DATES[name]] if dated else [], "models": [name]}
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(RSJAX_PROVENANCE=json.dumps(about))
    if confidence:
        beside = area_maps.write(folder / f"{name}_confidence.tif", sure, transform=transform,
                                 tag="", nodata=255)  # fmt: skip
        with rasterio.open(beside, "r+") as raster:
            tags = {"RSJAX_CONFIDENCE": f"{kind}: as said", "RSJAX_PROVENANCE": json.dumps(about)}
            raster.update_tags(**tags)
    return codes, sure


def slowly(made, by):
    """What the mosaic must be, pixel by pixel: codes and confidence."""
    codes, sure = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)
    for row in range(SHAPE[0]):
        for col in range(SHAPE[1]):
            there = []
            for i, (name, (map_codes, map_sure)) in enumerate(made.items()):
                rows, cols, top, left = MAPS[name]
                if not (0 <= row - top < rows and 0 <= col - left < cols):
                    continue
                code, value = map_codes[row - top, col - left], map_sure[row - top, col - left]
                rank = {"first": (-i,), "last": (i,), "date": (DATES[name], -i),
                        "confidence": (int(value), -i)}[by]  # fmt: skip
                if code:
                    there.append((rank, code, value))
            if there:
                _, codes[row, col], sure[row, col] = max(there)
    return codes, sure


@pytest.mark.parametrize("by", mosaic.RULES)
def test_a_mosaic_is_what_a_loop_over_its_pixels_gives(by, tmp_path, monkeypatch):
    monkeypatch.setattr(mosaic, "ROWS", 7)
    made = {name: make(tmp_path, name) for name in MAPS}
    expected, sure = slowly(made, by)
    ties = slowly(dict(reversed(made.items())), by)[0] != expected
    assert ties.any() or by == "last"
    found = mosaic.write_mosaic([str(tmp_path / f"{n}.tif") for n in MAPS], tmp_path / "m.tif", by)
    assert found.warnings == ()
    with rasterio.open(tmp_path / "m.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), expected)
        assert (raster.transform, raster.nodata) == (area_maps.UTM, 0)
        about = json.loads(raster.tags()["RSJAX_PROVENANCE"])
        assert raster.colormap(1)[10][:3] == (0, 100, 0)
    with rasterio.open(tmp_path / "m_confidence.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), sure)
    order = {"date": "bca", "last": "cba"}.get(by, "abc")
    assert [one["provenance"]["models"] for one in about["sources"]] == [[name] for name in order]
    assert about["scene_dates"] == ["2020-06-03", "2020-06-09"]
    assert {path.name for path in found.files} == {
        "m.tif", "m_confidence.tif", "m.tif.aux.xml", "m.qml", "m.png"
    }  # fmt: skip
    assert cog_validate(tmp_path / "m.tif", strict=True)[0]


def test_unknown_dates_and_lacking_confidences_are_told(tmp_path):
    made = {name: make(tmp_path, name, dated=name != "b", confidence=name != "c") for name in MAPS}
    found = mosaic.write_mosaic([str(tmp_path)], tmp_path / "out" / "m.tif", "date")
    assert [text.partition(tmp_path.name)[2] for text in found.warnings] == [
        "/c.tif has no confidence beside it",
        "/b.tif: the date of the scene is not known, so all maps were taken in the order given, as "
        "if the last were the latest",
    ]
    with rasterio.open(tmp_path / "out" / "m.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), slowly(made, "last")[0])
    assert not (tmp_path / "out" / "m_confidence.tif").exists()


def test_dates_that_are_none_are_not_known(tmp_path):
    make(tmp_path, "a")
    (source,), _ = mosaic_sources.open_sources([str(tmp_path / "a.tif")])
    assert source.date == "2020-06-03"
    assert dataclasses.replace(source, about={"scene_dates": [None, 3]}).date == ""


def test_a_folder_gives_all_its_maps_whatever_their_names(tmp_path):
    make(tmp_path, "a")
    codes = np.full((4, 5), 10, np.uint8)
    for name in ("b.tiff", "C.TIF", "low_confidence.tif", "own.tif"):
        area_maps.write(tmp_path / name, codes, tag="" if name == "own.tif" else "worldcover")
    area_maps.write(tmp_path / "own_confidence.tif", codes, tag="")  # whose meaning nobody says
    for name in ("a", "gone"):  # the second without its map
        beside = area_maps.write(tmp_path / f"{name}_probabilities.tif", codes, tag="")
        with rasterio.open(beside, "r+") as raster:
            raster.scales = (1 / writer.STEPS,)
    found = [pathlib.Path(path).name for path in mosaic_sources._paths([str(tmp_path)])]
    assert found == ["C.TIF", "a.tif", "b.tiff", "low_confidence.tif", "own.tif"]


def test_a_mosaic_that_is_nearly_all_empty_is_made_only_where_it_is_asked_for(tmp_path):
    codes = np.full((6, 6), 10, np.uint8)
    paths = [
        str(area_maps.write(tmp_path / f"{i}.tif", codes, transform=shifted(at, at)))
        for i, at in enumerate((0, 300_000, 6))
    ]
    text = r"300,006 x 300,006 pixels, .*off is \S*/1.tif. .*--sparse"
    with pytest.raises(SceneError, match=text):
        mosaic.write_mosaic(paths, tmp_path / "m.tif")
    assert mosaic_sources.open_sources(paths, sparse=True)[1].height == 300_006
    mosaic.write_mosaic(paths[::2], tmp_path / "m.tif")  # half empty


def test_memory_does_not_follow_the_height(tmp_path, monkeypatch):
    monkeypatch.setattr(mosaic, "ROWS", 64)
    peaks = []
    for height in (512, 2048):
        paths = []
        for i in range(2):
            codes = np.full((height, 512), 10 + 10 * i, np.uint8)
            transform = shifted(100 * i, 0)
            paths.append(area_maps.write(tmp_path / f"{height}_{i}.tif", codes, tiled=True,
                                         transform=transform, compress="deflate"))  # fmt: skip
        sources, area = mosaic_sources.open_sources([str(path) for path in paths])
        tracemalloc.start()
        count = sum(len(found) for found, _ in mosaic.strips(sources, area, "first", False))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == height
    assert peaks[1] < 1.2 * peaks[0] < 2048 * 612  # less than one plane of the higher one


def test_maps_that_do_not_fit_are_refused_and_leave_nothing(tmp_path):
    make(tmp_path, "a")

    def fails(kind, text, by="first", output="m.tif", given=("a", "b")):
        paths = [str(tmp_path / f"{name}.tif") for name in given]
        with pytest.raises(kind, match=text):
            mosaic.write_mosaic(paths, tmp_path / output, by)
        assert not list(tmp_path.glob("*m.tif*"))

    codes = area_maps.random_codes((9, 9))
    for more, text in (
        ({"crs": "EPSG:32633"}, r"b.tif: EPSG:32633, but \S*a.tif has EPSG:32632; .*gdalwarp"),
        ({"transform": shifted(0, 0, 15.0)}, "pixels of the same size"),
        ({"transform": shifted(0.5, 0)}, "on the same corners"),
        ({"tag": "eurosat", "nodata": 255}, "nomenclature 'eurosat' of 10 classes"),
    ):
        if "tag" in more:
            codes[:] = 1
        area_maps.write(tmp_path / "b.tif", codes, **more)
        fails(SceneError, text)
    make(tmp_path, "b", kind="margin")
    fails(SceneError, "kinds margin, probability", by="confidence")
    make(tmp_path, "b", confidence=False)
    fails(SceneError, "kinds margin", by="confidence")
    (tmp_path / "b_confidence.tif").unlink()
    fails(SceneError, "b.tif has no confidence beside it", by="confidence")
    fails(ConfigError, "--by=best: choose one of", by="best")
    fails(ConfigError, "is there twice", given=("a", "a"))
    fails(ConfigError, "another name", output="a.tif")
    fails(SceneError, "no.tif: no such file", given=("a", "no"))
    make(tmp_path, "b")
    with rasterio.open(tmp_path / "b_confidence.tif", "r+") as raster:
        raster.write(np.full(raster.shape, writer.ABSENT, np.uint8), 1)
    fails(SceneError, "where the map has a class", by="confidence")
    with rasterio.open(tmp_path / "b_confidence.tif", "r+") as raster:
        raster.update_tags(RSJAX_PROVENANCE="{}")
    fails(SceneError, r"b_confidence.tif: its provenance is not that of \S*b.tif")


def test_the_command(tmp_path):
    for name in MAPS:
        make(tmp_path, name)
    command = [sys.executable, "-m", "rsjax.mosaic", f"--maps={tmp_path}/a.tif,{tmp_path}/b.tif",
               f"--output={tmp_path}/m.tif", "--by=last"]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout.splitlines()[0]) == (0, f"{tmp_path}/m.tif"), found
    found = subprocess.run(command[:3], capture_output=True, text=True, check=False)
    assert found.stderr == "ConfigError: --maps is missing, e.g. --maps=a.tif,b.tif\n"
