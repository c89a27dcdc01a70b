"""Error-adjusted areas of regions, from the units of a sample that happen to lie in them.

Given how many units of each map class fell into a region, they are a random sample of the class's
pixels there, and the map says how large that is: a stratified sample of the region, with the
estimators of `area_estimate`. A pixel at the border has the weight of its share inside.

Sources: Cochran 1977, Sampling Techniques, ch. 5A (stratification afterwards, subpopulations);
Särndal, Swensson and Wretman 1992, Model Assisted Survey Sampling, ch. 10.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import shapely

from rsjax.mapping import area_estimate
from rsjax.mapping.area_table import Estimates, Tally
from rsjax.mapping.assessment import Units
from rsjax.mapping.landmap import LandMap

LEAST = 50  # units in a region: normal intervals of fewer hold the truth too seldom
JOINED = 0.05  # most of a region's area in map classes of fewer than two units
_TOUCH = 1e-6  # share of a pixel


def shares(land_map: LandMap, shapes: Mapping[str, object], units: Units) -> np.ndarray:
    """What share of each unit's pixel lies in each region.

    Args:
        land_map: the map, not rotated.
        shapes: polygons in its coordinate system, from `regions.read`.
        units: of a sample of it.

    Returns:
        (regions, n) float64, 0 to 1.
    """
    t = land_map.transform
    x, y = t.c + t.a * units.col, t.f + t.e * units.row
    pixels = shapely.box(x, y, x + t.a, y + t.e)
    found = np.zeros((len(shapes), len(x)))
    for i, shape in enumerate(shapes.values()):
        shapely.prepare(shape)
        found[i] = shapely.covers(shape, pixels)
        cut = (found[i] == 0) & shapely.intersects(shape, pixels)
        found[i, cut] = shapely.area(shapely.intersection(shape, pixels[cut])) / abs(t.a * t.e)
    return np.where(found < _TOUCH, 0.0, found)


def estimate(units: Units, share: np.ndarray, counted: Tally, names: tuple[str, ...],
             level: float = 0.95) -> Estimates:  # fmt: skip
    """Areas and accuracies within one region.

    Map classes with fewer than two units there are joined into one stratum, with the next smallest
    class where they need it, and units in it weigh what they stand for. Then the estimates are
    biased, as nothing was seen of part of that stratum; where classes like this have more than 5 %
    of the region, or it has fewer than 50 units, there are no estimates. Units of a map class that
    stand for different numbers of pixels w are worth (sum of w)^2 / (sum of w^2) equal ones (Kish
    1965, Survey Sampling).

    Args:
        units: of a sample of the whole map.
        share: (n,) of each unit's pixel inside the region.
        counted: the map within the region.
        names: of the map's C classes.
        level: of the intervals.
    """
    inside = share > 0
    count = int(inside.sum())
    mapped, size = units.mapped[inside], len(names)
    number = np.bincount(mapped, minlength=size)
    there = counted.hectares > 0
    thin = there & (number < area_estimate.LEAST)
    if share.sum() < LEAST:
        parts = "" if share.sum() > count - 1e-6 else (
            f" ({share.sum():.1f} by the shares of their pixels inside)")  # fmt: skip
        return Estimates(count, why=f"{count} sample units lie in it{parts}, {LEAST} are needed")
    in_stratum = np.bincount(units.stratum, minlength=len(units.pixels))
    fraction = (in_stratum / units.pixels)[units.stratum][inside]  # of the pixels that were drawn
    each = share[inside] / fraction
    total, square = (np.bincount(mapped, x, size)[number > 0] for x in (each, each**2))
    worth = (total**2 / square).sum()
    if worth < LEAST * (1 - 1e-9):
        why = f"{count} sample units lie in it, which stand for so different areas that they are "
        return Estimates(count, why=f"{why}worth {worth:.1f}; {LEAST} are needed")
    unseen = counted.hectares[thin].sum() / counted.hectares.sum()
    if unseen > JOINED:
        few = ", ".join(f"{names[c]} ({number[c]})" for c in np.flatnonzero(thin))
        return Estimates(
            count, why=f"too few sample units in {unseen:.0%} of its area, in map classes: {few}"
        )
    joined = thin.copy()
    for c in np.argsort(counted.hectares, kind="stable").tolist():
        if joined.any() and there[c] and number[joined].sum() < area_estimate.LEAST:
            joined[c] = True
    apart = there & ~joined
    group = np.where(joined, apart.sum(), np.cumsum(apart) - 1)
    areas = counted.hectares[apart]
    if joined.any():
        areas = np.append(areas, counted.hectares[joined].sum())
    # Each unit stands for its part of its stratum; within a group that is its weight.
    drawn = np.bincount(units.stratum, units.unit_areas, len(units.hectares))
    weight = (units.hectares / drawn)[units.stratum] * units.unit_areas * share
    stratum = group[mapped]
    accuracy = area_estimate.estimate(
        stratum, mapped, units.reference[inside], areas, size, fraction=fraction,
        unit_areas=weight[inside], level=level,
    )  # fmt: skip
    return Estimates(count, accuracy, joined=tuple(names[c] for c in np.flatnonzero(joined)))
