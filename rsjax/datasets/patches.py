"""Band files of BigEarthNet patches, one GeoTIFF a band: shared by both versions."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from rsjax import landcover
from rsjax.datasets import geotiff, tiff
from rsjax.datasets.files import Source
from rsjax.datasets.info import ImageSpec
from rsjax.errors import DatasetError

EXTENT_M = 1200.0  # of every patch, in both directions

# Entry -> (bands in the order of the last axis, pixels a side, metres a pixel).
S2_GROUPS: dict[str, tuple[tuple[str, ...], int, float]] = {
    "s2_10m": (("B02", "B03", "B04", "B08"), 120, 10.0),
    "s2_20m": (("B05", "B06", "B07", "B8A", "B11", "B12"), 60, 20.0),
    "s2_60m": (("B01", "B09"), 20, 60.0),
}
S1_BANDS = ("VV", "VH")
SENSORS = ("s2", "s1")


class Grid(NamedTuple):
    """Where a patch lies: coordinate system and upper left corner in metres."""

    crs: str
    x: float
    y: float

    @property
    def transform(self) -> np.ndarray:
        """The transform of the 10 m grid, float64 (6,)."""
        return np.array([10.0, 0.0, self.x, 0.0, -10.0, self.y])


@functools.cache
def crosswalk(source: str, target: str) -> np.ndarray:
    """Class index in one nomenclature -> class index in another; made once, as it reads a file."""
    return landcover.load(source).crosswalk(landcover.load(target))


def image_specs(sensors: tuple[str, ...], s2_nodata: float | None) -> dict[str, ImageSpec]:
    """The image entries of a patch."""
    specs = {}
    if "s2" in sensors:
        for entry, (bands, size, gsd) in S2_GROUPS.items():
            specs[entry] = ImageSpec(
                "sentinel2_l2a", bands, size, size, "uint16", "reflectance_1e4", gsd, s2_nodata
            )
    if "s1" in sensors:
        specs["s1"] = ImageSpec("sentinel1", S1_BANDS, 120, 120, "float32", "db", 10.0)
    return specs


def drawing(sensors: tuple[str, ...]) -> dict[str, Any]:
    """The `rgb` and `rgb_range` of a patch's card."""
    if "s2" in sensors:
        return {"rgb": ("s2_10m", ("B04", "B03", "B02")), "rgb_range": (0.0, 2000.0)}
    return {"rgb": ("s1", ("VV", "VH", "VV")), "rgb_range": (-25.0, 0.0)}


def read_s2(source: Source, stem: str, grid: Grid | None) -> tuple[dict[str, np.ndarray], Grid]:
    """The three Sentinel-2 entries of a patch.

    Args:
        source: the files.
        stem: path of the band files without band and extension.
        grid: the place that the patch must have, or None where it is not known yet.
    """
    entries = {}
    for entry, (bands, size, gsd) in S2_GROUPS.items():
        paths = [f"{stem}_{band}.tif" for band in bands]
        entries[entry], grid = read_stack(source, paths, size, "uint16", gsd, grid)
    assert grid is not None
    return entries, grid


def read_s1(source: Source, stem: str, grid: Grid | None) -> tuple[np.ndarray, Grid]:
    """The Sentinel-1 entry of a patch: VV, VH in dB; see `read_s2`."""
    paths = [f"{stem}_{band}.tif" for band in S1_BANDS]
    return read_stack(source, paths, 120, "float32", 10.0, grid)


def read_stack(
    source: Source, paths: list[str], size: int, dtype: str, gsd_m: float, grid: Grid | None
) -> tuple[np.ndarray, Grid]:
    """Single-band GeoTIFFs of one place, as (size, size, len(paths)).

    Raises:
        DatasetError: a file is missing, damaged, or of another size, dtype, pixel size or place.
    """
    stack = np.empty((size, size, len(paths)), dtype)
    for i, path in enumerate(paths):
        where = source.describe(path)
        header = tiff.parse(source.read(path), where)
        stack[..., i] = tiff.pixels(header, shape=(size, size), dtype=dtype, bands=1)
        grid = check_place(header, gsd_m, grid)
    assert grid is not None
    return stack, grid


def check_place(header: tiff.Header, gsd_m: float, grid: Grid | None) -> Grid:
    """Where a file lies, which must be `grid` if that is known.

    Raises:
        DatasetError: it lies elsewhere, has another pixel size, or does not say where it lies.
    """
    found, crs = geotiff.transform(header), geotiff.crs(header)
    grid = grid or Grid(crs, found[2], found[5])
    expected = (gsd_m, 0.0, grid.x, 0.0, -gsd_m, grid.y)
    if crs != grid.crs or found != expected:
        raise DatasetError(
            f"{header.where}: lies at {crs} {found}, expected {grid.crs} {expected} as the other "
            "files of this patch. Restore the file from the original download, or leave the "
            "sample out"
        )
    return grid
