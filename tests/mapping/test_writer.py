import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import identity
import matplotlib.image
import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

from rsjax import landcover
from rsjax.datasets.scene_area import Area
from rsjax.errors import DiskError, RsjaxError
from rsjax.mapping import writer

pytestmark = pytest.mark.once

CRS = rasterio.crs.CRS.from_epsg(32633)
TRANSFORM = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)


def write(path, classes, known, missing=None, confidence="none", probabilities=None):
    missing = np.zeros(classes.shape, bool) if missing is None else missing
    area = Area(CRS, TRANSFORM, *classes.shape)
    wanted = probabilities is not None
    with writer.open_writer(path, area, known, {"model": "m"}, confidence, wanted) as out:
        for row in range(0, len(classes), 100):
            rows = slice(row, row + 100)
            answers = {"classes": classes[rows], "confidence": classes[rows]}
            if wanted:
                answers["probabilities"] = probabilities[rows]
            out.write(answers, missing[rows])
        return out.finish()


def test_a_large_map_is_written_by_blocks_with_overviews_and_a_legend(tmp_path):
    known = landcover.load("corine_l3")  # codes to 523
    rng = np.random.default_rng(0)
    classes = rng.integers(0, len(known), (1130, 700)).astype(np.uint8)
    classes[:600, :300] = 3
    missing = rng.random(classes.shape) < 0.1
    path = tmp_path / "new" / "map.tif"
    files = write(path, classes, known, missing)
    assert files[0] == path
    assert {f.name for f in files} == {"map.tif", "map.tif.aux.xml", "map.qml", "map.png"}
    assert {f.name for f in path.parent.iterdir()} == {f.name for f in files}
    valid, errors, warnings = cog_validate(path, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as raster:
        assert (raster.dtypes, raster.nodata) == (("uint16",), 0)
        expected = np.where(missing, 0, np.array(known.codes)[classes])
        np.testing.assert_array_equal(raster.read(1), expected)
        assert raster.overviews(1)[0] == 2
        colours = raster.colormap(1)
        for code, colour in zip(known.codes, known.colours, strict=True):
            assert colours[code][:3] == writer.rgb(colour)
        assert raster.descriptions == ("class",)
    names = [one.text for one in ET.parse(f"{path}.aux.xml").iter("Category")]
    assert [names[code] for code in known.codes] == list(known.names)
    entries = ET.parse(path.with_suffix(".qml")).iter("paletteEntry")
    assert [(int(e.get("value")), e.get("label"), e.get("color")) for e in entries] == list(
        zip(known.codes, known.names, known.colours, strict=True)
    )
    picture = matplotlib.image.imread(path.with_suffix(".png"))
    colour = np.array(writer.rgb(known.colours[3])) / 255
    assert (np.abs(picture[..., :3] - colour).max(axis=-1) < 0.01).mean() > 0.1


def test_codes_keep_a_value_for_missing_pixels():
    def table(*codes):
        found, absent = writer.code_table(identity.classes(codes))
        assert absent not in codes
        return found.dtype, absent

    assert table(1, 2) == (np.uint8, 0)
    assert table(0, 7) == (np.uint8, 255)
    assert table(0, 255) == (np.uint16, 65535)
    assert table(1, 256) == (np.uint16, 0)
    assert table(0, 300) == (np.uint16, 65535)


def test_an_older_map_is_replaced_with_what_lies_beside_it(tmp_path):
    known = identity.classes()
    ones = np.ones((20, 30), np.uint8)
    shares = np.repeat(np.array([[[10, 200, 20, 20]]], np.uint8), 20, 0).repeat(30, 1)
    path = tmp_path / "map.tif"
    write(path, ones, known, confidence="margin", probabilities=shares)
    with rasterio.open(tmp_path / "map_probabilities.tif") as raster:
        assert raster.descriptions == known.names
        assert raster.scales == (0.004,) * 4
        np.testing.assert_array_equal(raster.read()[:, 3, 4], [10, 200, 20, 20])
    with rasterio.open(tmp_path / "map_confidence.tif") as raster:
        assert raster.tags()["RSJAX_CONFIDENCE"].startswith("margin")
        assert json.loads(raster.tags()["RSJAX_PROVENANCE"]) == {"model": "m"}
    files = write(path, 2 * ones, known)
    assert {f.name for f in tmp_path.iterdir()} == {f.name for f in files}
    with rasterio.open(path) as raster:
        assert (raster.read(1) == 30).all()


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    known, path = identity.classes(), tmp_path / "map.tif"
    ones = np.ones((20, 30), np.uint8)
    write(path, ones, known)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    area = Area(CRS, TRANSFORM, 20, 30)
    with pytest.raises(KeyboardInterrupt), writer.open_writer(path, area, known, {}, "none", False):
        raise KeyboardInterrupt
    with monkeypatch.context() as patched:
        patched.setattr(rasterio.shutil, "copy", full)
        with pytest.raises(DiskError, match="could not be written"):
            write(path, ones, known)
    with (
        writer.open_writer(path, area, known, {}, "none", False),
        pytest.raises(RsjaxError, match="in use by process"),
    ):
        write(path, ones, known)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_a_full_disk_is_noticed_even_where_gdal_says_nothing(tmp_path):
    known, path = identity.classes(), tmp_path / "map.tif"
    classes = np.random.default_rng(0).integers(0, 4, (1100, 1100)).astype(np.uint8)
    write(path, classes, known)
    size = path.stat().st_size
    for file in tmp_path.iterdir():
        file.unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (size // 4, size - 2000, size - 10):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(DiskError, match=r"map.tif: could not be written"):
                write(path, classes, known)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not list(tmp_path.iterdir())


ENDLESS = """
import itertools, pathlib, sys
import numpy as np, rasterio
from rsjax import landcover
from rsjax.datasets.scene_area import Area
from rsjax.mapping import writer
area = Area(rasterio.crs.CRS.from_epsg(32633), rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), 600, 700)
given = area, landcover.load("worldcover"), {}, "none", False
for i in itertools.count():
    with writer.open_writer(pathlib.Path(sys.argv[1]), *given) as out:
        out.write({"classes": np.full((600, 700), i % 4, np.uint8)}, np.zeros((600, 700), bool))
        out.finish()
    print(i, flush=True)
"""


def test_killed_at_any_moment_there_is_an_older_map_or_none_but_no_broken_one(tmp_path):
    path = tmp_path / "map.tif"
    rng = np.random.default_rng(0)
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)], cwd=root,
                                   stdout=subprocess.PIPE, env=environment)  # fmt: skip
        with process:
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.3))
            os.kill(process.pid, signal.SIGKILL)
        valid, errors, warnings = cog_validate(path, strict=True)
        assert (valid, errors, warnings) == (True, [], [])
        with rasterio.open(path) as raster:
            codes = raster.read(1)
        assert codes.min() == codes.max()
        assert codes.min() in landcover.load("worldcover").codes[:4]
    write(path, np.zeros((5, 5), np.uint8), identity.classes())
    assert not list(tmp_path.glob(".*"))
