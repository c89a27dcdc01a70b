"""The grid of a scene: where its pixels lie, and how the pixels of its files fit them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import rasterio
from rasterio import warp
from rasterio.crs import CRS

from rsjax.datasets import raster
from rsjax.datasets.raster import SAME
from rsjax.datasets.scene_list import Grid
from rsjax.errors import DatasetError

METRES_PER_DEGREE = 111_320.0  # along a meridian, and along the equator; to 0.6 %
WARPED = 0  # in place of a factor


@dataclasses.dataclass(frozen=True)
class Area:
    """A grid of pixels on the ground: rows go down, columns to the right, no rotation."""

    crs: CRS
    transform: rasterio.Affine
    height: int
    width: int

    def bounds(self, row: float, col: float, height: float, width: float) -> tuple[float, ...]:
        """(left, bottom, right, top) of a window, in units of the coordinate system."""
        a, _, c, _, e, f = tuple(self.transform)[:6]
        return c + a * col, f + e * (row + height), c + a * (col + width), f + e * row

    @property
    def extent(self) -> tuple[float, ...]:
        """(left, bottom, right, top) of all."""
        return self.bounds(0, 0, self.height, self.width)


def pixel_metres(area: Area) -> float:
    """Side of a pixel in metres; of degrees, along a meridian."""
    if area.crs.is_geographic:
        return float(abs(area.transform.e) * METRES_PER_DEGREE)
    return float(abs(area.transform.e) * area.crs.linear_units_factor[1])


def of_scene(where: str, files: Iterable[Area], grid: Grid) -> Area:
    """The grid of a scene: that of its finest file, or the one that `scenes.json` states.

    Raises:
        DatasetError: the file's grid is not one of square pixels with north up, or the stated one
            cannot be.
    """
    finest = min(files, key=lambda area: abs(area.transform.a))
    if grid.crs == "scene":
        t = finest.transform
        if t.b or t.d or t.a <= 0 or t.e >= 0 or abs(t.a + t.e) > 0.01 * t.a:
            raise DatasetError(
                f"{where}: transform {tuple(t)[:6]}, expected square pixels with north up; state "
                "grid.crs and grid.gsd_m, so that it is resampled"
            )
        if grid.gsd_m is None or abs(pixel_metres(finest) - grid.gsd_m) < 0.02 * grid.gsd_m:
            return finest
        if finest.crs.is_geographic:
            raise DatasetError(
                f"{where}: pixels of about {pixel_metres(finest):.3g} m in degrees, expected "
                f"grid.gsd_m={grid.gsd_m:g}; state grid.crs, e.g. the zone of UTM"
            )
    crs = finest.crs if grid.crs == "scene" else _parse_crs(grid.crs)
    if crs.is_geographic or crs.linear_units_factor[1] != 1:
        raise DatasetError(f"{where}: grid in {grid.crs}, expected a projected one in metres")
    gsd = float(grid.gsd_m or 0)
    if raster.same_crs(crs, finest.crs) and abs(finest.transform.a - gsd) < SAME * gsd:
        return finest
    left, bottom, right, top = warp.transform_bounds(finest.crs, crs, *finest.extent)
    left, top = math.floor(left / gsd) * gsd, math.ceil(top / gsd) * gsd
    width, height = math.ceil((right - left) / gsd), math.ceil((top - bottom) / gsd)
    return Area(crs, rasterio.Affine(gsd, 0, left, 0, -gsd, top), height, width)


def _parse_crs(text: str) -> CRS:
    try:
        return CRS.from_user_input(text)
    except rasterio.errors.CRSError as error:
        raise DatasetError(f"scenes.json: grid.crs={text!r}: {error}; state another") from error


def factor(file: Area, area: Area, patch_px: int, overlap_px: int) -> int:
    """How many pixels of the grid a pixel of a file has a side.

    Returns:
        1, 2, 3, ..., or `WARPED` where the file must be resampled: in another coordinate system,
        off the grid, or of pixels that do not divide a patch and the overlap.
    """
    theirs, ours = file.transform, area.transform
    if not raster.same_crs(file.crs, area.crs) or theirs.b or theirs.d:
        return WARPED
    k = round(theirs.a / ours.a)
    grown = abs(theirs.a - k * ours.a) * file.width + abs(theirs.e - k * ours.e) * (file.height)
    apart = max(abs(theirs.c - ours.c), abs(theirs.f - ours.f), grown)
    fits = k >= 1 and apart <= SAME * ours.a and theirs.e < 0
    # A file that is smaller by more than the rest of a patch leaves the grid's edge empty.
    short = max(area.height - k * file.height, area.width - k * file.width)
    divides = k >= 1 and patch_px % k == 0 and overlap_px % k == 0
    return k if fits and divides and short < patch_px else WARPED


def trimmed(area: Area, files: Iterable[tuple[Area, int]]) -> Area:
    """The part of the grid that every file covers, of those that are read as they are.

    Args:
        area: the grid.
        files: grid and factor of each file.
    """
    native = [(file, k) for file, k in files if k != WARPED]
    height = min([area.height, *(file.height * k for file, k in native)])
    width = min([area.width, *(file.width * k for file, k in native)])
    return dataclasses.replace(area, height=height, width=width)
