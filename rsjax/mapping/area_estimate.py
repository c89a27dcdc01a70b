"""Error-adjusted areas and accuracies with standard errors, from a stratified reference sample.

Every figure is a stratified mean, or a ratio of two, of indicators of sample units (Stehman 2014),
so strata and map classes may differ. Where strata are the map classes the estimators and their
standard errors are those of Olofsson et al. 2013 and 2014, to which they reduce term by term.

Sources: Stehman 2014, Int. J. Remote Sens. 35(13), 4923-4939, eq. 2-28; Olofsson et al. 2013,
Remote Sens. Environ. 129, 122-131; Olofsson et al. 2014, Remote Sens. Environ. 148, 42-57,
eq. 1-11.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from rsjax.errors import SampleError

LEAST = 2  # units a stratum needs for a variance


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Figures with standard errors and intervals; all arrays of one shape.

    Attributes:
        value: NaN where nothing in the sample bears on it.
        se: standard error.
        low: lower end of the interval, not below what is possible.
        high: upper end. Both ends are NaN where the sample shows no variation at all (standard
            error 0 from a sample): an interval of no width would claim certainty.
    """

    value: np.ndarray
    se: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """What a reference sample says of a map of C classes.

    Attributes:
        counts: units by map class (rows) and reference class (columns), (C, C) int64.
        proportions: estimated shares of the whole area, (C, C).
        area: of each reference class, in the unit of the strata's areas.
        overall: accuracy, a scalar.
        users: accuracy of each map class.
        producers: accuracy of each reference class.
        level: of the intervals.
    """

    counts: np.ndarray
    proportions: np.ndarray
    area: Estimate
    overall: Estimate
    users: Estimate
    producers: Estimate
    level: float


def estimate(
    stratum: np.ndarray,
    mapped: np.ndarray,
    reference: np.ndarray,
    areas: np.ndarray,
    classes: int,
    *,
    population: np.ndarray | None = None,
    fraction: np.ndarray | None = None,
    unit_areas: np.ndarray | None = None,
    names: Sequence[str] = (),
    level: float = 0.95,
) -> Accuracy:
    """Estimates from a stratified random sample of pixels.

    Args:
        stratum: (n,) of each unit, 0 to H - 1.
        mapped: (n,) class of each unit in the map, 0 to classes - 1.
        reference: (n,) true class of each unit, 0 to classes - 1.
        areas: (H,) area of each stratum, in any unit; it is the unit of `Accuracy.area`.
        classes: number of classes C.
        population: (H,) pixels of each stratum, for the correction of a finite population; None
            leaves it out, as Olofsson et al. do.
        fraction: (n,) in its place where units of a stratum were drawn with different
            probabilities: each unit's own, by which its squared residual is corrected.
        unit_areas: (n,) area of each sampled pixel where pixels of a stratum differ in area (grids
            in degrees): means are then weighted by it (ratio estimator in each stratum).
        names: of the strata, for messages.
        level: of the intervals, which are those of the normal distribution.

    Raises:
        SampleError: a stratum with fewer than two units or more than it has pixels, indices out of
            range, no positive area.
    """
    stratum, mapped, reference = (np.asarray(x, np.int64) for x in (stratum, mapped, reference))
    areas = np.asarray(areas, np.float64)
    _check(stratum, mapped, reference, len(areas), classes)
    # What units of one stratum and one pair of classes say is in three sums.
    key = (stratum * classes + mapped) * classes + reference
    found, cell = np.unique(key, return_inverse=True)
    weight = np.ones(len(key)) if unit_areas is None else np.asarray(unit_areas, np.float64)
    left = np.ones(len(key)) if fraction is None else 1 - np.asarray(fraction, np.float64)
    cells = _Cells(
        found // classes**2,
        found // classes % classes,
        found % classes,
        np.bincount(cell, minlength=len(found)),
        np.bincount(cell, weight, len(found)),
        np.bincount(cell, left * weight**2, len(found)),
    )
    return _of_cells(cells, areas, classes, population, names, level)


