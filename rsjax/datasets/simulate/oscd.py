"""Simulated OSCD: cities that grow between two Sentinel-2 images."""

from __future__ import annotations

import datetime
import math
import pathlib

import imagecodecs
import numpy as np

from rsjax.datasets import geotiff, oscd
from rsjax.datasets.simulate import fields, spectra

_TILE = 96
_GROUND = ("crop 7 soil 3", "grass 6 dry 4", "broad 8 grass 2", "lake 9 marsh 1", "dry 7 sand 3")
_CITY = ("urban 7 grass 3", "roof 6 urban 4")


def write_oscd(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes OSCD; see `rsjax.datasets.simulate`.

    All 24 cities are there; the training cities get what `count` has beyond one tile each, so that
    there are at least `count` tiles.
    """
    cities = oscd.TRAIN + oscd.TEST
    more, rest = divmod(max(count - len(cities), 0), len(oscd.TRAIN))
    for i, city in enumerate(cities):
        rng = np.random.default_rng([seed, i])
        tiles = 1 + more + (i < rest) if city in oscd.TRAIN else 1
        rows = math.isqrt(tiles)
        # As the real ones, of all sizes: most do not divide into tiles.
        height, width = (
            _TILE * number - int(rng.integers(0, 24)) * (i % 3 != 0)
            for number in (rows, -(-tiles // rows))
        )
        images, mask = _city(rng, height, width)
        folder = target / oscd.IMAGES / city
        day = datetime.date(2015, 7, 1) + datetime.timedelta(int(rng.integers(0, 300)))
        later = day + datetime.timedelta(int(rng.integers(200, 800)))
        for step, image in zip(oscd.STEPS, images, strict=True):
            _write_bands(folder / step, image)
        (folder / "dates.txt").write_text(f"date_1: {day:%Y%m%d}\ndate_2: {later:%Y%m%d}\n")
        part = oscd.TEST_LABELS if city in oscd.TEST else oscd.TRAIN_LABELS
        labels = target / part / city / "cm"
        labels.mkdir(parents=True)
        (labels / "cm.png").write_bytes(imagecodecs.png_encode(mask * np.uint8(255)))
        geotiff.write_geotiff(labels / f"{city}-cm.tif", mask + np.uint8(1))
    for name, listed in (("train.txt", oscd.TRAIN), ("test.txt", oscd.TEST)):
        (target / oscd.IMAGES / name).write_text(",".join(listed))


def _city(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two images uint16 (2, height, width, 13) and what changed, uint8 (height, width)."""
    size = max(height, width)
    ground, city = (
        np.array([spectra.mixture(parts)[:13] for parts in kinds], np.float32)
        for kinds in (_GROUND, _CITY)
    )
    cover = fields.smooth(rng, len(_GROUND), size, 22.0).argmax(axis=0)
    density = fields.smooth(rng, 1, size, 30.0)[0]
    blocks = fields.smooth(rng, 1, size, 5.0)[0]
    kind = (fields.smooth(rng, 1, size, 4.0)[0] > 0.4).astype(int)
    built = (density + 0.6 * blocks > 0.8, density + 0.6 * blocks > 0.35)
    images = []
    for here in built:
        surface = np.where(here[..., None], city[kind], ground[cover])
        light = rng.normal(1.0, 0.06) + 0.05 * fields.smooth(rng, 1, size, 40.0)[0]
        noise = rng.standard_normal(surface.shape, np.float32) * (15 + 0.02 * surface)
        seen = spectra.top_of_atmosphere(surface * light[..., None] + noise)
        images.append(np.clip(np.rint(seen), 1, 65535).astype(np.uint16)[:height, :width])
    images[1][:2] = 0  # registration leaves a border without value
    changed = (built[0] != built[1])[:height, :width].astype(np.uint8)
    return np.stack(images), changed


def _write_bands(folder: pathlib.Path, image: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for i, band in enumerate(oscd.BANDS):
        geotiff.write_geotiff(folder / f"{band}.tif", image[..., i])
