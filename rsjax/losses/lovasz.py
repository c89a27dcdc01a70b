"""Lovász losses: the convex extension of the Jaccard loss, a surrogate of the IoU itself.

The errors of all positions are sorted and weighed by how much each, in this order, adds to the
Jaccard loss. Without `per_image` the sort runs over the whole batch, which on several devices
gathers it on each of them.

Source: Berman et al. 2018, The Lovász-Softmax loss: a tractable surrogate for the optimization of
the intersection-over-union measure in neural networks, eq. 8 to 12 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rsjax.losses import masked


def lovasz_softmax(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    per_image: bool = False,
) -> jax.Array:
    """Lovász extension of the Jaccard loss of softmax probabilities, one class per position.

    The mean, by class weights, over the classes that occur in the labels that count. With
    `per_image` it is the mean over the pairs of an image and a class in it; the authors' code takes
    the mean of each image first and that over the images then.

    Args:
        logits: (..., C), any floating type.
        labels: class indices (...,) of any integer type; no mixtures, which have no Jaccard loss.
        mask: (...,), true where a position counts.
        class_weights: (C,), not negative, or None for 1 each.
        per_image: Jaccard losses of each image (the first axis) instead of the whole batch.

    Returns:
        A float32 scalar. NaN if an index outside [0, C) stands at a position that counts.

    Raises:
        ValueError: labels or mask do not fit the logits.
        ConfigError: class_weights cannot work.
    """
    mask = masked.positions(mask, logits.shape[:-1])
    targets = masked.fill(masked.indices(labels, logits.shape), mask)
    probabilities = jax.nn.softmax(masked.fill(logits, mask))
    # |t - p| for t of 0 and 1; unlike the absolute value it hands on a NaN of t to the gradient.
    errors = targets * (1.0 - probabilities) + (1.0 - targets) * probabilities
    errors, targets, mask = _by_class(errors, targets, mask, per_image)
    # Not `> 0`: a label that is no class has NaN here, which must be seen in the loss.
    present = jnp.sum(targets, axis=-1) != 0.0
    return _mean(errors, targets, mask, present, class_weights)


def lovasz_hinge(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    per_image: bool = False,
) -> jax.Array:
    """Lovász extension of the Jaccard loss of hinge errors max(0, 1 - s x), each class on its own.

    x is the logit and s is 1 where the class is, else -1. The mean, by class weights, over all
    classes: of a class that does not occur the largest error counts, for a single false positive
    takes its IoU from 1 to 0. With `per_image` it is the mean over images too, of those with a
    position that counts.

    Args:
        logits: (..., C), any floating type.
        labels: (..., C), 0 or 1 of any type; no mixtures, which have no Jaccard loss.
        mask: (...,), true where a position counts, with all of its classes.
        class_weights: (C,), not negative, or None for 1 each.
        per_image: Jaccard losses of each image (the first axis) instead of the whole batch.

    Returns:
        A float32 scalar. NaN if another target than 0 and 1 stands at a position that counts.

    Raises:
        ValueError: labels or mask do not fit the logits.
        ConfigError: class_weights cannot work.
    """
    mask = masked.positions(mask, logits.shape[:-1])
    targets = masked.multi_hot(labels, logits.shape)
    targets = jnp.where((targets == 0.0) | (targets == 1.0), targets, jnp.nan)
    targets = masked.fill(targets, mask)
    errors = jax.nn.relu(1.0 - masked.fill(logits, mask) * (2.0 * targets - 1.0))
    errors, targets, mask = _by_class(errors, targets, mask, per_image)
    counted = jnp.broadcast_to(jnp.any(mask, axis=-1), errors.shape[:-1])
    return _mean(errors, targets, mask, counted, class_weights)


def _by_class(
    errors: jax.Array, targets: jax.Array, mask: jax.Array, per_image: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Errors and targets as (images or 1, C, positions), mask as (images or 1, 1, positions)."""
    images = errors.shape[0] if per_image else 1
    errors = jnp.swapaxes(errors.reshape(images, -1, errors.shape[-1]), 1, 2)
    targets = jnp.swapaxes(targets.reshape(images, -1, targets.shape[-1]), 1, 2)
    return errors, targets, mask.reshape(images, 1, -1)


def _mean(
    errors: jax.Array,
    targets: jax.Array,
    mask: jax.Array,
    chosen: jax.Array,
    class_weights: Sequence[float] | jax.Array | None,
) -> jax.Array:
    """Weighted mean of the extension over the chosen (images or 1, C)."""
    terms = _extension(errors, targets == 1.0, jnp.broadcast_to(mask, errors.shape))
    weights = masked.per_class(class_weights, terms.shape, "class_weights")
    return masked.masked_mean(weights * terms, weights, chosen)


def _extension(errors: jax.Array, foreground: jax.Array, mask: jax.Array) -> jax.Array:
    """The Lovász extension of the Jaccard loss over the last axis, where `mask` is true.

    Masked positions are sorted last and have no weight. The weights are written out, each a step of
    the Jaccard loss, instead of as differences of it: with a million positions a step is as small
    as the rounding of a float32 near 1.
    """
    # Ascending and turned around: NaN is sorted last, so first then, never behind the masked.
    keys = jnp.where(mask, errors, -jnp.inf)
    errors, hits = jax.lax.sort((keys, (foreground & mask).astype(jnp.int32)), num_keys=1)
    errors, hits = errors[..., ::-1], hits[..., ::-1]
    rank = jnp.arange(errors.shape[-1]).reshape((1,) * (errors.ndim - 1) + (-1,))
    counts = rank < jnp.sum(mask, axis=-1, keepdims=True)
    size = jnp.sum(hits, axis=-1, keepdims=True)
    wrong = jnp.cumsum(hits, axis=-1)  # integers, exact
    before = (size + rank - (wrong - hits)).astype(jnp.float32)  # union without this position
    after = (size + rank + 1 - wrong).astype(jnp.float32)  # and with it
    left = (size - wrong).astype(jnp.float32)  # intersection that is left
    # A missed position takes one from the intersection; a false one adds one to the union.
    step = jnp.where(
        hits == 1, 1.0 / jnp.maximum(before, 1.0), left / jnp.maximum(before, 1.0) / after
    )
    # Without foreground the loss is 0 before the first position and 1 from it on.
    step = jnp.where(size == 0, (rank == 0).astype(jnp.float32), step)
    return jnp.sum(jnp.where(counts, errors * step, 0.0), axis=-1)
