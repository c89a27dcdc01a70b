"""GeoTIFFs written by rows and in bounded memory, and made Cloud-Optimised."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from xml.sax import saxutils

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from rsjax.datasets.scene_area import Area

BLOCK = 512
_CACHE = {"GDAL_CACHEMAX": 64 * 2**20}


class RowWriter:
    """A tiled GeoTIFF that takes rows and writes whole blocks."""

    def __init__(
        self,
        path: pathlib.Path,
        area: Area,
        dtype: np.dtype,
        nodata: int,
        tags: Mapping[str, str],
        described: Sequence[str],
    ):
        self.path = path
        self._pending: list[np.ndarray] = []
        self._row = 0
        with rasterio.Env(**_CACHE):
            self._file = rasterio.open(
                path, "w", driver="GTiff", dtype=dtype, count=len(described), height=area.height,
                width=area.width, crs=area.crs, transform=area.transform, nodata=nodata, tiled=True,
                blockxsize=BLOCK, blockysize=BLOCK, compress="deflate", zlevel=1,
                interleave="band", bigtiff="IF_SAFER", num_threads="ALL_CPUS",
            )  # fmt: skip
        self._file.update_tags(**tags)
        for i, text in enumerate(described, 1):
            self._file.set_band_description(i, text)

    def colour(self, colours: Mapping[int, tuple[int, int, int]]) -> None:
        """Gives codes their colours."""
        self._file.write_colormap(1, {code: (*c, 255) for code, c in colours.items()})

    def scale(self, scale: float) -> None:
        """Says what a value is to be multiplied by."""
        self._file.scales = (scale,) * self._file.count

    def append(self, rows: np.ndarray) -> None:
        """Adds rows (bands, rows, columns)."""
        self._pending.append(rows)
        count = sum(one.shape[1] for one in self._pending)
        if count >= BLOCK or self._row + count == self._file.height:
            self._flush(count if self._row + count == self._file.height else count // BLOCK * BLOCK)

    def _flush(self, count: int) -> None:
        rows = np.concatenate(self._pending, axis=1)
        with rasterio.Env(**_CACHE):
            window = Window(0, self._row, rows.shape[2], count)
            self._file.write(rows[:, :count], window=window)
        self._row += count
        self._pending = [rows[:, count:].copy()]

    def close(self) -> None:
        """Writes what GDAL still holds."""
        self._file.close()


def to_cog(source: pathlib.Path, target: pathlib.Path, resampling: str) -> None:
    """Writes a Cloud-Optimised GeoTIFF.

    Args:
        source: a GeoTIFF.
        target: the new file.
        resampling: of its overviews, 'mode' or 'average'.

    Raises:
        OSError: it could not be written, or not all of it.
    """
    try:
        with rasterio.Env(**_CACHE):
            rasterio.shutil.copy(
                source, target, driver="COG", compress="DEFLATE", blocksize=BLOCK,
                overview_resampling=resampling.upper(), bigtiff="IF_SAFER", num_threads="ALL_CPUS",
            )  # fmt: skip
        _check_whole(target)
    except Exception as error:
        raise OSError(f"no COG could be made of it: {error}") from error


def _check_whole(path: pathlib.Path) -> None:
    """Refuses a file whose last tiles are not there: GDAL may not say so when a disk is full."""
    size = path.stat().st_size
    with rasterio.open(path, driver="GTiff") as raster:
        for y in range(-(-raster.height // BLOCK)):
            for x in range(-(-raster.width // BLOCK)):
                for band in range(1, raster.count + 1):
                    offset, length = (
                        int(raster.get_tag_item(f"BLOCK_{what}_{x}_{y}", "TIFF", bidx=band) or 0)
                        for what in ("OFFSET", "SIZE")
                    )
                    if not 0 < offset < offset + length <= size:
                        raise OSError(f"tile {y}, {x} of band {band} was not written")


def categories(names: Mapping[int, str]) -> str:
    """GDAL's side-car with the names of codes, which a GeoTIFF has no place for."""
    rows = "".join(
        f"      <Category>{saxutils.escape(names.get(code, ''))}</Category>\n"
        for code in range(max(names) + 1)
    )
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{rows}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )
