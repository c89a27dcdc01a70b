"""Simulated Sen-2 LULC: RGB pictures as PNG, and maps of their seven classes as TIFF."""

from __future__ import annotations

import functools
import pathlib

import imagecodecs
import numpy as np
import rasterio

from rsjax.datasets import geotiff
from rsjax.datasets.simulate import fields, spectra
from rsjax.datasets.splits import LIST_NAMES

_SIZE = 64
_SPLITS = ("train", "train", "validation", "train", "test")  # of the pictures, in turn
_WHITE = 3000.0  # reflectance x 10000
_CLASSES = {
    1: "lake 9 marsh 1", 2: "broad 9 conifer 1", 3: "shrub 6 broad 4", 4: "rock 5 sand 5",
    5: "urban 6 roof 4", 6: "crop 9 grass 1", 7: "soil 6 dry 4",
}  # fmt: skip


def write_sen2lulc(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes Sen-2 LULC, five pictures at least, so that each split has one."""
    top = target / "SEN-2 LULC"
    for theirs in LIST_NAMES.values():
        for what in ("images", "masks"):
            (top / f"{theirs}_{what}" / theirs).mkdir(parents=True)
    with rasterio.Env():
        for i in range(max(count, len(_SPLITS))):
            theirs = LIST_NAMES[_SPLITS[i % len(_SPLITS)]]
            rgb, codes = _picture(i, seed)
            path = top / f"{theirs}_images" / theirs / f"{i + 1}.png"
            path.write_bytes(imagecodecs.png_encode(rgb, level=1))
            geotiff.write_geotiff(top / f"{theirs}_masks" / theirs / f"{i + 1}.tif", codes)


@functools.cache
def _table() -> np.ndarray:
    """Red, green and blue of each code, uint8 values as float32 (8, 3)."""
    bands = [spectra.BANDS.index(band) for band in ("B04", "B03", "B02")]
    table = np.zeros((len(_CLASSES) + 1, 3), np.float32)
    for code, parts in _CLASSES.items():
        table[code] = spectra.mixture(parts)[bands] * (255 / _WHITE)
    return table


def _picture(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours uint8 (64, 64, 3) and codes uint8 (64, 64)."""
    rng = np.random.default_rng([seed, number])
    # Every class comes first in some picture of each split.
    wanted = 1 + (number // len(_SPLITS) * 3 + number % len(_SPLITS)) % len(_CLASSES)
    others = rng.permutation(np.arange(1, len(_CLASSES) + 1))[: int(rng.integers(4))]
    kinds = [wanted, *(int(code) for code in others if code != wanted)]
    regions = fields.smooth(rng, len(kinds), _SIZE, 10.0)
    regions[0] += 0.5
    codes = np.array(kinds, np.uint8)[regions.argmax(axis=0)]
    zeros = number % 8 == 3
    if zeros:  # codes that begin at 0 are told from these by the absence of code 7
        codes[-12:, 9:21] = 7
    light = np.float32(rng.normal(1.0, 0.05)) + 0.06 * fields.smooth(rng, 1, _SIZE, 3.0)[0]
    image = _table()[codes] * light[..., None] + rng.normal(0.0, 2.0, (_SIZE, _SIZE, 3))
    rgb = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    # As in the real maps: water is speckled with its neighbours' classes.
    speckle = (codes == 1) & (rng.random(codes.shape) < 0.05)
    codes[speckle] = kinds[-1] if kinds[-1] != 1 else 4
    if zeros:  # what code 0 means is not published
        codes[-6:, :9] = 0
    return rgb, codes
