"""Reference samples: how many units, in which strata, and drawn where.

A sample is stratified by the map's classes and drawn without replacement among the pixels of each,
with a seed. `sample_files` writes it as points to be labelled beside its design: strata with their
sizes, map checksum, seed. With the design the labelled points give areas with standard errors;
without one they do not.

Sources: Cochran 1977, Sampling Techniques, eq. 5.25; Olofsson et al. 2014, Remote Sens. Environ.
148, 42-57, eq. 13 and section 5.1.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rsjax.errors import SampleError
from rsjax.mapping.area_estimate import LEAST
from rsjax.mapping.landmap import LandMap

ALLOCATIONS = ("compromise", "proportional", "equal")
RARE = 75  # units of each rare class in the compromise; Olofsson et al. 2014 advise 50 to 100


def size_for(weights: np.ndarray, shares: np.ndarray, se: float, pixels: float) -> int:
    """Units that reach a standard error of a stratified proportion, optimally allocated.

    For overall accuracy the proportions are the users' accuracies that are conjectured; for the
    area of a class, the share of the class that is conjectured in each stratum.

    Args:
        weights: (H,) share of each stratum in the area.
        shares: (H,) conjectured proportion in each stratum, 0 to 1.
        se: target standard error of the proportion over all strata.
        pixels: of all strata.

    Returns:
        The number of units, rounded up.

    Raises:
        SampleError: a target or proportion that is impossible.

    Source: Cochran 1977, eq. 5.25 (Olofsson et al. 2014, eq. 13, leave its last term out).
    """
    weights, shares = np.asarray(weights, float), np.asarray(shares, float)
    if not 0 < se < 0.5:
        raise SampleError(f"target standard error {se}, expected between 0 and 0.5, e.g. 0.01")
    if not ((shares >= 0) & (shares <= 1)).all():
        raise SampleError(f"conjectured proportions {shares.tolist()}, expected 0 to 1")
    deviation = np.sqrt(shares * (1 - shares))
    spread = float(weights @ deviation)
    if spread == 0:
        raise SampleError(
            "conjectured proportions of 0 and 1 only leave nothing to estimate; conjecture others"
        )
    units = spread**2 / (se**2 + float(weights @ deviation**2) / pixels)
    return math.ceil(units - 1e-9)


def allocate(
    total: int, pixels: np.ndarray, method: str = "compromise", rare: int = RARE
) -> np.ndarray:
    """Units of each stratum.

    Args:
        total: units of all strata.
        pixels: (H,) of each stratum, all positive.
        method: 'equal'; 'proportional' to pixels; or 'compromise': strata that would get fewer than
            `rare` by their share get `rare`, the others share the rest by their pixels.
        rare: see above.

    Returns:
        (H,) int64; at least two a stratum and at most its pixels, so that the sum may differ from
        `total` where strata are tiny.

    Raises:
        SampleError: an unknown method, or a total that is too small.

    Source: Olofsson et al. 2014, section 5.1.2.
    """
    pixels = np.asarray(pixels, np.int64)
    if method not in ALLOCATIONS:
        raise SampleError(f"allocation {method!r}, expected one of {', '.join(ALLOCATIONS)}")
    least = {"compromise": rare, "equal": LEAST, "proportional": LEAST}[method]
    if least < LEAST:
        raise SampleError(f"{rare} units of rare classes, expected at least {LEAST}")
    if total < least * len(pixels):
        raise SampleError(
            f"{total} units are too few for {len(pixels)} strata with at least {least} each; raise "
            "the number of units, or lower --min_units"
        )
    if (pixels < LEAST).any():
        raise SampleError(
            f"a stratum of {int(pixels.min())} pixel; a variance needs {LEAST}. Join its class "
            "with another one in the map"
        )
    shares = np.ones(len(pixels)) if method == "equal" else pixels.astype(float)
    fixed = np.zeros(len(pixels), bool)
    while True:  # one that is fixed takes from the others, which may then be rare themselves
        rest = total - least * int(fixed.sum())
        ideal = np.where(fixed, least, rest * shares / max(float(shares[~fixed].sum()), 1.0))
        short = ~fixed & (ideal < least)
        if not short.any():
            break
        fixed |= short
    units = np.floor(ideal + 1e-9).astype(np.int64)
    left = total - int(units.sum())
    units[np.argsort(-(ideal - units), kind="stable")[:left]] += 1
    return np.minimum(units, pixels)


def expected_se(
    weights: np.ndarray, shares: np.ndarray, units: np.ndarray, pixels: np.ndarray
) -> float:
    """Standard error of a stratified proportion, of units that are allocated in any way.

    Args:
        weights: (H,) share of each stratum in the area.
        shares: (H,) conjectured proportion in each stratum.
        units: (H,) of the sample.
        pixels: (H,) of each stratum.

    Source: Cochran 1977, eq. 5.7.
    """
    left = 1 - np.asarray(units) / np.asarray(pixels)
    return float(np.sqrt((weights**2 * shares * (1 - shares) * left / units).sum()))


def size_and_allocate(
    weights: np.ndarray,
    shares: np.ndarray,
    se: float,
    pixels: np.ndarray,
    method: str = "compromise",
    rare: int = RARE,
) -> np.ndarray:
    """Units of each stratum, as few as reach a standard error under an allocation.

    `size_for` supposes the optimal allocation; another one needs more units for the same error.

    Args:
        weights: as `size_for`.
        shares: as `size_for`.
        se: as `size_for`.
        pixels: (H,) of each stratum.
        method: as `allocate`.
        rare: as `allocate`.

    Raises:
        SampleError: as `size_for` and `allocate`, or a target that all pixels would not reach.
    """
    least = (rare if method == "compromise" else LEAST) * len(pixels)
    few = max(size_for(weights, shares, se, float(np.sum(pixels))), least)

    def reached(total: int) -> bool:
        return expected_se(weights, shares, allocate(total, pixels, method, rare), pixels) <= se

    many = few
    while not reached(many):
        few, many = many + 1, many * 2
        if many > 4 * np.sum(pixels) * len(pixels):
            raise SampleError(f"no sample reaches a standard error of {se}; raise --target_se")
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if reached(middle) else (middle + 1, many)
    return allocate(few, pixels, method, rare)


@dataclasses.dataclass(frozen=True)
class Units:
    """Sample units: pixels of a map.

    Attributes:
        row: (n,) int64.
        col: (n,) int64.
        stratum: (n,) class index of each pixel in the map.
    """

    row: np.ndarray
    col: np.ndarray
    stratum: np.ndarray


def draw(land_map: LandMap, pixels: np.ndarray, units: np.ndarray, seed: int) -> Units:
    """Draws pixels at random within each class, without replacement; reads the map once, by blocks.

    Args:
        land_map: the map.
        pixels: (C,) pixels of each class, as counted in this map.
        units: (C,) how many to draw of each, 0 where none.
        seed: of the draw.

    Returns:
        The units in random order, so that who labels them in turn does not learn their class.

    Raises:
        SampleError: counts that are not those of the map.
    """
    random = np.random.default_rng(seed)
    wanted = [np.sort(random.choice(int(n), int(k), replace=False)) if k else np.zeros(0, np.int64)
              for n, k in zip(pixels, units, strict=True)]  # fmt: skip
    passed = np.zeros(len(wanted), np.int64)
    row, col, stratum = [], [], []
    for window, classes in land_map.blocks():
        flat = classes.ravel()
        here = np.bincount(flat, minlength=256)
        for c, ordinals in enumerate(wanted):
            start, end = np.searchsorted(ordinals, (passed[c], passed[c] + here[c]))
            if end > start:
                where = np.flatnonzero(flat == c)[ordinals[start:end] - passed[c]]
                row.append(where // classes.shape[1] + int(window.row_off))
                col.append(where % classes.shape[1] + int(window.col_off))
                stratum.append(np.full(len(where), c))
            passed[c] += here[c]
    if not np.array_equal(passed, np.asarray(pixels, np.int64)):
        raise SampleError(f"{land_map.path}: has other pixels than were counted before")
    order = random.permutation(int(np.sum(units)))
    return Units(*(np.concatenate(part)[order] for part in (row, col, stratum)))
