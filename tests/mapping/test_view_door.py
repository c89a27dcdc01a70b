import os
import pathlib
import subprocess
import sys

import area_maps as maps
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments, cwd=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "rsjax.view", *arguments], cwd=cwd, text=True,
                          capture_output=True, check=False, env=environment)  # fmt: skip


def test_the_command_writes_a_page_of_what_it_is_given(tmp_path):
    maps.write(tmp_path / "map.tif", maps.random_codes((20, 30)))
    plane = np.arange(600, dtype=np.uint16).reshape(20, 30)
    for band in ("B02", "B03", "B04"):
        maps.write(tmp_path / f"{band}.tif", plane, tag="", nodata=None)
    found = run("map.tif", "B04=B04.tif", "B03=B03.tif", "B02=B02.tif", "--before=map.tif",
                cwd=tmp_path)  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("map.html: 0.0 MB, Tree cover ")
    page = (tmp_path / "map.html").read_text()
    for layer in ("map", "before", "scene"):
        assert f'id="layer-{layer}"' in page
    assert "B04 (664.6 nm), B03 (559.8 nm), B02 (492.4 nm)" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "ConfigError: --map is missing, e.g. --map=map.tif\n"),
        (
            ("--map=a.tif", "b.tif", "--scene=c.tif"),
            "ConfigError: arguments ['b.tif'] beside --map",
        ),
        (("a.tif", "b.tif", "--scene=c.tif"), "ConfigError: arguments ['b.tif'] beside --scene"),
    ],
)
def test_mistakes_are_one_message(arguments, message):
    found = run(*arguments)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith(message)
    assert found.stderr.count("\n") == 1
