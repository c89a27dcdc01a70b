import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from rsjax.errors import ConfigError
from rsjax.training import optimizer

PARAMS = {
    "conv1": {"kernel": jnp.ones((3, 3, 2, 4)), "bias": jnp.ones(4)},
    "fc": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)},
}


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def config(tmp_path, **changes):
    return toy.config(tmp_path, **{f"optimizer.{k}": v for k, v in changes.items()})


def updates(c, steps=3, scale=1.0, schedule=None):
    tx = optimizer.make_optimizer(c, PARAMS, schedule or optax.constant_schedule(0.1))
    state, params = tx.init(PARAMS), PARAMS
    for step in range(steps):
        grads = jax.tree.map(lambda p, s=step: scale * (s + 1) * jnp.ones_like(p), params)
        change, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, change)
    return params


def reference(tx, steps=3, scale=1.0):
    state, params = tx.init(PARAMS), PARAMS
    for step in range(steps):
        grads = jax.tree.map(lambda p, s=step: scale * (s + 1) * jnp.ones_like(p), params)
        change, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, change)
    return params


def kernels(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_optimizers_equal_those_of_optax(name, tmp_path):
    found = updates(config(tmp_path, name=name, weight_decay=0.01, learning_rate=0.1))
    tx = {
        "adamw": optax.adamw(0.1, weight_decay=0.01, mask=kernels),
        "sgd": optax.chain(
            optax.add_decayed_weights(0.01, mask=kernels), optax.sgd(0.1, 0.9, nesterov=True)
        ),
        "lamb": optax.lamb(0.1, eps=1e-8, weight_decay=0.01, mask=kernels),
    }[name]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, reference(tx))


def test_clipping_bounds_the_global_norm(tmp_path):
    c = config(tmp_path, name="sgd", momentum=0.0, nesterov=False, clip_norm=1.0)
    found = updates(c, steps=1, scale=100.0)
    change = jax.tree.map(lambda a, b: (a - b) / 0.1, PARAMS, found)
    assert float(optax.tree.norm(change)) == pytest.approx(1.0, rel=1e-5)


def test_factors_scale_and_freeze_by_regex(tmp_path):
    free = updates(config(tmp_path, name="adamw", weight_decay=0.1))
    found = updates(
        config(tmp_path, name="adamw", weight_decay=0.1,
               factors=(("^conv1/", 0.0), ("bias$", 0.5)))
    )  # fmt: skip
    np.testing.assert_array_equal(found["conv1"]["kernel"], PARAMS["conv1"]["kernel"])
    np.testing.assert_array_equal(found["conv1"]["bias"], PARAMS["conv1"]["bias"])
    np.testing.assert_allclose(found["fc"]["kernel"], free["fc"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(1 - found["fc"]["bias"], 0.5 * (1 - free["fc"]["bias"]), rtol=1e-5)


def test_a_regex_that_matches_nothing_is_refused_with_names(tmp_path):
    with pytest.raises(ConfigError, match=r"'layer9' matches no parameter.*conv1/bias"):
        optimizer.factors_of(PARAMS, [("layer9", 0.1)])
    with pytest.raises(ConfigError, match="is no regex"):
        optimizer.factors_of(PARAMS, [("(", 0.1)])


@pytest.mark.parametrize(("name", "middle"), [("cosine", 0.55), ("linear", 0.55), ("constant", 1)])
def test_schedules_warm_up_to_the_peak_and_end_where_they_should(name, middle, tmp_path):
    c = toy.config(tmp_path, **{"schedule.name": name, "schedule.final_factor": 0.1,
                                "optimizer.learning_rate": 1.0})  # fmt: skip
    schedule = optimizer.make_schedule(c, total_steps=110, warmup_steps=10)
    values = [float(schedule(step)) for step in range(111)]
    np.testing.assert_allclose(values[:11], np.arange(11) / 10, atol=1e-6)
    assert values[60] == pytest.approx(middle, abs=1e-5)
    assert values[110] == pytest.approx(1.0 if name == "constant" else 0.1, abs=1e-5)
    with pytest.raises(ConfigError, match="warm-up of 10 steps"):
        optimizer.make_schedule(c, total_steps=10, warmup_steps=10)
