"""From one coordinate system to that of a map."""

from __future__ import annotations

import pyproj
from rasterio.crs import CRS

from rsjax.errors import SceneError


def transformer(source: str, target: CRS) -> pyproj.Transformer | None:
    """From a coordinate system to that of a map; None where both are the same.

    Raises:
        SceneError: a coordinate system that is not known.
    """
    try:
        there, here = pyproj.CRS(source), pyproj.CRS.from_wkt(target.to_wkt(version="WKT2_2019"))
    except pyproj.exceptions.CRSError as error:
        raise SceneError(f"unknown coordinate system {source!r}: {error}") from error
    if there.equals(here, ignore_axis_order=True):
        return None
    return pyproj.Transformer.from_crs(there, here, always_xy=True)
