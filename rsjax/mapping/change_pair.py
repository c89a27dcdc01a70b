"""Two maps of one place as one: their common grid, their common classes, and pairs by blocks.

Nothing is resampled: pixels of both must lie on each other. Classes are translated only by a
crosswalk that the user asked for.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shlex
from collections.abc import Iterator

import numpy as np
import rasterio
from rasterio.windows import Window

from rsjax.datasets.raster import SAME, crs_name, same_crs
from rsjax.errors import NomenclatureError, SceneError
from rsjax.landcover import IGNORE, NAMES, Nomenclature, crosswalk, nomenclature
from rsjax.mapping import landmap
from rsjax.mapping.landmap import LandMap

ABSENT = 65535  # in place of a pair where either map has no class
_STRIP_PIXELS = 2**24


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two maps on their common grid.

    A pair of classes is `from * C + to`, of class indices in `classes`.

    Attributes:
        before: the earlier map.
        after: the later one.
        classes: the C classes of both.
        lookups: for each map its class index to that in `classes`, (256,) uint8; 255: none.
        corners: for each map (row, col) where the common grid begins.
        transform: of the common grid.
        shape: of the common grid.
        notes: what the user should know.
    """

    before: LandMap
    after: LandMap
    classes: Nomenclature
    lookups: tuple[np.ndarray, np.ndarray]
    corners: tuple[tuple[int, int], tuple[int, int]]
    transform: rasterio.Affine
    shape: tuple[int, int]
    notes: tuple[str, ...]

    @property
    def path(self) -> str:
        """Both files, for messages."""
        return f"{self.before.path} and {self.after.path}"

    @property
    def crs(self) -> rasterio.crs.CRS:
        """The coordinate system of both."""
        return self.before.crs

    @property
    def nomenclature(self) -> range:
        """All pairs that there may be."""
        return range(len(self.classes) ** 2)

    def blocks(self) -> Iterator[tuple[Window, np.ndarray]]:
        """Windows of the common grid and their pairs: uint16 (rows, columns), or `ABSENT`.

        Raises:
            SceneError, NomenclatureError: as `LandMap.blocks`.
        """
        for window, before, after in self._read(list(self._windows(landmap.BLOCK_PIXELS))):
            pairs = before.astype(np.uint16) * len(self.classes) + after
            yield window, np.where((before == IGNORE) | (after == IGNORE), ABSENT, pairs)

    def strips(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Class indices before and after, in strips over the whole width, from the top.

        Raises:
            SceneError, NomenclatureError: as `LandMap.blocks`.
        """
        for _, before, after in self._read(list(self._windows(_STRIP_PIXELS, strips=True))):
            yield before, after

    def _windows(self, pixels: int, strips: bool = False) -> Iterator[Window]:
        with landmap.open_raster(self.before.path) as opened:
            rows, cols = opened.block_shapes[0]
        return landmap.windows(self.shape, (rows, self.shape[1] if strips else cols), pixels)

    def _read(self, windows: list[Window]) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
        each = [
            land_map.read([Window(w.col_off + col, w.row_off + row, w.width, w.height)
                           for w in windows])
            for land_map, (row, col) in zip((self.before, self.after), self.corners, strict=True)
        ]  # fmt: skip
        for window, before, after in zip(windows, *each, strict=True):
            yield window, self.lookups[0][before], self.lookups[1][after]


def read(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    named: str = "",
    to: str = "",
    crosswalks: tuple[str, str] = ("", ""),
) -> Pair:
    """Opens two maps; reads no pixels.

    Args:
        before: the earlier map, see `landmap.read_map`.
        after: the later one.
        named: nomenclature of both where the files do not say, or 'BEFORE,AFTER'; either may be
            empty.
        to: nomenclature into which both are translated; '' where they have the same.
        crosswalks: for each map a CSV (from_code, to_code) that translates it, or ''. Without `to`
            it leads to the nomenclature of the other. It needs every class of the map's.

    Raises:
        SceneError: no maps, or grids that do not lie on each other; says how to warp one.
        NomenclatureError: different classes, or a crosswalk that is missing or does not fit.
    """
    names = named.split(",") if "," in named else [named, named]
    if len(names) != 2:
        raise NomenclatureError(f"--nomenclature={named}: expected one name, or BEFORE,AFTER")
    hint = "; NAME, (with the comma) is for the earlier map alone, ,NAME for the later"
    maps = (landmap.read_map(before, names[0].strip(), hint),
            landmap.read_map(after, names[1].strip(), hint))  # fmt: skip
    corners, shape, notes = _common_grid(*maps)
    classes, lookups, more = _common_classes(*maps, to, crosswalks)
    t = maps[0].transform
    x, y = _moved(t, np.array([corners[0][::-1]], float))[0].tolist()
    transform = rasterio.Affine(t.a, t.b, x, t.d, t.e, y)
    return Pair(*maps, classes, lookups, corners, transform, shape, (*notes, *more))


def _common_grid(
    before: LandMap, after: LandMap
) -> tuple[tuple[tuple[int, int], tuple[int, int]], tuple[int, int], list[str]]:
    """Where the common pixels begin in each map, how many there are, and what is left out."""
    height, width = after.shape
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], float)
    found = _moved(~before.transform, _moved(after.transform, corners))  # in pixels of `before`
    col, row = np.rint(found[0]).astype(int).tolist()
    apart = float(np.abs(found - corners - (col, row)).max())
    if apart > SAME or not same_crs(before.crs, after.crs):
        raise SceneError(
            f"{after.path}: its pixels do not lie on those of {before.path} "
            f"({_grid(after)}; {_grid(before)}). {_remedy(before, after, apart)}"
        )
    top, left = max(0, row), max(0, col)
    shape = (min(before.shape[0], row + height) - top, min(before.shape[1], col + width) - left)
    if min(shape) <= 0:
        raise SceneError(
            f"{before.path} and {after.path} have no pixel in common: {_grid(before)}; "
            f"{_grid(after)}"
        )
    notes = [
        f"{one.path}: {one.shape[0] * one.shape[1] - shape[0] * shape[1]:,} of its "
        f"{one.shape[0] * one.shape[1]:,} pixels lie beyond the other map and are left out"
        for one in (before, after)
        if one.shape != shape
    ]
    return ((top, left), (top - row, left - col)), shape, notes


def _moved(t: rasterio.Affine, points: np.ndarray) -> np.ndarray:
    """Points (n, 2) by a transform."""
    x, y = points.T
    return np.column_stack([t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f])


def _grid(land_map: LandMap) -> str:
    t, name = land_map.transform, crs_name(land_map.crs)
    return (
        f"{name if len(name) < 20 else 'a CRS without EPSG code'}, corner ({t.c:.9g}, {t.f:.9g}), "
        f"pixels {t.a:.9g} x {t.e:.9g}, {land_map.shape[0]} x {land_map.shape[1]} rows and columns"
    )


def _remedy(before: LandMap, after: LandMap, apart: float) -> str:
    """The command that brings one map to the grid of the other."""
    target, moved = before, after
    if not _north_up(before.transform):
        target, moved = after, before
    if not _north_up(target.transform):
        return "Both are rotated or upside down: warp both north up with gdalwarp -r near first"
    t, (height, width) = target.transform, target.shape
    box = (t.c, t.f + t.e * height, t.c + t.a * width, t.f)
    nodata = ""
    if moved.nodata is None:  # gdalwarp would fill with a class
        free = next(v for v in (0, 255, *range(1, 65535)) if v not in moved.nomenclature.codes)
        nodata = f"-dstnodata {free} "
    name = pathlib.Path(moved.path)
    command = (
        f"gdalwarp -t_srs {shlex.quote(crs_name(target.crs))} -te {' '.join(map(repr, box))} "
        f"-ts {width} {height} -r near {nodata}{shlex.quote(moved.path)} "
        f"{shlex.quote(str(name.with_name(f'{name.stem}_warped{name.suffix}')))}"
    )
    same = (
        " Only their coordinate systems differ, not their numbers: if both mean one grid, say so "
        f"in a copy, with gdal_edit.py -a_srs {shlex.quote(crs_name(target.crs))}."
    )
    warning = " Warped borders of classes move by up to half a pixel, which looks like change."
    return f"Warp one:\n{command}\n{warning.strip()}{same if apart <= SAME else ''}"


def _north_up(t: rasterio.Affine) -> bool:
    return t.b == t.d == 0 and t.a > 0 > t.e


def _common_classes(
    before: LandMap, after: LandMap, to: str, crosswalks: tuple[str, str]
) -> tuple[Nomenclature, tuple[np.ndarray, np.ndarray], list[str]]:
    """The classes of both maps, for each a lookup table into them, and what these leave out."""
    own = before.nomenclature, after.nomenclature
    if to:
        target = nomenclature.load(to)
    elif all(crosswalks):
        raise NomenclatureError("both maps have a crosswalk; name with --to=NAME where they lead")
    elif any(crosswalks):
        target = own[1] if crosswalks[0] else own[0]
    elif _same(*own):
        target = own[0]
    else:
        found = ", ".join(name for name in NAMES if all(_reaches(one, name) for one in own))
        raise NomenclatureError(
            f"{before.path} has classes of {own[0].name!r}, {after.path} of {own[1].name!r}"
            f"{' with other codes or names' if own[0].name == own[1].name else ''}, and changes "
            "need one nomenclature. Translate both with --to=NAME (there are crosswalks from both "
            f"to: {found or 'none'}), or one with a table of codes: "
            "--crosswalk_before=FILE.csv or --crosswalk_after=FILE.csv (a line '# source: ...', "
            "then columns from_code,to_code; empty: left out)"
        )
    lookups, notes = [], []
    sides = zip(("before", "after"), (before, after), own, crosswalks, strict=True)
    for side, land_map, one, path in sides:
        if path:
            lookup = crosswalk.of_file(pathlib.Path(path), one, target)
        elif _same(one, target):
            lookup = np.arange(IGNORE + 1, dtype=np.uint8)
        else:
            try:
                lookup = one.crosswalk(target)
            except NomenclatureError as error:
                raise NomenclatureError(
                    f"{land_map.path}: {error}; or translate it with --crosswalk_{side}=FILE.csv"
                ) from error
        lookups.append(lookup)
        if left := [n for n, slot in zip(one.names, lookup, strict=False) if slot == IGNORE]:
            notes.append(f"{land_map.path}: classes that {target.name!r} has no place for count as "
                         f"no class: {', '.join(left)}")  # fmt: skip
    return target, (lookups[0], lookups[1]), notes


def _same(one: Nomenclature, other: Nomenclature) -> bool:
    return (one.codes, one.names) == (other.codes, other.names)


def _reaches(one: Nomenclature, name: str) -> bool:
    try:
        one.crosswalk(nomenclature.load(name))
    except NomenclatureError:
        return False
    return True
