"""From config to an optax chain: schedule, optimizer, decay, factors and freezing by regex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from rsjax.errors import ConfigError
from rsjax.training.rules import first_match


def make_schedule(config: ConfigDict, total_steps: int, warmup_steps: int) -> optax.Schedule:
    """Linear warm-up to the peak, then cosine, linear or constant down to `final_factor` of it.

    Raises:
        ConfigError: the warm-up is longer than the run.
    """
    peak, end = config.optimizer.learning_rate, config.schedule.final_factor
    if warmup_steps >= max(total_steps, 1) and warmup_steps:
        raise ConfigError(
            f"the warm-up of {warmup_steps} steps is not shorter than the run of {total_steps}; "
            "lower schedule.warmup_steps or schedule.warmup_epochs"
        )
    rest = max(total_steps - warmup_steps, 1)
    decay = {
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest, alpha=end),
        "linear": lambda: optax.linear_schedule(peak, peak * end, rest),
        "constant": lambda: optax.constant_schedule(peak),
    }[config.schedule.name]()
    if not warmup_steps:
        return decay
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([warmup, decay], [warmup_steps])


def make_optimizer(
    config: ConfigDict, params: Any, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimizer of the config for these parameters.

    Order: frozen gradients to zero, clip the global norm, moments, weight decay (kernels only:
    arrays of two or more axes), learning rate, factors. SGD decays before the momentum (L2).

    Args:
        config: the whole config.
        params: parameters, or their shapes.
        schedule: step -> learning rate.
    """
    o = config.optimizer
    factors = factors_of(params, o.factors)
    frozen = jax.tree.map(lambda f: f == 0, factors)
    decay = optax.add_decayed_weights(
        o.weight_decay, mask=jax.tree.map(lambda p: len(p.shape) > 1, params)
    )
    core = {
        "adamw": lambda: [optax.scale_by_adam(o.b1, o.b2, o.eps), decay],
        "lamb": lambda: [
            optax.scale_by_adam(o.b1, o.b2, o.eps),
            decay,
            optax.scale_by_trust_ratio(),
        ],
        "sgd": lambda: [decay, optax.trace(o.momentum, o.nesterov)],
    }[o.name]()
    chain = [
        _scale(jax.tree.map(float, jax.tree.map(lambda f: not f, frozen)))
        if any(jax.tree.leaves(frozen))
        else optax.identity(),
        optax.clip_by_global_norm(o.clip_norm) if o.clip_norm else optax.identity(),
        *core,
        optax.scale_by_learning_rate(schedule),
        _scale(factors) if o.factors else optax.identity(),
    ]
    return optax.chain(*chain)


def _scale(factors: Any) -> optax.GradientTransformation:
    def scaled(update: jax.Array, factor: float) -> jax.Array:
        return jnp.zeros_like(update) if factor == 0 else update * factor

    return optax.stateless(lambda updates, _: jax.tree.map(scaled, updates, factors))


def factors_of(params: Any, rules: Sequence[tuple[str, float]]) -> Any:
    """The learning-rate factor of each parameter: of the first rule whose regex is found in it.

    Args:
        params: tree of parameters; names are paths such as 'layer1_0/conv1/kernel'.
        rules: (regex, factor) pairs; parameters that none matches have factor 1.

    Raises:
        ConfigError: a regex is invalid or matches no parameter.
    """
    factors = [(regex, float(factor)) for regex, factor in rules]
    return first_match("optimizer.factors", params, factors, 1.0)
