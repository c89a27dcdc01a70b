"""A loss made of several: their weighted sum, checked when it is made."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rsjax import losses as table
from rsjax.errors import ConfigError

# What the task gives every loss.
GIVEN = ("logits", "labels", "mask", "class_weights")


def make(
    losses: Sequence[tuple[str, float]],
    options: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    kind: str | None = None,
    pixels: bool = True,
    mixtures: bool = False,
) -> Callable[..., jax.Array]:
    """The sum of losses, each times its weight, as one loss of the same contract.

    Args:
        losses: (name, weight) of each; names of `rsjax.losses.LOSSES`, weights above 0.
        options: by name of a loss, what it takes beyond logits, labels, mask and class_weights.
        kind: 'softmax' or 'sigmoid': refuse losses of the other kind. None: do not look.
        pixels: whether labels are (B, H, W), which some losses need.
        mixtures: whether labels may be mixtures of classes, which some losses do not take.

    Returns:
        f(logits, labels, *, mask, class_weights=None) -> float32 scalar.

    Raises:
        ConfigError: with every problem found: no losses, unknown names, weights that are no
            numbers above 0, options that a loss does not have, options of a loss not used, losses
            that do not fit the task.
    """
    given = {name: dict(of) for name, of in dict(options or {}).items()}
    pairs: list[tuple] = [(p,) if isinstance(p, str) else tuple(p) for p in losses]
    problems = _problems(pairs, given, kind, pixels, mixtures)
    if problems:
        raise ConfigError("losses: " + "; ".join(problems))
    parts = [
        (functools.partial(table.get(name), **given.get(name, {})), weight)
        for name, weight in pairs
    ]

    def loss(
        logits: jax.Array,
        labels: jax.Array,
        *,
        mask: jax.Array,
        class_weights: Sequence[float] | jax.Array | None = None,
    ) -> jax.Array:
        total = jnp.zeros((), jnp.float32)
        for part, weight in parts:
            total += weight * part(logits, labels, mask=mask, class_weights=class_weights)
        return total

    return loss


def options_of(name: str) -> dict[str, Any]:
    """The options of the loss called `name`, with their defaults.

    Raises:
        ConfigError: no loss has this name.
    """
    parameters = inspect.signature(table.get(name)).parameters
    return {key: p.default for key, p in parameters.items() if key not in GIVEN}


def _problems(
    pairs: Sequence[tuple],
    given: Mapping[str, Mapping],
    kind: str | None,
    pixels: bool,
    mixtures: bool,
) -> list[str]:
    """What is wrong, each with its remedy."""
    problems = [] if pairs else ["none given, expected at least one (name, weight)"]
    names = [pair[0] for pair in pairs if len(pair) == 2]
    known = ", ".join(sorted(n for n in table.LOSSES if kind in (None, table.KINDS[n])))
    for pair in pairs:
        if len(pair) != 2:
            problems.append(f"{pair} is not (name, weight)")
            continue
        name, weight = pair
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0.0 < weight < math.inf:
            problems.append(f"the weight of {name!r} is {weight!r}, expected a number above 0")
        if name not in table.LOSSES:
            problems.append(f"unknown loss {name!r}; known losses: {known}")
            continue
        if kind is not None and table.KINDS[name] != kind:
            problems.append(f"{name!r} is a {table.KINDS[name]} loss, this task takes: {known}")
        if name in table.PIXELS and not pixels:
            problems.append(f"{name!r} needs labels of pixels, this task has one label per image")
        if name in table.HARD and mixtures:
            problems.append(
                f"{name!r} takes no mixtures of labels, as the targets of scenes may be (mixup, "
                "CutMix)"
            )
    problems += [
        f"{n!r} stands {names.count(n)} times" for n in dict.fromkeys(names) if names.count(n) > 1
    ]
    for name, of in given.items():
        if name not in names:
            problems.append(f"options for {name!r}, which is not among the losses")
        elif name in table.LOSSES:
            problems += _option_problems(name, of)
    return problems


def _option_problems(name: str, given: Mapping[str, Any]) -> list[str]:
    """Options that the loss does not have, and switches and numbers that are something else."""
    defaults = options_of(name)
    problems = []
    for key, value in given.items():
        if key not in defaults:
            has = ", ".join(sorted(defaults)) or "none"
            problems.append(f"{name!r} has no option {key!r}; its options: {has}")
            continue
        switch = isinstance(defaults[key], bool)
        if switch and not isinstance(value, bool):
            problems.append(f"{key!r} of {name!r} is {value!r}, expected True or False")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(defaults[key], float) and not number:
            problems.append(f"{key!r} of {name!r} is {value!r}, expected a number")
    return problems
