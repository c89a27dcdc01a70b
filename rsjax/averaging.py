"""Logits of one model, or of the mean probabilities of several models and of an image's symmetries.

Evaluation and prediction share this path. Each model's logits are divided by its temperature
(Guo et al. 2017, On Calibration of Modern Neural Networks); probabilities are averaged, not
logits, and given back as logits, so that loss and metrics take them like those of one model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rsjax.input.preprocess import Inputs, preprocess

TTA = ("none", "d4")
Symmetry = tuple[bool, bool, bool]  # rows reversed, columns reversed, then transposed


def logits_of(
    members: Sequence[tuple[Any, Inputs]], kind: str, tta: str = "none"
) -> Callable[[Sequence[Any], jax.Array, Mapping[str, jax.Array]], jax.Array]:
    """A function (variables of each member, temperatures (M,), batch of raw entries) -> logits.

    Args:
        members: Linen module and input of each model; all have the same classes.
        kind: 'softmax' or 'sigmoid'.
        tta: 'd4': the mean over the eight symmetries of the square, four of a rectangle; takes
            eight times the memory of a batch.

    Returns:
        float32 (B, K), or (B, H, W, K); where a mean was taken, log-probabilities for a softmax
        and log-odds for sigmoids.
    """
    to_image = [preprocess(inputs) for _, inputs in members]

    def apply(
        variables: Sequence[Any], temperatures: jax.Array, batch: Mapping[str, jax.Array]
    ) -> jax.Array:
        found = []  # (B, 1 or 8, ...) of each member
        for i, (module, _) in enumerate(members):
            image = to_image[i](batch)
            ways = _symmetries(image) if tta == "d4" else [(False, False, False)]
            seen = jnp.stack([_turn(image, way) for way in ways], axis=1)
            flat = seen.reshape(-1, *seen.shape[2:])
            logits = module.apply(variables[i], flat, False).astype(jnp.float32) / temperatures[i]
            logits = logits.reshape(len(image), len(ways), *logits.shape[1:])
            if logits.ndim == 5:  # maps are turned back
                back = [_turn_back(logits[:, n], way) for n, way in enumerate(ways)]
                logits = jnp.stack(back, axis=1)
            found.append(logits)
        if len(members) == 1 and tta == "none":
            return found[0][:, 0]
        return _mean(jnp.concatenate(found, axis=1), kind)

    return apply


def _symmetries(image: jax.Array) -> list[Symmetry]:
    square = image.shape[1] == image.shape[2]
    return list(itertools.product((False, True), (False, True), (False, True)[: 1 + square]))


def _turn(x: jax.Array, way: Symmetry) -> jax.Array:
    """(B, H, W, C), reversed and transposed."""
    x = x[:, ::-1] if way[0] else x
    x = x[:, :, ::-1] if way[1] else x
    return x.swapaxes(1, 2) if way[2] else x


def _turn_back(x: jax.Array, way: Symmetry) -> jax.Array:
    x = x.swapaxes(1, 2) if way[2] else x
    return _turn(x, (way[0], way[1], False))


def _mean(logits: jax.Array, kind: str) -> jax.Array:
    """The logits of the mean probabilities over axis 1."""

    def log_mean(x: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(x, axis=1) - jnp.log(jnp.float32(x.shape[1]))

    if kind == "softmax":
        return log_mean(jax.nn.log_softmax(logits))
    return log_mean(jax.nn.log_sigmoid(logits)) - log_mean(jax.nn.log_sigmoid(-logits))
