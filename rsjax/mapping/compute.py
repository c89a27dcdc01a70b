"""Models on rows of a scene, on the device: windows cut, probabilities blended, classes decided.

Rows go to the device once and windows are cut there; what comes back is a byte a pixel for the
class, one for its confidence, and one a class where probabilities are asked for. Windows of a batch
are spread over all devices of this process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsjax import averaging
from rsjax.bundle import Model
from rsjax.errors import ConfigError
from rsjax.input.preprocess import Inputs, resample
from rsjax.mapping.writer import STEPS

CONFIDENCES = ("probability", "margin", "entropy")

Answers = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Network:
    """One model or several, compiled for windows of one size.

    Attributes:
        variables: of each model, on all devices.
        temperatures: float32 (models,), likewise.
        add: (variables, temperatures, total, band, columns, row weights, column weights) -> total:
            blends a batch of windows into the rows' probabilities, (window, width, K) float32.
        finish: (total, rows) -> answers for all rows of the total, whose first `rows` are done,
            and the total moved up by as many.
        each: (variables, temperatures, band, columns) -> answers (B,) of whole windows.
        batch: windows computed at once.
        everywhere: places an array on all devices.
    """

    variables: Any
    temperatures: jax.Array
    add: Callable[..., jax.Array]
    finish: Callable[[jax.Array, Any], tuple[Answers, jax.Array]]
    each: Callable[..., Answers]
    batch: int
    everywhere: NamedSharding


def check(tta: str, confidence: str, kind: str) -> None:
    """Refuses what is not known, or not of this kind of model ('softmax' or 'sigmoid').

    Raises:
        ConfigError: says which.
    """
    if tta not in averaging.TTA:
        raise ConfigError(f"tta={tta!r}: choose one of {', '.join(averaging.TTA)}")
    if confidence not in ("none", *CONFIDENCES):
        raise ConfigError(f"confidence={confidence!r}: choose none, {', '.join(CONFIDENCES)}")
    if confidence == "entropy" and kind != "softmax":
        raise ConfigError(
            "confidence=entropy: the classes of this model do not exclude each other; choose "
            "probability or margin"
        )


def compile_for(
    members: Sequence[tuple[Model, Inputs]],
    factors: Mapping[str, int],
    window: int,
    *,
    tta: str,
    confidence: str,
    probabilities: bool,
    batch: int = 0,
) -> Network:
    """Prepares models for windows of one size; compilation itself waits for the first rows.

    Args:
        members: models of one task and the same classes, whose probabilities are averaged; each
            with its inputs, of the entries of the scene.
        factors: of each entry, the side of its pixels in pixels of the scene.
        window: side of a window in pixels of the scene.
        tta: 'none' or 'd4', see `rsjax.averaging`.
        confidence: one of `CONFIDENCES`, or 'none'.
        probabilities: whether those of all classes are wanted.
        batch: windows computed at once; 0: about a million pixels on an accelerator, and
            65,536 on a CPU, an eighth of it with symmetries.

    Raises:
        ConfigError: an unknown option.
    """
    kind = members[0][0].task.kind
    check(tta, confidence, kind)
    devices = jax.local_devices()
    mesh = Mesh(np.array(devices), ("windows",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec("windows"))
    pixels = 2**16 if devices[0].platform == "cpu" else 2**20
    ways = 8 if tta == "d4" else 1  # of a window, all at once
    wanted = batch or max(1, pixels // window**2 // ways)
    batch = len(devices) * -(-wanted // len(devices))
    of_each = [averaging.logits_of([(one.module, inputs)], kind, tta) for one, inputs in members]
    activation = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}[kind]

    def answers(found: jax.Array) -> Answers:
        return _answers(found, confidence, probabilities)

    def predict(
        variables: Any, temperatures: jax.Array, band: Mapping[str, jax.Array], columns: jax.Array
    ) -> jax.Array:
        images = {name: _cut(band[name], columns, k, window) for name, k in factors.items()}
        images = jax.lax.with_sharding_constraint(images, spread)
        total = jnp.float32(0)
        for i, logits in enumerate(of_each):
            mine = {name: images[name] for name in members[i][1].images}
            found = activation(logits(variables[i : i + 1], temperatures[i : i + 1], mine))
            if found.ndim == 4:  # models may have grids of their own
                found = resample(found, (window, window), "bilinear")
            total = total + found
        return total / len(members)

    def add(
        variables: Any,
        temperatures: jax.Array,
        total: jax.Array,
        band: Mapping[str, jax.Array],
        columns: jax.Array,
        row_weights: jax.Array,
        column_weights: jax.Array,
    ) -> jax.Array:
        found = predict(variables, temperatures, band, columns)
        found = jax.lax.with_sharding_constraint(found, everywhere)
        return _blended(total, found, columns, row_weights, column_weights)

    def finish(total: jax.Array, rows: jax.Array) -> tuple[Answers, jax.Array]:
        left = jnp.arange(window) < window - rows
        moved = jnp.where(left[:, None, None], jnp.roll(total, -rows, axis=0), 0)
        return answers(total), moved

    def each(*given: Any) -> Answers:
        found = predict(*given)
        return answers(jax.lax.with_sharding_constraint(found, everywhere))

    return Network(
        variables=jax.device_put(tuple(one.variables for one, _ in members), everywhere),
        temperatures=jax.device_put(
            np.array([one.temperature for one, _ in members], np.float32), everywhere
        ),
        add=jax.jit(add, donate_argnums=2),
        finish=jax.jit(finish, donate_argnums=0),
        each=jax.jit(each),
        batch=batch,
        everywhere=everywhere,
    )


def _cut(rows: jax.Array, columns: jax.Array, factor: int, window: int) -> jax.Array:
    """(bands, h, w) and the first column of each window -> (B, h, h, bands)."""
    side = window // factor

    def one(column: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(rows, column // factor, side, axis=2)

    return jnp.moveaxis(jax.vmap(one)(columns), 1, -1)


def _blended(
    total: jax.Array,
    found: jax.Array,
    columns: jax.Array,
    row_weights: jax.Array,
    column_weights: jax.Array,
) -> jax.Array:
    """Adds windows (B, window, window, K) with their weights; weight 0 adds nothing, not NaN."""

    def one(i: int, total: jax.Array) -> jax.Array:
        at = (0, columns[i], 0)
        before = jax.lax.dynamic_slice(total, at, found.shape[1:])
        weight = row_weights[:, None, None] * column_weights[i][None, :, None]
        more = jnp.where(weight > 0, found[i] * weight, 0)
        return jax.lax.dynamic_update_slice(total, before + more, at)

    return jax.lax.fori_loop(0, len(found), one, total)


def _answers(found: jax.Array, confidence: str, probabilities: bool) -> Answers:
    """What is written of probabilities (..., K): bytes, and whether all are numbers."""
    answers = {
        "classes": found.argmax(axis=-1).astype(jnp.uint8),
        "finite": jnp.isfinite(found).all(),
    }
    if confidence != "none":
        answers["confidence"] = _byte(_confidence(found, confidence))
    if probabilities:
        answers["probabilities"] = _byte(found)
    return answers


def _confidence(found: jax.Array, kind: str) -> jax.Array:
    count = found.shape[-1]
    if kind == "entropy" and count > 1:
        terms = jnp.where(found > 0, found * jnp.log(jnp.where(found > 0, found, 1)), 0)
        return 1 + terms.sum(axis=-1) / np.float32(np.log(count))
    best = found.max(axis=-1)
    if kind == "margin" and count > 1:
        first = jax.nn.one_hot(found.argmax(axis=-1), count, dtype=bool)
        others = jnp.where(first, -1, found)
        return best - others.max(axis=-1)
    return best


def _byte(value: jax.Array) -> jax.Array:
    return jnp.clip(jnp.round(value * STEPS), 0, STEPS).astype(jnp.uint8)
