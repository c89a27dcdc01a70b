"""Labelled reference samples on disk: points with their true classes, and the pixels they lie in.

Columns (attributes of a vector file, or of a CSV): `reference`, the true class as code or name;
`stratum` (or `map_class`), what the point was drawn as; in a CSV also `x` and `y`; optional
`weight`, the number of pixels that the unit stands for, the inverse of its inclusion probability.
"""

from __future__ import annotations

import csv
import dataclasses
import os

import numpy as np
import shapely

from rsjax import vectors
from rsjax.errors import SampleError
from rsjax.landcover import Nomenclature
from rsjax.mapping import projections
from rsjax.mapping.landmap import LandMap
from rsjax.mapping.sample_files import HOW


@dataclasses.dataclass(frozen=True)
class Sample:
    """A labelled sample, as read.

    Attributes:
        path: the file.
        where: (n,) what each unit is called in messages, e.g. 'line 7'.
        row: (n,) of its pixel.
        col: (n,) of its pixel.
        reference: (n,) class index of the true class.
        stratum: (n,) what it was drawn as, in words of the file; None where there is no column.
        weight: (n,) pixels it stands for; None where there is no column.
    """

    path: str
    where: list[str]
    row: np.ndarray
    col: np.ndarray
    reference: np.ndarray
    stratum: list[str] | None
    weight: np.ndarray | None


def read(path: str | os.PathLike[str], land_map: LandMap, crs: str = "") -> Sample:
    """Reads a labelled sample.

    Args:
        path: a CSV file, or a vector file of points (see `rsjax.vectors`).
        land_map: the map that is assessed.
        crs: coordinate system of x and y in a CSV; '' is that of the map.

    Raises:
        SampleError: missing columns, a unit without a known reference class, off the map, or in
            the same pixel as another.
        SceneError: a file that cannot be read.
    """
    name = os.fspath(path)
    csv_file = name.lower().endswith(".csv")
    where, columns, x, y = (_csv if csv_file else _points)(path)
    source = crs if csv_file else columns.pop("")[0]
    if crs and not csv_file:
        raise SampleError(f"{name}: has its own coordinate system; leave --reference_crs out")
    if "reference" not in columns:
        raise SampleError(
            f"{name}: no column 'reference' with the true classes; it has "
            f"{', '.join(columns) or 'none'}. A confusion matrix is not enough: {HOW}"
        )
    change = projections.transformer(source, land_map.crs) if source else None
    if change is not None:
        x, y = (np.asarray(v) for v in change.transform(x, y))
    t = ~land_map.transform
    row, col = np.floor(t.d * x + t.e * y + t.f), np.floor(t.a * x + t.b * y + t.c)
    inside = (row >= 0) & (row < land_map.shape[0]) & (col >= 0) & (col < land_map.shape[1])
    if not inside.all():
        i = int(np.argmin(inside))
        raise SampleError(
            f"{name}: {where[i]} at ({x[i]:g}, {y[i]:g}) is off the map {land_map.path} "
            f"({int((~inside).sum())} such); are the coordinate systems right?"
        )
    row, col = row.astype(np.int64), col.astype(np.int64)
    seen: dict[tuple[int, int], str] = {}
    for i, pixel in enumerate(zip(row.tolist(), col.tolist(), strict=True)):
        if pixel in seen:
            raise SampleError(
                f"{name}: {where[i]} and {seen[pixel]} lie in one pixel, (row, col) {pixel}; "
                "a pixel is drawn once"
            )
        seen[pixel] = where[i]
    classes = land_map.nomenclature
    reference = [class_index(v, classes, f"{name}: {w}", "reference")
                 for v, w in zip(columns["reference"], where, strict=True)]  # fmt: skip
    weight = None
    if "weight" in columns:
        weight = np.array([_number(v, f"{name}: {w}: weight")
                           for v, w in zip(columns["weight"], where, strict=True)])  # fmt: skip
    stratum = columns.get("stratum", columns.get("map_class"))
    return Sample(name, where, row, col, np.array(reference), stratum, weight)


def _csv(
    path: str | os.PathLike[str],
) -> tuple[list[str], dict[str, list[str]], np.ndarray, np.ndarray]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            lines = [f"line {i + 2}" for i in range(len(rows))]
            header = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SampleError(f"{path}: cannot be read as a CSV file ({error})") from error
    if not rows:
        raise SampleError(f"{path}: has no rows")
    for row, line in zip(rows, lines, strict=True):
        if None in row or None in row.values():
            raise SampleError(f"{path}: {line} has other columns than the header; quote commas")
    columns = {name: [value.strip() for value in column]
               for name, column in zip(header, zip(*(r.values() for r in rows), strict=True),
                                       strict=True)}  # fmt: skip
    if "x" not in columns or "y" not in columns:
        raise SampleError(
            f"{path}: no columns x and y; it has {', '.join(header)}. A sample has one row a unit, "
            "with x, y, stratum and reference. If this is a confusion matrix, give it with "
            "--matrix=FILE; it must state its design"
        )
    x, y = (np.array([_number(value, f"{path}: {line}: {name}")
                      for value, line in zip(columns[name], lines, strict=True)])
            for name in ("x", "y"))  # fmt: skip
    return lines, columns, x, y


def _points(
    path: str | os.PathLike[str],
) -> tuple[list[str], dict[str, list[str]], np.ndarray, np.ndarray]:
    found = vectors.read(path)
    kinds = set(shapely.get_type_id(found.geometry).tolist())
    if kinds != {shapely.GeometryType.POINT.value} or shapely.is_empty(found.geometry).any():
        raise SampleError(f"{path}: expected one point a unit")
    columns = {name.lower(): ["" if v is None or v != v else _text(v) for v in values]
               for name, values in found.fields.items()}  # fmt: skip
    columns[""] = [found.crs]
    where = [f"feature {i + 1}" for i in range(len(found.geometry))]
    return where, columns, shapely.get_x(found.geometry), shapely.get_y(found.geometry)


def _text(value: object) -> str:
    """A code that the format stores as a float, without its point."""
    number = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if number else str(value).strip()  # type: ignore[call-overload]


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise SampleError(f"{what} is {text!r}, expected a number")
    return value


def class_index(text: str, classes: Nomenclature, where: str, column: str) -> int:
    """Class index of a code or a name."""
    if not text:
        raise SampleError(
            f"{where} has no {column} class. Label it: a unit that is left out changes the "
            "probabilities of the others"
        )
    if text in classes.names:
        return classes.names.index(text)
    if text.isdecimal() and int(text) in classes.codes:
        return classes.codes.index(int(text))
    known = ", ".join(f"{c} {n}" for c, n in zip(classes.codes, classes.names, strict=True))
    raise SampleError(
        f"{where}: {column} {text!r} is no class of nomenclature {classes.name!r}: {known}"
    )