@dataclasses.dataclass(frozen=True)
class _Cells:
    """Units of a sample, counted by stratum, map class and reference class; arrays (k,).

    Attributes:
        stratum: of the cell.
        mapped: class in the map.
        reference: true class.
        units: how many.
        weight: sum of their weights.
        square: sum of their squared weights, each times the share of its pixels not drawn.
    """

    stratum: np.ndarray
    mapped: np.ndarray
    reference: np.ndarray
    units: np.ndarray
    weight: np.ndarray
    square: np.ndarray


def _of_cells(
    cells: _Cells,
    areas: np.ndarray,
    classes: int,
    population: np.ndarray | None,
    names: Sequence[str],
    level: float,
) -> Accuracy:
    """The estimates; see `estimate`."""
    strata, stratum = len(areas), cells.stratum
    if not (areas > 0).all():
        raise SampleError(f"areas of strata {areas.tolist()}, expected positive ones")
    if not 0 < level < 1:
        raise SampleError(f"level {level} of the intervals, expected between 0 and 1, e.g. 0.95")
    sizes = _by(stratum, cells.units, strata)
    _check_sizes(sizes, population, names or [str(h) for h in range(strata)])
    scale = sizes / _by(stratum, cells.weight, strata)  # to weights of mean 1 in each stratum
    weight, square = cells.weight * scale[stratum], cells.square * scale[stratum] ** 2
    variance = areas**2 / sizes / (sizes - 1)
    if population is not None:
        variance = variance * (1 - sizes / np.asarray(population, np.float64))
    total = areas.sum()
    z = float(stats.norm.ppf((1 + level) / 2))

    def means(y: np.ndarray) -> np.ndarray:
        """Of an indicator (k,) in each stratum: (H,)."""
        return _by(stratum, y * weight, strata) / sizes

    def error(y: np.ndarray) -> float:
        """Standard error of the stratified total of (k,): Stehman eq. 25, 26."""
        residual = y - means(y)[stratum]
        return float(np.sqrt(variance @ _by(stratum, residual**2 * square, strata)))

    def totals(every: Sequence[np.ndarray], top: float) -> Estimate:
        value, se = (np.array([f(y) for y in every]) * top / total
                     for f in (lambda y: areas @ means(y), error))  # fmt: skip
        return _bounded(value, se, z, top)

    def ratio(above: Sequence[np.ndarray], below: Sequence[np.ndarray]) -> Estimate:
        """Stehman eq. 27, 28, with the variance of y - R x."""
        value, se = np.full((2, len(above)), np.nan)
        for c, (y, x) in enumerate(zip(above, below, strict=True)):
            if (size := areas @ means(x)) > 0:
                value[c] = areas @ means(y) / size
                se[c] = error(y - value[c] * x) / size
        return _bounded(value, se, z, 1.0)

    right = cells.mapped == cells.reference
    here = [(cells.mapped == c).astype(float) for c in range(classes)]
    true = [(cells.reference == c).astype(float) for c in range(classes)]
    both = [x * right for x in here]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (cells.mapped, cells.reference), cells.units)
    proportions = np.zeros((classes, classes))
    np.add.at(proportions, (cells.mapped, cells.reference),
              (areas / sizes)[stratum] * weight / total)  # fmt: skip
    overall = totals([right.astype(float)], 1.0)
    return Accuracy(
        counts=counts,
        proportions=proportions,
        area=totals(true, float(total)),
        overall=Estimate(*(x[0] for x in dataclasses.astuple(overall))),
        users=ratio(both, here),
        producers=ratio(both, true),
        level=level,
    )


def _by(stratum: np.ndarray, values: np.ndarray, strata: int) -> np.ndarray:
    """Sums of (k,) in each stratum, (H,)."""
    return np.bincount(stratum, values, strata)


def from_matrix(
    counts: np.ndarray,
    areas: np.ndarray,
    *,
    design: str | None = None,
    population: np.ndarray | None = None,
    names: Sequence[str] = (),
    level: float = 0.95,
) -> Accuracy:
    """Estimates from a confusion matrix of a sample whose strata are the map's classes.

    Args:
        counts: (C, C) units, rows the map's classes, columns the reference.
        areas: (C,) mapped area of each class; 0 where the map has none, and so no unit.
        design: must be 'stratified': the units of each map class are a random sample of its pixels;
            or 'simple': all units are one of all pixels, stratified afterwards by map class. Units
            that were picked by hand, or that trained or validated a model, are neither.
        population: (C,) pixels of each class, as in `estimate`.
        names: of the classes, for messages.
        level: of the intervals.

    Raises:
        SampleError: another design or none, or as `estimate`.
    """
    if design not in ("stratified", "simple"):
        raise SampleError(
            f"a confusion matrix of design {design!r}: only a sample of known probabilities says "
            "how large classes are. If the units of each map class are a random sample of its "
            "pixels, say design='stratified'; if all are one of all pixels, 'simple'; else draw a "
            "sample with python -m rsjax.sample"
        )
    counts, areas = np.asarray(counts), np.asarray(areas, np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or (counts < 0).any():
        raise SampleError(f"a confusion matrix of shape {counts.shape}, expected (C, C) of counts")
    names = names or [str(c) for c in range(len(counts))]
    there = areas > 0
    if not there.any():
        raise SampleError("a confusion matrix of classes that all have the area 0")
    if counts[~there].any():
        c = int(np.argmax(~there & counts.any(axis=1)))
        raise SampleError(f"{counts[c].sum()} units of map class {names[c]!r}, whose area is "
                          f"{areas[c]:g}; expected positive")  # fmt: skip
    mapped, reference = np.nonzero(counts)
    units = counts[mapped, reference].astype(np.int64)
    cells = _Cells(np.cumsum(there)[mapped] - 1, mapped, reference, units, units * 1.0, units * 1.0)
    return _of_cells(
        cells, areas[there], len(counts),
        None if population is None else np.asarray(population)[there],
        [name for name, t in zip(names, there, strict=True) if t], level,
    )  # fmt: skip


def _check(
    stratum: np.ndarray, mapped: np.ndarray, reference: np.ndarray, strata: int, classes: int
) -> None:
    if not len(stratum) == len(mapped) == len(reference):
        raise SampleError(
            f"{len(stratum)} strata, {len(mapped)} map classes and {len(reference)} reference "
            "classes, expected one of each a unit"
        )
    bounds = ((stratum, strata, "stratum"), (mapped, classes, "map class"),
              (reference, classes, "reference class"))  # fmt: skip
    for values, end, what in bounds:
        if ((values < 0) | (values >= end)).any():
            raise SampleError(f"a {what} outside 0 to {end - 1}")


def _check_sizes(sizes: np.ndarray, population: np.ndarray | None, names: Sequence[str]) -> None:
    if (sizes < LEAST).any():
        few = ", ".join(f"{names[h]!r} ({n:.0f})" for h, n in enumerate(sizes) if n < LEAST)
        raise SampleError(
            f"strata with fewer than {LEAST} sample units: {few}. Nothing is known of the spread "
            "within them; label more units there, drawn at random, or join them with another "
            "stratum before the sample is drawn"
        )
    # A sum of weights may miss a whole number by a rounding.
    if population is not None and (over := sizes > np.asarray(population) * (1 + 1e-9)).any():
        h = int(np.argmax(over))
        raise SampleError(
            f"{sizes[h]:,.0f} sample units of {names[h]!r}, which has {population[h]:,.0f} pixels; "
            "a pixel is drawn once. Is it the sample of another map, or are its units no pixels of "
            "this one?"
        )


def _bounded(value: np.ndarray, se: np.ndarray, z: float, top: float) -> Estimate:
    """An interval within 0 to `top`, unless the sample shows no variation."""
    none = ~(se > 1e-12 * top)  # rounding leaves a trace of what is zero
    low, high = np.maximum(value - z * se, 0.0), np.minimum(value + z * se, top)
    return Estimate(value, se, np.where(none, np.nan, low), np.where(none, np.nan, high))
