"""Cross-entropies that count hard positions more than easy ones: focal and asymmetric losses."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rsjax.errors import ConfigError
from rsjax.losses import masked


def focal(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    gamma: float = 2.0,
) -> jax.Array:
    """Softmax focal loss against class indices or distributions.

    With targets t (a one-hot row for an index) and class weights w, which are the paper's alpha,

        sum over positions and classes of  w_c t_c (1 - p_c)^gamma (-log p_c)  /  sum of  w_c t_c

    The divisor is that of `cross_entropy`, not the paper's number of boxes with an object: every
    pixel of a land-cover map has a class. gamma = 0 is `cross_entropy`. The gradient flows through
    the factor (1 - p)^gamma, as in the paper.

    Args:
        logits: (..., C), any floating type.
        labels: class indices (...,) of any integer type, or floating distributions (..., C).
        mask: (...,), true where a position counts.
        class_weights: (C,), not negative, or None for 1 each.
        gamma: how fast well-classified positions lose weight, at least 0.

    Returns:
        A float32 scalar. NaN if an index outside [0, C) stands at a position that counts.

    Raises:
        ValueError: labels or mask do not fit the logits.
        ConfigError: class_weights or gamma cannot work.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 5.
    """
    masked.check_least("gamma", gamma)
    mask = masked.positions(mask, logits.shape[:-1])
    weights = masked.per_class(class_weights, logits.shape, "class_weights")
    targets = masked.fill(masked.distributions(labels, logits.shape), mask)

    log_p = jax.nn.log_softmax(masked.fill(logits, mask))
    terms = weights * targets * masked.power(-jnp.expm1(log_p), gamma) * -log_p
    return masked.masked_mean(jnp.sum(terms, axis=-1), jnp.sum(weights * targets, axis=-1), mask)


def binary_focal(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> jax.Array:
    """Sigmoid focal loss, each class on its own, averaged over positions and classes.

    With targets t and class weights w,

        sum over positions and classes of
            w_c (alpha t (1 - p)^gamma (-log p) + (1 - alpha) (1 - t) p^gamma (-log(1 - p)))
        /  sum of  w_c

    `alpha` is not part of the divisor; without it both factors are 1, and gamma = 0 is
    `binary_cross_entropy`. The paper divides by the number of positives instead.

    Args:
        logits: (..., C), any floating type.
        labels: (..., C) in [0, 1], multi-hot of any type or mixtures.
        mask: (...,), true where a position counts, with all of its classes.
        class_weights: (C,), not negative, or None for 1 each.
        gamma: how fast well-classified positions lose weight, at least 0.
        alpha: weight of the positives in [0, 1] against 1 - alpha of the negatives, or None. The
            paper's best is 0.25 at gamma = 2.

    Returns:
        A float32 scalar. NaN if a target outside [0, 1] stands at a position that counts.

    Raises:
        ValueError: labels or mask do not fit the logits.
        ConfigError: class_weights, gamma or alpha cannot work.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 5.
    """
    masked.check_least("gamma", gamma)
    if alpha is not None and not 0.0 <= alpha <= 1.0:
        raise ConfigError(f"alpha is {alpha}, expected a value in [0, 1]")
    mask, logits, targets, weights = _sigmoid_inputs(logits, labels, mask, class_weights)
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
    # sigmoid(-x), not 1 - sigmoid(x), which has no small values.
    right = masked.power(jax.nn.sigmoid(-logits), gamma) * -jax.nn.log_sigmoid(logits)
    wrong = masked.power(jax.nn.sigmoid(logits), gamma) * -jax.nn.log_sigmoid(-logits)
    terms = weights * (positive * targets * right + negative * (1.0 - targets) * wrong)
    return masked.masked_mean(jnp.sum(terms, axis=-1), jnp.sum(weights, axis=-1), mask)


def asymmetric(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
    detach: bool = False,
) -> jax.Array:
    """Asymmetric loss for many labels: easy negatives fade faster than easy positives.

    With targets t, class weights w and the shifted probability q = max(p - clip, 0),

        sum over positions and classes of
            w_c (t (1 - p)^gamma_pos (-log p) + (1 - t) q^gamma_neg (-log(1 - q)))
        /  sum of  w_c

    Negatives below `clip` are left out altogether. The authors sum over everything; here it is the
    mean, so that the learning rate does not depend on batch and class count.

    Args:
        logits: (..., C), any floating type.
        labels: (..., C) in [0, 1], multi-hot of any type or mixtures.
        mask: (...,), true where a position counts, with all of its classes.
        class_weights: (C,), not negative, or None for 1 each.
        gamma_pos: focusing exponent of the positives, at least 0.
        gamma_neg: focusing exponent of the negatives, at least 0.
        clip: the margin m that is taken off the probability of negatives, in [0, 1).
        detach: no gradient through the focusing factors (1 - p)^gamma_pos and q^gamma_neg, an
            option of the authors' code. The gradient analysed in the paper flows through them.

    Returns:
        A float32 scalar. NaN if a target outside [0, 1] stands at a position that counts.

    Raises:
        ValueError: labels or mask do not fit the logits.
        ConfigError: class_weights or an option cannot work.

    Source: Ridnik et al. 2021, Asymmetric Loss For Multi-Label Classification, eq. 4 to 7 and the
    exponents and margin of its section 3.
    """
    masked.check_least("gamma_pos", gamma_pos)
    masked.check_least("gamma_neg", gamma_neg)
    if not 0.0 <= clip < 1.0:
        raise ConfigError(f"clip is {clip}, expected a value in [0, 1)")
    mask, logits, targets, weights = _sigmoid_inputs(logits, labels, mask, class_weights)

    shifted = jnp.maximum(jax.nn.sigmoid(logits) - clip, 0.0)
    # Without a margin 1 - q may round to 0, whose logarithm is infinite.
    log_rest = jnp.log1p(-shifted) if clip > 0.0 else jax.nn.log_sigmoid(-logits)
    focus_pos = masked.power(jax.nn.sigmoid(-logits), gamma_pos)
    focus_neg = masked.power(shifted, gamma_neg)
    if detach:
        focus_pos, focus_neg = jax.lax.stop_gradient((focus_pos, focus_neg))
    terms = -(
        targets * focus_pos * jax.nn.log_sigmoid(logits) + (1.0 - targets) * focus_neg * log_rest
    )
    return masked.masked_mean(jnp.sum(weights * terms, axis=-1), jnp.sum(weights, axis=-1), mask)


def _sigmoid_inputs(
    logits: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Mask, logits and targets with what is masked replaced, and the weights (..., C)."""
    mask = masked.positions(mask, logits.shape[:-1])
    weights = masked.per_class(class_weights, logits.shape, "class_weights")
    targets = masked.multi_hot(labels, logits.shape)
    return mask, masked.fill(logits, mask), masked.fill(targets, mask), weights
