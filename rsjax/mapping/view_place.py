"""Where a pixel of a map is on the globe, as a table that a page can interpolate."""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterio.crs import CRS

from rsjax.mapping import projections
from rsjax.mapping.landmap import LandMap

_NODES = (2, 3, 5, 9, 17, 33, 65, 129)
_PIXELS = 0.1  # by which an interpolated place may be off
_FINEST = 1e-7  # degrees, a centimetre: no grid is known better


def is_wgs84(crs: CRS) -> bool:
    """Whether x and y of a coordinate system are longitude and latitude of WGS 84 in degrees."""
    return projections.transformer("EPSG:4326", crs) is None


def lattice(land_map: LandMap) -> dict[str, Any] | None:
    """Longitudes and latitudes (WGS 84) on a lattice of the map's corners and between them.

    It grows denser until bilinear interpolation, compared half-way between its nodes, is off by at
    most a tenth of a pixel.

    Args:
        land_map: the map.

    Returns:
        `lon` and `lat`, nodes by row as lists of numbers, longitudes without a jump at 180 degrees;
        `error`, the largest deviation in degrees. None where no such lattice is found: around a
        pole, or beyond where a projection is defined.
    """
    to_degrees = projections.transformer("EPSG:4326", land_map.crs)
    transform, (height, width) = land_map.transform, land_map.shape

    def places(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        row, col = np.meshgrid(rows, cols, indexing="ij")
        x = transform.a * col + transform.b * row + transform.c
        y = transform.d * col + transform.e * row + transform.f
        if to_degrees is None:
            return np.stack([x, y])
        return np.stack(to_degrees.transform(x, y, direction="INVERSE"))

    for nodes in _NODES:
        # Every second row and column are nodes, those between them tell how good they are.
        fine = places(*(np.linspace(0, size, 2 * nodes - 1) for size in (height, width)))
        if not np.isfinite(fine).all():
            return None
        fine[0] = np.unwrap(np.unwrap(fine[0], axis=1, period=360), axis=0, period=360)
        coarse = fine[:, ::2, ::2]
        error = float(np.abs(_between(coarse) - fine).max())
        step = np.abs(np.diff(fine[1], axis=0)).max() * 2 * (nodes - 1) / height
        if error <= max(_PIXELS * step, _FINEST):
            lon, lat = np.round(coarse, 8).tolist()
            return {"lon": lon, "lat": lat, "error": error}
    return None


def _between(coarse: np.ndarray) -> np.ndarray:
    """Bilinear interpolation half-way between nodes: (2, n, n) to (2, 2n - 1, 2n - 1)."""
    for axis in (1, 2):
        lines = np.moveaxis(coarse, axis, 0)
        filled = np.empty((2 * len(lines) - 1, *lines.shape[1:]))
        filled[::2] = lines
        filled[1::2] = (lines[1:] + lines[:-1]) / 2
        coarse = np.moveaxis(filled, 0, axis)
    return coarse
