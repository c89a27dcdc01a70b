"""Minimum mapping unit: regions that are too small join the class they share most border with.

The map is held as its runs (pixels of one class in a row) and never as pixels, so memory follows
the number of runs: noise costs most. Regions are found as connected components of runs.
"""

from __future__ import annotations

import dataclasses
import heapq
import re
from collections.abc import Sequence

import numpy as np
from rasterio.windows import Window
from scipy import sparse

from rsjax.errors import ConfigError, SceneError
from rsjax.landcover.nomenclature import IGNORE
from rsjax.mapping.pixel_area import PixelAreas

PIXELS = 2**20  # of a block, about
MAX_RUNS = 50_000_000  # at 100 to 300 bytes each, the most where the map is noise


@dataclasses.dataclass(frozen=True)
class _Runs:
    """A map as runs in reading order, and which of them touch.

    Attributes:
        classes: uint8 (n,), 255 where there is no class.
        lengths: int32 (n,), pixels.
        sizes: float64 (n,), pixels or hectares.
        links: int32 (m, 2), runs of one class that touch.
        borders: int32 (b, 3): two runs of different classes that touch, and the pixel sides they
            share (0: corners only).
    """

    classes: np.ndarray
    lengths: np.ndarray
    sizes: np.ndarray
    links: np.ndarray
    borders: np.ndarray


def parse(text: str) -> tuple[float, str]:
    """`0.5ha` or `9px` as number and unit.

    Raises:
        ConfigError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+) ?(ha|px)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"min_unit={text!r}, expected an area, e.g. 0.5ha or 9px")
    return float(match[1]), match[2]


def merge_small(
    source: np.ndarray,
    target: np.ndarray,
    least: float,
    areas: PixelAreas | None = None,
    connectivity: int = 4,
    keep: Sequence[int] = (),
) -> int:
    """Merges regions below an area into neighbours, the smallest first, until none is left.

    A region takes the class with which it shares the most pixel sides, over all its neighbours of
    that class together, and becomes one with these; of equal borders the class of the lowest index,
    of equal areas the region that begins first in reading order. Regions that have no neighbour
    with a class stay as they are. `gdal_sieve` differs: it takes the largest neighbouring region,
    and does not look at merged regions again. A second run changes nothing.

    Args:
        source: uint8 (rows, columns), 255 where there is no class; may lie on disk.
        target: likewise, is written; may be `source`.
        least: area below which a region is small, in hectares with `areas`, else in pixels.
        areas: of the pixels.
        connectivity: 4 or 8: whether pixels that share a corner only are of one region.
        keep: class indices whose regions are never merged away; others may still join them.

    Returns:
        How many regions were merged.

    Raises:
        ConfigError: another connectivity.
        SceneError: too many runs for memory.
    """
    if connectivity not in (4, 8):
        raise ConfigError(f"connectivity={connectivity}, expected 4 or 8")
    runs = _encode(source, areas, connectivity == 8)
    count = len(runs.classes)
    ones = np.ones(len(runs.links), np.uint8)
    graph = sparse.coo_matrix((ones, (runs.links[:, 0], runs.links[:, 1])), (count, count))
    regions, region = sparse.csgraph.connected_components(graph, directed=False)
    size = np.bincount(region, runs.sizes, regions)
    classes = np.empty(regions, np.uint8)
    classes[region] = runs.classes
    protected = np.zeros(256, bool)
    protected[[IGNORE, *keep]] = True
    small = (size < least) & ~protected[classes]
    merged = _merge(region, runs.borders, size, classes, small, least, protected)
    runs.classes[:] = classes[region]
    _decode(runs, target)
    return merged


def _rows(width: int) -> int:
    return max(1, PIXELS // width)


def _encode(source: np.ndarray, areas: PixelAreas | None, corners: bool) -> _Runs:
    height, width = source.shape
    classes, lengths, sizes, links, borders = [], [], [], [], []
    base = 0
    above: tuple[np.ndarray, np.ndarray] | None = None  # the row before: its runs and classes
    for top in range(0, height, _rows(width)):
        block = np.asarray(source[top : top + _rows(width)])
        starts = np.ones(block.shape, bool)
        starts[:, 1:] = block[:, 1:] != block[:, :-1]
        at = np.flatnonzero(starts)
        if base + len(at) > MAX_RUNS:
            raise SceneError(
                f"the map has more than {MAX_RUNS:,} runs of pixels of one class in its first "
                f"{top + len(block)} rows, too many for a minimum mapping unit; smooth it first "
                "(--majority=3, or --crf), or cut it"
            )
        runs = (np.cumsum(starts, dtype=np.int32) - 1 + base).reshape(block.shape)
        classes.append(block.ravel()[at])
        lengths.append(np.diff(at, append=block.size).astype(np.int32))
        if areas is None:
            sizes.append(lengths[-1].astype(np.float64))
        else:
            each = areas.block(Window(0, top, width, len(block)))
            sizes.append(np.add.reduceat(np.broadcast_to(each, block.shape).ravel(), at))
        base += len(at)
        beside = starts[:, 1:] & (block[:, 1:] != IGNORE) & (block[:, :-1] != IGNORE)
        left = runs[:, :-1][beside]
        borders.append(np.stack([left, left + 1, np.ones_like(left)], axis=1))
        if above is not None:
            runs, block = (np.concatenate(pair) for pair in zip(above, (runs, block), strict=True))
        for shift in (0, -1, 1) if corners else (0,):
            same, other = _contacts(runs, block, shift)
            links.append(same[:, :2])
            borders.append(other)
        above = runs[-1:], block[-1:]
    return _Runs(*(np.concatenate(parts) for parts in (classes, lengths, sizes, links, borders)))


def _contacts(runs: np.ndarray, block: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs in neighbouring rows: of one class, and of two; (n, 3) with the sides shared.

    Args:
        runs: int32 (rows, columns).
        block: classes of the same pixels.
        shift: 0 for pixels below each other; -1 and 1 for those below to the left and right.
    """
    width = block.shape[1]
    upper = slice(max(0, -shift), width - max(0, shift))
    lower = slice(max(0, shift), width - max(0, -shift))
    one, two = runs[:-1, upper], runs[1:, lower]
    starts = np.ones(one.shape, bool)
    starts[:, 1:] = (one[:, 1:] != one[:, :-1]) | (two[:, 1:] != two[:, :-1])
    at = np.flatnonzero(starts)
    sides = np.diff(at, append=one.size) * (shift == 0)
    pairs = np.stack([one.ravel()[at], two.ravel()[at], sides.astype(np.int32)], axis=1)
    first, second = block[:-1, upper].ravel()[at], block[1:, lower].ravel()[at]
    valid = (first != IGNORE) & (second != IGNORE)
    return pairs[valid & (first == second)], pairs[valid & (first != second)]


