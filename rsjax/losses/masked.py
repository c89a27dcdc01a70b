"""What every loss shares: the mean over the positions that count, and checks of its arguments.

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
