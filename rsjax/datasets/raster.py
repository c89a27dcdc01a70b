"""Windows of large local rasters, read with GDAL in bounded memory.

Only local GeoTIFFs (also COGs) and JPEG 2000 files are opened, each with the one driver that its
extension names: GDAL left to itself would follow a `.tif` that is VRT XML, `/vsi` names and URLs to
other files and the network.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import os
import threading
import warnings
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Interleaving, Resampling
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from rsjax.datasets import files
from rsjax.errors import DatasetError

DRIVERS = {".tif": "GTiff", ".tiff": "GTiff", ".jp2": "JP2OpenJPEG"}
CACHE_MB = 160  # decoded blocks of a process: a row of 512-pixel tiles of 12 bands is 135 MB
OPEN = 64  # files that a process keeps open

SAME = 0.01  # pixels by which two grids may lie apart: rounding of stored numbers

# One process a core is what prepare runs; GDAL's own threads would only get in their way.
_OPTIONS = {"GDAL_CACHEMAX": CACHE_MB * 2**20, "GDAL_NUM_THREADS": "1"}


def locate(root: str, name: str) -> str:
    """The path of a regular file inside a local folder.

    Raises:
        DatasetError: an unsafe name, a link out of the folder, no such file, not a regular file.
    """
    source = files.FolderSource(root)
    where = source.describe(name)
    if not source.exists(name):  # refuses unsafe names and links that lead out
        raise DatasetError(
            f"{where}: no such file, expected the one that scenes.json names. Copy it there, or "
            "correct the path"
        )
    if not os.path.isfile(where):
        raise DatasetError(f"{where}: not a regular file, expected one; correct the path")
    return where


def open_raster(path: str | os.PathLike[str]) -> Any:
    """Opens a local GeoTIFF or JPEG 2000 file with the driver of its extension.

    Returns:
        A rasterio dataset, to be closed by the caller.

    Raises:
        DatasetError: another extension, no local regular file, or not a file of this format.
    """
    path = os.fspath(path)
    driver = DRIVERS.get(os.path.splitext(path)[1].lower())
    if driver is None:
        raise DatasetError(f"{path}: expected one of {', '.join(DRIVERS)}; convert the file")
    if path.startswith("/vsi") or "://" in path or not os.path.isfile(path):
        raise DatasetError(f"{path}: no such file, expected a local one; download it first")
    try:
        with warnings.catch_warnings(), rasterio.Env(**_OPTIONS):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path, driver=driver, sharing=False)
    except (RasterioError, CRSError) as error:
        raise DatasetError(
            f"{path}: does not open as {driver} ({_words(error)}), expected a whole file of this "
            "format; download or convert it again"
        ) from error


def check_place(raster: Any, path: str) -> None:
    """Refuses a raster without a coordinate system or a transform."""
    missing = "coordinate system" if raster.crs is None else "transform"
    if raster.crs is None or raster.transform == rasterio.Affine.identity():
        raise DatasetError(
            f"{path}: no {missing}, expected a georeferenced file. Give it one, e.g. with "
            "gdal_translate -a_srs EPSG:... -a_ullr ..."
        )


def check_written(raster: Any, path: str) -> None:
    """Refuses a GeoTIFF with tiles or strips that were never written: they read as zeros.

    Only where no value marks missing pixels; otherwise such tiles are missing, and read so.
    """
    if raster.driver != "GTiff":
        return
    apart = range(1, raster.count + 1) if raster.interleaving != Interleaving.pixel else (1,)
    for band in apart:
        rows, cols = raster.block_shapes[band - 1]
        for y in range(-(-raster.height // rows)):
            for x in range(-(-raster.width // cols)):
                if not raster.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band):
                    raise DatasetError(
                        f"{path}: rows {y * rows} to {(y + 1) * rows}, columns {x * cols} to "
                        f"{(x + 1) * cols} were never written, expected a whole file. Restore it; "
                        "or, if they are empty on purpose, state nodata in scenes.json"
                    )


@functools.lru_cache(maxsize=256)  # GDAL searches its tables each time
def crs_name(crs: CRS) -> str:
    """`EPSG:code`, or WKT where it has no code."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def same_crs(one: CRS, other: CRS) -> bool:
    """Whether two coordinate systems have one name; to GDAL an unknown datum equals every other."""
    return crs_name(one) == crs_name(other)


