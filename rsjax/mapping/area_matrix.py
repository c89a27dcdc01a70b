"""A confusion matrix as a file: counts of sample units, and what states their design.

Lines `# key: value`, of which `# design: stratified` (or `simple`) is needed; a header with the
reference classes; one row a map class, its name first. A column `hectares` has the mapped areas,
which are needed where there is no map.
"""

from __future__ import annotations

import csv
import dataclasses
import decimal
import os
import pathlib

import numpy as np
from matplotlib import colormaps, colors

from rsjax.errors import SampleError
from rsjax.landcover import Nomenclature
from rsjax.mapping import area_estimate
from rsjax.mapping.area_estimate import Accuracy
from rsjax.mapping.area_table import WHOLE, Tally
from rsjax.mapping.assessment import SAME_AREA
from rsjax.mapping.reference import class_index

AREA = "hectares"
_WORDS = {
    "stratified": "a confusion matrix, stated to be of random samples within each map class",
    "simple": "a confusion matrix, stated to be of a simple random sample",
}


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A confusion matrix as read.

    Attributes:
        path: the file.
        classes: what rows and columns are.
        counts: (C, C) units; rows: map, columns: reference.
        hectares: (C,) mapped areas, NaN of classes without a row; or None.
        rounding: (C,) half a unit of the last digit that the file has of each; or None.
        design: 'stratified' or 'simple'.
    """

    path: str
    classes: Nomenclature
    counts: np.ndarray
    hectares: np.ndarray | None
    rounding: np.ndarray | None
    design: str

    @property
    def words(self) -> str:
        """The design, for people."""
        return _WORDS[self.design]


def read(
    path: str | os.PathLike[str], classes: Nomenclature | None = None, design: str = ""
) -> Matrix:
    """Reads a confusion matrix.

    Args:
        path: a CSV file.
        classes: the nomenclature that its names or codes are of; None: its names are one.
        design: 'stratified' or 'simple', where the file does not say.

    Raises:
        SampleError: a file of another form, a class that is not known, or no stated design.
    """
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SampleError(f"{path}: cannot be read as a CSV file ({error})") from error
    comments = [line[1:].split(":", 1) for line in lines if line.startswith("#") and ":" in line]
    said = {key.strip(): value.strip() for key, value in comments}
    table = csv.reader(line for line in lines if not line.startswith("#"))
    cells = [[cell.strip() for cell in row] for row in table if row]
    stated = said.get("design", design)
    if stated not in _WORDS or design not in ("", stated):
        raise SampleError(
            f"{path}: states design {stated!r}{f', --design={design}' if design else ''}; a "
            "confusion matrix says how large classes are only if its units are a probability "
            "sample. Write '# design: stratified' if those of each map class are a random sample "
            "of its pixels, '# design: simple' if all are one of all pixels. Points picked by hand "
            "or used to train or tune the model are neither"
        )
    if len(cells) < 2 or len({len(row) for row in cells}) != 1 or len(cells[0]) < 2:
        raise SampleError(f"{path}: expected a header and rows of equally many columns")
    header, rows = cells[0][1:], cells[1:]
    names = [name for name in header if name != AREA]
    if classes is None:
        classes = _named(path, names)
    columns = [class_index(name, classes, f"{path}: header", "reference") for name in names]
    places = [class_index(row[0], classes, f"{path}: row {i}", "map")
              for i, row in enumerate(rows, 1)]  # fmt: skip
    if len(set(columns)) < len(columns) or len(set(places)) < len(places):
        raise SampleError(f"{path}: a class has two columns or two rows; join them")
    values = np.array([[_number(path, row[0], cell) for cell in row[1:]] for row in rows])
    counted = [i for i, name in enumerate(header) if name != AREA]
    if (values[:, counted] % 1).any():
        raise SampleError(f"{path}: expected counts of units; shares and areas do not do")
    counts = np.zeros((len(classes), len(classes)), np.int64)
    counts[np.ix_(places, columns)] = values[:, counted]
    _refuse_totals(path, classes, counts)
    hectares = rounding = None
    if AREA in header:
        hectares, rounding = np.full((2, len(classes)), np.nan)
        hectares[places] = values[:, header.index(AREA)]
        rounding[places] = [_half_digit(row[1 + header.index(AREA)]) for row in rows]
    return Matrix(os.fspath(path), classes, counts, hectares, rounding, stated)


def _refuse_totals(path: str | os.PathLike[str], classes: Nomenclature, counts: np.ndarray) -> None:
    """Published matrices have sums at their margins, which would count every unit twice."""
    for c, name in enumerate(classes.names):
        others = np.arange(len(counts)) != c
        column, row = counts[:, others].sum(axis=1), counts[others].sum(axis=0)
        units = counts[np.ix_(others, others)]
        if (
            np.count_nonzero(units.any(axis=0) | units.any(axis=1)) > 1
            and np.array_equal(counts[:, c], column)
            and np.array_equal(counts[c], row)
        ):
            raise SampleError(
                f"{path}: row and column {name!r} are the sums of the others, so {name!r} looks "
                "like totals, not like a class; leave both out"
            )


def _half_digit(text: str) -> float:
    exponent = decimal.Decimal(text).as_tuple().exponent
    return float(decimal.Decimal((0, (5,), int(exponent) - 1)))


def _named(path: str | os.PathLike[str], names: list[str]) -> Nomenclature:
    """A nomenclature of the names in the file, with colours of matplotlib's."""
    palette = colormaps["tab20"].colors  # type: ignore[attr-defined]
    return Nomenclature(
        name=pathlib.Path(path).stem, title="", source=os.fspath(path),
        codes=tuple(range(1, len(names) + 1)), names=tuple(names),
        colours=tuple(colors.to_hex(palette[i % 20]) for i in range(len(names))),
        parents=(None,) * len(names),
    )  # fmt: skip


