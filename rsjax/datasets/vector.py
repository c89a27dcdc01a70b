"""Polygons and points of a local vector file, and what they mean on a grid of pixels."""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import Any

import numpy as np
import pyogrio
import rasterio
import rasterio.features
import shapely
from rasterio import warp
from rasterio.crs import CRS

from rsjax.datasets import raster
from rsjax.datasets.files import check_name
from rsjax.errors import DatasetError, NomenclatureError
from rsjax.landcover import IGNORE, Nomenclature

_KINDS = {0: "Point", 3: "Polygon", 4: "MultiPoint", 6: "MultiPolygon"}  # shapely's numbers


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of a layer in the order in which it stores them.

    Attributes:
        where: path and layer, for messages.
        crs: their coordinate system.
        shapes: geometries, array of objects (features,).
        values: of the field, array (features,).
    """

    where: str
    crs: CRS
    shapes: np.ndarray
    values: np.ndarray

    def projected(self, crs: CRS) -> np.ndarray:
        """The geometries in another coordinate system."""
        if raster.same_crs(crs, self.crs):
            return self.shapes

        def move(points: np.ndarray) -> np.ndarray:
            x, y = warp.transform(self.crs, crs, points[:, 0], points[:, 1])
            return np.stack([x, y], axis=1)

        moved: np.ndarray = shapely.transform(self.shapes, move)
        if len(moved) and not np.isfinite(shapely.bounds(moved)).all():
            raise DatasetError(
                f"{self.where}: coordinates that {raster.crs_name(crs)} has no place for, "
                f"expected ones near the images; check its coordinate system "
                f"({raster.crs_name(self.crs)})"
            )
        return moved


def read(path: str, layer: str, field: str) -> Features:
    """Reads all features of a layer with one field.

    Args:
        path: of a local file that GDAL knows as vector data, e.g. GeoJSON, GeoPackage, Shapefile.
        layer: its name; '' where there is only one.
        field: name of the field.

    Raises:
        DatasetError: no such file, layer or field, no coordinate system, no features, an empty
            field, or geometries other than polygons and points.
    """
    check_name(os.path.basename(path), path)
    if not os.path.isfile(path):
        raise DatasetError(f"{path}: no such file, expected vector data; correct the path")
    with open(path, "rb") as file:
        if b"<OGRVRTDataSource" in file.read(4096):  # leads to other files and the network
            raise DatasetError(f"{path}: a GDAL VRT, expected the data themselves; convert it")
    where = f"{path}, layer {layer}" if layer else path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # feature ids that are repeated; they are not used
            layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
            if (layer and layer not in layers) or (not layer and len(layers) != 1):
                raise DatasetError(
                    f"{path}: layers {', '.join(layers)}, expected {layer or 'one'}; name one of "
                    "them under layer in scenes.json"
                )
            layer = layer or layers[0]
            known = [str(name) for name in pyogrio.read_info(path, layer=layer)["fields"]]
            if field not in known:
                raise DatasetError(
                    f"{where}: no field {field!r}, expected one of {', '.join(known) or 'none'}; "
                    "name it in scenes.json"
                )
            meta, _, wkb, columns = pyogrio.raw.read(
                path, layer=layer, columns=[field], force_2d=True
            )
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise DatasetError(
            f"{where}: does not read as vector data ({' '.join(str(error).split())}), expected "
            "e.g. GeoJSON, GeoPackage or Shapefile; restore or convert it"
        ) from error
    if not meta["crs"]:
        raise DatasetError(f"{where}: no coordinate system, expected one; write it into the file")
    if wkb is None or len(wkb) == 0:
        raise DatasetError(f"{where}: no features, expected some; correct the path or the layer")
    shapes = shapely.from_wkb(wkb, on_invalid="ignore")
    values = np.asarray(columns[0])
    _check(where, field, shapes, values)
    return Features(where, CRS.from_user_input(meta["crs"]), shapes, values)


def _check(where: str, field: str, shapes: np.ndarray, values: np.ndarray) -> None:
    kinds = shapely.get_type_id(shapes)
    for i, (shape, kind, value) in enumerate(zip(shapes, kinds, values, strict=True), 1):
        if shape is None or kind not in _KINDS or shape.is_empty:
            found = "no geometry" if shape is None or shape.is_empty else f"a {shape.geom_type}"
            raise DatasetError(
                f"{where}: feature {i} has {found}, expected a polygon or a point; repair or "
                "delete it"
            )
        if value is None or value == "" or value != value:
            raise DatasetError(
                f"{where}: feature {i} has nothing in field {field!r}, expected a value; fill it "
                "in, or delete the feature"
            )


def classes(features: Features, nomenclature: Nomenclature) -> np.ndarray:
    """Class indices of the features: by name, or by code where the field has numbers.

    Returns:
        uint8 (features,), 255 for codes that mean "not labelled".

    Raises:
        NomenclatureError: a name or code that the nomenclature does not have.
    """
    known: dict[Any, int] = {}
    for value in set(features.values.tolist()):
        if isinstance(value, str) and value in nomenclature.names:
            known[value] = nomenclature.index(value)
        elif (code := _code(value)) is not None:
            known[value] = int(nomenclature.encode(np.array([code]), features.where)[0])
        elif isinstance(value, str):
            nomenclature.index(value, features.where)  # an error that lists the known
        else:
            raise NomenclatureError(
                f"{features.where}: {value!r} is neither a class's name nor a code; correct the "
                "field"
            )
    return np.array([known[value] for value in features.values.tolist()], np.uint8)


def _code(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.strip().lstrip("-").isdecimal() else None
    return int(value) if value == int(value) else None


class Painter:
    """Features on one coordinate system, ready to be painted into windows.

    Args:
        features: what to paint.
        values: uint8 (features,) to paint them with.
        crs: coordinate system of the windows.
    """

    def __init__(self, features: Features, values: np.ndarray, crs: CRS):
        self.shapes = features.projected(crs)
        self.values = values
        self._tree = shapely.STRtree(self.shapes)

    @property
    def bounds(self) -> tuple[float, ...]:
        """(left, bottom, right, top) of all features."""
        return tuple(float(v) for v in shapely.total_bounds(self.shapes))

    def paint(
        self,
        transform: rasterio.Affine,
        shape: tuple[int, int],
        bounds: tuple[float, ...],
    ) -> np.ndarray:
        """A window of pixels.

        A polygon labels the pixels whose centre is in it, a point the pixel that it lies in; of
        features that overlap the later one in the file holds.

        Args:
            transform: of the window.
            shape: (height, width).
            bounds: (left, bottom, right, top) of the window.

        Returns:
            uint8 of that shape, 255 where there is no feature.
        """
        near = np.sort(self._tree.query(shapely.box(*bounds)))
        if not len(near):
            return np.full(shape, IGNORE, np.uint8)
        pairs = ((self.shapes[i], int(self.values[i])) for i in near)
        found: np.ndarray = rasterio.features.rasterize(
            pairs, out_shape=shape, fill=IGNORE, transform=transform, dtype="uint8"
        )
        return found
