"""Georeferencing of small GeoTIFFs held in memory, and a writer for the simulation.

GeoTIFF: OGC 19-008r4, https://docs.ogc.org/is/19-008r4/19-008r4.html.
"""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

import numpy as np

from rsjax.datasets.tiff import MATRIX, SCALE, TIEPOINT, Header, error, parse, pixels

Transform = tuple[float, float, float, float, float, float]

_MODEL_TYPE, _RASTER_TYPE, _GEOGRAPHIC, _PROJECTED, _VERTICAL = 1024, 1025, 2048, 3072, 4096
_USER_DEFINED = 32767


def read_tiff(
    data: bytes, where: str, *, shape: tuple[int, int] | None, dtype: str, bands: int
) -> np.ndarray:
    """The pixels of a TIFF.

    Args:
        data: the whole file.
        where: its path, for error messages.
        shape: the (height, width) it must have, or None for any up to `MAX_BYTES`.
        dtype: the numpy dtype it must have.
        bands: the number of bands it must have.

    Returns:
        (height, width) where `bands` is 1, otherwise (height, width, bands).

    Raises:
        DatasetError: not a TIFF, truncated, lossy, or of another size, dtype or band count.
    """
    return pixels(parse(data, where), shape=shape, dtype=dtype, bands=bands)


def read_geo(data: bytes, where: str) -> tuple[str, Transform]:
    """The coordinate system and the transform of a GeoTIFF.

    Returns:
        `EPSG:<code>`, or WKT where it has no code; and (a, b, c, d, e, f) with
        x = a col + b row + c and y = d col + e row + f, for the upper left corners of pixels.

    Raises:
        DatasetError: not a TIFF, or not georeferenced.
    """
    header = parse(data, where)
    return crs(header), transform(header)


def transform(header: Header) -> Transform:
    """The transform of a parsed GeoTIFF; see `read_geo`."""
    tags = header.tags
    scale, tie, matrix = tags.get(SCALE, ()), tags.get(TIEPOINT, ()), tags.get(MATRIX, ())
    if len(scale) >= 2 and len(tie) >= 6 and scale[0] and scale[1]:
        a, b, d, e = scale[0], 0.0, 0.0, -abs(scale[1])
        c, f = tie[3] - tie[0] * a, tie[4] - tie[1] * e
    elif len(matrix) == 16:
        a, b, _, c, d, e, _, f = matrix[:8]
    else:
        raise error(header.where, "no geographic position (transform)", "a GeoTIFF")
    if header.keys.get(_RASTER_TYPE) == 2:  # the position given is that of pixel centres
        c, f = c - (a + b) / 2, f - (d + e) / 2
    if not math.isfinite(a + b + c + d + e + f):
        raise error(header.where, f"transform {(a, b, c, d, e, f)}", "finite numbers")
    return a, b, c, d, e, f


def crs(header: Header) -> str:
    """The coordinate system of a parsed GeoTIFF; see `read_geo`."""
    keys = header.keys
    if not keys:
        raise error(header.where, "no coordinate system", "a GeoTIFF")
    model = keys.get(_MODEL_TYPE)
    code = keys.get({1: _PROJECTED, 2: _GEOGRAPHIC}.get(model or 0, 0), 0)
    if 0 < code < _USER_DEFINED and _VERTICAL not in keys:
        return f"EPSG:{code}"
    return _crs_by_gdal(header)


def _crs_by_gdal(header: Header) -> str:
    import rasterio
    from rasterio.io import MemoryFile

    try:
        with warnings.catch_warnings(), MemoryFile(header.data) as memory:
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with memory.open(driver="GTiff") as raster:
                found = raster.crs
                code = found.to_epsg() if found else None
                text = f"EPSG:{code}" if code else found.to_wkt() if found else ""
    except (rasterio.errors.RasterioError, rasterio.errors.CRSError) as cause:
        raise error(
            header.where, f"unreadable coordinate system ({cause})", "a known one"
        ) from cause
    if not text:
        raise error(header.where, "no coordinate system", "a GeoTIFF")
    return text


def write_geotiff(
    path: str | os.PathLike[str] | None,
    array: np.ndarray,
    *,
    crs: str | None = None,
    transform: Transform | None = None,
    nodata: float | None = None,
    compress: str | None = None,
    **profile: Any,
) -> bytes | None:
    """Writes a GeoTIFF with GDAL.

    Args:
        path: where to; None returns the bytes instead.
        array: (height, width) or (height, width, bands).
        crs: anything that rasterio takes.
        transform: (a, b, c, d, e, f), see `read_geo`.
        nodata: the nodata tag.
        compress: GDAL's name of the compression.
        **profile: further creation options of GDAL, e.g. `interleave='pixel'`.
    """
    import rasterio
    from rasterio.io import MemoryFile

    planes = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    options = {
        "driver": "GTiff",
        "count": planes.shape[0],
        "height": planes.shape[1],
        "width": planes.shape[2],
        "dtype": planes.dtype,
        "crs": crs,
        "transform": rasterio.Affine(*transform) if transform else None,
        "nodata": nodata,
        **({"compress": compress} if compress else {}),
        **profile,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        if path is not None:
            with rasterio.open(path, "w", **options) as raster:
                raster.write(planes)
            return None
        with MemoryFile() as memory:
            with memory.open(**options) as raster:
                raster.write(planes)
            return bytes(memory.getbuffer())
