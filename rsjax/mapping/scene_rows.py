"""Rows of a scene, read by several threads: values in the model's units, and which are missing.

A pixel is missing where a used band has its nodata value and that is no possible measurement (NaN,
or outside the sensor's range), where all used bands of a sensor have theirs (0 may also be a dark
surface), or where a file's own mask says so. What the model sees there is what it saw in training:
the entry's nodata value, or the band's mean.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Mapping

import numpy as np
from rasterio.windows import Window

from rsjax import sensors
from rsjax.datasets import raster
from rsjax.datasets.info import ImageSpec
from rsjax.datasets.raster import Rasters
from rsjax.errors import SceneError, SensorError
from rsjax.mapping import tiling


@dataclasses.dataclass(frozen=True)
class Part:
    """Bands of one file that go into an entry.

    Attributes:
        path: the file.
        indexes: of its bands, from 1.
        places: of these on the entry's first axis.
        unit: of its values.
        nodata: of each band, or None.
        hard: of each band, whether its nodata value alone says that the pixel is missing.
        masked: whether the file has a mask of its own.
        columns: that one thread reads at once.
        rows: of a block of the file.
    """

    path: str
    indexes: tuple[int, ...]
    places: tuple[int, ...]
    unit: str
    nodata: tuple[float | None, ...]
    hard: tuple[bool, ...]
    masked: bool
    columns: int
    rows: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """Bands of one sensor and one pixel size.

    Attributes:
        spec: as the model's preprocessing takes it; height and width are 0.
        factor: side of a pixel in pixels of the scene's grid.
        shape: (rows, columns) of its files.
        parts: where the bands come from.
        fill: what the model sees where pixels are missing; NaN: the band's mean.
    """

    spec: ImageSpec
    factor: int
    shape: tuple[int, int]
    parts: tuple[Part, ...]
    fill: float


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of a scene.

    Attributes:
        entries: {entry: (bands, rows, columns)}, in the dtype and unit of its spec.
        missing: bool (rows, columns), on the scene's grid.
    """

    entries: dict[str, np.ndarray]
    missing: np.ndarray