def _number(path: str | os.PathLike[str], row: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < np.inf:
        raise SampleError(f"{path}: {text!r} in row {row!r}, expected a number of 0 or more")
    return value


def tally(matrix: Matrix) -> Tally:
    """The mapped areas of a matrix that states them; of pixels nothing is known.

    Raises:
        SampleError: it does not, or not of all classes that its units have.
    """
    if matrix.hectares is None:
        raise SampleError(
            f"{matrix.path}: without the mapped areas a matrix says nothing of areas; give the map "
            f"with --map=FILE, or add a column {AREA!r}"
        )
    absent = np.isnan(matrix.hectares)
    if matrix.counts[:, absent].any():
        c = int(np.argmax(absent & matrix.counts.any(axis=0)))
        raise SampleError(
            f"{matrix.path}: no row for map class {matrix.classes.names[c]!r}; if the map has no "
            f"such pixels, give it a row of zeros, also of {AREA}"
        )
    unknown = np.full(len(matrix.classes), np.nan)
    return Tally(WHOLE, unknown, np.where(absent, 0.0, matrix.hectares), 0.0, 0.0)


def accuracy(matrix: Matrix, counted: Tally, level: float) -> Accuracy:
    """Estimates from a matrix and mapped areas, in hectares; see `area_estimate.from_matrix`.

    Raises:
        SampleError: map classes with fewer than two units, or a matrix of another map.
    """
    if matrix.hectares is not None:
        apart = np.abs(matrix.hectares - counted.hectares)
        assert matrix.rounding is not None
        over = apart - np.maximum(SAME_AREA * counted.hectares, matrix.rounding)
        if np.nanmax(over) > 0:
            c = int(np.nanargmax(over))
            raise SampleError(
                f"{matrix.path}: {matrix.hectares[c]:,.1f} ha of {matrix.classes.names[c]!r}, the "
                f"map has {counted.hectares[c]:,.1f} ha; they may differ by {SAME_AREA:.1%}, or by "
                "what the file leaves to rounding. Is it the matrix of another map?"
            )
    return area_estimate.from_matrix(
        matrix.counts,
        counted.hectares,
        design=matrix.design,
        population=None if np.isnan(counted.pixels).any() else counted.pixels,
        names=matrix.classes.names,
        level=level,
    )
