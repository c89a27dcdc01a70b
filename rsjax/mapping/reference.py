"""Labelled reference samples: points with their true classes, checked against map and design.

Columns (attributes of a vector file, or of a CSV): `reference`, the true class as code or name;
`stratum` (or `map_class`), what the point was drawn as; in a CSV also `x` and `y`; optional
`weight`, the number of pixels that the unit stands for, the inverse of its inclusion probability.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib

import numpy as np
import shapely

from rsjax.errors import SampleError
from rsjax.landcover import Nomenclature
from rsjax.landcover.nomenclature import IGNORE
from rsjax.mapping import area_estimate, vector
from rsjax.mapping.area_estimate import Accuracy
from rsjax.mapping.area_table import Tally
from rsjax.mapping.landmap import LandMap
from rsjax.mapping.pixel_area import PixelAreas
from rsjax.mapping.sample_files import ENDING, HOW, Design, read_design

SAME_AREA = 0.005  # largest relative difference between the areas of a design and of the map


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
        path: a CSV file, or any vector file of points.
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
    change = vector.transformer(source, land_map.crs) if source else None
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
    reference = [_class(v, classes, f"{name}: {w}", "reference")
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
            f"with x, y, stratum and reference. If this is a confusion matrix: {HOW}"
        )
    x, y = (np.array([_number(value, f"{path}: {line}: {name}")
                      for value, line in zip(columns[name], lines, strict=True)])
            for name in ("x", "y"))  # fmt: skip
    return lines, columns, x, y


def _points(
    path: str | os.PathLike[str],
) -> tuple[list[str], dict[str, list[str]], np.ndarray, np.ndarray]:
    found = vector.read(path)
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


def _class(text: str, classes: Nomenclature, where: str, column: str) -> int:
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


def find_design(sample: str, design: str) -> Design | str:
    """The stated design of a sample: what `--design` says, or the file beside the points.

    Returns:
        The design, or one of 'stratified', 'simple', or '' where none is stated.

    Raises:
        SampleError: a design file that cannot be used.
    """
    if design in ("stratified", "simple"):
        return design
    beside = pathlib.Path(sample).with_suffix(ENDING)
    if design or beside.is_file():
        return read_design(design or beside)
    return ""


def assess(
    sample: Sample,
    design: Design | str,
    land_map: LandMap,
    counted: Tally,
    areas: PixelAreas,
    map_sha256: str,
    level: float = 0.95,
) -> tuple[Accuracy, str]:
    """Accuracy of the map and error-adjusted areas, in hectares.

    Args:
        sample: the labelled units.
        design: from `find_design`.
        land_map: the map.
        counted: the whole of it.
        areas: of its grid.
        map_sha256: of its file.
        level: of the intervals.

    Returns:
        The estimates, and the design in words.

    Raises:
        SampleError: no design, or units that do not fit it or the map.
    """
    classes = land_map.nomenclature
    mapped = land_map.classes_at(sample.row, sample.col)
    if (mapped == IGNORE).any():
        i = int(np.argmax(mapped == IGNORE))
        raise SampleError(f"{sample.path}: {sample.where[i]} lies where the map has no class")
    unit_areas = areas.at(sample.row, sample.col)
    if isinstance(design, Design):
        strata = _strata_of_design(sample, design)
        if design.map_sha256 == map_sha256:
            _must_match(sample, strata, np.array([classes.codes.index(c) for c in design.codes]),
                        mapped, classes)  # fmt: skip
        _check_extent(sample.path, float(design.hectares.sum()), counted)
        pixels, hectares, names = design.pixels, design.hectares, design.names
        words = f"strata are those of another map, {design.about['map']['file']} (Stehman 2014)"
        if design.map_sha256 == map_sha256:
            words = "strata are the classes of this map"
    elif design in ("stratified", "simple"):
        present = np.flatnonzero(counted.pixels)
        strata = np.searchsorted(present, mapped)
        if sample.stratum is not None:
            stated = [_class(v, classes, f"{sample.path}: {w}", "stratum")
                      for v, w in zip(sample.stratum, sample.where, strict=True)]  # fmt: skip
            _must_match(sample, np.array(stated), np.arange(len(classes)), mapped, classes)
        pixels, hectares = counted.pixels[present], counted.hectares[present]
        names = tuple(classes.names[c] for c in present)
        words = {
            "stratified": "as stated: a random sample within each class of this map",
            "simple": "as stated: a simple random or systematic sample, stratified afterwards by "
            "the classes of this map",
        }[design]
    elif sample.weight is not None and sample.stratum is not None:
        found = sorted(set(sample.stratum))
        strata = np.array([found.index(value) for value in sample.stratum])
        pixels, hectares = _strata_of_weights(sample, strata, unit_areas, found)
        _check_extent(sample.path, float(hectares.sum()), counted)
        names = tuple(found)
        words = "as the weights of the units state it"
    else:
        raise SampleError(f"{sample.path}: no design is stated, so it says nothing of areas; {HOW}")
    if isinstance(design, Design) and sample.weight is not None:
        _check_weights(sample, strata, design)
    return (
        area_estimate.estimate(strata, mapped, sample.reference, hectares, len(classes),
                               population=pixels, unit_areas=unit_areas, names=names, level=level),
        words,
    )  # fmt: skip


def _strata_of_design(sample: Sample, design: Design) -> np.ndarray:
    if sample.stratum is None:
        raise SampleError(f"{sample.path}: no column 'stratum', which its design needs")
    known = {name: i for i, name in enumerate(design.names)}
    known |= {str(code): i for i, code in enumerate(design.codes)}
    for value, where in zip(sample.stratum, sample.where, strict=True):
        if value not in known:
            raise SampleError(
                f"{sample.path}: {where}: stratum {value!r} is none of the design: "
                f"{', '.join(map(str, design.codes))}"
            )
    strata = np.array([known[value] for value in sample.stratum])
    units = np.bincount(strata, minlength=len(design.codes))
    if (units != design.units).any():
        h = int(np.argmax(units != design.units))
        raise SampleError(
            f"{sample.path}: {units[h]} units of stratum {design.names[h]!r}, the design drew "
            f"{design.units[h]}; label every unit that was drawn, and no other"
        )
    return strata


def _must_match(
    sample: Sample, strata: np.ndarray, to_class: np.ndarray, mapped: np.ndarray,
    classes: Nomenclature,
) -> None:  # fmt: skip
    wrong = to_class[strata] != mapped
    if wrong.any():
        i = int(np.argmax(wrong))
        raise SampleError(
            f"{sample.path}: {sample.where[i]} says stratum "
            f"{classes.names[to_class[strata[i]]]!r}, the map has {classes.names[mapped[i]]!r} at "
            f"(row, col) ({sample.row[i]}, {sample.col[i]}); {int(wrong.sum())} such units. Was "
            "the point moved, or the sample drawn from another map? Then give its design"
        )


def _strata_of_weights(
    sample: Sample, strata: np.ndarray, unit_areas: np.ndarray, names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    assert sample.weight is not None
    if (sample.weight < 1).any():
        i = int(np.argmax(sample.weight < 1))
        raise SampleError(
            f"{sample.path}: {sample.where[i]}: weight {sample.weight[i]:g}; a weight is the "
            "number of pixels that a unit stands for (1 / inclusion probability), 1 or more"
        )
    for h, name in enumerate(names):
        own = sample.weight[strata == h]
        if own.max() - own.min() > 1e-6 * own.max():
            raise SampleError(
                f"{sample.path}: weights of stratum {name!r} run from {own.min():g} to "
                f"{own.max():g}; within a stratum all units must have been drawn with one "
                "probability"
            )
    pixels = np.bincount(strata, sample.weight, len(names))
    return pixels, np.bincount(strata, sample.weight * unit_areas, len(names))


def _check_weights(sample: Sample, strata: np.ndarray, design: Design) -> None:
    assert sample.weight is not None
    expected = (design.pixels / design.units)[strata]
    wrong = np.abs(sample.weight / expected - 1) > 1e-3
    if wrong.any():
        i = int(np.argmax(wrong))
        raise SampleError(
            f"{sample.path}: {sample.where[i]}: weight {sample.weight[i]:g}, the design says "
            f"{expected[i]:g} pixels a unit"
        )


def _check_extent(path: str, hectares: float, counted: Tally) -> None:
    covered = float(counted.hectares.sum())
    if abs(hectares / covered - 1) > SAME_AREA:
        raise SampleError(
            f"{path}: its design covers {hectares:,.1f} ha, the map {covered:,.1f} ha; a sample "
            "says something only of the area it was drawn from"
        )
