import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rsjax import models, tasks
from rsjax.datasets.info import ImageSpec
from rsjax.input import manifest as manifests
from rsjax.input.preprocess import Inputs, make_inputs
from rsjax.input.source import ShardSource
from rsjax.training import optimizer, step
from rsjax.training.data import as_reflectance


class Linear(nn.Module):
    """A model without batch statistics, so that micro-batches add up exactly."""

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(19)(x.mean(axis=(1, 2)))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return toy.write(tmp_path_factory.mktemp("data"))


def build(shards, model=None, **changes):
    """(state, step, batch) of a config on the toy shards."""
    config = toy.config(shards.parent.parent, **changes)
    made = manifests.load(shards)
    inputs = make_inputs(made.info.images, config.data.bands, made.statistics, (8, 8))
    task = tasks.make("multilabel", config.task.to_dict(), 19)
    model = model or models.get("resnet18", num_classes=19, **toy.TINY)
    schedule = optax.constant_schedule(0.1)
    params = jax.eval_shape(
        functools.partial(step.init_state, config, model, inputs, None)
    )["params"]  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):
        tx = optimizer.make_optimizer(config, params, schedule)
        state = step.init_state(config, model, inputs, tx)
    function = jax.jit(step.make_train_step(config, model, task, inputs, tx, schedule))
    batch = ShardSource(shards, "train").read(np.arange(16))
    batch = {**batch, "index": np.arange(16, dtype=np.int32), "valid": np.ones(16, bool)}
    return state, function, batch


def assert_close(one, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


def test_accumulated_micro_batches_equal_one_batch(shards):
    results = []
    for parts in (1, 4):
        state, function, batch = build(
            shards, Linear(), **{"optimizer.accumulate_steps": parts, "optimizer.name": "sgd"}
        )
        for _ in range(3):
            state, measured = function(state, batch)
        results.append((state["params"], measured["loss"], measured["grad_norm"]))
    assert_close(*results, rtol=1e-5, atol=1e-6)


def test_a_step_on_four_devices_equals_one_on_one(shards):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    state, function, batch = build(shards, **{"optimizer.name": "sgd", "augment.d4": True})
    placed = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    one, one_measured = function(state, batch)
    four, four_measured = function(
        jax.device_put(state, NamedSharding(mesh, PartitionSpec())), placed
    )
    assert_close(one, four, rtol=2e-4, atol=1e-5)  # batch statistics included
    assert_close(one_measured, four_measured, rtol=1e-4, atol=1e-6)


def test_moving_average_follows_its_definition(shards):
    state, function, batch = build(shards, ema_decay=0.75)
    assert_close(state["ema"], state["params"], rtol=0)
    new, _ = function(state, batch)
    expected = jax.tree.map(lambda e, p: 0.75 * e + 0.25 * p, state["ema"], new["params"])
    assert_close(new["ema"], expected, rtol=1e-6, atol=1e-7)


def test_a_step_that_is_not_finite_changes_nothing_but_its_count(shards):
    state, function, batch = build(shards, ema_decay=0.9)
    state, _ = function(state, batch)
    poisoned = {**batch, "s1": np.full_like(batch["s1"], np.nan)}
    new, measured = function(state, poisoned)
    assert not np.isfinite(measured["loss"])
    for name in ("params", "batch_stats", "ema", "opt_state"):
        assert_close(new[name], state[name], rtol=0)
    assert int(new["bad_steps"]) == 1
    assert int(new["step"]) == int(state["step"]) + 1
    new, _ = function(new, poisoned)
    assert int(new["bad_steps"]) == 2
    new, _ = function(new, batch)
    assert int(new["bad_steps"]) == 0


def test_randomness_depends_on_seed_and_step_only(shards):
    options = {"augment.d4": True, "augment.noise_std": 0.3}
    state, function, batch = build(shards, **options)
    again = build(shards, **options)
    assert_close(function(state, batch)[0], again[1](again[0], batch)[0], rtol=0)
    later = {**state, "step": jnp.asarray(5, jnp.int32)}
    assert float(function(later, batch)[1]["loss"]) != float(function(state, batch)[1]["loss"])
    other = build(shards, seed=1, **options)
    assert float(other[1](other[0], batch)[1]["loss"]) != float(function(state, batch)[1]["loss"])


def test_augmentation_is_in_standard_deviations_whatever_the_model_takes(shards):
    asked = {"brightness_std": 0.5, "contrast_std": 0.3, "noise_std": 0.5, "band_dropout": 0.6}
    changes = {f"augment.{name}": value for name, value in asked.items()}
    config = toy.config(shards.parent.parent, **changes)
    spec = ImageSpec("sentinel2_l2a", ("B02", "B03"), 2, 2, "float32", "reflectance_1e4", 10.0)
    names = ("sentinel2_l2a/B02", "sentinel2_l2a/B03")
    inputs = Inputs({"s2": spec}, names, (1500.0, 900.0), (500.0, 200.0), (2, 2))
    seen = []

    class Watching:
        def apply(self, variables, image, *args, **kwargs):
            seen.append(np.asarray(image))
            return image.mean() * variables["params"]["w"], {}

    class Task:
        def target(self, batch):
            return jnp.zeros((4, 1))

        def loss(self, logits, target, valid):
            return logits

    tx = optax.sgd(0.1)
    params = {"w": jnp.ones(())}
    state = {"step": jnp.zeros((), jnp.int32), "params": params, "batch_stats": {}, "ema": {},
             "opt_state": tx.init(params), "bad_steps": jnp.zeros((), jnp.int32)}  # fmt: skip
    image = np.random.default_rng(0).uniform(500, 3000, (4, 2, 2, 2)).astype(np.float32)
    for one in (inputs, as_reflectance(inputs)):
        make = step.make_train_step(config, Watching(), Task(), one, tx, lambda _: 0.1)
        make(state, {"s2": image, "valid": np.ones(4, bool)})
    standardised, reflectance = seen
    expected = standardised * (500, 200) + (1500, 900)
    np.testing.assert_allclose(reflectance, expected, rtol=1e-5, atol=1e-2)
    assert np.abs(reflectance - image).max() > 50
