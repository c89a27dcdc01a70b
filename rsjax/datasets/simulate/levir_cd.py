"""Simulated LEVIR-CD: suburbs from above, before and after some of the houses were built."""

from __future__ import annotations

import pathlib

import imagecodecs
import numpy as np

from rsjax.datasets import splits
from rsjax.datasets.simulate import fields, spectra

_SIZE, _TILE = 1024, 256
_LOT = 64  # pixels from house to house
_GROUND = ("grass 8 dry 2", "broad 7 grass 3", "soil 8 dry 2")


def write_levir_cd(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes LEVIR-CD; see `rsjax.datasets.simulate`.

    A pair has 16 samples of 256 pixels. There are at least three pairs, one a split.
    """
    number = max(-(-count // (_SIZE // _TILE) ** 2), len(splits.LIST_NAMES))
    written = dict.fromkeys(splits.LIST_NAMES.values(), 0)
    for i in range(number):
        before, after, mask = _pair(i, seed)
        split = ("train", "test", "val", "train", "train")[i % 5]
        written[split] += 1
        name = f"{split}_{written[split]}.png"
        for folder, image in (("A", before), ("B", after), ("label", mask)):
            path = target / split / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(imagecodecs.png_encode(image, level=1))


def _pair(index: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two images uint8 (1024, 1024, 3) and the mask uint8 (1024, 1024) of 0 and 255."""
    rng = np.random.default_rng([seed, index])
    bands = [spectra.BANDS.index(band) for band in ("B04", "B03", "B02")]
    ground, roof, road = (
        np.array([spectra.mixture(parts)[bands] for parts in kinds], np.float32)
        for kinds in (_GROUND, ("roof 1", "roof 7 rock 3", "roof 6 soil 4"), ("rock 6 urban 4",))
    )
    cover = _enlarged(fields.smooth(rng, len(_GROUND), _SIZE // 4, 22.0).argmax(axis=0))
    noise = rng.integers(-6, 7, (2 * _SIZE, _SIZE, 1), np.int8)
    houses, built = _houses(rng)
    street = np.arange(_SIZE) % (4 * _LOT) < 10
    images = []
    for step in range(2):
        image = ground[cover]
        image[street] = road[0]
        here = built <= step  # where a house stands
        image[here] = roof[houses[here] % len(roof)]
        light = rng.normal(1.0, 0.08) + 0.06 * fields.smooth(rng, 1, _SIZE // 4, 15.0)[0]
        # Another season, which is no change of buildings.
        tint = (255 / 2800) * rng.normal(1.0, 0.04, 3).astype(np.float32)
        image *= _enlarged(light.astype(np.float32))[..., None]
        image *= tint
        image += noise[step * _SIZE : (step + 1) * _SIZE]
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return images[0], images[1], np.where(built == 1, 255, 0).astype(np.uint8)


def _enlarged(values: np.ndarray) -> np.ndarray:
    return values.repeat(4, axis=0).repeat(4, axis=1)


def _houses(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """House number of each pixel, and the step from which it stands there (2: none)."""
    houses = np.zeros((_SIZE, _SIZE), np.int64)
    built = np.full((_SIZE, _SIZE), 2, np.uint8)
    lots = _SIZE // _LOT
    for lot in range(lots * lots):
        if rng.random() < 0.3:  # an empty lot
            continue
        height, width = (int(side) for side in rng.integers(20, 44, 2))
        top = lot // lots * _LOT + int(rng.integers(12, _LOT - height))
        left = lot % lots * _LOT + int(rng.integers(2, _LOT - width))
        houses[top : top + height, left : left + width] = lot
        built[top : top + height, left : left + width] = int(rng.random() < 0.35)
    return houses, built
