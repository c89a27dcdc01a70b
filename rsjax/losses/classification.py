"""Losses of one class per position, and of any number of classes per position."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from rsjax.losses import masked


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Softmax cross-entropy against class indices or against distributions over the classes.

    With targets t (a one-hot row for an index), smoothed targets s = (1 - e) t + e / C and class
    weights w, the loss is

        sum over positions and classes of  w_c s_c (-log p_c)  /  sum of  w_c t_c

    For indices this is the weighted mean of `torch.nn.CrossEntropyLoss`. For distributions torch
    divides by the number of positions; here a mixture of two classes counts as its parts, so that
    an index and its one-hot row give the same loss.

    Args:
        logits: (..., C), any floating type.
        labels: class indices (...,) of any integer type, or distributions (..., C) of any floating
            type (mixup, CutMix).
        mask: (...,), true where a position counts. Ignored labels (255) must be masked.
        class_weights: (C,), not negative, or None for 1 each.
        label_smoothing: e, the share of the target spread evenly over all classes, in [0, 1).

    Returns:
        A float32 scalar. NaN if an index outside [0, C) stands at a position that counts.

    Raises:
        ValueError: labels or mask do not fit the logits.
        ConfigError: class_weights or label_smoothing cannot work.

    Source: Szegedy et al. 2016, Rethinking the Inception Architecture (label smoothing).
    """
    masked.check_smoothing(label_smoothing)
    mask = masked.positions(mask, logits.shape[:-1])
    weights = masked.per_class(class_weights, logits.shape, "class_weights")
    targets = masked.distributions(labels, logits.shape)
    return weighted_cross_entropy(logits, targets, mask, weights, label_smoothing)


def weighted_cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    mask: jax.Array,
    weights: jax.Array,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """The mean of `cross_entropy` with a weight (..., C) for every position and class.

    Args:
        logits: (..., C), any floating type.
        targets: floating distributions (..., C).
        mask: bool (...,).
        weights: float32 (..., C), not negative.
        label_smoothing: as in `cross_entropy`.
    """
    logits, targets = masked.fill(logits, mask), masked.fill(targets, mask)
    smoothed = (1.0 - label_smoothing) * targets + label_smoothing / logits.shape[-1]
    terms = optax.softmax_cross_entropy(logits, weights * smoothed)
    return masked.masked_mean(terms, jnp.sum(weights * targets, axis=-1), mask)


def binary_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    label_smoothing: float = 0.0,
    pos_weight: Sequence[float] | jax.Array | None = None,
) -> jax.Array:
    """Sigmoid cross-entropy, each class on its own, averaged over positions and classes.

    With targets t, smoothed targets s = (1 - e) t + e / 2, class weights w and positive weights v,
    the loss is

        sum over positions and classes of  w_c (v_c s_c (-log p_c) + (1 - s_c) (-log(1 - p_c)))
        /  sum of  w_c

    `pos_weight` trades precision for recall and is not part of the divisor, as in
    `torch.nn.BCEWithLogitsLoss`.

    Args:
        logits: (..., C), any floating type.
        labels: (..., C) in [0, 1], multi-hot of any type or mixtures.
        mask: (...,), true where a position counts, with all of its classes.
        class_weights: (C,), not negative, or None for 1 each.
        label_smoothing: e in [0, 1).
        pos_weight: (C,), not negative, or None for 1 each.

    Returns:
        A float32 scalar. NaN if a target outside [0, 1] stands at a position that counts.

    Raises:
        ValueError: labels or mask do not fit the logits.
        ConfigError: class_weights, pos_weight or label_smoothing cannot work.
    """
    masked.check_smoothing(label_smoothing)
    mask = masked.positions(mask, logits.shape[:-1])
    weights = masked.per_class(class_weights, logits.shape, "class_weights")
    positive = masked.per_class(pos_weight, logits.shape, "pos_weight")
    targets = masked.multi_hot(labels, logits.shape)
    logits, targets = masked.fill(logits, mask), masked.fill(targets, mask)

    smoothed = (1.0 - label_smoothing) * targets + label_smoothing / 2.0
    terms = -(
        positive * smoothed * jax.nn.log_sigmoid(logits)
        + (1.0 - smoothed) * jax.nn.log_sigmoid(-logits)
    )
    return masked.masked_mean(jnp.sum(weights * terms, axis=-1), jnp.sum(weights, axis=-1), mask)
