"""How much the figures of a set depend on its samples: bootstrap intervals, and groups.

The interval is the percentile bootstrap (Efron and Tibshirani 1993, An Introduction to the
Bootstrap, ch. 13): samples are drawn with replacement, as many as there are, the figure is
computed again, and the quantiles of its values over many draws bound the interval. It says how far
the figure would move on another sample of places of the same kind. It does not say how far it
would move with another training run, another region or another labelling. Neighbouring patches
are alike, so single ones hold less information than their number; blocks (tiles, scenes) that are
drawn as a whole keep that dependence, and the interval is wider, as it should be. With few blocks
(below some twenty) the interval itself is rough, and tends to be too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rsjax.errors import ConfigError
from rsjax.metrics.weighted import Figures, Measure, Samples

LARGEST = 2**22  # weights made at a time, 32 MiB in float64

Interval = tuple[Any, Any]


def bootstrap_weights(blocks: np.ndarray, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Multiplicities of the samples in resampled sets.

    Args:
        blocks: (N,) integers; samples with the same number are drawn as a whole.
        replicates: number of sets in all.
        seed: the sets depend on nothing else.

    Yields:
        (R, N) int64, R such that a part stays small; the R add up to `replicates`. As many blocks
        are drawn as there are, so the number of samples varies where blocks differ in size.

    Raises:
        ConfigError: fewer than two blocks, or no replicates.
    """
    names, block = np.unique(blocks, return_inverse=True)
    count = len(names)
    if count < 2:
        raise ConfigError(
            f"cannot resample {count} block of {len(block)} samples: an interval needs at least "
            "two, better twenty or more. Set eval.blocks to an entry with more values, or to '' "
            "to resample single samples, or eval.bootstrap=0 for no intervals"
        )
    if replicates < 1:
        raise ConfigError(f"{replicates} replicates, expected at least 1: set eval.bootstrap")
    rng = np.random.default_rng(seed)
    for part in _parts(replicates, len(block)):
        drawn = [np.bincount(rng.integers(0, count, count), minlength=count) for _ in part]
        yield np.stack(drawn)[:, block]


def intervals(
    measure: Measure,
    samples: Samples,
    blocks: np.ndarray | None,
    replicates: int,
    level: float,
    seed: int,
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Percentile bootstrap intervals of every figure.

    Args:
        measure: a function of `rsjax.metrics.weighted`.
        samples: what it takes, with `index` (N,).
        blocks: (N,) integers, see `bootstrap_weights`; None to draw single samples.
        replicates: resampled sets; 1000 place each bound of a 95 % interval to about 2 % of its
            width (one standard error, of a normal figure).
        level: coverage, e.g. 0.95.
        seed: of the draws.

    Returns:
        (low, high) of each figure, and (low (K,), high (K,)) of each figure per class. Replicates
        where a figure is NaN (a class that was not drawn) are left out; where they are more than
        half, the interval is NaN.

    Raises:
        ConfigError: a level outside (0, 1), fewer than two blocks, or no replicates.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}, expected a number between 0 and 1: set eval.level")
    blocks = np.arange(len(samples["index"])) if blocks is None else np.asarray(blocks)
    found = [measure(samples, part) for part in bootstrap_weights(blocks, replicates, seed)]
    overall, per_class = (_joined(each) for each in zip(*found, strict=True))
    scalars = {name: quantiles(values[:, None], level) for name, values in overall.items()}
    return (
        {name: (float(low[0]), float(high[0])) for name, (low, high) in scalars.items()},
        {name: quantiles(values, level) for name, values in per_class.items()},
    )


def quantiles(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The central interval (low (K,), high (K,)) of values (R, K), without the NaN among them.

    NaN where more than half of the values are.
    """
    usable = np.mean(np.isnan(values), axis=0) <= 0.5
    bounds = np.full((2, values.shape[1]), np.nan)
    tails = [(1 - level) / 2, (1 + level) / 2]
    if usable.any():
        bounds[:, usable] = np.nanquantile(values[:, usable], tails, axis=0)
    return bounds[0], bounds[1]


def groups(
    measure: Measure, samples: Samples, values: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The figures of each group of samples.

    Args:
        measure: a function of `rsjax.metrics.weighted`.
        samples: what it takes.
        values: (N,) the group of each sample, e.g. its country.

    Returns:
        For each value, in sorted order, every figure, and `samples`, their number. NaN where a
        figure is not defined for the group.
    """
    names, group = np.unique(np.asarray(values, str), return_inverse=True)
    table: dict[str, dict[str, float]] = {}
    for part in _parts(len(names), len(group)):
        chosen = group == np.asarray(part)[:, None]
        figures, _ = measure(samples, chosen.astype(np.int64))
        for row, which in enumerate(part):
            scalars = {name: float(column[row]) for name, column in figures.items()}
            table[str(names[which])] = {**scalars, "samples": int(chosen[row].sum())}
    return table


def _joined(parts: Sequence[Figures]) -> Figures:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _parts(rows: int, columns: int) -> Iterator[range]:
    """Consecutive ranges of `rows` rows of so many columns that each stays small."""
    size = max(1, LARGEST // max(1, columns))
    for start in range(0, rows, size):
        yield range(start, min(start + size, rows))
