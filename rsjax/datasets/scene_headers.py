"""The files of a scene, opened: which of them gives which band of which entry, on what grid.

Only headers are read; `scene_images` reads the pixels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from rsjax import sensors
from rsjax.datasets import raster, scene_area
from rsjax.datasets.info import ImageSpec
from rsjax.datasets.scene_area import WARPED, Area
from rsjax.datasets.scene_images import Part, SceneImages
from rsjax.datasets.scene_list import BandFile, Grid
from rsjax.errors import DatasetError


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
    _check_overlap(where, used, area)
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


def _check_overlap(where: str, files: Sequence[_File], area: Area) -> None:
    """Refuses a file that lies beside its scene."""
    for file in files:
        box = scene_area.bounds_in(file.area.crs, file.area.extent, area.crs)
        if not scene_area.overlap(box, area.extent):
            raise DatasetError(
                f"{file.path}: lies at (left, bottom, right, top) {scene_area.numbers(box)}, "
                f"expected pixels where {where} is, {scene_area.numbers(area.extent)} in "
                f"{raster.crs_name(area.crs)}; give the scene a file of its own place"
            )


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
        if nodata is None:
            raster.check_mask(opened, path)
        raster.check_written(opened, path, missing)
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


def _part(file: _File, order: list[str], factor: int) -> Part:
    pairs = [(i, order.index(b)) for i, b in enumerate(file.bands, 1) if b in order]
    indexes, places = zip(*pairs, strict=True)
    ground = (raster.crs_name(file.area.crs), *file.area.extent)
    # Outside a resampled image of floats there is nothing but NaN to say so.
    nodata = file.nodata
    if factor == WARPED and nodata is None:
        nodata = math.nan
    return Part(file.path, indexes, places, factor, nodata, ground)


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


def describe(specs: dict[str, ImageSpec]) -> str:
    """Entries with their bands, for messages."""
    return "; ".join(
        f"{name}: {', '.join(s.bands)} ({s.dtype}, {s.gsd_m:g} m, nodata {s.nodata})"
        for name, s in specs.items()
    )
