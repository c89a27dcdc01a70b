import os
import pathlib
import subprocess
import sys

import identity
import jax
import numpy as np
import rasterio
import toy

from rsjax import bundle, landcover, models
from rsjax.datasets.info import ImageSpec
from rsjax.input.preprocess import Inputs

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments):
    cache = os.environ.get("RSJAX_TEST_CACHE", str(ROOT / ".cache" / "xla"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": cache}
    return subprocess.run([sys.executable, "-m", "rsjax.predict", *arguments], cwd=ROOT, text=True,
                          capture_output=True, check=False, env=environment)  # fmt: skip


def test_the_command_maps_a_scene(tmp_path):
    spec = ImageSpec("sentinel2_l2a", ("B02", "B03", "B04"), 32, 32, "u2", "reflectance_1e4", 10.0)
    bands = tuple(f"sentinel2_l2a/{band}" for band in spec.bands)
    inputs = Inputs({"s2": spec}, bands, (2000.0,) * 3, (500.0,) * 3, (32, 32))
    module = models.get("resnet18", num_classes=10, **toy.TINY)
    start = jax.jit(lambda key, x: module.init(key, x, False))
    variables = start(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    about = {
        "model": {"name": "resnet18", "dtype": "float32", "fields": toy.TINY},
        "outputs": 10,
        "task": {"name": "classification", "label_smoothing": 0.0},
    }
    classes = landcover.load("eurosat")
    model = bundle.Model(dict(variables), inputs, classes, about)
    bundle.save(model, tmp_path / "run" / "bundle")
    image = np.random.default_rng(0).integers(500, 4000, (3, 64, 96)).astype(np.uint16)
    scene = identity.write(tmp_path / "scene.tif", image, None)
    output = tmp_path / "map.tif"
    arguments = [f"--checkpoint={tmp_path}/run", f"--scene={scene}", f"--output={output}"]
    found = run(*arguments, "--bands=B02,B03,B04", "--unit=reflectance_1e4", "--confidence=none")
    assert found.returncode == 0, found.stderr
    assert str(output) in found.stdout
    with rasterio.open(output) as raster:
        codes = raster.read(1)
    patches = np.moveaxis(image, 0, -1).reshape(2, 32, 3, 32, 3).swapaxes(1, 2)
    expected = model.predict({"s2": patches.reshape(6, 32, 32, 3)}).probabilities.argmax(axis=1)
    np.testing.assert_array_equal(codes.ravel(), np.array(classes.codes)[expected])
    assert not (tmp_path / "map_confidence.tif").exists()


def test_a_scene_that_is_not_given_is_one_message():
    found = run("--checkpoint=run")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == "ConfigError: --scene is missing, e.g. --scene=scene.tif\n"
