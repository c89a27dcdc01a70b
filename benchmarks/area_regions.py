"""How far the estimates of regions can be trusted: repeated samples of maps whose truth is known.

    python benchmarks/area_regions.py [--draws=400] [--lands=3] [--units=600] [--seed=0]

A land is 200 x 200 pixels of five classes (50, 25, 14, 8 and 3 %) in blocks of 5 pixels; its map
has errors in blocks of 3, twice as many in the west, and noise. Strata of a sample are the map's
classes, with 60 units or more each ('map') or in proportion to their size ('map, proportional'), or
those of an older map and three patches, 126 pixels, of which all but 9 are drawn as well ('other').
Regions are ellipses that expect 60 to 440 units, their border hard or 20 pixels wide; of 'other'
half lie around a patch. A region and class is one figure if 100 samples have an interval; the table
has medians and ranges. SD is the true standard error. Rare classes have less than 5 % of a region.
Rows of borders and of joined classes have samples of other rows again.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import pathlib
import sys
import time
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np
from hardware import hardware

from rsjax.mapping import area_regions, sample_design
from rsjax.mapping.area_table import Estimates, Tally
from rsjax.mapping.assessment import Units

SIDE, SHARES, ENOUGH, LEFT = 200, (0.5, 0.25, 0.14, 0.08, 0.03), 100, 9
BORDERS = {"hard border": 1e-9, "soft border": 20.0}  # pixels
KINDS = tuple(itertools.product(BORDERS, (60, 80, 110, 220, 440)))  # units
ROW, COL = (index.ravel() for index in np.indices((SIDE, SIDE)))


def classes(random: np.random.Generator, side: int) -> np.ndarray:
    """In blocks, flat."""
    return random.choice(5, (SIDE, SIDE), p=SHARES)[ROW // side, COL // side]


def faulty(random: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """A map of it."""
    wrong = random.random((SIDE, SIDE))[ROW // 3, COL // 3] < np.where(COL < 80, 0.3, 0.15)
    noise = np.where(random.random(truth.size) < 0.04, classes(random, 1), truth)
    return np.where(wrong, classes(random, 3), noise)


def cases(random: np.random.Generator, sample: str, total: int, draws: int) -> Iterator[tuple]:
    """Of one land: border, expected units, true areas, and the estimates of all samples."""
    mapped = faulty(random, truth := classes(random, 5))
    strata = faulty(random, truth) if sample == "other" else mapped
    method = "proportional" if "proportional" in sample else "compromise"
    centres = random.uniform(0.15, 0.85, (len(KINDS), 2)) * SIDE
    if sample == "other":
        patches = random.integers(20, SIDE - 20, (3, 2))
        for row, col in patches:
            strata[(abs(ROW - row) < 4) & (abs(COL - col - 0.5) < 3)] = 5
        centres[::2] = patches[[0, 1, 2, 0, 1]] + 8
    pixels = np.bincount(strata)
    sizes = np.append(sample_design.allocate(total, pixels[:5], method, rare=60), pixels[5:] - LEFT)
    chance, shares = (sizes / pixels)[strata], []
    for (border, expected), (row, col) in zip(KINDS, centres, strict=True):
        distance = np.hypot(ROW - row, (COL - col) * random.uniform(0.6, 1.6))
        every = (np.clip((r - distance) / BORDERS[border] + 0.5, 0, 1) for r in range(1, 2 * SIDE))
        shares.append(next(share for share in every if share @ chance >= expected))
    tallies = [Tally("r", *[np.bincount(mapped, s, 5)] * 2, 0, 0) for s in shares]
    found: list[list[Estimates]] = [[] for _ in KINDS]
    for _ in range(draws):
        at = np.concatenate([random.choice(np.flatnonzero(strata == h), n, replace=False)
                             for h, n in enumerate(sizes)])  # fmt: skip
        units = Units(strata[at], mapped[at], truth[at], np.ones(len(at)), ROW[at], COL[at],
                      pixels * 1.0, pixels, tuple("abcdef"[: len(pixels)]), "")  # fmt: skip
        for some, share, tally in zip(found, shares, tallies, strict=True):
            some.append(area_regions.estimate(units, share[at], tally, tuple("abcde")))
    for kind, share, some in zip(KINDS, shares, found, strict=True):
        yield *kind, np.bincount(truth, share, 5), some


def figures(truth: np.ndarray, found: list[Estimates]) -> Iterator[tuple[str, np.ndarray]]:
    """Of each class: common or rare, (coverage, no interval, bias / SD, SE / SD)."""
    areas = [e.accuracy.area for e in found if e.accuracy is not None]
    for c in np.arange(5 if len(areas) >= ENOUGH else 0):
        value, se, low, high = (np.array([getattr(a, name)[c] for a in areas])
                                for name in ("value", "se", "low", "high"))  # fmt: skip
        if (given := np.isfinite(low)).sum() >= ENOUGH:
            hit = ((low <= truth[c]) & (truth[c] <= high))[given].mean()
            bias, errors = (x / value.std() for x in (value.mean() - truth[c], se.mean()))
            one = np.array([100 * hit, 100 - 100 * given.mean(), bias, errors])
            yield "common" if truth[c] >= 0.05 * truth.sum() else "rare", one


parser = argparse.ArgumentParser(description=__doc__)
for name, default in (("draws", 400), ("lands", 3), ("units", 600), ("seed", 0)):
    parser.add_argument(f"--{name}", type=int, default=default)
args, rows, without, start = parser.parse_args(), {}, {}, time.process_time()
for sample, land in itertools.product(("map", "map, proportional", "other"), range(args.lands)):
    random = np.random.default_rng([args.seed, land])
    for border, expected, truth, found in cases(random, sample, args.units, args.draws):
        size = "60 to 110 units" if expected < 200 else "220, 440 units"
        joined = [e for e in found if e.joined]
        for *key, part in (sample, size, found), (sample, "joined", joined), ("all", border, found):
            for group, one in figures(truth, part):
                rows.setdefault((*key, group), []).append(one)
        none = 100 * np.mean([e.accuracy is None for e in found])
        without.setdefault(sample, {}).setdefault(expected, []).append(none)
print(f"{datetime.date.today()}, {hardware()}; {time.process_time() - start:.0f} s of CPU\n")
head = "strata | regions | classes | figures | coverage, % | no interval, % | bias / SD | SE / SD"
print(f"| {head} |\n" + "|---" * 8 + "|")
for key, ones in sorted(rows.items()):
    quantiles = np.quantile(ones, (0.5, 0, 1), axis=0).T
    cells = [f"{m:.{d}f} ({a:.{d}f} to {b:.{d}f})"
             for d, (m, a, b) in zip((0, 0, 2, 2), quantiles, strict=True)]  # fmt: skip
    print("| " + " | ".join([*key, str(len(ones)), *cells]) + " |")
for sample, by in without.items():
    print(f"{sample}: % without estimates by units:", {n: round(np.mean(x)) for n, x in by.items()})
