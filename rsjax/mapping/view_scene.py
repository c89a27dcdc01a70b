"""The scene behind a map, as a colour picture on the map's grid; nothing is warped."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.windows import Window

from rsjax.datasets import raster as rasters
from rsjax.errors import DatasetError, SceneError
from rsjax.mapping import provenance, scene_files, view_bands, view_layers
from rsjax.mapping.landmap import LandMap
from rsjax.mapping.scene_files import Layer

STRETCH = (2.0, 98.0)  # percentiles drawn as black and white
_LOOK_PX = 1024  # longest side of what these are taken from
_STRIP_PIXELS = 2**18  # drawn at once
_COLOURS = ("red", "green", "blue")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A scene to draw.

    Attributes:
        rgba: uint8 (rows, columns, 4), transparent where there is no data.
        box: (left, top, right, bottom) in pixels of the map.
        factor: pixels of the scene a side for one that is drawn.
        said: which bands, how they are stretched and thinned.
        files: those drawn.
    """

    rgba: np.ndarray
    box: tuple[float, float, float, float]
    factor: int
    said: str
    files: tuple[str, ...]


def draw(
    given: Sequence[str],
    land_map: LandMap,
    *,
    bands: Sequence[str] = (),
    rgb: Sequence[str] = (),
    max_px: int,
    trust_transform: bool = False,
) -> Picture:
    """Draws the part of a scene that a map covers.

    Args:
        given: the scene, see `scene_files`.
        land_map: the map.
        bands: names of the bands of files that are given without names.
        rgb: bands to draw; empty: by their wavelengths.
        max_px: longest side drawn.
        trust_transform: whether coordinate systems of other names are taken for the map's.

    Raises:
        SceneError: files that do not lie on the map's grid.
        SensorError: bands that are not known, see `view_bands.choose`.
        DatasetError: files that are missing or damaged.
    """
    known = _known(land_map)
    layers = _layers(given, bands, rgb, known)
    names = [name for layer in layers for name in layer.names if name]
    chosen, said = view_bands.choose(names, rgb, known)
    where = [
        next((layer, layer.names.index(name) + 1) for layer in layers if name in layer.names)
        for name in chosen
    ]
    boxes = {layer.path: _box(layer.path, land_map, trust_transform) for layer, _ in where}
    if len({(window, box) for window, box in boxes.values()}) > 1:
        raise SceneError(
            f"{', '.join(boxes)}: bands on grids of their own, expected the bands that are drawn "
            "on one; bring them there with gdalwarp, or choose others with --rgb"
        )
    window, box = next(iter(boxes.values()))
    factor = max(1, -(-max(window.width, window.height) // max_px))
    shape = (-(-window.height // factor), -(-window.width // factor))
    planes, gone, how = [], np.zeros(shape, bool), []
    for layer, index in where:
        plane, missing, limits = _plane(layer, index, window, factor, shape)
        planes.append(plane)
        gone |= missing
        how.append(f"{limits[0]:.4g} to {limits[1]:.4g}")
    rgba = np.dstack([*(planes if len(planes) == 3 else planes * 3), ~gone * np.uint8(255)])
    rgba[gone] = 0
    said += f"; black to white: {', '.join(how)}"
    said += f", percentiles {STRETCH[0]:g} and {STRETCH[1]:g}" if how[0] != "0 to 255" else ""
    if factor > 1:
        said += f"; mean over {factor} x {factor} pixels, of overviews where there are any"
    return Picture(rgba, box, factor, said, tuple(boxes))


def _layers(
    given: Sequence[str],
    bands: Sequence[str],
    rgb: Sequence[str],
    known: Sequence[str],
) -> list[Layer]:
    """The files with names of their bands; colour pictures need none.

    Args:
        given: the scene.
        bands: names of those of files without names.
        rgb: bands to draw; products and STAC items may lack others.
        known: 'sensor/band' names of the map's model.
    """
    wanted = view_bands.wanted(rgb)
    every = [name for names in wanted.values() for name in names]
    found = []
    for one in given:
        names: tuple[str, ...] = ()
        kind = os.path.splitext(one)[1].lower()
        if not bands and kind in rasters.DRIVERS and os.path.isfile(one):
            with rasters.open_raster(one) as opened:
                of = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue"}
                named = tuple(of.get(meant, "") for meant in opened.colorinterp)
                if not any(opened.descriptions) and set(_COLOURS) <= set(named):
                    names = named
        if names:
            found.append(Layer(one, names))
        elif scene_files.is_item(one):
            found += _of_item(one, wanted, known, rgb)
        else:
            found += scene_files.layers([one], bands, every)
    return found


def _of_item(
    given: str, wanted: Mapping[str, Sequence[str]], known: Sequence[str], said: Sequence[str]
) -> list[Layer]:
    """A STAC item; it need not say its sensor where the picture is the same with any.

    Args:
        given: the item.
        wanted: as of `view_bands.wanted`.
        known: 'sensor/band' names; their sensors are tried before others.
        said: names of the bands to draw in their order, or nothing.
    """
    likely = {name.rpartition("/")[0] for name in known}
    errors = [SceneError(f"{given}: no sensor has the bands of --rgb; correct them")]
    for among in (likely & set(wanted), set(wanted) - likely):
        ways: dict[tuple[tuple[int, str, int], ...], list[list[Layer]]] = {}
        for sensor in sorted(among):
            try:
                layers = scene_files.layers([given], (), wanted[sensor])
            except SceneError as error:
                errors.append(error)
                continue
            places = [(one.path, name, i) for one in layers for i, name in enumerate(one.names)]
            order = {name: at for at, name in enumerate(wanted[sensor])}
            drawn = tuple(sorted((order[name], path, i) for path, name, i in places if name))
            ways.setdefault(drawn, []).append(layers)
        most = [drawn for drawn in ways if len(drawn) == max(map(len, ways))]
        if len(most) > 1:
            raise SceneError(
                f"{given}: its files may be of several sensors, of which other bands would be "
                "drawn; name them, e.g. --scene=B04=FILE"
            )
        for drawn in most:
            same = ways[drawn]
            labels = said or _COLOURS  # nobody knows of which sensor
            if len(same) == 1 or len(drawn) != len(labels):
                return same[0]
            return [
                dataclasses.replace(one, names=tuple(
                    next((labels[n] for n, path, at in drawn if (path, at) == (one.path, i)), "")
                    for i in range(len(one.names))
                )) for one in same[0]
            ]  # fmt: skip
    raise errors[-1]


def _known(land_map: LandMap) -> list[str]:
    """'sensor/band' names of the model that a map was made with."""
    listed: Any = provenance.read(land_map.path).get("bands")
    listed = listed if isinstance(listed, list) else []
    return [name for name in listed if isinstance(name, str) and "/" in name]


def _box(
    path: str, land_map: LandMap, trust: bool
) -> tuple[Window, tuple[float, float, float, float]]:
    """The part of a file that the map covers, and where that lies in pixels of the map.

    Raises:
        SceneError: another coordinate system or grid, or no common ground.
    """
    with rasters.open_raster(path) as opened:
        rasters.check_place(opened, path)
        crs, transform, shape = opened.crs, opened.transform, opened.shape
    there, here = (rasters.crs_name(one) for one in (crs, land_map.crs))
    if there != here and not trust:
        raise SceneError(
            f"{path}: {there}, but the map has {here}; expected one coordinate system. Bring the "
            "scene to the map's with gdalwarp -t_srs; or, if both names mean one grid, say "
            "--trust_transform"
        )
    relative = view_layers.relative(land_map.transform, transform)
    scale = relative[0, 0]
    k = float(round(scale)) if scale >= 1 else 1 / round(1 / scale) if scale > 0.001 else 0.0
    finest = min(1.0, k)
    start = relative[:, 2] / finest if k else np.full(2, np.nan)
    grown = np.abs(relative[:, :2] - k * np.eye(2)).max() * max(shape)
    apart = max(grown, np.abs(relative[:, 2] - np.round(start) * finest).max())
    if not apart <= rasters.SAME * finest:
        raise SceneError(
            f"{path}: transform {tuple(transform)[:6]}, but the map has "
            f"{tuple(land_map.transform)[:6]}; expected pixels of the same size, or a whole "
            "multiple or part of it, that lie on the map's. Bring the scene there with gdalwarp "
            "-tr -te"
        )
    spans = []
    for offset, size, limit in zip(
        np.round(start) * finest, shape[::-1], land_map.shape[::-1], strict=True
    ):
        # Pixels of the file from the first to the last that touch the map.
        first = max(0, int(np.floor(-offset / k + 1e-6)))
        stop = min(size, int(np.ceil((limit - offset) / k - 1e-6)))
        if stop <= first:
            raise SceneError(
                f"{path}: covers no ground of the map {land_map.path}; give the scene of this map"
            )
        spans.append((first, stop, float(offset + first * k), float(offset + stop * k)))
    (left, right, west, east), (top, bottom, north, south) = spans
    return Window(left, top, right - left, bottom - top), (west, north, east, south)


def _plane(
    layer: Layer, index: int, window: Window, factor: int, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """A band as uint8, where it has no data, and the values drawn as black and white."""
    with rasters.open_raster(layer.path) as opened:
        if opened.count != len(layer.names):
            raise SceneError(
                f"{layer.path}: {opened.count} bands, expected {len(layer.names)}: "
                f"{', '.join(map(repr, layer.names))}; name every band of the file"
            )
        nodata = opened.nodatavals[index - 1] if layer.nodata is None else layer.nodata
        masked = MaskFlags.per_dataset in opened.mask_flag_enums[index - 1]

        def read(part: Window, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
            mean = Resampling.nearest if size == (part.height, part.width) else Resampling.average
            try:
                values = opened.read(index, window=part, out_shape=size, resampling=mean)
                gone = np.isnan(values) if values.dtype.kind == "f" else np.zeros(size, bool)
                if nodata is not None:
                    gone |= values == nodata
                if masked:
                    gone |= opened.read_masks(index, window=part, out_shape=size) == 0
            except rasterio.errors.RasterioError as error:
                raise DatasetError(
                    f"{layer.path}: band {index} cannot be read ({error}), expected a whole file; "
                    "it is truncated or damaged, restore it"
                ) from error
            return values.astype(np.float32), gone

        if layer.names[index - 1] in _COLOURS and opened.dtypes[index - 1] == "uint8":
            low, high = 0.0, 255.0  # a picture already
        else:
            shrink = max(1.0, max(shape) / _LOOK_PX)
            look = (round(shape[0] / shrink) or 1, round(shape[1] / shrink) or 1)
            values, gone = read(window, look)
            there = values[~gone & np.isfinite(values)]
            low, high = np.percentile(there, STRETCH).tolist() if there.size else (0.0, 1.0)
        plane, missing = np.empty(shape, np.uint8), np.empty(shape, bool)
        rows = max(1, _STRIP_PIXELS // shape[1])
        for row in range(0, shape[0], rows):
            stop = min(row + rows, shape[0])
            first, last = row * factor, min(stop * factor, int(window.height))
            part = Window(window.col_off, window.row_off + first, window.width, last - first)
            values, gone = read(part, (stop - row, shape[1]))
            values = np.where(gone, low, values)
            shade = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
            plane[row:stop] = (shade * 255).round()
            missing[row:stop] = gone
    return plane, missing, (low, high)
