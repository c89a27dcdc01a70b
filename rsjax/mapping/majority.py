"""Majority filter: each pixel takes the most frequent class of the window around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from rsjax.errors import ConfigError
from rsjax.landcover.nomenclature import IGNORE

ROWS = 512  # of a block


def majority(classes: np.ndarray, side: int, keep: Sequence[int] = ()) -> np.ndarray:
    """The most frequent class in a window around each pixel.

    Pixels without a class keep none and are not counted. Of classes that are equally frequent a
    pixel keeps its own, else takes the one of the lowest index. Beyond the edge is nothing.

    Args:
        classes: uint8 (rows, columns), 255 where there is no class.
        side: of the window in pixels, odd.
        keep: classes whose pixels stay; others may still become of these.

    Returns:
        Likewise.

    Raises:
        ConfigError: an even side, or one below 3.
    """
    check(side)
    ones = np.ones(side, np.int32)
    best, found = np.zeros(classes.shape, np.int32), classes.copy()
    own = np.zeros(classes.shape, np.int32)
    for one in np.unique(classes[classes != IGNORE]):
        is_one = classes == one
        count = is_one.astype(np.int32)
        for axis in (0, 1):
            count = ndimage.convolve1d(count, ones, axis=axis, mode="constant", cval=0)
        more = count > best
        best[more] = count[more]
        found[more] = one
        own[is_one] = count[is_one]
    stays = np.isin(classes, [IGNORE, *keep]) | (own == best)
    return np.where(stays, classes, found)


def check(side: int) -> None:
    """Refuses a window that has no middle, or one pixel.

    Raises:
        ConfigError: says what can be.
    """
    if side < 3 or side % 2 == 0:
        raise ConfigError(f"majority={side}, expected the side of a window: 3, 5, 7, ...")


def by_blocks(
    source: np.ndarray,
    target: np.ndarray,
    side: int,
    rows: int = ROWS,
    keep: Sequence[int] = (),
) -> None:
    """`majority` of an array of any size, block by block with a halo: equal to it.

    Args:
        source: uint8 (rows, columns), may lie on disk.
        target: likewise, not the same; is written.
        side: see `majority`.
        rows: of a block.
        keep: see `majority`.
    """
    halo = side // 2
    for top in range(0, len(source), rows):
        first = max(0, top - halo)
        block = majority(np.asarray(source[first : top + rows + halo]), side, keep)
        stop = min(top + rows, len(source))
        target[top:stop] = block[top - first : stop - first]
