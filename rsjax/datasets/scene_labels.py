"""The reference of a scene on its grid: class indices from rasters or from vector files."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import rasterio
from rasterio import warp
from rasterio.crs import CRS
from rasterio.enums import Resampling

from rsjax import landcover
from rsjax.datasets import raster, vector
from rsjax.datasets.raster import SAME, Rasters
from rsjax.datasets.scene_area import Area
from rsjax.datasets.scene_list import Labels
from rsjax.errors import DatasetError
from rsjax.landcover import IGNORE, Nomenclature

Locate = Callable[[str], str]  # name in the folder -> path


@dataclasses.dataclass(frozen=True)
class _Layer:
    """One raster of codes."""

    path: str
    area: Area
    crs: CRS  # the file's own, or the one trusted in its place
    nodata: float | None


class SceneLabels:
    """Class indices of a scene's pixels.

    Args:
        where: the scene's name, for messages.
        labels: what `scenes.json` says of them.
        locate: gives the path of a file in the folder.
        area: the scene's grid.
        nomenclature: the classes.
        features: of the vector file, where the labels are one.

    Raises:
        DatasetError: a file is missing or damaged, lies elsewhere, or the coordinate systems
            contradict each other.
        NomenclatureError: a class of a feature that is not in the nomenclature.
    """

    def __init__(
        self,
        where: str,
        labels: Labels,
        locate: Locate,
        area: Area,
        nomenclature: Nomenclature,
        features: vector.Features | None = None,
    ):
        self.where, self.area, self.nomenclature = where, area, nomenclature
        self._painter: vector.Painter | None = None
        self._layers: list[_Layer] = []
        if features:
            found = vector.classes(features, nomenclature)
            self._painter = vector.Painter(features, found, area.crs)
            self._refuse_elsewhere([self._painter.bounds], features.where)
            return
        layers = [_layer(locate(name), labels, area) for name in labels.raster]
        boxes = [_bounds(layer.crs, layer.area.extent, area.crs) for layer in layers]
        self._layers = [
            layer for layer, box in zip(layers, boxes, strict=True) if _overlap(box, area.extent)
        ]
        if not self._layers:
            self._refuse_elsewhere(boxes, ", ".join(layer.path for layer in layers))

    def read(self, rasters: Rasters, row: int, col: int, height: int, width: int) -> np.ndarray:
        """A window of the grid: uint8 class indices, 255 where there is no label.

        Raises:
            DatasetError: pixels that do not decode.
            NomenclatureError: a code that is not in the nomenclature; names file and codes.
        """
        if self._painter:
            a, _, c, _, e, f = tuple(self.area.transform)[:6]
            transform = rasterio.Affine(a, 0, c + a * col, 0, e, f + e * row)
            bounds = self.area.bounds(row, col, height, width)
            return self._painter.paint(transform, (height, width), bounds)
        out = np.full((height, width), IGNORE, np.uint8)
        for layer in self._layers:
            codes, valid = self._codes(rasters, layer, row, col, height, width)
            found = self._encode(f"{layer.path}, from {row}, {col} of its scene", codes, valid)
            out = np.where(out == IGNORE, found, out)
            if (out != IGNORE).all():
                break
        return out

    def _codes(
        self, rasters: Rasters, layer: _Layer, row: int, col: int, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Codes, and where there are any."""
        area = self.area
        offset = _offset(layer, area)
        if offset:
            top, left = row + offset[0], col + offset[1]
            inside = min(top, left) >= 0
            inside &= top + height <= layer.area.height and left + width <= layer.area.width
            if inside:
                opened = rasters.plain(layer.path)
                codes = raster.read_window(opened, layer.path, 1, top, left, height, width)
                return codes, _valid(codes, layer.nodata)
        opened = rasters.warped(
            layer.path,
            area.crs,
            area.transform,
            (area.height, area.width),
            Resampling.nearest,
            layer.nodata,
            layer.crs,
        )
        if layer.nodata is not None:
            codes = raster.read_window(opened, layer.path, 1, row, col, height, width)
            return codes, _valid(codes, layer.nodata)
        last = opened.count
        codes, alpha = raster.read_window(opened, layer.path, [1, last], row, col, height, width)
        return codes, _valid(codes, None) & (alpha > 0)

    def _encode(self, where: str, codes: np.ndarray, valid: np.ndarray) -> np.ndarray:
        if codes.dtype.kind == "f":
            found = codes[valid]
            if not (whole := found == np.rint(found)).all():
                raise DatasetError(
                    f"{where}: code {found[~whole][0]}, expected whole numbers; it is no raster "
                    "of classes, or was resampled with another rule than nearest"
                )
            codes = np.where(valid, codes, 0).astype(np.int64)
        if valid.all():
            return self.nomenclature.encode(codes, where)
        # What has no label may be any number: a code that is known stands in for it.
        codes = np.where(valid, codes, np.asarray(self.nomenclature.codes[0], codes.dtype))
        return np.where(valid, self.nomenclature.encode(codes, where), np.uint8(IGNORE))

    def _refuse_elsewhere(self, boxes: Sequence[tuple[float, ...]], path: str) -> None:
        if any(_overlap(box, self.area.extent) for box in boxes):
            return
        said = "; ".join(_numbers(box) for box in boxes)
        raise DatasetError(
            f"{path}: lies at (left, bottom, right, top) {said}, expected labels where "
            f"{self.where} is, {_numbers(self.area.extent)} in "
            f"{raster.crs_name(self.area.crs)}; check the coordinate systems, or give the scene "
            "labels of its own"
        )


