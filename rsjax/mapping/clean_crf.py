"""The conditional random field on a map of any size, tile by tile with a halo."""

from __future__ import annotations

import dataclasses
import logging
import math

import jax
import numpy as np

from rsjax.errors import ConfigError
from rsjax.landcover.nomenclature import IGNORE
from rsjax.mapping import clean_source, crf
from rsjax.mapping.clean_source import Source
from rsjax.mapping.crf import Crf
from rsjax.mapping.writer import STEPS

LEAST = 0.5 / STEPS  # of a probability: byte 0 stands for anything below half a step
TILE = 512  # pixels of a side, without halo, at most
LEAST_TILE = 64
BYTES = 384 * 2**20  # that one tile takes, about: its kernels, classes and bands
MOST = 2**31  # likewise, where even a small tile needs more

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
    shape = height, width = source.land_map.shape
    depth = source.probabilities.count, len(source.mean)
    cuts = cut(settings, shape, *depth, source.scene.step, tile)
    core, settings = cuts.core, cuts.settings
    skipped = 0
    for top in range(0, height, core[0]):
        for left in range(0, width, core[1]):
            rows, columns = cuts.spans(top, left)
            shares, bands, valid = clean_source.read(source, classes, rows, columns)
            there = slice(top, min(top + core[0], height)), slice(left, min(left + core[1], width))
            inner = tuple(
                slice(span.start - first, span.stop - first)
                for span, (first, _) in zip(there, (rows, columns), strict=True)
            )
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


@dataclasses.dataclass(frozen=True)
class Cut:
    """How a map is cut into tiles.

    Attributes:
        settings: with a radius that does not reach beyond the map.
        whole: rows and columns of the map, up to a multiple of the step.
        core: of a tile without halo.
        window: of a tile with halo, the same for all so that one program is compiled: at an edge
            of the map it is moved inwards, and where it would cover the map it is the map.
        halo: pixels.
    """

    settings: Crf
    whole: tuple[int, ...]
    core: tuple[int, ...]
    window: tuple[int, ...]
    halo: int

    def spans(self, top: int, left: int) -> tuple[tuple[int, int], ...]:
        """First row and last + 1, and columns likewise, of the window of a tile."""
        starts = (
            min(max(0, at - self.halo), whole - window)
            for at, whole, window in zip((top, left), self.whole, self.window, strict=True)
        )
        return tuple((at, at + size) for at, size in zip(starts, self.window, strict=True))


def cut(
    settings: Crf,
    shape: tuple[int, int],
    classes: int,
    bands: int = 0,
    step: int = 1,
    tile: int = 0,
) -> Cut:
    """Tiles that take about `BYTES` each, and never more than `MOST`.

    Args:
        settings: of the field.
        shape: of the map.
        classes: how many.
        bands: how many; 0 where that is not known yet.
        step: of the scene: tiles begin at its multiples.
        tile: side without halo; 0: by memory.

    Raises:
        ConfigError: even small tiles need more than `MOST`.
    """
    settings = dataclasses.replace(settings, radius=min(settings.radius, max(1, *shape) - 1 or 1))
    halo = -(-settings.halo // step) * step
    # Kernels, and some copies of probabilities and bands, some of these in float64.
    each = 4 * ((2 * settings.radius + 1) ** 2 + 7 * classes + 10 * bands)
    side = tile or min(TILE, max(LEAST_TILE, math.isqrt(BYTES // each) - 2 * halo))
    side = max(step, side // step * step)
    whole = tuple(-(-size // step) * step for size in shape)
    window = tuple(min(side + 2 * halo, size) for size in whole)
    core = tuple(
        n if not tile and w == n else min(side, n) for n, w in zip(whole, window, strict=True)
    )
    if (need := math.prod(window) * each) > MOST:
        raise ConfigError(
            f"--crf_option: radius={settings.radius} and iterations={settings.iterations} need "
            f"{need / 2**30:.1f} GB for one tile of {window[0]} x {window[1]} pixels with its halo "
            f"of {halo}, more than {MOST / 2**30:.0f} GB; choose a smaller radius or fewer "
            "iterations"
        )
    return Cut(settings, whole, core, window, halo)
