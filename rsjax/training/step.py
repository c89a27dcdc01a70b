"""The training and the evaluation step: pure functions of state and batch, to be jitted.

The state is a dictionary: step, params, batch_stats, ema (empty without EMA), opt_state, and
bad_steps, the number of steps in a row that were skipped because loss or gradient was not finite.
A skipped step changes nothing else, batch statistics included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from rsjax.input.augment import augment, named_key
from rsjax.input.preprocess import Inputs, preprocess, rescaled
from rsjax.tasks import Task

State = dict[str, Any]
Batch = dict[str, jax.Array]


def init_state(
    config: ConfigDict, model: nn.Module, inputs: Inputs, tx: optax.GradientTransformation | None
) -> State:
    """The state at step 0, from the seed alone; without `tx` parameters and statistics only."""
    key = named_key(jax.random.key(config.seed), "init")
    image = jnp.zeros((1, *inputs.grid, len(inputs.bands)), jnp.float32)
    variables = model.init(key, image, False)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    if tx is None:
        return {"params": params, "batch_stats": batch_stats}
    return {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        "batch_stats": batch_stats,
        "ema": jax.tree.map(jnp.copy, params) if config.ema_decay else {},
        "opt_state": tx.init(params),
        "bad_steps": jnp.zeros((), jnp.int32),
    }


def make_train_step(
    config: ConfigDict,
    model: nn.Module,
    task: Task,
    inputs: Inputs,
    tx: optax.GradientTransformation,
    schedule: optax.Schedule,
) -> Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]:
    """The step (state, batch of raw entries) -> (state, {loss, grad_norm, ...})."""
    to_image = preprocess(dataclasses.replace(inputs, rescale=()))
    sensors = [band.split("/")[0] for band in inputs.bands]
    sensor_of = tuple(sorted(set(sensors)).index(s) for s in sensors)
    options = config.augment.to_dict()
    parts = config.optimizer.accumulate_steps

    def loss_of(params: Any, batch_stats: Any, batch: Batch, key: jax.Array) -> Any:
        (logits, updates) = model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch["image"],
            True,
            mutable=["batch_stats", "auxiliary"],
            rngs={"dropout": key},
        )
        target = batch["mask" if "mask" in batch else "target"]
        loss = task.loss(logits, target, batch["valid"])
        for extra in jax.tree.leaves(updates.get("auxiliary", {})):
            loss = loss + model.aux_weight * task.loss(extra, target, batch["valid"])
        return loss, updates.get("batch_stats", {})

    def gradient(state: State, batch: Batch, key: jax.Array) -> Any:
        if parts == 1:
            (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(
                state["params"], state["batch_stats"], batch, key
            )
            return loss, stats, grads

        # Micro-batch i takes every `parts`-th sample, so that each device keeps its own.
        def split(x: jax.Array) -> jax.Array:
            return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)

        def one(carry: Any, micro: Any) -> Any:
            total, stats, grads = carry
            part, number = micro
            (loss, stats), grad = jax.value_and_grad(loss_of, has_aux=True)(
                state["params"], stats, part, jax.random.fold_in(key, number)
            )
            return (total + loss, stats, jax.tree.map(jnp.add, grads, grad)), None

        zero = jax.tree.map(jnp.zeros_like, state["params"])
        start = (jnp.zeros((), jnp.float32), state["batch_stats"], zero)
        micro = (jax.tree.map(split, batch), jnp.arange(parts))
        (loss, stats, grads), _ = jax.lax.scan(one, start, micro)
        return loss / parts, stats, jax.tree.map(lambda g: g / parts, grads)

    def train_step(state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(config.seed), state["step"])
        target = task.target(batch)
        kind = "target" if target.ndim == 2 else "mask"  # augmentation turns maps with the image
        ready = {"image": to_image(batch), kind: target, "valid": batch["valid"]}
        ready = augment(named_key(key, "augment"), ready, options, sensor_of)
        ready["image"] = rescaled(inputs, ready["image"])
        loss, stats, grads = gradient(state, ready, named_key(key, "dropout"))

        with jax.numpy_dtype_promotion("standard"):  # optax relies on it; rsjax does not
            updates, opt_state = tx.update(grads, state["opt_state"], state["params"])
            params = optax.apply_updates(state["params"], updates)
            learning_rate = jnp.asarray(schedule(state["step"]), jnp.float32)
        decay = config.ema_decay
        ema = (
            jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, state["ema"], params)
            if decay
            else {}
        )
        grad_norm = optax.tree.norm(grads)
        new = {"params": params, "batch_stats": stats, "ema": ema, "opt_state": opt_state}
        good = jnp.isfinite(loss) & jnp.isfinite(grad_norm) & _finite((params, stats))
        old = {name: state[name] for name in new}
        new = jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)
        new["step"] = state["step"] + 1
        new["bad_steps"] = jnp.where(good, 0, state["bad_steps"] + 1)
        measured = {
            "loss": loss,
            "grad_norm": grad_norm,
            "learning_rate": learning_rate,
            "bad_steps": new["bad_steps"],
        }
        return new, measured

    return train_step


def _finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def make_eval_step(
    logits_of: Callable[[Any, jax.Array, Batch], jax.Array], task: Task
) -> Callable[[Any, jax.Array, Batch], tuple[dict[str, Any], dict[str, jax.Array]]]:
    """The step (variables, temperatures, batch) -> (metrics of the batch, per-sample outputs).

    Args:
        logits_of: see `rsjax.averaging`; it also says what variables and temperatures are.
        task: labels, loss, metrics, and what is kept of each sample.
    """

    def sample_loss(logits: jax.Array, target: jax.Array) -> jax.Array:
        return task.loss(logits[None], target[None], jnp.ones(1, bool))

    def eval_step(
        variables: Any, temperatures: jax.Array, batch: Batch
    ) -> tuple[dict[str, Any], dict[str, jax.Array]]:
        logits = logits_of(variables, temperatures, batch)
        labels = task.labels(batch)
        counted = task.counts(labels, batch["valid"])
        measured = {
            name: metric.from_model_output(logits=logits, labels=labels, mask=counted)
            for name, metric in task.metrics.items()
        }
        outputs = {
            "index": batch["index"],
            "valid": batch["valid"],
            "loss": jax.vmap(sample_loss)(logits, task.target(batch)),
            "counted": counted.reshape(len(counted), -1).sum(axis=1, dtype=jnp.int32),
            **task.samples(logits, labels, counted),
        }
        return measured, outputs

    return eval_step
