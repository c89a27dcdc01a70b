"""Figures of a set in which each sample counts any number of times.

Every function takes the samples of an evaluation and weights (R, N), non-negative integers, and
returns figures `{name: (R,)}` and figures per class `{name: (R, K)}`, float64. A row of ones is
the set itself and gives what the metric's `compute` and `per_class` give; a row of zeros and ones
is a group; a row of multiplicities is a resampled set (`rsjax.metrics.resample`). Counts are sums
of integers in float64, exact below 2^53.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rsjax.metrics import base, ranking
from rsjax.metrics import confusion as matrix
from rsjax.metrics import multilabel as hits_and_misses

Samples = Mapping[str, np.ndarray]
Figures = dict[str, np.ndarray]
Measure = Callable[[Samples, np.ndarray], tuple[Figures, Figures]]


def confusion(samples: Samples, weights: np.ndarray) -> tuple[Figures, Figures]:
    """The figures of the confusion matrix, from the counts of each sample: segmentation.

    Args:
        samples: `hits`, `reference`, `predicted` (N, K), pixels of each class that are right, in
            the reference, predicted.
        weights: (R, N).
    """
    rows = np.asarray(weights, float)
    counts = [rows @ samples[name].astype(float) for name in ("hits", "reference", "predicted")]
    return matrix.figures(*counts), matrix.class_figures(*counts)


def single_label(samples: Samples, weights: np.ndarray) -> tuple[Figures, Figures]:
    """The figures of the confusion matrix of one class per sample.

    Args:
        samples: `labels` (N,) class indices, `probabilities` (N, K); the prediction is the first
            largest.
        weights: (R, N).

    Raises:
        DatasetError, RsjaxError: labels or probabilities that cannot be scored.
    """
    labels, probabilities = np.asarray(samples["labels"]), samples["probabilities"]
    classes = np.arange(probabilities.shape[-1])
    known = (labels >= 0) & (labels < len(classes))
    _check(known, probabilities)
    reference = labels[:, None] == classes
    predicted = probabilities.argmax(axis=-1)[:, None] == classes
    counts = {"hits": reference & predicted, "reference": reference, "predicted": predicted}
    return confusion(counts, weights)


def multilabel(
    samples: Samples, weights: np.ndarray, threshold: float | Sequence[float] = 0.5
) -> tuple[Figures, Figures]:
    """The figures of `MultilabelCounts`: any number of classes per sample, at a threshold.

    Args:
        samples: `labels` (N, K), 0 or 1, and `probabilities` (N, K).
        weights: (R, N).
        threshold: one number or K: predicted where the probability, in float32, is not below.

    Raises:
        DatasetError, RsjaxError: labels or probabilities that cannot be scored.
    """
    scores, actual = _multi_hot(samples)
    predicted = scores >= np.asarray(threshold, np.float32)
    rows = np.asarray(weights, float)
    tp, fp, fn = (
        rows @ where.astype(float)
        for where in (actual & predicted, ~actual & predicted, actual & ~predicted)
    )
    exact = rows @ np.all(actual == predicted, axis=-1).astype(float)
    overall = hits_and_misses.figures(tp, fp, fn, exact, rows.sum(axis=-1))
    return overall, hits_and_misses.class_figures(tp, fp, fn)


def average_precision(samples: Samples, weights: np.ndarray) -> tuple[Figures, Figures]:
    """The figures of `AveragePrecision`, exact, of the probabilities ranked once for all sets.

    Where the sigmoid saturates, probabilities are tied that logits would tell apart; the figures
    are those of the metric made from these probabilities.

    Args:
        samples: `labels` (N, K), 0 or 1, and `probabilities` (N, K).
        weights: (R, N).

    Raises:
        DatasetError, RsjaxError: labels or probabilities that cannot be scored.
    """
    scores, actual = _multi_hot(samples)
    return ranking.figures(scores, actual, np.asarray(weights))


def _multi_hot(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Scores in float32 and positives (N, K), checked."""
    labels, scores = np.asarray(samples["labels"]), samples["probabilities"].astype(np.float32)
    _check(np.all((labels == 0) | (labels == 1), axis=-1), scores)
    return scores, labels == 1


def _check(known: np.ndarray, scores: np.ndarray) -> None:
    finite = np.all(np.isfinite(scores), axis=-1)
    base.check_invalid(np.sum(~known), np.sum(~finite), scores.shape[-1])
