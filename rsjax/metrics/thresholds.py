"""Decision thresholds of a multi-label model, chosen on a validation split.

The F1 of the split they were chosen on is too good to be true, the more so the fewer positives a
class has: with ten positives the best of many cuts fits their accidents. Report figures on another
split, and keep the default for classes with a handful of positives.
"""

from __future__ import annotations

import numpy as np

from rsjax.metrics import base


def best_f1(
    scores: np.ndarray, labels: np.ndarray, default: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """The threshold of each class with the highest F1.

    Args:
        scores: (N, K) probabilities; compared in float32, as `MultilabelCounts` does: a
            probability that is not below the threshold is a prediction.
        labels: (N, K), 0 or 1.
        default: for classes without positives; of equally good cuts the nearest to it is taken.

    Returns:
        Thresholds (K,), each a float32 number between two neighbouring distinct scores (the lower
        being 0 below the least), and their F1 (K,), NaN for classes without positives.

    Raises:
        DatasetError, RsjaxError: labels that are not 0 or 1; scores that are not finite or
            outside [0, 1].

    Source: Lipton, Elkan and Naryanaswamy 2014, Optimal Thresholding of Classifiers to Maximize
    F1 Measure.
    """
    scores, labels = np.asarray(scores, np.float32), np.asarray(labels)
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape}, expected (N, K) twice")
    known = (labels == 0) | (labels == 1)
    fits = (scores >= 0) & (scores <= 1)  # false for NaN
    base.check_invalid(np.sum(~known.all(axis=-1)), np.sum(~fits.all(axis=-1)), scores.shape[-1])
    found = [_of_class(s, y == 1, default) for s, y in zip(scores.T, labels.T, strict=True)]
    thresholds, f1 = np.array(found, float).reshape(-1, 2).T
    return thresholds, f1


def _of_class(scores: np.ndarray, positive: np.ndarray, default: float) -> tuple[float, float]:
    if not positive.any():
        return default, float("nan")
    order = np.argsort(scores)[::-1]
    ranked = scores[order]
    # The last place of each run of equal scores: the cuts that can be made below it.
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    hits = np.cumsum(positive[order])[last]
    f1 = 2 * hits / (last + 1 + hits[-1])
    upper = ranked[last]
    lower = np.append(upper[1:], np.float32(0))
    cuts = ((upper.astype(float) + lower) / 2).astype(np.float32)
    # Between neighbours in float32 there is no middle: the upper one is the cut.
    cuts = np.where(cuts > lower, cuts, upper)
    best = np.flatnonzero(f1 == f1.max())
    place = best[np.argmin(np.abs(cuts[best] - default))]
    return float(cuts[place]), float(f1[place])
