"""Footprints of buildings as GeoJSON polygons, drawn as masks on the grid of an image.

GeoJSON: https://www.rfc-editor.org/rfc/rfc7946 (longitude, latitude; WGS 84).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from rsjax.datasets.geotiff import Transform
from rsjax.errors import DatasetError

# Names of one system; files without a name are in it, too.
_WGS84 = ("urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:EPSG::4326", "EPSG:4326")
_POLYGONS = ("Polygon", "MultiPolygon")
_RING = 4  # the least number of corners of a ring; the last is the first

Polygon = dict[str, Any]


def read(content: bytes, where: str) -> list[Polygon]:
    """The polygons of a GeoJSON file, as its geometries; none are none.

    Args:
        content: the file.
        where: its path, for messages.

    Raises:
        DatasetError: no feature collection, another coordinate system than longitude and latitude,
            or a feature that is no polygon.
    """
    try:
        data = json.loads(content)
        if data["type"] != "FeatureCollection":
            raise ValueError(f"type {data['type']!r}")
        geometries = [feature["geometry"] for feature in data["features"]]
        name = data["crs"]["properties"]["name"] if data.get("crs") else _WGS84[0]
    except (ValueError, KeyError, TypeError) as cause:
        raise _error(where, f"not usable as GeoJSON ({cause!r})", "a FeatureCollection") from None
    if name not in _WGS84:
        raise _error(where, f"coordinates in {name}", "longitude and latitude (EPSG:4326)")
    for number, geometry in enumerate(geometries):
        try:
            _points(geometry)
        except (ValueError, TypeError, KeyError, IndexError):
            raise _error(
                where, f"feature {number} is {str(geometry)[:60]}", f"a {' or '.join(_POLYGONS)}"
            ) from None
    return geometries


def draw(
    polygons: list[Polygon], where: str, *, shape: tuple[int, int], crs: str, transform: Transform
) -> np.ndarray:
    """Footprints as a mask: a pixel is 1 where its centre lies in one of them.

    Args:
        polygons: geometries in longitude and latitude, see `read`.
        where: path of their file, for messages.
        shape: (height, width) of the image.
        crs: coordinate system of the image, which must be that of the polygons.
        transform: of the image, see `geotiff.read_geo`.

    Returns:
        uint8 (height, width) of 0 (background) and 1 (building).

    Raises:
        DatasetError: another coordinate system, or polygons that all lie beside the image.
    """
    import rasterio
    from rasterio.features import rasterize

    if crs not in _WGS84:
        raise _error(where, f"longitude and latitude for an image in {crs}", "both in EPSG:4326")
    if not polygons:
        return np.zeros(shape, np.uint8)
    a, b, c, d, e, f = transform
    corners = [
        (a * column + b * row + c, d * column + e * row + f)
        for column in (0, shape[1])
        for row in (0, shape[0])
    ]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    points = np.concatenate([_points(polygon) for polygon in polygons])
    if (points.max(axis=0) < low).any() or (points.min(axis=0) > high).any():
        raise _error(
            where,
            f"footprints from {points.min(axis=0).tolist()} to {points.max(axis=0).tolist()}",
            f"some on the image, which lies from {low.tolist()} to {high.tolist()}",
        )
    mask: np.ndarray = rasterize(
        polygons,
        out_shape=shape,
        transform=rasterio.Affine(*transform),
        default_value=1,
        dtype="uint8",
    )
    return mask


def _points(polygon: Polygon) -> np.ndarray:
    """All corners of a polygon or several, (count, 2).

    Raises:
        ValueError, TypeError, KeyError, IndexError: it is none.
    """
    if polygon["type"] not in _POLYGONS:
        raise ValueError(polygon["type"])
    parts = (
        polygon["coordinates"] if polygon["type"] == "MultiPolygon" else [polygon["coordinates"]]
    )
    if not all(parts):
        raise ValueError("a part without rings")
    rings = [np.array([corner[:2] for corner in ring]) for part in parts for ring in part]
    for ring in rings:
        if ring.dtype.kind not in "if" or ring.shape[1:] != (2,) or len(ring) < _RING:
            raise ValueError("a ring that is none")
    points = np.concatenate(rings).astype(float)
    if not np.isfinite(points).all():
        raise ValueError("an endless ring")
    return points


def _error(where: str, found: str, expected: str) -> DatasetError:
    return DatasetError(
        f"{where}: {found}, expected {expected}. "
        "Restore the file from the original download, or leave the sample out"
    )