def _merge(
    region: np.ndarray,
    borders: np.ndarray,
    size: np.ndarray,
    classes: np.ndarray,
    small: np.ndarray,
    least: float,
    protected: np.ndarray,
) -> int:
    """Merges small regions, the smallest first; changes `size` and `classes` of regions.

    Only the neighbours of small regions are kept: a region that is large, or grew large, is never
    asked for its own again.
    """
    ends = region[borders[:, :2]]
    both = np.concatenate([ends, ends[:, ::-1]])
    sides = np.tile(borders[:, 2], 2)
    asked = small[both[:, 0]]
    both, sides = both[asked], sides[asked]
    order = np.argsort(both[:, 0], kind="stable")
    neighbours, sides = both[order, 1], sides[order]
    first = np.searchsorted(both[order, 0], np.arange(len(size) + 1))
    parent = np.arange(len(size))
    members: dict[int, list[int]] = {}

    def root(one: int) -> int:
        while (up := int(parent[one])) != one:
            parent[one] = parent[up]
            one = up
        return one

    waiting = [(float(size[one]), int(one)) for one in np.flatnonzero(small)]
    heapq.heapify(waiting)
    merged = 0
    while waiting:
        area, one = heapq.heappop(waiting)
        if root(one) != one or size[one] != area:
            continue  # it is part of another one by now, or has grown
        border: dict[int, int] = {}
        found: dict[int, set[int]] = {}
        for member in members.get(one, [one]):
            span = slice(first[member], first[member + 1])
            for other, shared in zip(neighbours[span].tolist(), sides[span].tolist(), strict=True):
                if (there := root(other)) != one:
                    kind = int(classes[there])
                    border[kind] = border.get(kind, 0) + shared
                    found.setdefault(kind, set()).add(there)
        longest = max(border.values(), default=0)
        if not longest:
            continue
        kind = min(kind for kind, shared in border.items() if shared == longest)
        parts = sorted({one, *found[kind]})
        head, total = parts[0], float(size[parts].sum())
        parent[parts] = head
        size[head], classes[head] = total, kind
        lists = sorted((members.pop(part, [part]) for part in parts), key=len)
        if total < least and not protected[kind]:
            grown = lists.pop()  # the longest is not copied: a member moves log2(n) times at most
            for some in lists:
                grown += some
            members[head] = grown
            heapq.heappush(waiting, (total, head))
        merged += 1
    for one in np.flatnonzero(small).tolist():
        classes[one] = classes[root(one)]
    return merged


def _decode(runs: _Runs, target: np.ndarray) -> None:
    """Writes the runs' classes as pixels."""
    height, width = target.shape
    ends = np.cumsum(runs.lengths, dtype=np.int64)
    done = 0
    for top in range(0, height, _rows(width)):
        stop = min(height, top + _rows(width))
        last = int(np.searchsorted(ends, stop * width)) + 1  # rows end with a run
        span = slice(done, last)
        target[top:stop] = np.repeat(runs.classes[span], runs.lengths[span]).reshape(-1, width)
        done = last