def read(
    entries: Mapping[str, Entry],
    rasters: Rasters,
    rows: tuple[int, int],
    columns: tuple[int, int],
    pool: concurrent.futures.Executor,
) -> Rows:
    """Pixels rows[0] .. rows[1] - 1 and columns[0] .. columns[1] - 1, mirrored beyond the scene.

    Args:
        entries: of the scene.
        rasters: open files.
        rows: first pixel and one past the last; whole pixels of every entry.
        columns: likewise.
        pool: whose threads read.

    Raises:
        DatasetError: pixels that do not decode.
        SceneError: infinite values, or backscatter that has no decibels.
    """
    found, some = {}, []
    every: dict[str, np.ndarray] = {}
    for name, entry in entries.items():
        at = [
            tiling.mirrored(lo // entry.factor, hi // entry.factor, size)
            for (lo, hi), size in zip((rows, columns), entry.shape, strict=True)
        ]
        block, all_gone, one_gone = _block(entry, rasters, at, pool)
        found[name] = block
        all_gone, one_gone = (_finer(mask, entry.factor) for mask in (all_gone, one_gone))
        some.append(one_gone)
        sensor = entry.spec.sensor
        every[sensor] = every[sensor] & all_gone if sensor in every else all_gone
    return Rows(found, np.logical_or.reduce([*some, *every.values()]))


def joined(above: Rows, below: Rows, entries: Mapping[str, Entry], keep: int) -> Rows:
    """The last `keep` rows (of the grid) of one piece, and all of the next."""
    both = {
        name: np.concatenate(
            [block[:, block.shape[1] - keep // entries[name].factor :], below.entries[name]], axis=1
        )
        for name, block in above.entries.items()
    }
    missing = np.concatenate([above.missing[len(above.missing) - keep :], below.missing])
    return Rows(both, missing)


def part(rows: Rows, entries: Mapping[str, Entry], first: int, count: int) -> Rows:
    """Some of the rows, both of the grid; a view."""
    views = {}
    for name, block in rows.entries.items():
        k = entries[name].factor
        views[name] = block[:, first // k : (first + count) // k]
    return Rows(views, rows.missing[first : first + count])


def _block(
    entry: Entry,
    rasters: Rasters,
    at: list[np.ndarray],
    pool: concurrent.futures.Executor,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of an entry; where all its bands are missing, and where one is that says enough."""
    (row, stop), (left, right) = ((int(one.min()), int(one.max()) + 1) for one in at)
    block = np.empty((len(entry.spec.bands), stop - row, right - left), entry.spec.dtype)
    has = any(value is not None for part in entry.parts for value in part.nodata)
    every, some = np.full(block.shape[1:], has), np.zeros(block.shape[1:], bool)

    def fetch(job: tuple[Part, int, int]) -> tuple[slice, np.ndarray, np.ndarray]:
        part, col, end = job
        opened = rasters.plain(part.path)
        size = stop - row, end - col
        planes = raster.read_window(opened, part.path, list(part.indexes), row, col, *size)
        masked = np.zeros(size, bool)
        if part.masked:
            masked = opened.read_masks(part.indexes[0], window=Window(col, row, *size[::-1])) == 0
        all_gone, one_gone = np.ones(size, bool), masked
        columns = slice(col - left, end - left)
        for i, place in enumerate(part.places):
            gone = _is(planes[i], part.nodata[i])
            if part.nodata[i] is not None:
                all_gone = all_gone & gone
            alone = gone if part.hard[i] else np.isnan(planes[i])
            one_gone = one_gone | alone
            block[place, :, columns] = _values(planes[i], part, entry, alone | masked)
        return columns, all_gone, one_gone

    jobs = [
        (part, col, min(col + part.columns, right))
        for part in entry.parts
        for col in range(left, right, part.columns)
    ]
    for columns, all_gone, one_gone in pool.map(fetch, jobs):
        every[:, columns] &= all_gone
        some[:, columns] |= one_gone
    if every.any():
        block[:, every] = entry.fill
    taken = (_taken(one, [i - first for i, first in zip(at, (row, left), strict=True)])
             for one in (block, every, some))  # fmt: skip
    return tuple(taken)  # type: ignore[return-value]


def _is(plane: np.ndarray, nodata: float | None) -> np.ndarray:
    """Where a band has its nodata value, or NaN."""
    gone = np.isnan(plane) if plane.dtype.kind == "f" else np.zeros(plane.shape, bool)
    if nodata is not None and nodata == nodata:
        gone |= plane == plane.dtype.type(nodata)
    return gone


def _values(plane: np.ndarray, part: Part, entry: Entry, gone: np.ndarray) -> np.ndarray:
    """A band in the entry's unit and dtype, filled where it is missing."""
    if np.dtype(entry.spec.dtype).kind == "f":
        plane = np.where(gone, np.float32(np.nan), plane.astype(np.float32))
        if np.isinf(plane).any():
            raise SceneError(
                f"{part.path}: infinite values, expected numbers, or NaN or a nodata value where "
                "there is none; mask them out"
            )
        try:
            plane = sensors.convert(plane, part.unit, entry.spec.unit)
        except SensorError as error:
            raise SceneError(f"{part.path}: {error}") from error
    return np.where(gone, np.asarray(entry.fill, plane.dtype), plane) if gone.any() else plane


def _taken(image: np.ndarray, at: list[np.ndarray]) -> np.ndarray:
    """Rows and columns by position, of the last two axes; the image itself where these are all."""
    for axis, index in zip((-2, -1), at, strict=True):
        if not np.array_equal(index, np.arange(image.shape[axis])):
            image = np.take(image, index, axis=axis)
    return image


def _finer(mask: np.ndarray, factor: int) -> np.ndarray:
    return np.repeat(np.repeat(mask, factor, 0), factor, 1) if factor > 1 else mask
