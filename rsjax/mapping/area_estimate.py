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
        unit_areas: (n,) area of each sampled pixel where pixels of a stratum differ in area (grids
            in degrees): means are then weighted by it (ratio estimator in each stratum).
        names: of the strata, for messages.
        level: of the intervals, which are those of the normal distribution.

    Raises:
        SampleError: a stratum with fewer than two units, indices out of range, no positive area.
    """
    stratum, mapped, reference = (np.asarray(x, np.int64) for x in (stratum, mapped, reference))
    areas = np.asarray(areas, np.float64)
    strata = len(areas)
    _check(stratum, mapped, reference, areas, classes, names or [str(h) for h in range(strata)])
    if not 0 < level < 1:
        raise SampleError(f"level {level} of the intervals, expected between 0 and 1, e.g. 0.95")
    sizes = np.bincount(stratum, minlength=strata)
    weight = np.ones(len(stratum)) if unit_areas is None else np.asarray(unit_areas, np.float64)
    weight = weight / (np.bincount(stratum, weight, strata) / sizes)[stratum]  # mean 1 in each
    variance = areas**2 / sizes / (sizes - 1)
    if population is not None:
        variance = variance * (1 - sizes / np.asarray(population, np.float64))
    total = areas.sum()
    z = float(stats.norm.ppf((1 + level) / 2))

    def means(y: np.ndarray) -> np.ndarray:
        """Of indicators (n, k) in each stratum: (H, k)."""
        sums = np.zeros((strata, y.shape[1]))
        np.add.at(sums, stratum, y * weight[:, None])
        return sums / sizes[:, None]

    def error(y: np.ndarray) -> np.ndarray:
        """Standard error of the stratified total of (n, k), (k,): Stehman eq. 25, 26."""
        residual = (y - means(y)[stratum]) * weight[:, None]
        squares = np.zeros((strata, y.shape[1]))
        np.add.at(squares, stratum, residual**2)
        return np.sqrt(variance @ squares)

    def totals(y: np.ndarray, top: float) -> Estimate:
        return _bounded(areas @ means(y) * top / total, error(y) * top / total, z, top)

    def ratio(y: np.ndarray, x: np.ndarray) -> Estimate:
        """Stehman eq. 27, 28, with the variance of y - R x."""
        above, below = areas @ means(y), areas @ means(x)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = above / below
            return _bounded(value, error(y - np.where(below > 0, value, 0) * x) / below, z, 1.0)

    here = np.eye(classes)[mapped]
    true = np.eye(classes)[reference]
    both = here * true
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (mapped, reference), 1)
    cells = np.zeros((strata, classes, classes))
    np.add.at(cells, (stratum, mapped, reference), weight)
    proportions = np.tensordot(areas / sizes, cells, 1) / total
    overall = totals(both.sum(axis=1, keepdims=True), 1.0)
    return Accuracy(
        counts=counts,
        proportions=proportions,
        area=totals(true, float(total)),
        overall=Estimate(*(x[0] for x in dataclasses.astuple(overall))),
        users=ratio(both, here),
        producers=ratio(both, true),
        level=level,
    )


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
    if counts[~there].any():
        c = int(np.argmax(~there & counts.any(axis=1)))
        raise SampleError(f"{counts[c].sum()} units of map class {names[c]!r}, whose area is "
                          f"{areas[c]:g}; expected positive")  # fmt: skip
    mapped, reference = (
        np.repeat(i, counts.ravel()) for i in np.indices(counts.shape).reshape(2, -1)
    )
    stratum = np.cumsum(there)[mapped] - 1
    return estimate(
        stratum, mapped, reference, areas[there], len(counts),
        population=None if population is None else np.asarray(population)[there],
        names=[name for name, t in zip(names, there, strict=True) if t], level=level,
    )  # fmt: skip


def _check(
    stratum: np.ndarray,
    mapped: np.ndarray,
    reference: np.ndarray,
    areas: np.ndarray,
    classes: int,
    names: Sequence[str],
) -> None:
    if not len(stratum) == len(mapped) == len(reference):
        raise SampleError(
            f"{len(stratum)} strata, {len(mapped)} map classes and {len(reference)} reference "
            "classes, expected one of each a unit"
        )
    bounds = ((stratum, len(areas), "stratum"), (mapped, classes, "map class"),
              (reference, classes, "reference class"))  # fmt: skip
    for values, end, what in bounds:
        if ((values < 0) | (values >= end)).any():
            raise SampleError(f"a {what} outside 0 to {end - 1}")
    if not (areas > 0).all():
        raise SampleError(f"areas of strata {areas.tolist()}, expected positive ones")
    sizes = np.bincount(stratum, minlength=len(areas))
    if (sizes < LEAST).any():
        few = ", ".join(f"{names[h]!r} ({n})" for h, n in enumerate(sizes.tolist()) if n < LEAST)
        raise SampleError(
            f"strata with fewer than {LEAST} sample units: {few}. Nothing is known of the spread "
            "within them; label more units there, drawn at random, or join them with another "
            "stratum before the sample is drawn"
        )


def _bounded(value: np.ndarray, se: np.ndarray, z: float, top: float) -> Estimate:
    """An interval within 0 to `top`, unless the sample shows no variation."""
    none = ~(se > 1e-12 * top)  # rounding leaves a trace of what is zero
    low, high = np.maximum(value - z * se, 0.0), np.minimum(value + z * se, top)
    return Estimate(value, se, np.where(none, np.nan, low), np.where(none, np.nan, high))
