"""A drawn sample on disk: points to be labelled (GeoPackage and CSV), and the design beside."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import os
import pathlib
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely

import rsjax
from rsjax import sealed
from rsjax.errors import SampleError
from rsjax.landcover import Nomenclature
from rsjax.mapping.area_table import Tally
from rsjax.mapping.landmap import LandMap
from rsjax.mapping.sample_design import Units

KIND = "stratified random sample of pixels, without replacement within each stratum"
ENDING = ".design.json"


@dataclasses.dataclass(frozen=True)
class Design:
    """How a sample was drawn.

    Attributes:
        codes: (H,) class code of each stratum, in the nomenclature of the map it was drawn from.
        names: of the strata.
        pixels: (H,) of each stratum.
        hectares: (H,) of each stratum.
        units: (H,) drawn in each stratum.
        map_sha256: of the file of the map.
        about: all of it, as written.
    """

    codes: tuple[int, ...]
    names: tuple[str, ...]
    pixels: np.ndarray
    hectares: np.ndarray
    units: np.ndarray
    map_sha256: str
    about: dict[str, Any]


def sha256(path: str | os.PathLike[str]) -> str:
    """The checksum of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(
    prefix: str | os.PathLike[str],
    land_map: LandMap,
    counted: Tally,
    drawn: Units,
    seed: int,
    assumed: dict[str, Any],
) -> list[pathlib.Path]:
    """Writes `PREFIX.gpkg`, `PREFIX.csv` and `PREFIX.design.json`, each whole or absent.

    Points are in the map's coordinate system; `reference` is empty, for the true class.

    Args:
        prefix: of the three files.
        land_map: the map that the sample was drawn from.
        counted: its classes.
        drawn: the units.
        seed: of the draw.
        assumed: how size and allocation were found, for the record.

    Raises:
        DiskError: a file could not be written.
    """
    classes, t = land_map.nomenclature, land_map.transform
    x = t.c + t.a * (drawn.col + 0.5) + t.b * (drawn.row + 0.5)
    y = t.f + t.d * (drawn.col + 0.5) + t.e * (drawn.row + 0.5)
    units = np.bincount(drawn.stratum, minlength=len(classes))
    weight = np.divide(counted.pixels, units, where=units > 0, out=np.zeros(len(classes)))
    lon, lat = _degrees(land_map, x, y)
    columns: dict[str, np.ndarray] = {
        "id": np.arange(1, len(x) + 1),
        "x": x,
        "y": y,
        "longitude": np.round(lon, 7),
        "latitude": np.round(lat, 7),
        "row": drawn.row,
        "col": drawn.col,
        "stratum": np.array(classes.codes)[drawn.stratum],
        "stratum_name": np.array(classes.names, object)[drawn.stratum],
        "weight": weight[drawn.stratum],
        "reference": np.full(len(x), "", object),
    }
    files = [pathlib.Path(f"{prefix}{ending}") for ending in (".gpkg", ".csv", ENDING)]
    _write_points(files[0], columns, land_map)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    sealed.replace(files[1], text.getvalue().encode())
    strata = [
        {
            "code": classes.codes[c],
            "name": classes.names[c],
            "pixels": int(counted.pixels[c]),
            "hectares": float(counted.hectares[c]),
            "units": int(units[c]),
        }
        for c in np.flatnonzero(units)
    ]
    about = {
        "kind": KIND,
        "strata": strata,
        "map": {
            "file": pathlib.Path(land_map.path).name,
            "sha256": sha256(land_map.path),
            "crs": land_map.crs.to_wkt(),
            "transform": list(t)[:6],
            "shape": list(land_map.shape),
            "pixels_without_class": int(counted.nodata_pixels),
        },
        "nomenclature": classes.to_json(),
        "seed": seed,
        "assumed": assumed,
        "written_by": {"rsjax": rsjax.__version__, "numpy": np.__version__},
    }
    sealed.write(files[2], about)
    return files


def _degrees(land_map: LandMap, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    system = pyproj.CRS.from_wkt(land_map.crs.to_wkt(version="WKT2_2019"))
    lon, lat = pyproj.Transformer.from_crs(system, "EPSG:4326", always_xy=True).transform(x, y)
    return np.asarray(lon), np.asarray(lat)


def _write_points(path: pathlib.Path, columns: dict[str, np.ndarray], land_map: LandMap) -> None:
    fields = {name: column for name, column in columns.items() if name not in ("x", "y")}
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.gpkg")
    with sealed.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            pyogrio.raw.write(
                os.fspath(temporary),
                geometry=shapely.to_wkb(shapely.points(columns["x"], columns["y"])),
                field_data=list(fields.values()),
                fields=list(fields),
                crs=land_map.crs.to_wkt(version="WKT2_2019"),
                geometry_type="Point",
                driver="GPKG",
                layer="sample",
            )
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_design(path: str | os.PathLike[str]) -> Design:
    """The design of a sample.

    Raises:
        SampleError: a file that cannot be read, is damaged, or is no design.
    """
    try:
        about = sealed.read(pathlib.Path(path))
        if about.get("kind") != KIND:
            raise ValueError(f"kind {about.get('kind')!r}, expected {KIND!r}")
        strata = about["strata"]
        Nomenclature.from_json(about["nomenclature"])
        return Design(
            codes=tuple(int(s["code"]) for s in strata),
            names=tuple(str(s["name"]) for s in strata),
            pixels=np.array([int(s["pixels"]) for s in strata], np.int64),
            hectares=np.array([float(s["hectares"]) for s in strata]),
            units=np.array([int(s["units"]) for s in strata], np.int64),
            map_sha256=about["map"]["sha256"],
            about=about,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SampleError(f"{path}: is no design of a sample ({error}); {HOW}") from error


HOW = (
    "state the design with --design=FILE.design.json (python -m rsjax.sample writes it beside the "
    "points), or --design=stratified where the units of each map class are a random sample of its "
    "pixels, or --design=simple where they are a simple random or systematic sample of all pixels. "
    "Points picked by hand, or used to train or tune the model, have no design and give no areas"
)
