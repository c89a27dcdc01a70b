"""Weights of the classes from how often they occur in the train split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rsjax.errors import ConfigError

RULES = ("none", "inverse", "effective_number", "median_frequency")


def class_weights(
    rule: str,
    class_counts: Sequence[int] | None,
    beta: float = 0.9999,
    *,
    present_totals: Sequence[int] | None = None,
) -> np.ndarray | None:
    """Weights of the classes for the losses, with mean 1.

    - `none`: none.
    - `inverse`: 1 / count.
    - `effective_number`: (1 - beta) / (1 - beta^count), Cui et al. 2019, Class-Balanced Loss Based
      on Effective Number of Samples. Between 1 for each (beta = 0) and `inverse` (beta near 1).
      Counts far above 1 / (1 - beta), such as those of pixels, all get the same weight.
    - `median_frequency`: median of the frequencies of the classes that occur, over the frequency,
      Eigen and Fergus 2015, Predicting Depth, Surface Normals and Semantic Labels with a Common
      Multi-Scale Convolutional Architecture. There the frequency of a class is its pixels over
      all pixels of the images in which it occurs, `present_totals`. Without these it is its share
      of all pixels, and the weights are those of `inverse`.

    A class without samples in the train split gets the weight of the rarest that has some. The
    losses divide by the weights, so that their mean has no effect.

    Args:
        rule: name of the rule.
        class_counts: (C,), samples, positives or pixels of each class in the train split; None
            gives None.
        beta: of `effective_number`, in [0, 1).
        present_totals: (C,), of each class the pixels that count of all images in which it occurs;
            for `median_frequency`.

    Returns:
        float32 (C,), or None.

    Raises:
        ConfigError: unknown rule, beta outside [0, 1), or counts that cannot be weighed.
    """
    if rule not in RULES:
        raise ConfigError(f"unknown class_weights {rule!r}; known rules: {', '.join(RULES)}")
    if not 0.0 <= beta < 1.0:
        raise ConfigError(f"effective_beta is {beta}, expected a value in [0, 1)")
    if rule == "none" or class_counts is None:
        return None
    counts = np.asarray(class_counts, float)
    occurs = counts > 0
    if not occurs.any():
        raise ConfigError(
            f"class_weights {rule!r}: no class has a sample in the train split. Use 'none', or "
            "check the split and the nomenclature"
        )
    weights = np.ones_like(counts)
    if rule == "inverse":
        weights[occurs] = 1.0 / counts[occurs]
    elif rule == "effective_number":
        # expm1, since for a few samples 1 - beta^n loses the digits of a beta near 1.
        log_beta = np.log(max(beta, np.finfo(float).tiny))
        weights[occurs] = np.expm1(log_beta) / np.expm1(counts[occurs] * log_beta)
    else:
        totals = (
            np.full_like(counts, counts.sum())
            if present_totals is None
            else np.asarray(present_totals, float)
        )
        if totals.shape != counts.shape or np.any(totals[occurs] < counts[occurs]):
            raise ConfigError(
                f"present_totals are {totals.tolist()} for class counts {counts.tolist()}: "
                "expected one per class and none below its count"
            )
        frequency = counts[occurs] / totals[occurs]
        weights[occurs] = np.median(frequency) / frequency
    weights[~occurs] = weights[np.argmin(np.where(occurs, counts, np.inf))]
    return (weights / weights.mean()).astype(np.float32)
