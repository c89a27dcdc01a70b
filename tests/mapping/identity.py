"""A model whose logits are its input, bundles of it, and scenes whose map is known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import rasterio

from rsjax import bundle, models
from rsjax.datasets.info import ImageSpec
from rsjax.input.preprocess import Inputs
from rsjax.landcover import Nomenclature

BANDS = ("B02", "B03", "B04", "B08")
COLOURS = ("#1b7837", "#d7191c", "#ffd92f", "#2c7bb6")


class Identity(nn.Module):
    """The bands are the logits; with `pooled` their means over the image."""

    pooled: bool = False

    @nn.compact
    def __call__(self, x, train):
        self.param("unused", nn.initializers.zeros, (1,))
        return x.mean(axis=(1, 2)) if self.pooled else x


def classes(codes=(10, 20, 30, 40)):
    names = [f"class {code} <&>" for code in codes]
    return Nomenclature("own", "Own", "none", tuple(codes), tuple(names), COLOURS[: len(codes)],
                        (None,) * len(codes))  # fmt: skip


def save(folder, monkeypatch=None, specs=None, bands=None, side=8, task="segmentation",
         codes=(10, 20, 30, 40), resample="nearest", temperature=1.0, grid=None):  # fmt: skip
    """Writes a bundle; `monkeypatch` puts the model into the table of models."""
    specs = specs or {
        "s2": ImageSpec("sentinel2_l2a", BANDS, side, side, "uint16", "reflectance", 10.0)
    }
    bands = bands or tuple(f"{s.sensor}/{b}" for s in specs.values() for b in s.bands)
    count = len(bands)
    grid = (grid or side,) * 2
    inputs = Inputs(specs, bands, (0.0,) * count, (0.1,) * count, grid, resample)
    about = {
        "model": {"name": "identity", "dtype": "float32", "fields": {}},
        "outputs": count,
        "task": {"name": task, "threshold": 0.5, "label_smoothing": 0.0},
        "temperature": temperature,
    }
    if monkeypatch is not None:
        pooled = task != "segmentation"
        monkeypatch.setattr(models, "get", lambda name, **fields: Identity(pooled))
    variables = Identity().init(jax.random.key(0), jnp.zeros((1, 2, 2, count)), False)
    bundle.save(bundle.Model(dict(variables), inputs, classes(codes), about), folder)
    return folder


def values(rng, shape, bands=4):
    """Reflectances (bands, rows, columns) of which no two of a pixel are near."""
    order = rng.random((bands, *shape)).argsort(axis=0)
    return (0.02 + 0.15 * order + rng.uniform(0, 0.05, (bands, *shape))).astype(np.float32)


def write(path, pixels, names=BANDS, epsg=32633, nodata=None, side=10.0, corner=(5e5, 5e6), **more):
    """Writes a GeoTIFF of pixels (bands, rows, columns)."""
    transform = rasterio.Affine(side, 0, corner[0], 0, -side, corner[1])
    profile = {"driver": "GTiff", "dtype": pixels.dtype, "count": len(pixels),
               "height": pixels.shape[1], "width": pixels.shape[2], "crs": f"EPSG:{epsg}",
               "transform": transform, "nodata": nodata, **more}  # fmt: skip
    with rasterio.open(path, "w", **profile) as opened:
        opened.write(pixels)
        for i, name in enumerate(names or (), 1):
            opened.set_band_description(i, name)
    return str(path)


def softmax(logits):
    """Over the first axis."""
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)
