"""A scene as a model takes it: bands found by (sensor, name), all files on one grid.

The grid is that of the finest file that is used. Coarser ones must lie on it with whole multiples
of its pixels; they are read as they are, for the model's preprocessing to bring them to its grid.
Nothing is warped here: files of other coordinate systems or grids are refused.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from rasterio.enums import MaskFlags

from rsjax import sensors
from rsjax.datasets import raster, scene_area
from rsjax.datasets.info import ImageSpec
from rsjax.datasets.raster import SAME, Rasters
from rsjax.datasets.scene_area import Area
from rsjax.errors import SceneError, SensorError
from rsjax.input.preprocess import Inputs, names_of
from rsjax.mapping import scene_files, scene_rows
from rsjax.mapping.scene_files import Layer
from rsjax.mapping.scene_rows import Entry, Part, Rows

COLUMNS = 2048  # that one thread reads at once, in whole blocks of the file
ROWS = 2048  # of the scene that are read at once, at most, where blocks are as high

_Found = Mapping[str, tuple[Layer, int]]  # 'sensor/band' -> file and position in it


@dataclasses.dataclass(frozen=True)
class Scene:
    """The bands of a scene that a model takes.

    Attributes:
        area: the grid of the map.
        entries: by name, finest first.
        step: pixels in which windows must start: a whole pixel of every entry.
        files: those that are used.
        gsd_m: side of a pixel in metres.
        dates: ISO dates of acquisition, as far as they are known.
    """

    area: Area
    entries: dict[str, Entry]
    step: int
    files: tuple[str, ...]
    gsd_m: float
    dates: tuple[str, ...] = ()
    rasters: Rasters = dataclasses.field(default_factory=Rasters, repr=False)

    @property
    def rows_at_once(self) -> int:
        """Rows of the grid that are best read together, so that no block is decoded twice."""
        blocks = [part.rows * e.factor for e in self.entries.values() for part in e.parts]
        return self.step * -(-min(max(blocks), ROWS) // self.step)

    def inputs(self, trained: Inputs, window: int, grid: int) -> Inputs:
        """The model's inputs with the entries of this scene.

        Args:
            trained: the model's.
            window: side of a window in pixels of the scene.
            grid: side of the same in pixels of the model.
        """
        images = {}
        for name, entry in self.entries.items():
            side = window // entry.factor
            images[name] = dataclasses.replace(entry.spec, height=side, width=side)
        return dataclasses.replace(trained, images=images, grid=(grid, grid))

    def read(
        self, rows: tuple[int, int], columns: tuple[int, int], pool: concurrent.futures.Executor
    ) -> Rows:
        """Pixels of the grid, mirrored beyond the scene: see `scene_rows.read`."""
        return scene_rows.read(self.entries, self.rasters, rows, columns, pool)


def open_scene(layers: Sequence[Layer], inputs: Inputs, units: Sequence[str] = ()) -> Scene:
    """Finds a model's bands in files and reads their headers.

    Args:
        layers: the files.
        inputs: what the model takes.
        units: stated by the user, see `scene_files.unit_of`.

    Raises:
        SensorError: a band that is missing or there more than once, or an unknown unit.
        SceneError: files that do not lie on one grid, or whose unit nobody knows.
        DatasetError: a file that is missing, damaged or not georeferenced.
    """
    found = _match(layers, inputs)
    paths = list(dict.fromkeys(layer.path for layer, _ in found.values()))
    areas = {path: _area(path) for path in paths}
    finest = min(paths, key=lambda path: abs(areas[path].transform.determinant))
    area = areas[finest]
    factors = {path: _factor(path, areas[path], finest, area) for path in paths}
    entries = {}
    for name, spec in inputs.images.items():
        known = [b for b in names_of(spec, inputs.bands) if f"{spec.sensor}/{b}" in found]
        by_factor: dict[int, list[str]] = {}
        for band in known:
            path = found[f"{spec.sensor}/{band}"][0].path
            by_factor.setdefault(factors[path], []).append(band)
        for factor, bands in by_factor.items():
            chosen = {band: found[f"{spec.sensor}/{band}"] for band in bands}
            shape = _shape(chosen, areas)
            entries[f"{name}_{factor}"] = _entry(spec, chosen, factor, shape, units)
    entries = dict(sorted(entries.items(), key=lambda item: item[1].factor))
    dates = tuple(sorted({layer.date for layer, _ in found.values() if layer.date}))
    return Scene(area, entries, math.lcm(*factors.values()), tuple(paths), _gsd(area), dates)


def _match(layers: Sequence[Layer], inputs: Inputs) -> _Found:
    """Which file has which band of the model."""
    there = [(layer, i, name) for layer in layers for i, name in enumerate(layer.names) if name]
    listed = ", ".join(dict.fromkeys(name for _, _, name in there)) or "none"
    found = {}
    for band in inputs.bands:
        bare = band.split("/")[1]
        hits = [(layer, i) for layer, i, name in there if name in (band, bare)]
        if len(hits) != 1:
            what = "missing" if not hits else "given more than once"
            where = "" if not hits else " (" + ", ".join(layer.path for layer, _ in hits) + ")"
            raise SensorError(
                f"band {band} is {what}{where}; the model needs {', '.join(inputs.bands)}, the "
                f"scene has {listed}. Supply it, or name the bands of the files: --bands=..., or "
                f"--scene={bare}=FILE"
            )
        twins = [other for other in inputs.bands if other != band and other.split("/")[1] == bare]
        layer, at = hits[0]
        if twins and "/" not in layer.names[at]:
            raise SensorError(
                f"{layer.path}: band {bare} may be {' or '.join([band, *twins])}; name it in full"
            )
        found[band] = hits[0]
    return found


def _area(path: str) -> Area:
    with raster.open_raster(path) as opened:
        raster.check_place(opened, path)
        return Area(opened.crs, opened.transform, opened.height, opened.width)


def _factor(path: str, area: Area, finest: str, grid: Area) -> int:
    """How many pixels of the grid a pixel of a file has a side."""
    if not raster.same_crs(area.crs, grid.crs):
        raise SceneError(
            f"{path}: {raster.crs_name(area.crs)}, but {finest} has {raster.crs_name(grid.crs)}; "
            "expected one coordinate system. Bring them to one, e.g. with gdalwarp -t_srs"
        )
    # Pixels of the file to pixels of the grid, about the grid's corner: sums of large numbers
    # would round.
    ours, theirs = (np.array(one.transform).reshape(3, 3) for one in (grid, area))
    relative = np.linalg.solve(ours[:2, :2], theirs[:2] - [[0, 0, x] for x in ours[:2, 2]])
    k = max(1, round(relative[0, 0]))
    grown = np.abs(relative[:, :2] - k * np.eye(2)).max() * max(area.width, area.height)
    apart = max(np.abs(relative[:, 2]).max(), grown)
    size = np.array([area.width, area.height])
    short = np.array([grid.width, grid.height]) - k * size
    if not apart <= SAME or (abs(short) >= k).any():
        raise SceneError(
            f"{path}: {area.width} x {area.height} pixels, transform {tuple(area.transform)[:6]}, "
            f"but {finest} has {grid.width} x {grid.height} pixels, "
            f"{tuple(grid.transform)[:6]}; expected the same corner and extent, and pixels of the "
            "same size or a whole multiple. Bring them to one grid, e.g. with gdalwarp -tr -te"
        )
    return k


def _shape(chosen: Mapping[str, tuple[Layer, int]], areas: Mapping[str, Area]) -> tuple[int, int]:
    """Rows and columns that all files of an entry have."""
    own = [areas[layer.path] for layer, _ in chosen.values()]
    return min(area.height for area in own), min(area.width for area in own)


def _entry(
    spec: ImageSpec,
    chosen: Mapping[str, tuple[Layer, int]],
    factor: int,
    shape: tuple[int, int],
    units: Sequence[str],
) -> Entry:
    by_layer: dict[Layer, list[tuple[int, int]]] = {}
    for place, (layer, at) in enumerate(chosen.values()):
        by_layer.setdefault(layer, []).append((at + 1, place))
    parts, dtypes = [], []
    for layer, pairs in by_layer.items():
        part, dtype = _part(spec, layer, pairs, units)
        parts.append(part)
        dtypes.append(dtype)
    fill = math.nan if spec.nodata is None else float(spec.nodata)
    dtype = np.result_type(*dtypes)
    incomplete = any(part.masked or any(n is not None for n in part.nodata) for part in parts)
    if (
        dtype.kind not in "iu"
        or dtype.itemsize > 4
        or any(part.unit != spec.unit for part in parts)
        or (incomplete and not _holds(dtype, fill))
    ):
        dtype = np.dtype(np.float32)
    spec = dataclasses.replace(
        spec, bands=tuple(chosen), dtype=str(dtype), height=0, width=0, steps=None,
        nodata=fill if incomplete or dtype.kind == "f" else None,
    )  # fmt: skip
    return Entry(spec, factor, shape, tuple(parts), fill)


def _part(
    spec: ImageSpec, layer: Layer, pairs: Sequence[tuple[int, int]], units: Sequence[str]
) -> tuple[Part, np.dtype]:
    """Bands of one file: (index in the file, place in the entry); and the file's dtype."""
    unit = scene_files.unit_of(layer, spec.sensor, units)
    indexes, places = zip(*pairs, strict=True)
    with raster.open_raster(layer.path) as opened:
        if opened.count != len(layer.names):
            raise SceneError(
                f"{layer.path}: {opened.count} bands, expected {len(layer.names)}: "
                f"{', '.join(map(repr, layer.names))}; name every band of the file"
            )
        dtype = np.result_type(*(opened.dtypes[i - 1] for i in indexes))
        if dtype.kind not in "iuf":
            raise SceneError(f"{layer.path}: pixels of {dtype}, expected plain numbers")
        given = [
            opened.nodatavals[i - 1] if layer.nodata is None else layer.nodata for i in indexes
        ]
        flags = opened.mask_flag_enums[indexes[0] - 1]
        masked = MaskFlags.per_dataset in flags
        rows, block = opened.block_shapes[indexes[0] - 1]
        if not masked:
            for value in set(given):
                raster.check_written(opened, layer.path, value)
    nodata = tuple(None if v is None or not _holds(dtype, v) else float(v) for v in given)
    low, high = sensors.valid_range(spec.sensor, unit)
    hard = tuple(value is not None and not low <= value <= high for value in nodata)
    columns = block * max(1, -(-COLUMNS // block))
    return Part(layer.path, indexes, places, unit, nodata, hard, masked, columns, rows), dtype


def _holds(dtype: np.dtype, value: float) -> bool:
    """Whether pixels of a dtype can have a value."""
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return value == value and limits.min <= value <= limits.max and value == int(value)


def _gsd(area: Area) -> float:
    """Side of a pixel in metres; of degrees, along a meridian."""
    side = math.sqrt(abs(area.transform.determinant))
    if area.crs.is_geographic:
        return side * scene_area.METRES_PER_DEGREE
    return side * float(area.crs.linear_units_factor[1])
