"""Losses of the overlap of whole classes: Dice, Jaccard, Tversky and focal Tversky.

All are one minus a Tversky index of softmax probabilities p and targets t, where over positions

    TP = sum of min(p, t)     FP = sum of max(p - t, 0)     FN = sum of max(t - p, 0)
    index = TP / (TP + alpha FP + beta FN)

For class indices min(p, t) is the usual product p t; for mixtures it is what makes the loss 0 at
p = t (Wang et al. 2023, Jaccard Metric Losses: Optimizing the Jaccard Index with Soft Labels).

The sums run over every position of the batch that counts, or over those of each image with
`per_image`. The loss is the mean, by class weights, over the classes that occur in the labels that
count (with `per_image`, over the pairs of an image and a class in it). A class that does not occur
has no overlap to speak of and is left out; its probability is still pushed down, since it is
lacking in the others. So the divisor is never 0 and there is no smoothing constant, which would
favour small classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rsjax.errors import ConfigError
from rsjax.losses import masked


def dice(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    per_image: bool = False,
) -> jax.Array:
    """One minus the Dice coefficient 2 TP / (2 TP + FP + FN): `tversky` with 0.5 and 0.5.

    Arguments, returns and errors as `tversky`.

    Source: Milletari et al. 2016, V-Net; there with squared probabilities in the divisor.
    """
    return _loss(logits, labels, mask, class_weights, 0.5, 0.5, per_image)


def jaccard(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    per_image: bool = False,
) -> jax.Array:
    """One minus the Jaccard index (IoU) TP / (TP + FP + FN): `tversky` with 1 and 1.

    Arguments, returns and errors as `tversky`.

    Source: Rahman and Wang 2016, Optimizing Intersection-Over-Union in Deep Neural Networks.
    """
    return _loss(logits, labels, mask, class_weights, 1.0, 1.0, per_image)


def tversky(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    alpha: float = 0.5,
    beta: float = 0.5,
    per_image: bool = False,
) -> jax.Array:
    """One minus the Tversky index, whose weights trade false positives for false negatives.

    Args:
        logits: (..., C), any floating type.
        labels: class indices (...,) of any integer type, or floating distributions (..., C).
        mask: (...,), true where a position counts.
        class_weights: (C,), not negative, or None for 1 each.
        alpha: weight of the false positives, at least 0.
        beta: weight of the false negatives, above 0. The authors' best has beta = 0.7, alpha = 0.3.
        per_image: overlaps of each image (the first axis) instead of the whole batch.

    Returns:
        A float32 scalar. NaN if an index outside [0, C) stands at a position that counts.

    Raises:
        ValueError: labels or mask do not fit the logits.
        ConfigError: class_weights, alpha or beta cannot work.

    Source: Salehi et al. 2017, Tversky loss function for image segmentation, eq. 3.
    """
    return _loss(logits, labels, mask, class_weights, alpha, beta, per_image)


def focal_tversky(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
    per_image: bool = False,
) -> jax.Array:
    """(1 - Tversky index)^(1 / gamma) of each class, so that badly found classes count more.

    The exponent is 1 / gamma, as in the paper: 3/4 by default. Other code raises to gamma itself.

    Args:
        logits: as `tversky`.
        labels: as `tversky`.
        mask: as `tversky`.
        class_weights: as `tversky`.
        alpha: weight of the false positives, at least 0; the paper calls it beta.
        beta: weight of the false negatives, above 0; the paper calls it alpha.
        gamma: at least 1; the paper tries 1 to 3.
        per_image: as `tversky`.

    Returns:
        A float32 scalar. NaN if an index outside [0, C) stands at a position that counts.

    Raises:
        ValueError: labels or mask do not fit the logits.
        ConfigError: class_weights, alpha, beta or gamma cannot work.

    Source: Abraham and Khan 2018, A Novel Focal Tversky Loss Function With Improved Attention
    U-Net for Lesion Segmentation, eq. 4.
    """
    masked.check_least("gamma", gamma, 1.0)
    return _loss(logits, labels, mask, class_weights, alpha, beta, per_image, 1.0 / gamma)


def _loss(
    logits: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None,
    alpha: float,
    beta: float,
    per_image: bool,
    exponent: float = 1.0,
) -> jax.Array:
    """Weighted mean of (1 - index)^exponent over the classes that occur."""
    masked.check_least("alpha", alpha)
    masked.check_least("beta", beta)
    if beta == 0.0:
        raise ConfigError("beta is 0, expected more: a class that is missed must cost something")
    mask = masked.positions(mask, logits.shape[:-1])
    targets = masked.fill(masked.distributions(labels, logits.shape), mask)
    probabilities = masked.fill(jax.nn.softmax(masked.fill(logits, mask)), mask)

    axes = tuple(range(int(per_image), logits.ndim - 1))
    hits = jnp.sum(jnp.minimum(probabilities, targets), axis=axes)
    false = alpha * jnp.sum(jnp.maximum(probabilities - targets, 0.0), axis=axes)
    false += beta * jnp.sum(jnp.maximum(targets - probabilities, 0.0), axis=axes)
    # Not `> 0`: a label that is no class has NaN here, which must be seen in the loss.
    absent = jnp.sum(targets, axis=axes) == 0.0
    # One minus the index in one piece, without the rounding of 1 - (almost 1).
    missed = jnp.where(absent, 0.0, false) / jnp.where(absent, 1.0, hits + false)
    if exponent != 1.0:
        exact = missed == 0.0
        missed = jnp.where(exact, 0.0, jnp.where(exact, 1.0, missed) ** exponent)
    weights = masked.per_class(class_weights, missed.shape, "class_weights")
    return masked.masked_mean(weights * missed, weights, ~absent)
