"""The images of a scene, ready to be read: patches of its grid from files of several sizes.

Files whose pixels are the grid's, or whole multiples of them that divide a patch, are read as they
are, each size in an entry of its own (as in BigEarthNet: 10 m, 20 m, 60 m). All others are
resampled to the grid (bilinear) as they are read. `scene_headers` opens them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from rasterio.enums import Resampling

from rsjax.datasets import raster
from rsjax.datasets.info import ImageSpec
from rsjax.datasets.raster import Rasters
from rsjax.datasets.scene_area import WARPED, Area


@dataclasses.dataclass(frozen=True)
class Part:
    """Bands of one file that go into an entry."""

    path: str
    indexes: tuple[int, ...]
    places: tuple[int, ...]  # on the entry's last axis
    factor: int
    nodata: float | None
    ground: tuple[object, ...]  # coordinate system and extent of the file


@dataclasses.dataclass(frozen=True)
class SceneImages:
    """A scene, ready to be read.

    Attributes:
        where: its name, for messages.
        area: the grid.
        specs: image entries by name, the finest first.
        shift: what is added to stored values to bring them to the entries' unit.
    """

    where: str
    area: Area
    specs: dict[str, ImageSpec]
    shift: float
    patch_px: int
    parts: dict[str, list[Part]]

    def read(self, rasters: Rasters, row: int, col: int) -> dict[str, np.ndarray]:
        """The entries of a patch: (height, width, bands) as `specs` say.

        Args:
            rasters: open files.
            row: of the patch's first pixel in the grid.
            col: likewise.
        """
        return {
            name: self._entry(rasters, name, row, col, self.patch_px, self.patch_px)
            for name in self.specs
        }

    def missing(self, rasters: Rasters, row: int, col: int, height: int, width: int) -> np.ndarray:
        """Where the first entry is missing in a window of the grid, as far as a quick look tells.

        Looks at its first band, and at a band of one resampled file of each extent: those need
        need not cover the grid.

        Returns:
            bool (height, width).
        """
        gone = np.zeros((height, width), bool)
        if next(iter(self.specs.values())).nodata is None:
            return gone
        parts = self.parts[next(iter(self.specs))]
        first = next(part for part in parts if 0 in part.places)
        looked = {part.ground: part for part in parts if part.factor == WARPED}
        looked.pop(first.ground, None)
        for part in (first, *looked.values()):
            index = part.indexes[part.places.index(min(part.places))]
            k = part.factor or 1
            whole = -(-width // k) * k  # the last pixel of a coarse file may stick out
            plane = self._read(rasters, part, [index], row, col, height, whole)[0]
            found = _is_missing(plane, part.nodata)
            gone |= np.repeat(np.repeat(found, k, 0), k, 1)[:, :width]
        return gone

    def gone(self, example: dict[str, np.ndarray]) -> np.ndarray:
        """Where a patch is missing, as `read` gave it; bool, of the first entry's size.

        There every band is nodata, any is NaN, or any band of a resampled file is nodata.
        """
        name, spec = next(iter(self.specs.items()))
        image = example[name]
        if spec.nodata is None:
            return np.zeros(image.shape[:2], bool)
        missing = _is_missing(image, spec.nodata)
        if np.dtype(spec.dtype).kind == "f":
            return np.asarray(missing.any(axis=-1))
        warped = [i for p in self.parts[name] if p.factor == WARPED for i in p.places]
        return np.asarray(missing.all(axis=-1) | missing[..., warped].any(axis=-1))

    def _entry(
        self, rasters: Rasters, name: str, row: int, col: int, height: int, width: int
    ) -> np.ndarray:
        spec = self.specs[name]
        first = self.parts[name][0]
        step = first.factor or 1
        out = np.empty((height // step, width // step, len(spec.bands)), spec.dtype)
        for part in self.parts[name]:
            planes = self._read(rasters, part, list(part.indexes), row, col, height, width)
            gone = _is_missing(planes, part.nodata)
            if self.shift:
                planes = _shifted(planes, self.shift, spec, gone)
            if np.dtype(spec.dtype).kind == "f" and gone.any():
                planes = np.where(gone, np.asarray(np.nan, spec.dtype), planes)
            out[..., list(part.places)] = np.moveaxis(planes, 0, -1)
        return out

    def _read(
        self,
        rasters: Rasters,
        part: Part,
        indexes: list[int],
        row: int,
        col: int,
        height: int,
        width: int,
    ) -> np.ndarray:
        if part.factor == WARPED:
            area = self.area
            opened = rasters.warped(
                part.path,
                area.crs,
                area.transform,
                (area.height, area.width),
                Resampling.bilinear,
                part.nodata,
            )
            return raster.read_window(opened, part.path, indexes, row, col, height, width)
        k = part.factor
        opened = rasters.plain(part.path)
        window = (row // k, col // k, height // k, width // k)
        return raster.read_window(opened, part.path, indexes, *window)


def _shifted(planes: np.ndarray, shift: float, spec: ImageSpec, gone: np.ndarray) -> np.ndarray:
    """Stored values moved to another zero, as the entry has them.

    Of integers none leaves the range or becomes nodata, and nodata stays.
    """
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return np.asarray(planes.astype(dtype) + dtype.type(shift))
    limits = np.iinfo(dtype)
    moved = np.clip(planes.astype(np.int64) + int(shift), limits.min, limits.max)
    if spec.nodata is not None:
        beside = spec.nodata + 1 if spec.nodata < limits.max else spec.nodata - 1
        moved[moved == spec.nodata] = beside
    return np.where(gone, planes.astype(dtype), moved.astype(dtype))


def _is_missing(planes: np.ndarray, nodata: float | None) -> np.ndarray:
    gone = np.isnan(planes) if planes.dtype.kind == "f" else np.zeros(planes.shape, bool)
    if nodata is not None and nodata == nodata:
        gone |= planes == planes.dtype.type(nodata)
    return gone
