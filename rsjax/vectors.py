"""Vector files as plain arrays: GeoPackage, GeoJSON, Shapefile and FlatGeobuf.

Each is opened by the one driver that its extension names: GDAL left to itself would take any of
them for what leads to other files and the network (VRT, WFS, pipelines) if its content says so.
"""

from __future__ import annotations

import dataclasses
import os
import warnings

import numpy as np
import pyogrio
import shapely

from rsjax.errors import SceneError

# Extension -> how the file starts, and what GDAL is given. A Shapefile and a FlatGeobuf have no
# such name, but no other driver takes what starts as they do.
_FORMATS = {
    ".gpkg": (b"SQLite format 3\0", 'GPKG:"{}"'),
    ".geojson": (b"", "GeoJSON:{}"),
    ".json": (b"", "GeoJSON:{}"),
    ".shp": (b"\0\0\x27\x0a", "{}"),
    ".fgb": (b"fgb\x03", "{}"),
}


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of a layer in the order in which it stores them.

    Attributes:
        where: path and layer, for messages.
        geometry: (n,) shapely geometries in two dimensions.
        fields: attribute name -> (n,) values.
        crs: WKT or code of the coordinate system.
    """

    where: str
    geometry: np.ndarray
    fields: dict[str, np.ndarray]
    crs: str


def read(path: str | os.PathLike[str], layer: str = "", field: str = "") -> Features:
    """Reads a layer of a local vector file.

    Args:
        path: of the file.
        layer: its name; '' where only one has geometries.
        field: the one attribute to read; '' reads all.

    Raises:
        SceneError: no such file, layer or field, another format, a damaged file, no features,
            a feature without a geometry, or no coordinate system.
    """
    path = os.fspath(path)
    name = _checked(path)
    where = f"{path}, layer {layer}" if layer else path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # feature ids that are repeated; they are not used
            listed = pyogrio.list_layers(name).tolist()
            known = [one for one, kind in listed if layer or kind is not None]
            if (layer and layer not in known) or (not layer and len(known) != 1):
                raise SceneError(
                    f"{path}: layers {', '.join(known) or 'none'}, expected {layer or 'one'}; name "
                    "one of them under layer in scenes.json, or keep it alone in a file"
                )
            layer = layer or known[0]
            fields = pyogrio.read_info(name, layer=layer)["fields"].tolist()
            if field and field not in fields:
                raise SceneError(
                    f"{where}: no field {field!r}, expected one of {', '.join(fields) or 'none'}; "
                    "name it in scenes.json"
                )
            meta, _, wkb, values = pyogrio.raw.read(
                name, layer=layer, columns=[field] if field else None, force_2d=True
            )
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise SceneError(
            f"{where}: does not read as vector data ({' '.join(str(error).split())}), expected a "
            "whole file of its extension's format; restore or convert it"
        ) from error
    if not meta["crs"]:
        raise SceneError(f"{where}: no coordinate system, expected one; write it into the file")
    if wkb is None or not len(wkb):
        raise SceneError(f"{where}: no features, expected some; correct the path or the layer")
    geometry = shapely.from_wkb(wkb, on_invalid="ignore")
    if len(missing := np.flatnonzero(shapely.is_missing(geometry))):
        raise SceneError(
            f"{where}: feature {missing[0] + 1} has no geometry that reads, expected one; repair "
            "or delete it"
        )
    columns = dict(zip(meta["fields"].tolist(), map(np.asarray, values), strict=True))
    return Features(where, geometry, columns, meta["crs"])


def _checked(path: str) -> str:
    """The name by which only the driver of the path's extension opens it."""
    if not os.path.isfile(path):
        raise SceneError(f"{path}: no such file, expected a local vector file; correct the path")
    ending = os.path.splitext(path)[1].lower()
    if ending not in _FORMATS:
        raise SceneError(
            f"{path}: expected one of {', '.join(_FORMATS)}; convert it, e.g. with ogr2ogr"
        )
    start, name = _FORMATS[ending]
    with open(path, "rb") as file:
        found = file.read(len(start))
    if found != start:
        raise SceneError(
            f"{path}: starts with {found!r}, expected {start!r} as in every {ending} file; it does "
            "not read as vector data, restore or convert it"
        )
    return name.format(os.path.abspath(path))
