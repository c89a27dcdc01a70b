"""Vector files of any format that GDAL reads, as plain arrays in the coordinate system of a map."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np
import pyogrio
import pyproj
import shapely
from rasterio.crs import CRS

from rsjax.errors import SceneError


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of a vector file.

    Attributes:
        geometry: (n,) shapely geometries.
        fields: attribute name -> (n,) values.
        crs: WKT or code of the coordinate system.
    """

    geometry: np.ndarray
    fields: dict[str, np.ndarray]
    crs: str


def read(path: str | os.PathLike[str]) -> Features:
    """Reads a local vector file.

    Raises:
        SceneError: no such file, no vector file, no features, no coordinate system, or a feature
            without geometry.
    """
    if not pathlib.Path(path).exists():
        raise SceneError(f"{path}: no such file; expected a vector file on a local disk")
    try:
        meta, _, geometry, values = pyogrio.raw.read(os.fspath(path))
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise SceneError(f"{path}: cannot be read as a vector file ({error})") from error
    if geometry is None or not len(geometry):
        raise SceneError(f"{path}: has no features with a geometry")
    if not meta["crs"]:
        raise SceneError(f"{path}: has no coordinate system; write it into the file")
    missing = [i for i, shape in enumerate(geometry) if shape is None]
    if missing:
        raise SceneError(f"{path}: feature {missing[0]} has no geometry; remove it or draw it")
    fields = dict(zip(meta["fields"].tolist(), values, strict=True))
    return Features(shapely.from_wkb(geometry), fields, meta["crs"])


def transformer(source: str, target: CRS) -> pyproj.Transformer | None:
    """From a coordinate system to that of a map; None where both are the same.

    Raises:
        SceneError: a coordinate system that is not known.
    """
    try:
        there, here = pyproj.CRS(source), pyproj.CRS.from_wkt(target.to_wkt(version="WKT2_2019"))
    except pyproj.exceptions.CRSError as error:
        raise SceneError(f"unknown coordinate system {source!r}: {error}") from error
    if there.equals(here, ignore_axis_order=True):
        return None
    return pyproj.Transformer.from_crs(there, here, always_xy=True)
