"""True areas of pixels on the ellipsoid, in hectares, for any grid.

Of a grid in degrees the area of a row's pixels is known in closed form. Of a projected grid the
area in its plane is wrong by the projection's scale (Web Mercator: four times too large at 60
degrees), so the scale is computed on a lattice and interpolated; equal-area projections have scale
one and keep the area in the plane exactly.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pyproj
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.windows import Window
from scipy.interpolate import RectBivariateSpline

from rsjax.errors import SceneError

M2_PER_HA = 10_000.0
EQUAL = 1e-7  # a scale this near to one everywhere is that of an equal-area projection
TOLERANCE = 1e-7  # of the interpolated scale
_STEP_M = 1000.0  # between the points that a scale is computed from
_NODES = (9, 17, 33, 65, 129, 257, 513)


@dataclasses.dataclass(frozen=True)
class PixelAreas:
    """Areas of the pixels of a grid.

    Attributes:
        method: how they are known: 'equal-area', 'rows' (closed form) or 'lattice'.
        plane: hectares of a pixel in the plane of the projection; NaN for grids in degrees.
        ellipsoid: name of the ellipsoid.
        rows: hectares of a pixel of each row, (height,); only for 'rows'.
        spline: ellipsoid's over plane's area by (row, col) of the pixel centre; only for 'lattice'.
    """

    method: str
    plane: float
    ellipsoid: str
    rows: np.ndarray | None = None
    spline: RectBivariateSpline | None = None

    def block(self, window: Window) -> np.ndarray:
        """Hectares of the pixels of a window.

        Returns:
            float64 that broadcasts to (rows, columns): (1, 1) where all are equal, (rows, 1) where
            those of a row are.
        """
        top, left = int(window.row_off), int(window.col_off)
        if self.rows is not None:
            return self.rows[top : top + int(window.height), None]
        if self.spline is None:
            return np.full((1, 1), self.plane)
        row = np.arange(top, top + int(window.height)) + 0.5
        col = np.arange(left, left + int(window.width)) + 0.5
        return np.asarray(self.spline(row, col)) * self.plane

    def at(self, row: np.ndarray, col: np.ndarray) -> np.ndarray:
        """Hectares of single pixels, (n,), by their row and column."""
        if self.rows is not None:
            return self.rows[row]
        if self.spline is None:
            return np.full(len(row), self.plane)
        return np.asarray(self.spline(row + 0.5, col + 0.5, grid=False)) * self.plane


def of_grid(crs: CRS, transform: Affine, shape: tuple[int, int]) -> PixelAreas:
    """The pixel areas of a grid.

    Args:
        crs: geographic or projected.
        transform: (col, row) of pixel corners to (x, y).
        shape: (rows, columns).

    Raises:
        SceneError: another kind of coordinate system, or a grid that reaches beyond where its
            projection is defined.
    """
    system = pyproj.CRS.from_wkt(crs.to_wkt(version="WKT2_2019"))
    ellipsoid = system.ellipsoid
    if ellipsoid is None or not (system.is_geographic or system.is_projected):
        raise SceneError(
            f"areas need a geographic or projected coordinate system, this is {system.name!r} "
            f"({system.type_name}); reproject the map"
        )
    a, b = ellipsoid.semi_major_metre, ellipsoid.semi_minor_metre
    unit = system.axis_info[0].unit_conversion_factor  # to metres, or to radians
    if system.is_geographic and transform.b == 0 and transform.d == 0:
        edges = (transform.f + transform.e * np.arange(shape[0] + 1)) * unit
        # Grids with pixel centres on the poles reach half a pixel beyond, where there is nothing.
        strips = np.abs(np.diff(authalic(np.clip(edges, -np.pi / 2, np.pi / 2), a, b)))
        rows = strips * (a * a / 2) * abs(transform.a) * unit / M2_PER_HA
        return PixelAreas("rows", math.nan, ellipsoid.name, rows=rows)
    step = _STEP_M / (unit if system.is_projected else unit * a)
    plane = abs(transform.determinant) * (unit**2 if system.is_projected else (unit * a) ** 2)
    geodetic = system.geodetic_crs
    assert geodetic is not None
    forward = pyproj.Transformer.from_crs(system, geodetic, always_xy=True)

    def scale(row: np.ndarray, col: np.ndarray) -> np.ndarray:
        x = transform.a * col + transform.b * row + transform.c
        y = transform.d * col + transform.e * row + transform.f
        return _density(forward, x, y, step, a, b) / _STEP_M**2

    return _interpolated(scale, shape, plane / M2_PER_HA, ellipsoid.name)


def authalic(latitude: np.ndarray, a: float, b: float) -> np.ndarray:
    """Snyder's q: the ellipsoid's area between equator and parallel is a^2/2 q per radian.

    Args:
        latitude: geodetic, in radians.
        a: semi-major axis.
        b: semi-minor axis.

    Source: Snyder 1987, Map Projections: A Working Manual, USGS PP 1395, eq. 3-12.
    """
    e2 = (a - b) * (a + b) / (a * a)
    sine = np.sin(latitude)
    if e2 == 0:
        return 2 * sine
    e = math.sqrt(e2)
    return (1 - e2) * (sine / (1 - e2 * sine**2) + np.arctanh(e * sine) / e)


def _density(
    forward: pyproj.Transformer, x: np.ndarray, y: np.ndarray, step: float, a: float, b: float
) -> np.ndarray:
    """True area of a square of side `step` around (x, y), from differences over it.

    Points are taken to the authalic sphere in space, where the area that two differences span has
    no special case at the poles or at 180 degrees.
    """
    q_pole = float(authalic(np.array(np.pi / 2), a, b))

    def place(dx: float, dy: float) -> np.ndarray:
        lon, lat = forward.transform(x + dx, y + dy)
        # PROJ says inf where there is no such place.
        lon, lat = (np.radians(np.where(np.isfinite(v), v, np.nan)) for v in (lon, lat))
        sine = authalic(lat, a, b) / q_pole
        cosine = np.sqrt(np.maximum(0.0, 1 - sine**2))
        return np.stack([cosine * np.cos(lon), cosine * np.sin(lon), sine], axis=-1)

    half = step / 2
    across = place(half, 0) - place(-half, 0)
    up = place(0, half) - place(0, -half)
    return np.linalg.norm(np.cross(across, up), axis=-1) * (a * a * q_pole / 2)


def _interpolated(
    scale: Callable[[np.ndarray, np.ndarray], np.ndarray],
    shape: tuple[int, int],
    plane: float,
    ellipsoid: str,
) -> PixelAreas:
    """Lattices of growing density, until the scale between their nodes is what they say."""
    error = math.inf
    for nodes in _NODES:
        rows, cols = (np.linspace(0, size, nodes) for size in shape)
        values = scale(*np.meshgrid(rows, cols, indexing="ij"))
        finite = np.isfinite(values)
        if finite.any() and np.abs(values[finite] - 1).max() < EQUAL:
            return PixelAreas("equal-area", plane, ellipsoid)
        if not finite.all():
            raise SceneError(
                "the map's grid reaches beyond where its projection is defined, so its pixels have "
                "no area there; cut the map, or reproject it to an equal-area projection"
            )
        spline = RectBivariateSpline(rows, cols, values)
        middle = [(edges[1:] + edges[:-1]) / 2 for edges in (rows, cols)]
        truth = scale(*np.meshgrid(*middle, indexing="ij"))
        error = float(np.abs(spline(*middle) / truth - 1).max())
        if error < TOLERANCE:
            return PixelAreas("lattice", plane, ellipsoid, spline=spline)
    raise SceneError(
        f"the projection's scale varies too fast over the map: interpolated to {error:.1e} only, "
        f"expected {TOLERANCE:.0e}; cut the map, or reproject it to an equal-area projection"
    )
