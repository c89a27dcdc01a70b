"""Pixels and hectares of each class within polygons, with the shares of pixels that edges cut.

Coverage of pixels by polygons is that of exactextract; each share is weighted by the pixel's true
area. A polygon is read against one block of the map at a time.
"""

from __future__ import annotations

import os
from typing import Any

import exactextract
import numpy as np
import shapely
from rasterio.windows import Window

from rsjax import vectors
from rsjax.errors import SceneError
from rsjax.mapping import projections
from rsjax.mapping.area_table import WHOLE, Counted, Tally, in_block
from rsjax.mapping.pixel_area import PixelAreas

_PARTS = 200  # of the longest side of a polygon: no edge is longer when it is reprojected


def read(path: str | os.PathLike[str], land_map: Counted, field: str = "") -> dict[str, object]:
    """The polygons of a vector file in the map's coordinate system, by region name.

    Args:
        path: a vector file, see `rsjax.vectors`; in any coordinate system.
        land_map: the map.
        field: attribute that names the regions; '' takes `name`.

    Returns:
        Region name -> shapely polygon or multipolygon, in the order of the file.

    Raises:
        SceneError: an unreadable file, no such field, names that are missing, not unique
            or that of the whole map, features that are no valid polygons, or a rotated map.
    """
    if land_map.transform.b or land_map.transform.d:
        raise SceneError(
            f"{land_map.path}: its grid is rotated, regions need one that is not; warp it north up"
        )
    found = vectors.read(path)
    names = _names(path, found, field)
    for name, shape in zip(names, found.geometry, strict=True):
        if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty:
            raise SceneError(f"{path}: region {name!r} is a {shape.geom_type}, expected a polygon")
        if not shape.is_valid:
            raise SceneError(
                f"{path}: region {name!r} is no valid polygon ({shapely.is_valid_reason(shape)}); "
                "mend it, e.g. with ogr2ogr -makevalid"
            )
    change = projections.transformer(found.crs, land_map.crs)
    if change is None:
        return dict(zip(names, found.geometry, strict=True))
    return {
        name: _reprojected(shape, change, f"{path}: region {name!r}")
        for name, shape in zip(names, found.geometry, strict=True)
    }


def _names(path: str | os.PathLike[str], found: vectors.Features, field: str) -> list[str]:
    fields = found.fields
    chosen = field or next((name for name in fields if name.lower() == "name"), "")
    if chosen not in fields:
        raise SceneError(
            f"{path}: no field {field or 'name'!r} for the names of regions; choose one with "
            f"--region_field, of: {', '.join(fields) or 'none'}"
        )
    names = ["" if value is None else str(value).strip() for value in fields[chosen]]
    if "" in names:
        raise SceneError(f"{path}: feature {names.index('')} has no {chosen!r}; name every region")
    if WHOLE in names:
        raise SceneError(
            f"{path}: feature {names.index(WHOLE)} is named {WHOLE!r}, as the tables call all of "
            "the map; give it another name"
        )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise SceneError(
            f"{path}: {chosen!r} is not unique: {', '.join(repeated[:5])}; dissolve parts of one "
            "region into one feature, or choose another field with --region_field"
        )
    return names


def _reprojected(shape, change, what: str):  # type: ignore[no-untyped-def]
    west, south, east, north = shape.bounds
    # A straight edge in one system is a curve in another.
    dense = shapely.segmentize(shape, max(east - west, north - south) / _PARTS)
    moved = shapely.transform(dense, lambda xy: np.column_stack(change.transform(*xy.T)))
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        raise SceneError(f"{what} reaches beyond where the map's projection is defined; cut it")
    return moved if moved.is_valid else shapely.make_valid(moved, method="structure")


def tally(land_map: Counted, areas: PixelAreas, regions: dict[str, object]) -> list[Tally]:
    """Counts the map within each region, block by block.

    Args:
        land_map: the map, not rotated.
        areas: of its grid.
        regions: from `read`.

    Returns:
        One tally a region, in their order; `outside` says what share of the polygon (in the plane
        of the map) is beyond the map.

    Raises:
        SceneError: no region meets the map.
    """
    count = len(land_map.nomenclature)
    shapes = np.array(list(regions.values()), object)
    shapely.prepare(shapes)
    features = [{"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}
                for shape in shapes]  # fmt: skip
    pixels = np.zeros((len(shapes), count + 1))
    hectares = np.zeros((len(shapes), count + 1))
    for window, classes in land_map.blocks():
        box = _bounds(land_map, window)
        meets = np.flatnonzero(shapely.intersects(shapes, shapely.box(*box)))
        if not len(meets):
            continue
        slots, of_pixel = np.minimum(classes, count), areas.block(window)
        within = shapely.covers(shapes[meets], shapely.box(*box))
        if within.any():
            whole = in_block(slots, of_pixel, count + 1)
            pixels[meets[within]] += whole[0]
            hectares[meets[within]] += whole[1]
        if within.all():
            continue
        raster = _numbered(classes.shape, box, land_map)
        of_pixel = np.broadcast_to(of_pixel, classes.shape).ravel()
        slots = slots.ravel()
        for i in meets[~within]:
            cells, share = _coverage(features[i], raster)
            pixels[i] += np.bincount(slots[cells], share, count + 1)
            hectares[i] += np.bincount(slots[cells], share * of_pixel[cells], count + 1)
    if not pixels.any():
        raise SceneError(
            f"{land_map.path}: no region meets the map; are the coordinate systems of both right?"
        )
    plane = abs(land_map.transform.determinant)
    outside = 1 - pixels.sum(axis=1) * plane / shapely.area(shapes)
    return [
        Tally(name, pixels[i, :-1], hectares[i, :-1], float(pixels[i, -1]), float(hectares[i, -1]),
              float(np.clip(outside[i], 0, 1)) if outside[i] > 1e-6 else 0.0)
        for i, name in enumerate(regions)
    ]  # fmt: skip


def _bounds(land_map: Counted, window: Window) -> tuple[float, float, float, float]:
    """(x least, y least, x most, y most) of a window."""
    t = land_map.transform
    x = (t.c + t.a * window.col_off, t.c + t.a * (window.col_off + window.width))
    y = (t.f + t.e * window.row_off, t.f + t.e * (window.row_off + window.height))
    return min(x), min(y), max(x), max(y)


def _numbered(
    size: tuple[int, int], box: tuple[float, float, float, float], land_map: Counted
) -> exactextract.raster.NumPyRasterSource:
    """A block whose values are the flat indices of its pixels."""
    # exactextract's grids are north up; of others the numbers of pixels are turned instead.
    flip = (slice(None, None, 1 if land_map.transform.e < 0 else -1),
            slice(None, None, 1 if land_map.transform.a > 0 else -1))  # fmt: skip
    numbers = np.arange(size[0] * size[1], dtype=np.int32).reshape(size)[flip]
    return exactextract.raster.NumPyRasterSource(np.ascontiguousarray(numbers), *box)


def _coverage(
    feature: dict[str, Any], raster: exactextract.raster.NumPyRasterSource
) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of a block's pixels that a polygon covers, and the share of each."""
    found = exactextract.exact_extract(raster, [feature], ["values", "coverage"])
    cells, share = (found[0]["properties"][name] for name in ("values", "coverage"))
    return np.asarray(cells, np.int64).reshape(-1), np.asarray(share, np.float64).reshape(-1)
