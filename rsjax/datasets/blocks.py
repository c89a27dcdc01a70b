"""Splits of patches by place: blocks of the ground, and a distance between splits.

Neighbouring patches look alike, and a model that was trained on one knows much of the other: whole
blocks go to a split. All is measured in one plane in metres that the patches of all scenes share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import shapely
from rasterio import warp
from rasterio.crs import CRS

from rsjax.datasets import raster
from rsjax.datasets.scene_area import METRES_PER_DEGREE
from rsjax.datasets.scene_list import SPLITS
from rsjax.errors import DatasetError

_SHRUNK = 1e-6  # of a patch: those that only touch do not overlap
_ROUNDING_M = 1e-6


class Plane:
    """A plane in metres: the scenes' own coordinates where they share them, else an equal area one.

    The second is Lambert's azimuthal projection on the middle of all scenes, whose distances are
    true to 1 % within 1,800 km of it.

    Args:
        scenes: coordinate system and (left, bottom, right, top) of each scene.
    """

    def __init__(self, scenes: Sequence[tuple[CRS, tuple[float, ...]]]):
        crs, extent = scenes[0]
        self.scale = (1.0, 1.0)
        self.crs = crs
        if not all(raster.same_crs(other, crs) for other, _ in scenes):
            degrees = [warp.transform_bounds(c, CRS.from_epsg(4326), *box) for c, box in scenes]
            lon = (min(d[0] for d in degrees) + max(d[2] for d in degrees)) / 2
            lat = (min(d[1] for d in degrees) + max(d[3] for d in degrees)) / 2
            self.crs = CRS.from_proj4(
                f"+proj=laea +lat_0={lat:.4f} +lon_0={lon:.4f} +datum=WGS84 +units=m"
            )
        elif crs.is_geographic:
            middle = (min(b[1] for _, b in scenes) + max(b[3] for _, b in scenes)) / 2
            across = METRES_PER_DEGREE * math.cos(math.radians(middle))
            self.scale = (across, METRES_PER_DEGREE)
        else:
            factor = crs.linear_units_factor[1]
            self.scale = (factor, factor)
        first = self.corners(crs, np.array([extent]))[0]
        self.origin = (float(first[0, 0]), float(first[0, 1]))  # upper left of the first scene

    def corners(self, crs: CRS, boxes: np.ndarray) -> np.ndarray:
        """Corners of patches in the plane.

        Args:
            crs: their coordinate system.
            boxes: (patches, 4) of left, bottom, right, top.

        Returns:
            (patches, 4, 2), from the upper left around.
        """
        left, bottom, right, top = np.asarray(boxes, np.float64).T
        x = np.stack([left, right, right, left], axis=1)
        y = np.stack([top, top, bottom, bottom], axis=1)
        if not raster.same_crs(crs, self.crs):
            flat = warp.transform(crs, self.crs, x.ravel(), y.ravel())
            x, y = (np.reshape(one, x.shape) for one in flat)
        return np.stack([x * self.scale[0], y * self.scale[1]], axis=-1)


def of_patches(plane: Plane, corners: np.ndarray, side_m: float) -> np.ndarray:
    """Column and row of the block that holds each patch's centre, int64 (patches, 2)."""
    centre = corners.mean(axis=1)
    # A centre on the line between two blocks is in the second, whatever its last digits.
    col = np.floor((centre[:, 0] - plane.origin[0]) / side_m + _SHRUNK)
    row = np.floor((plane.origin[1] - centre[:, 1]) / side_m + _SHRUNK)
    return np.stack([col, row], axis=1).astype(np.int64)


def draw(blocks: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """A split for each patch, whole blocks together.

    Blocks come in random order; each goes to the split that is furthest below its share.

    Args:
        blocks: (patches, 2) as `of_patches` gives them.
        shares: of the patches in train, validation and test.
        seed: of the order.

    Returns:
        Index into `SPLITS`, int64 (patches,).

    Raises:
        DatasetError: fewer blocks than splits.
    """
    unique, inverse, counts = np.unique(blocks, axis=0, return_inverse=True, return_counts=True)
    used = [i for i, share in enumerate(shares) if share > 0]
    if len(unique) < len(used):
        raise DatasetError(
            f"scenes.json: {len(unique)} blocks for {len(used)} splits, expected at least one "
            "each; make split.block_m or block_patches smaller, or give a share of 0"
        )
    have = np.zeros(len(SPLITS))
    split = np.zeros(len(unique), np.int64)
    order = np.random.default_rng(seed).permutation(len(unique))
    for place, block in enumerate(order):
        empty = [i for i in used if have[i] == 0]
        choice = empty if len(empty) == len(order) - place else used
        best = max(choice, key=lambda i: shares[i] - have[i] / len(blocks))
        split[block] = best
        have[best] += counts[block]
    return split[inverse.reshape(-1)]


def near(corners: np.ndarray, split: np.ndarray, buffer_m: float) -> np.ndarray:
    """Patches to leave out so that no two splits overlap or come nearer than a distance.

    Test patches all stay; validation patches near them go, then training patches near either.

    Args:
        corners: (patches, 4, 2) in metres.
        split: index into `SPLITS` of each patch.
        buffer_m: distance in metres; 0 is those that overlap.

    Returns:
        bool (patches,).
    """
    shapes = polygons(corners)
    gone = np.zeros(len(split), bool)
    train, validation, test = range(3)
    for mine, others in ((validation, (test,)), (train, (validation, test))):
        candidates = np.flatnonzero(split == mine)
        against = shapes[np.isin(split, others) & ~gone]
        if len(candidates) and len(against):
            hits = meeting(shapes[candidates], against, buffer_m)[0]
            gone[candidates[np.unique(hits)]] = True
    return gone


def polygons(corners: np.ndarray) -> np.ndarray:
    """Patches as shapes, a little smaller than they are, so that neighbours do not meet."""
    centre = corners.mean(axis=1, keepdims=True)
    found: np.ndarray = shapely.polygons(centre + (corners - centre) * (1 - _SHRUNK))
    return found


def meeting(some: np.ndarray, others: np.ndarray, buffer_m: float) -> np.ndarray:
    """Pairs of shapes that overlap or are nearer than a distance, int64 (2, pairs)."""
    tree = shapely.STRtree(others)
    if buffer_m <= _ROUNDING_M:
        found: np.ndarray = tree.query(some, predicate="intersects")
        return found
    return np.asarray(tree.query(some, predicate="dwithin", distance=buffer_m - _ROUNDING_M))