def _layer(path: str, labels: Labels, area: Area) -> _Layer:
    with raster.open_raster(path) as opened:
        raster.check_place(opened, path)
        if opened.count != 1:
            raise DatasetError(f"{path}: {opened.count} bands, expected one of class codes")
        theirs = Area(opened.crs, opened.transform, opened.height, opened.width)
        nodata = opened.nodata if labels.nodata is None else labels.nodata
        if nodata is None:
            raster.check_written(opened, path)
    same = (theirs.height, theirs.width) == (area.height, area.width) and all(
        abs(a - b) <= SAME * abs(area.transform.a)
        for a, b in zip(theirs.transform, area.transform, strict=True)
    )
    crs = theirs.crs
    if not raster.same_crs(crs, area.crs) and (same or labels.trust_transform):
        names = f"{raster.crs_name(crs)}, and the images {raster.crs_name(area.crs)}"
        if not same:
            raise DatasetError(
                f"{path}: trust_transform, but transform or size differ from the images' "
                f"(labels in {names}), expected the same; leave trust_transform out, and the "
                "labels are reprojected"
            )
        if labels.trust_transform is None:
            raise DatasetError(
                f"{path}: in {names}, with one transform and size: both on one grid, and one of "
                "the names is wrong, or one of them displaced. State in its labels "
                "trust_transform: true (one grid, the images' name holds) or false (both names "
                "hold, the labels are reprojected)"
            )
        crs = area.crs if labels.trust_transform else crs
    return _Layer(path, theirs, crs, nodata)


def _offset(layer: _Layer, area: Area) -> tuple[int, int] | None:
    """Rows and columns from the layer's corner to the grid's, where their pixels are the same."""
    theirs, ours = layer.area.transform, area.transform
    if not raster.same_crs(layer.crs, area.crs) or theirs.b or theirs.d:
        return None
    grown = abs(theirs.a - ours.a) * area.width + abs(theirs.e - ours.e) * area.height
    col, row = (ours.c - theirs.c) / ours.a, (ours.f - theirs.f) / ours.e
    apart = max(abs(col - round(col)), abs(row - round(row)), grown / ours.a)
    return (round(row), round(col)) if apart <= SAME else None


@functools.lru_cache(maxsize=1024)  # PROJ looks for the way anew each time
def _bounds(theirs: CRS, extent: tuple[float, ...], ours: CRS) -> tuple[float, ...]:
    if raster.same_crs(theirs, ours):
        return extent
    found: tuple[float, ...] = warp.transform_bounds(theirs, ours, *extent)
    return found


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _valid(codes: np.ndarray, nodata: float | None) -> np.ndarray:
    valid = ~np.isnan(codes) if codes.dtype.kind == "f" else np.ones(codes.shape, bool)
    if nodata is not None and nodata == nodata:
        valid &= codes != nodata
    return valid


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.7g}" for value in values) + ")"


def load(labels: Labels, locate: Locate) -> tuple[Nomenclature, str]:
    """The nomenclature of labels, and the name or path that gives it."""
    name = labels.nomenclature
    name = locate(name) if name.endswith(".csv") else name
    return landcover.load(name), name
