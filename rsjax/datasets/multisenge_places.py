"""Where the patches of MultiSenGE lie, and their spatial splits.

A patch `31TFN_5654_0` is 256 pixels of 10 m, 5654 columns and 0 rows from the upper left corner of
Sentinel-2 tile 31TFN; the centroids that the authors' page shows are met to a millimetre. Tiles
overlap and lie in two UTM zones, so the splits go by place in one projection, Lambert-93: squares
of 20 km, each as a whole for one split by the sha256 of its name. (With the rule of `split_rules`
a patch's split would depend on which others are on disk.)
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BLOCK_M = 20_000.0
SIDE_M = 2560.0  # of a patch
SPLITS = ("train", "validation", "test", "border")
KEY = re.compile(r"(3[12])([TU])([EFGLM])([NPQRTUV])_(\d+)_(\d+)")

_COMMON = "EPSG:2154"  # Lambert-93, the official projection of France
# Letters of the 100 km squares: from 100 km east, and with their upper edge from 5300 km north.
_COLUMNS = {"31": "ABCDEFGH", "32": "JKLMNPQR"}
_ROWS = {"31": "NPQR", "32": "TUVW"}


class Place(NamedTuple):
    """Coordinate system and upper left corner of a patch, in metres."""

    crs: str
    x: float
    y: float


def place(key: str) -> Place | None:
    """Where a patch lies, by its name; None where it is no name of a patch."""
    match = KEY.fullmatch(key)
    if not match or match[3] not in _COLUMNS[match[1]] or match[4] not in _ROWS[match[1]]:
        return None
    zone, _, column, row, x, y = match.groups()
    # The corners of tiles are multiples of 60 m, outside of the squares.
    left = (_COLUMNS[zone].index(column) + 1) * 100_000 // 60 * 60
    top = -((_ROWS[zone].index(row) + 53) * -100_000 // 60) * 60
    return Place(f"EPSG:326{zone}", left + 10.0 * int(x), top - 10.0 * int(y))


def corners(keys: Sequence[str]) -> np.ndarray:
    """The four corners of each patch in Lambert-93, float64 (len(keys), 4, 2), around it.

    Args:
        keys: names for which `place` finds one.
    """
    from rasterio import warp

    places = [found for key in keys if (found := place(key))]
    assert len(places) == len(keys)
    offsets = np.array([(0.0, 0.0), (SIDE_M, 0.0), (SIDE_M, -SIDE_M), (0.0, -SIDE_M)])
    points = np.array([(p.x, p.y) for p in places]).reshape(-1, 1, 2) + offsets
    systems = np.array([p.crs for p in places])
    for crs in sorted(set(systems)):
        chosen = systems == crs
        xs, ys = warp.transform(crs, _COMMON, *points[chosen].reshape(-1, 2).T)
        points[chosen] = np.stack([xs, ys], axis=-1).reshape(-1, 4, 2)
    return points


def blocks(keys: Sequence[str]) -> list[str]:
    """The block of each patch's centre, e.g. '42_341': 20 km east and north in Lambert-93."""
    cells = np.floor(corners(keys).mean(axis=1) / BLOCK_M).astype(int)
    return [f"{east}_{north}" for east, north in cells.tolist()]


@functools.cache
def split_of(block: str) -> str:
    """'test' (20 of 100 blocks), 'validation' (10) or 'train', by the block's name."""
    number = int(hashlib.sha256(block.encode()).hexdigest(), 16) % 100
    return "test" if number < 20 else "validation" if number < 30 else "train"


def split(keys: Sequence[str]) -> dict[str, list[str]]:
    """The splits of patches, each in the order given.

    A patch belongs to the split of the block of its centre. Where patches of two splits share
    ground, that of training (or else of validation) is put into 'border' instead, so that none of
    the three others shares ground with another, and no patch is lost.
    """
    found: dict[str, list[str]] = {name: [] for name in SPLITS}
    if not keys:
        return found
    ranks = np.array([SPLITS.index(split_of(block)) for block in blocks(keys)])
    pairs = _overlapping(corners(keys))
    pairs = pairs[ranks[pairs[:, 0]] != ranks[pairs[:, 1]]]
    lower = np.where(ranks[pairs[:, 0]] < ranks[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    ranks[lower] = SPLITS.index("border")
    for key, rank in zip(keys, ranks.tolist(), strict=True):
        found[SPLITS[rank]].append(key)
    return found


def _overlapping(points: np.ndarray) -> np.ndarray:
    """Pairs (M, 2) of quadrilaterals (N, 4, 2) that share ground: no edge's line parts them."""
    from scipy.spatial import cKDTree

    tree = cKDTree(points.mean(axis=1))
    pairs = tree.query_pairs(1.01 * 2**0.5 * SIDE_M, output_type="ndarray").reshape(-1, 2)
    one, other = points[pairs[:, 0]], points[pairs[:, 1]]
    parted = np.zeros(len(pairs), bool)
    for shape in (one, other):
        edges = np.roll(shape, -1, axis=1) - shape
        normals = np.stack([-edges[..., 1], edges[..., 0]], axis=-1)
        ours, theirs = (np.einsum("nkx,nex->nek", s, normals) for s in (one, other))
        gap = np.maximum(ours.min(-1) - theirs.max(-1), theirs.min(-1) - ours.max(-1))
        parted |= (gap >= 0).any(axis=1)
    return pairs[~parted]