def read_window(
    raster: Any, path: str, indexes: int | list[int], row: int, col: int, height: int, width: int
) -> np.ndarray:
    """The pixels of a window that lies inside an open raster.

    Returns:
        (height, width) for one index, (bands, height, width) for a list.

    Raises:
        DatasetError: pixels that do not decode; names the file and the window.
    """
    try:
        with rasterio.Env(**_OPTIONS):
            found: np.ndarray = raster.read(indexes, window=Window(col, row, width, height))
    except (RasterioError, CRSError) as error:
        raise DatasetError(
            f"{path}: rows {row} to {row + height}, columns {col} to {col + width} do not decode "
            f"({_words(error)}), expected a whole file; it is truncated or damaged, restore it"
        ) from error
    return found


def sha256(path: str) -> str:
    """The hex digest of a file's content, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: str, expected: str) -> None:
    """Compares a file's content with its stated checksum."""
    if (found := sha256(path)) != expected:
        raise DatasetError(
            f"{path}: sha256 {found}, expected {expected}, as scenes.json says. Restore the file, "
            "or correct the checksum"
        )


class Rasters:
    """Open rasters of a process and thread, the longest unused closed first.

    GDAL's handles serve one thread, and a forked process would share their position in the file:
    each has its own, and none is pickled.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._local = threading.local()

    def plain(self, path: str) -> Any:
        """The raster as it is stored."""
        return self._get((path,), lambda: open_raster(path))

    def warped(
        self,
        path: str,
        crs: CRS,
        transform: rasterio.Affine,
        shape: tuple[int, int],
        resampling: Resampling,
        nodata: float | None,
        source_crs: CRS | None = None,
    ) -> Any:
        """The raster on another grid, computed window by window.

        Args:
            path: of the file.
            crs: coordinate system of the grid.
            transform: of the grid.
            shape: (height, width) of the grid.
            resampling: how pixels are made.
            nodata: value without data in the file, and outside it in the grid; None adds a last
                band that is 0 there and above 0 elsewhere.
            source_crs: to be used in place of the file's own.
        """
        key = (path, crs.to_wkt(), tuple(transform), shape, resampling, repr(nodata))

        def make() -> Any:
            where: dict[str, Any] = {"nodata": nodata, "src_nodata": nodata}
            if nodata is None:
                where = {"add_alpha": True}
            try:
                with rasterio.Env(**_OPTIONS):
                    return WarpedVRT(
                        open_raster(path),
                        src_crs=source_crs,
                        crs=crs,
                        transform=transform,
                        height=shape[0],
                        width=shape[1],
                        resampling=resampling,
                        tolerance=0.001,  # pixels: the same in every window; 0 is refused by GDAL
                        warp_mem_limit=64,
                        **where,
                    )
            except (RasterioError, CRSError, ValueError) as error:
                raise DatasetError(
                    f"{path}: cannot be brought to {crs_name(crs)} ({_words(error)}), expected a "
                    "raster with a coordinate system and a nodata value that PROJ and its pixels "
                    "can hold; correct them"
                ) from error

        return self._get(key, make)

    def _get(self, key: tuple[Any, ...], make: Any) -> Any:
        local = self._local
        if getattr(local, "pid", None) != os.getpid():
            local.pid, local.open = os.getpid(), collections.OrderedDict()
        if key in local.open:
            local.open.move_to_end(key)
            return local.open[key]
        while len(local.open) >= OPEN:
            local.open.popitem(last=False)[1].close()
        local.open[key] = make()
        return local.open[key]


def _words(error: BaseException) -> str:
    """The error and its cause, in one line."""
    cause = error.__cause__ or error.__context__
    text = f"{error}: {cause}" if cause and str(cause) not in str(error) else str(error)
    return " ".join(text.split())[:300]
