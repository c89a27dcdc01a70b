"""Simulated aerial photographs: sizes with a known number of tiles, colours of surfaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rsjax.datasets.simulate import fields, spectra

TILE_PX = 512  # the tiles that the sizes below are made for
_BANDS = [spectra.BANDS.index(band) for band in ("B04", "B03", "B02")]


def sizes(
    rng: np.random.Generator, count: int, least: int = TILE_PX, images: int = 1
) -> Iterator[tuple[int, int]]:
    """(height, width) of images that have `count` tiles together: 4, 2, 1, 4, 2, 1, ... each.

    Args:
        rng: source of randomness.
        count: number of tiles of `TILE_PX` without overlap.
        least: smallest side of an image.
        images: their number at least; `count` is no smaller.
    """
    while count > 0:
        for tiles in (4, 2, 1):
            if tiles <= count - max(images - 1, 0):
                images -= 1
                large, other = rng.integers(TILE_PX + 40, TILE_PX + 160, 2).tolist()
                small = int(rng.integers(least, TILE_PX + 1))
                yield {4: (large, other), 2: (small, large), 1: (small, TILE_PX)}[tiles]
                count -= tiles


def field(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """A smooth random field of unit variance, float32 of this shape; `scale` in pixels."""
    return fields.smooth(rng, 1, max(shape), scale)[0, : shape[0], : shape[1]]


def pattern(
    rng: np.random.Generator, kind: str, shape: tuple[int, int], scale: float
) -> np.ndarray:
    """Where a pattern of `fields.pattern` is, bool of this shape."""
    return fields.pattern(rng, kind, max(shape), scale)[: shape[0], : shape[1]] > 0


def photograph(rng: np.random.Generator, cover: np.ndarray, surfaces: Sequence[str]) -> np.ndarray:
    """The colours of a map of surfaces under uneven light, uint8 (height, width, 3).

    Args:
        rng: source of randomness.
        cover: index into `surfaces` of each pixel.
        surfaces: mixtures of materials, see `spectra.mixture`.
    """
    table = np.stack([spectra.mixture(parts)[_BANDS] for parts in surfaces]).astype(np.float32)
    light = np.float32(rng.normal(1.0, 0.05)) + 0.06 * field(rng, cover.shape, 90.0)
    grain = rng.integers(-12, 13, (*cover.shape, 1), np.int8) + np.float32(0)
    values = table[cover] * (light[..., None] * np.float32(255 / 2900)) + grain
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
