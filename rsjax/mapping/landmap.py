"""A classified GeoTIFF as a map: class codes, nomenclature, grid, read by blocks.

Maps that rsjax wrote carry their nomenclature in the tag `RSJAX_NOMENCLATURE`; of any other
classified GeoTIFF the user names it. A code that the nomenclature does not know is refused with its
pixel, never counted as another class.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rsjax.errors import NomenclatureError, SceneError
from rsjax.landcover import Nomenclature, nomenclature
from rsjax.landcover.nomenclature import IGNORE

NOMENCLATURE_TAG = "RSJAX_NOMENCLATURE"
BLOCK_PIXELS = 2**20  # of one block that is read at once
CACHE_BYTES = 64 * 2**20  # of GDAL; its default is a share of the machine's memory


def open_raster(path: str | os.PathLike[str]) -> DatasetReader:
    """Opens a local GeoTIFF for reading, and nothing else that GDAL would take for a raster.

    Raises:
        SceneError: no such file, or no GeoTIFF.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise SceneError(f"{path}: no such file; expected a GeoTIFF on a local disk")
    try:
        return rasterio.open(file, driver="GTiff")
    except rasterio.errors.RasterioError as error:
        raise SceneError(f"{path}: cannot be read as a GeoTIFF ({error})") from error


