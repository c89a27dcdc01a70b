"""The images of a scene: which file gives which band on its grid, and patches of them.

Files whose pixels are the grid's, or whole multiples of them that divide a patch, are read as they
are, each size in an entry of its own (as in BigEarthNet: 10 m, 20 m, 60 m). All others are
resampled to the grid (bilinear) as they are read.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from rasterio.enums import Resampling

from rsjax import sensors
from rsjax.datasets import raster, scene_area
from rsjax.datasets.info import ImageSpec
from rsjax.datasets.raster import Rasters
from rsjax.datasets.scene_area import WARPED, Area
from rsjax.datasets.scene_list import BandFile, Grid
from rsjax.errors import DatasetError


@dataclasses.dataclass(frozen=True)
class _Part:
    """Bands of one file that go into an entry."""

    path: str
    indexes: tuple[int, ...]
    places: tuple[int, ...]  # on the entry's last axis
    factor: int
    nodata: float | None


@dataclasses.dataclass(frozen=True)
class SceneImages:
    """A scene, ready to be read.

    Attributes:
        where: its name, for messages.
        area: the grid.
        specs: image entries by name, the finest first.
        shift: what is added to stored values to bring them to the entries' unit.
    """

    where: str
    area: Area
    specs: dict[str, ImageSpec]
    shift: float
    patch_px: int
    parts: dict[str, list[_Part]]

    def read(self, rasters: Rasters, row: int, col: int) -> dict[str, np.ndarray]:
        """The entries of a patch: (height, width, bands) as `specs` say.

        Args:
            rasters: open files.
            row: of the patch's first pixel in the grid.
            col: likewise.
        """
        return {
            name: self._entry(rasters, name, row, col, self.patch_px, self.patch_px)
            for name in self.specs
        }

    def missing(self, rasters: Rasters, row: int, height: int) -> np.ndarray | None:
        """Where the first band of the first entry is missing, in rows of the whole grid.

        Returns:
            bool (height, width), or None where no value marks missing pixels.
        """
        spec = next(iter(self.specs.values()))
        if spec.nodata is None:
            return None
        part = next(p for p in self.parts[next(iter(self.specs))] if 0 in p.places)
        index = part.indexes[part.places.index(0)]
        plane = self._read(rasters, part, [index], row, 0, height, self.area.width)[0]
        return _is_missing(plane, part.nodata)

    def _entry(
        self, rasters: Rasters, name: str, row: int, col: int, height: int, width: int
    ) -> np.ndarray:
        spec = self.specs[name]
        first = self.parts[name][0]
        step = first.factor or 1
        out = np.empty((height // step, width // step, len(spec.bands)), spec.dtype)
        for part in self.parts[name]:
            planes = self._read(rasters, part, list(part.indexes), row, col, height, width)
            gone = _is_missing(planes, part.nodata)
            if self.shift:
                planes = _shifted(planes, self.shift, spec, gone)
            if np.dtype(spec.dtype).kind == "f" and gone.any():
                planes = np.where(gone, np.asarray(np.nan, spec.dtype), planes)
            out[..., list(part.places)] = np.moveaxis(planes, 0, -1)
        return out

    def _read(
        self,
        rasters: Rasters,
        part: _Part,
        indexes: list[int],
        row: int,
        col: int,
        height: int,
        width: int,
    ) -> np.ndarray:
        if part.factor == WARPED:
            area = self.area
            opened = rasters.warped(
                part.path,
                area.crs,
                area.transform,
                (area.height, area.width),
                Resampling.bilinear,
                part.nodata,
            )
            return raster.read_window(opened, part.path, indexes, row, col, height, width)
        k = part.factor
        opened = rasters.plain(part.path)
        window = (row // k, col // k, height // k, width // k)
        return raster.read_window(opened, part.path, indexes, *window)


@dataclasses.dataclass(frozen=True)
class _File:
    """What is known of a file from its header."""

    path: str
    bands: tuple[str, ...]
    area: Area
    dtype: str
    nodata: float | None


def open_scene(
    where: str,
    given: Sequence[tuple[str, BandFile]],
    grid: Grid,
    sensor: str,
    unit: str,
    stored_unit: str,
    nodata: float | None,
    wanted: tuple[str, ...],
) -> SceneImages:
    """Reads the headers of a scene's files and says how its patches are to be read.

    Args:
        where: the scene's name, for messages.
        given: path and description of each file.
        grid: what `scenes.json` says of the grid.
        sensor: name of the sensor.
        unit: that of the entries.
        stored_unit: that of the files.
        nodata: value of missing pixels; None is that of the files' tags.
        wanted: bands to keep; empty keeps all.

    Raises:
        DatasetError: a file is missing, damaged or not as stated, a band is missing, or files
            do not fit together.
        SensorError: a band or unit that the sensor does not have.
    """
    opened = [_header(path, file, nodata) for path, file in given]
    named = [band for file in opened for band in file.bands if band]
    for band in named:
        sensors.get(sensor).band(band)
    sensors.select(named, wanted or named, where)
    kept = set(wanted or named)
    used = [file for file in opened if kept & set(file.bands)]
    area = scene_area.of_scene(where, (file.area for file in used), grid)
    px, overlap = grid.patch_px, grid.overlap_px
    factors = {file.path: scene_area.factor(file.area, area, px, overlap) for file in used}
    area = scene_area.trimmed(area, ((file.area, factors[file.path]) for file in used))
    if area.height < grid.patch_px or area.width < grid.patch_px:
        raise DatasetError(
            f"{where}: {area.height}x{area.width} pixels, expected at least one patch of "
            f"{grid.patch_px}x{grid.patch_px}; make grid.patch_px smaller, or leave the scene out"
        )
    by_step: dict[int, list[_File]] = {}
    for file in used:
        by_step.setdefault(max(factors[file.path], 1), []).append(file)
    specs, parts = {}, {}
    gsd = grid.gsd_m or round(scene_area.pixel_metres(area), 3)
    for step, group in sorted(by_step.items()):
        name = "image" if len(by_step) == 1 else f"image_{gsd * step:g}m".replace(".", "p")
        order = [b for f in group for b in f.bands if b in kept]
        order = [b for b in wanted if b in order] or order
        side = px // step
        dtype, missing = _values(where, group, factors)
        specs[name] = ImageSpec(sensor, tuple(order), side, side, dtype, unit, gsd * step, missing)
        parts[name] = [_part(file, order, factors[file.path]) for file in group]
    shift = _shift(where, stored_unit, unit)
    return SceneImages(where, area, specs, shift, grid.patch_px, parts)


def _header(path: str, file: BandFile, nodata: float | None) -> _File:
    with raster.open_raster(path) as opened:
        raster.check_place(opened, path)
        if opened.count != len(file.bands):
            raise DatasetError(
                f"{path}: {opened.count} bands, expected {len(file.bands)} "
                f"({', '.join(map(repr, file.bands))}) as scenes.json says; name every band of "
                "the file in its order, '' for those to leave out"
            )
        kinds = set(opened.dtypes)
        if len(kinds) > 1 or np.dtype(opened.dtypes[0]).kind not in "iuf":
            raise DatasetError(f"{path}: pixels of {kinds}, expected one plain numeric type")
        tags = {repr(v): v for v in opened.nodatavals}
        if nodata is None and len(tags) > 1:
            raise DatasetError(
                f"{path}: bands with the nodata tags {', '.join(tags)}, expected one; state "
                "nodata in scenes.json"
            )
        area = Area(opened.crs, opened.transform, opened.height, opened.width)
        (tag,) = tags.values() if len(tags) == 1 else (None,)
        dtype = opened.dtypes[0]
        missing = tag if nodata is None else nodata
        if missing is None:
            raster.check_written(opened, path)
        return _File(path, file.bands, area, dtype, _as_stored(path, missing, dtype))


def _as_stored(path: str, nodata: float | None, dtype: str) -> float | None:
    """The nodata value as pixels of this dtype have it."""
    if nodata is None:
        return None
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return float(kind.type(nodata))
    limits = np.iinfo(kind)
    if nodata != nodata or nodata != int(nodata) or not limits.min <= nodata <= limits.max:
        raise DatasetError(
            f"{path}: nodata {nodata} cannot be stored in {dtype}, expected a whole number from "
            f"{limits.min} to {limits.max}; state the right nodata in scenes.json"
        )
    return float(nodata)


def _values(where: str, group: list[_File], factors: dict[str, int]) -> tuple[str, float | None]:
    """Dtype and nodata of an entry; missing pixels of floats are NaN, whatever their files have."""
    dtype = np.result_type(*(file.dtype for file in group))
    if dtype.kind == "f":
        return str(dtype), math.nan
    values = {file.nodata for file in group}
    if len(values) > 1:
        said = ", ".join(f"{file.path}: {file.nodata}" for file in group)
        raise DatasetError(
            f"{where}: nodata {said}, expected the same of files with integers; state nodata in "
            "scenes.json"
        )
    (value,) = values
    if value is None and any(factors[file.path] == WARPED for file in group):
        raise DatasetError(
            f"{where}: resampled to the grid, and without a value for the pixels outside the "
            "image; state nodata in scenes.json, e.g. 0"
        )
    return str(dtype), value


def _part(file: _File, order: list[str], factor: int) -> _Part:
    pairs = [(i, order.index(b)) for i, b in enumerate(file.bands, 1) if b in order]
    indexes, places = zip(*pairs, strict=True)
    # Outside a resampled image of floats there is nothing but NaN to say so.
    nodata = file.nodata
    if factor == WARPED and nodata is None:
        nodata = math.nan
    return _Part(file.path, indexes, places, factor, nodata)


def _shift(where: str, stored: str, unit: str) -> float:
    """What to add to stored values to have them in another unit of the same scale."""
    if stored == unit:
        return 0.0
    for name in (stored, unit):
        if name not in sensors.UNITS:
            sensors.convert(np.zeros(1, np.float32), name, unit)  # an error that lists the known
    (scale_in, offset_in, kind_in) = sensors.UNITS[stored]
    (scale_out, offset_out, kind_out) = sensors.UNITS[unit]
    if (scale_in, kind_in) != (scale_out, kind_out) or "db" in (stored, unit):
        raise DatasetError(
            f"{where}: unit {stored}, expected {unit} or one of the same scale; convert its files"
        )
    return round((offset_in - offset_out) / scale_out, 9)


def _shifted(planes: np.ndarray, shift: float, spec: ImageSpec, gone: np.ndarray) -> np.ndarray:
    """Stored values moved to another zero; none becomes nodata, and nodata stays."""
    if np.dtype(spec.dtype).kind == "f":
        return np.asarray(planes + planes.dtype.type(shift))
    limits = np.iinfo(spec.dtype)
    low = limits.min + (spec.nodata == limits.min)
    moved = np.clip(planes.astype(np.int64) + int(shift), low, limits.max)
    return np.where(gone, planes, moved).astype(planes.dtype)


def _is_missing(planes: np.ndarray, nodata: float | None) -> np.ndarray:
    gone = np.isnan(planes) if planes.dtype.kind == "f" else np.zeros(planes.shape, bool)
    if nodata is not None and nodata == nodata:
        gone |= planes == planes.dtype.type(nodata)
    return gone


def missing(image: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """Where an entry is missing: every band nodata, or any NaN; bool (height, width)."""
    if spec.nodata is None:
        return np.zeros(image.shape[:2], bool)
    if spec.nodata != spec.nodata:
        return np.asarray(np.isnan(image).any(axis=-1))
    return np.asarray((image == image.dtype.type(spec.nodata)).all(axis=-1))


def describe(specs: dict[str, ImageSpec]) -> str:
    """Entries with their bands, for messages."""
    return "; ".join(
        f"{name}: {', '.join(s.bands)} ({s.dtype}, {s.gsd_m:g} m, nodata {s.nodata})"
        for name, s in specs.items()
    )
