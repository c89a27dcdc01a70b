"""The conditional random field on a map of any size, tile by tile with a halo."""

from __future__ import annotations

import logging
import math

import jax
import numpy as np

from rsjax.landcover.nomenclature import IGNORE
from rsjax.mapping import clean_source, crf
from rsjax.mapping.clean_source import Source
from rsjax.mapping.crf import Crf
from rsjax.mapping.writer import STEPS

LEAST = 0.5 / STEPS  # of a probability: byte 0 stands for anything below half a step
TILE = 512  # pixels of a side, without halo, at most
LEAST_TILE = 64
BYTES = 256 * 2**20  # of the kernels of one tile, about

logger = logging.getLogger(__name__)


def run(
    source: Source,
    settings: Crf,
    compatibility: np.ndarray,
    classes: np.ndarray,
    found: np.ndarray,
    tile: int = 0,
) -> int:
    """Computes the field tile by tile; equal to one tile of everything.

    Of equal marginals a pixel keeps its own class, else takes the one of the lowest index.

    Args:
        source: probabilities and scene.
        settings: of the field.
        compatibility: (K, K).
        classes: of the map, uint8 (rows, columns), 255 where there is none.
        found: likewise, is written.
        tile: pixels of a side without halo; 0: by memory.

    Returns:
        How many pixels have a class but no probability or no value in the scene: they keep it.
    """
    step = source.scene.step
    halo = -(-settings.halo // step) * step
    side = tile or tile_side(settings)
    height, width = source.land_map.shape
    core = [max(1, min(side, size + step - 1) // step) * step for size in (height, width)]
    skipped = 0
    for top in range(0, height, core[0]):
        for left in range(0, width, core[1]):
            rows, columns = (
                (at - halo, at + size + halo) for at, size in zip((top, left), core, strict=True)
            )
            shares, bands, valid = clean_source.read(source, classes, rows, columns)
            there = slice(top, min(top + core[0], height)), slice(left, min(left + core[1], width))
            inner = tuple(slice(halo, halo + span.stop - span.start) for span in there)
            own, counts = np.asarray(classes[there]), valid[inner]
            skipped += int(((own != IGNORE) & ~counts).sum())
            if counts.any():
                unary = np.where(valid[None], _unary(shares), 0)
                found_here = crf.mean_field(unary, bands, valid, compatibility, settings)
                q = jax.device_get(found_here)[:, *inner]
                best = _best(q, np.where(counts, own, 0))
                found[there] = np.where(counts, best, own)
        logger.info("conditional random field: %d of %d rows", min(top + core[0], height), height)
    return skipped


def _unary(shares: np.ndarray) -> np.ndarray:
    """-log p of bytes."""
    table = -np.log(np.maximum(np.arange(256) / STEPS, LEAST)).astype(np.float32)
    return np.asarray(table[shares])


def _best(q: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Class of the largest marginal; of several a pixel's own, else that of the lowest index."""
    q_own = np.take_along_axis(q, own[None], axis=0)[0]
    return np.where(q_own < q.max(axis=0), q.argmax(axis=0).astype(np.uint8), own)


def tile_side(settings: Crf) -> int:
    """Side of a tile without halo, such that the kernels of one take about `BYTES`."""
    each = 4 * (2 * settings.radius + 1) ** 2
    return min(TILE, max(LEAST_TILE, math.isqrt(BYTES // each) - 2 * settings.halo))