@dataclasses.dataclass(frozen=True)
class LandMap:
    """A map of classes.

    Attributes:
        path: the file.
        dtype: of the codes on disk.
        nomenclature: what the codes mean.
        crs: its coordinate system.
        transform: (col, row) of pixel corners to (x, y).
        shape: (rows, columns).
        nodata: the code of pixels without a class, or None; NaN where codes are floats.
    """

    path: str
    dtype: np.dtype
    nomenclature: Nomenclature
    crs: rasterio.crs.CRS
    transform: rasterio.Affine
    shape: tuple[int, int]
    nodata: float | None

    def blocks(self) -> Iterator[tuple[Window, np.ndarray]]:
        """The whole map, block by block in a fixed order.

        Yields:
            A window and its class indices: uint8 (rows, columns), 255 where there is no class.

        Raises:
            SceneError: a block that cannot be read, or codes that are no whole numbers.
            NomenclatureError: a code that the nomenclature does not know, with its pixel.
        """
        with open_raster(self.path) as raster:
            for window in windows(self.shape, raster.block_shapes[0]):
                yield window, self._classes(raster, window)

    def read(self, windows: Iterable[Window]) -> Iterator[np.ndarray]:
        """Class indices of windows, one after another: uint8 (rows, columns), 255: no class.

        Args:
            windows: inside the map.

        Raises:
            SceneError, NomenclatureError: as `blocks`.
        """
        with open_raster(self.path) as raster:
            for window in windows:
                yield self._classes(raster, window)

    def classes_at(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Class indices of single pixels: uint8, 255 where there is no class.

        Args:
            rows: (n,) rows inside the map.
            cols: (n,) columns inside the map.

        Raises:
            SceneError, NomenclatureError: as `blocks`.
        """
        found = np.empty(len(rows), np.uint8)
        with open_raster(self.path) as raster:
            for i, (row, col) in enumerate(zip(rows.tolist(), cols.tolist(), strict=True)):
                found[i] = self._classes(raster, Window(col, row, 1, 1))[0, 0]
        return found

    def _classes(self, raster: DatasetReader, window: Window) -> np.ndarray:
        try:
            codes = raster.read(1, window=window)
            masked = MaskFlags.per_dataset in raster.mask_flag_enums[0]
            absent = raster.read_masks(1, window=window) == 0 if masked else None
        except rasterio.errors.RasterioError as error:
            place = f"rows {window.row_off} to {window.row_off + window.height - 1}"
            raise SceneError(
                f"{self.path}: {place} cannot be read ({error}); the file is damaged or was not "
                "written to its end"
            ) from error
        if self.nodata is not None:
            same = np.isnan(codes) if np.isnan(self.nodata) else codes == self.nodata
            absent = same if absent is None else same | absent
        if absent is None:
            absent = np.zeros(codes.shape, bool)
        if codes.dtype.kind == "f":
            codes = self._whole(codes, absent, window)
        # Pixels without data may hold any code: a known one stands in for them.
        known = codes
        if absent.any():
            stand_in = self.nomenclature.codes[0]
            wide = codes if stand_in <= np.iinfo(codes.dtype).max else codes.astype(np.int32)
            known = np.where(absent, np.array(stand_in, wide.dtype), wide)
        try:
            found = self.nomenclature.encode(known, self.path)
        except NomenclatureError:
            # The table's message would count rows within the block; find the pixel in the map.
            expected = self.nomenclature.codes + self.nomenclature.ignore
            row, col = np.argwhere(~np.isin(known, expected))[0].tolist()
            raise NomenclatureError(
                f"{self.path}: code {codes[row, col]} at (row, col) "
                f"({row + window.row_off}, {col + window.col_off}) is not in nomenclature "
                f"{self.nomenclature.name!r}; expected {', '.join(map(str, expected))}. Use the "
                "nomenclature that the map was made with"
            ) from None
        found[absent] = IGNORE
        return found

    def _whole(self, codes: np.ndarray, absent: np.ndarray, window: Window) -> np.ndarray:
        """Codes stored as floats, as integers."""
        bad = ~absent & ~((codes >= 0) & (codes <= 65535) & (codes == np.floor(codes)))
        if bad.any():
            row, col = np.argwhere(bad)[0].tolist()
            raise SceneError(
                f"{self.path}: {codes[row, col]} at (row, col) "
                f"({row + window.row_off}, {col + window.col_off}) is no class code, expected "
                "whole numbers from 0 to 65535; is this a map of classes?"
            )
        return np.where(absent, 0, codes).astype(np.int32)


def read_map(path: str | os.PathLike[str], named: str = "", hint: str = "") -> LandMap:
    """Opens a map that rsjax wrote, or any other GeoTIFF of class codes.

    Reads no pixels: codes are checked as blocks are read.

    Args:
        path: a GeoTIFF with one band.
        named: name of the nomenclature, or path of its CSV; only needed where the file has none.
        hint: appended to messages that ask for another `named`.

    Raises:
        SceneError: no GeoTIFF, several bands, no position, pixels of no size, a nodata value that
            is also a class, no nomenclature or another one than the file's.
        NomenclatureError: no nomenclature of this name.
    """
    with open_raster(path) as raster:
        if raster.count != 1:
            raise SceneError(f"{path}: {raster.count} bands, expected one band of class codes")
        if raster.crs is None or raster.transform.is_identity:
            raise SceneError(
                f"{path}: no coordinate system or no transform, so pixels have no area; write them "
                "into the file, e.g. with gdal_edit.py -a_srs ... -a_ullr ..."
            )
        if not (np.isfinite(raster.transform).all() and raster.transform.determinant):
            raise SceneError(
                f"{path}: its pixels have no area, of a size of {raster.transform.a:g} x "
                f"{raster.transform.e:g}; mend its transform, e.g. with gdal_edit.py -a_ullr ..."
            )
        tag = raster.tags().get(NOMENCLATURE_TAG, "")
        classes = _nomenclature(str(path), tag, named, hint)
        if raster.nodata in classes.codes:
            name = classes.names[classes.codes.index(int(raster.nodata))]
            raise SceneError(
                f"{path}: nodata is {raster.nodata:g}, which is also the code of class {name!r} in "
                f"nomenclature {classes.name!r}; give the file another nodata value"
            )
        return LandMap(
            path=os.fspath(path),
            dtype=np.dtype(raster.dtypes[0]),
            nomenclature=classes,
            crs=raster.crs,
            transform=raster.transform,
            shape=raster.shape,
            nodata=raster.nodata,
        )


def _nomenclature(path: str, tag: str, named: str, hint: str) -> Nomenclature:
    inside = None
    if tag:
        try:
            inside = Nomenclature.from_json(json.loads(tag))
        except (ValueError, TypeError, AttributeError) as error:
            raise SceneError(f"{path}: its tag {NOMENCLATURE_TAG} is damaged ({error})") from error
    given = nomenclature.load(named) if named else None
    if inside is None and given is None:
        raise SceneError(
            f"{path}: does not say what its codes mean; name it with --nomenclature=NAME, one of "
            f"{', '.join(nomenclature.NAMES)} or a .csv file{hint}"
        )
    both = inside is not None and given is not None
    if both and (inside.codes, inside.names) != (given.codes, given.names):  # type: ignore[union-attr]
        raise SceneError(
            f"{path}: was written with other codes or names than --nomenclature={named} has; "
            f"leave that out{hint}"
        )
    return inside or given  # type: ignore[return-value]


def windows(
    shape: tuple[int, int], block: tuple[int, int], pixels: int = BLOCK_PIXELS
) -> Iterator[Window]:
    """Windows that cover a grid once, made of whole blocks of the file where these are small.

    Args:
        shape: (rows, columns) of the grid.
        block: (rows, columns) of the file's blocks.
        pixels: about how many a window may have.
    """
    rows, cols = min(block[0], shape[0]), min(block[1], shape[1])
    width = cols * max(1, min(pixels // (rows * cols), -(-shape[1] // cols)))
    height = rows * max(1, pixels // (rows * width))
    # A file of one huge block is read in parts all the same.
    height = max(1, min(height, pixels // width)) if width <= pixels else 1
    for row in range(0, shape[0], height):
        for col in range(0, shape[1], width):
            yield Window(col, row, min(width, shape[1] - col), min(height, shape[0] - row))
