"""What every loss shares: its targets, the mean over what counts, and checks of its arguments.

Masked logits are replaced before any arithmetic and masked terms again after it. Either alone is
not enough: the gradient of `where(mask, f(x), 0)` is 0 * f'(x), which is NaN where f'(x) is.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rsjax.errors import ConfigError


def positions(mask: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The mask as bool; non-zero counts.

    Raises:
        ValueError: its shape is not `shape`, the shape of the logits without their last axis.
    """
    mask = jnp.asarray(mask)
    if mask.shape != shape:
        raise ValueError(
            f"mask has shape {mask.shape}, expected {shape}: the shape of the logits without "
            "their last axis. Broadcast it to every position"
        )
    return mask.astype(bool)


def fill(values: jax.Array, mask: jax.Array) -> jax.Array:
    """`values` (..., C) as float32, with 0 where `mask` (...,) is false."""
    return jnp.where(mask[..., None], values.astype(jnp.float32), 0.0)


def indices(labels: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """One-hot rows (..., C) of class indices; NaN where an index is no class.

    Raises:
        ValueError: labels are no integers (...,) that fit logits of this shape.
    """
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.shape != shape[:-1]:
        raise ValueError(
            f"labels are {labels.dtype} {labels.shape}, expected integer class indices "
            f"{shape[:-1]}, to fit logits {shape}; this loss takes no mixtures of classes"
        )
    # A type that holds the class count: against uint8, 300 classes would wrap around.
    labels = labels.astype(jnp.int32)
    known = (labels >= 0) & (labels < shape[-1])
    return jnp.where(known[..., None], jax.nn.one_hot(labels, shape[-1]), jnp.nan)


def distributions(labels: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Target distributions (..., C) of class indices (...,), or of distributions themselves.

    Raises:
        ValueError: labels are neither, or do not fit logits of this shape.
    """
    labels = jnp.asarray(labels)
    if jnp.issubdtype(labels.dtype, jnp.integer) and labels.shape == shape[:-1]:
        return indices(labels, shape)
    if jnp.issubdtype(labels.dtype, jnp.floating) and labels.shape == shape:
        return labels
    raise ValueError(
        f"labels are {labels.dtype} {labels.shape}, expected integer class indices {shape[:-1]} "
        f"or floating distributions {shape}, to fit logits {shape}"
    )


def multi_hot(labels: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Targets (..., C) of every class on its own, as float32; NaN outside [0, 1].

    Raises:
        ValueError: labels do not have the shape of the logits.
    """
    labels = jnp.asarray(labels)
    if labels.shape != shape:
        raise ValueError(f"labels have shape {labels.shape}, expected {shape}")
    targets = labels.astype(jnp.float32)
    return jnp.where((targets >= 0.0) & (targets <= 1.0), targets, jnp.nan)


def per_class(
    weights: Sequence[float] | jax.Array | None, shape: tuple[int, ...], key: str
) -> jax.Array:
    """Weights of the classes as float32, broadcast to `shape` (..., C); None is 1 for each.

    Raises:
        ConfigError: there is not one weight per class. `key` names the argument.
    """
    if weights is None:
        return jnp.ones(shape, jnp.float32)
    array = jnp.asarray(weights, jnp.float32)
    if array.shape != shape[-1:]:
        raise ConfigError(
            f"{key} has shape {array.shape}, expected {shape[-1:]}: one weight per class"
        )
    return jnp.broadcast_to(array, shape)


def check_smoothing(label_smoothing: float) -> None:
    """Raises ConfigError unless 0 <= `label_smoothing` < 1."""
    if not 0.0 <= label_smoothing < 1.0:
        raise ConfigError(f"label_smoothing is {label_smoothing}, expected a value in [0, 1)")


def check_least(key: str, value: float, least: float = 0.0) -> None:
    """Raises ConfigError unless the option `key` is finite and not below `least`."""
    if not least <= value < float("inf"):
        raise ConfigError(f"{key} is {value}, expected a finite number of at least {least:g}")


def power(base: jax.Array, exponent: float) -> jax.Array:
    """Power of a base in [0, 1], with a finite gradient at 0 whatever the exponent.

    Below the smallest normal float32 the base is constant: there the factor that the losses
    multiply with is 0 too, and 0 times an infinite slope would be NaN.
    """
    base = jnp.maximum(base, jnp.finfo(jnp.float32).tiny)
    # Products where there are any: a power of floats is many times slower on a CPU.
    return base ** (int(exponent) if float(exponent).is_integer() else exponent)


def masked_mean(terms: jax.Array, weights: jax.Array, mask: jax.Array) -> jax.Array:
    """sum(terms) / sum(weights) over the positions that count; 0 where the weights sum to 0.

    Args:
        terms: float32 (...,), already multiplied by their weights.
        weights: float32 (...,), not negative.
        mask: bool (...,).
    """
    total = jnp.sum(jnp.where(mask, terms, 0.0))
    weight = jnp.sum(jnp.where(mask, weights, 0.0))
    # Not max(weight, 1): class weights below 1 may rightly sum to less.
    return total / jnp.where(weight == 0.0, 1.0, weight)
