"""Checks of MultiSenGE against what is not written down: places, unit of the radar, band order."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import numpy as np

from rsjax.datasets import geotiff, multisenge_places, tiff
from rsjax.errors import DatasetError

FOREST = 11  # code
FOREST_PIXELS = 1000  # from which a patch can be judged by its forest
CLEAR = 1500  # blue reflectance x 10000 below which forest is neither under cloud nor snow
_MIDSUMMER = 196  # day of the year


def place(header: tiff.Header, key: str) -> geotiff.Transform:
    """The transform of an image of a patch, which must lie where the patch's name says.

    Raises:
        DatasetError: it lies elsewhere.
    """
    named = multisenge_places.place(key)
    assert named is not None
    found = geotiff.crs(header), geotiff.transform(header)
    expected = (10.0, 0.0, named.x, 0.0, -10.0, named.y)
    limits = (0.02, 0.02, 5.0, 0.02, 0.02, 5.0)  # half a pixel over the image
    apart = zip(found[1], expected, limits, strict=True)
    if found[0] != named.crs or any(abs(a - b) > limit for a, b, limit in apart):
        raise tiff.error(header.where, f"lies at {found}", f"{(named.crs, expected)} by its name")
    return found[1]


def unit(pixels: np.ndarray, stated: str, where: str) -> None:
    """Refuses a radar image in another unit than stated: most backscatter is below 0 dB.

    Args:
        pixels: float of any shape; zeros are no data.
        stated: 'db' or 'linear_power'.
        where: path of the image.

    Raises:
        DatasetError: another unit, or NaN.
    """
    if not np.isfinite(pixels).all():
        count = int((~np.isfinite(pixels)).sum())
        raise tiff.error(where, f"{count} values that are NaN or infinite", "backscatter")
    values = pixels[pixels != 0]
    if values.size and (np.median(values) < 0) != (stated == "db"):
        side, other = ("less", "linear_power") if stated == "db" else ("more", "db")
        raise DatasetError(
            f"{where}: median {np.median(values):.4g}, expected {side} than 0 for "
            f"s1_unit={stated!r}; use s1_unit={other!r} if the whole download is like this"
        )


def is_forest(reflectance: Mapping[str, float]) -> bool:
    """Whether a clear spectrum is one of leaves: rising over the red edge, in this order."""
    red, edge_1, edge_2, infrared = (reflectance[b] for b in ("B04", "B05", "B06", "B08"))
    return red < edge_1 < edge_2 < 1.2 * infrared


def from_summer(date: str) -> int:
    """Days between an ISO date and the middle of its year's summer."""
    return abs(datetime.date.fromisoformat(date).timetuple().tm_yday - _MIDSUMMER)
