import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from rsjax import averaging
from rsjax.input.preprocess import make_inputs


class Maps(nn.Module):
    """A network that sees directions, so that each symmetry gives another answer."""

    @nn.compact
    def __call__(self, x, train):
        return nn.Conv(4, (3, 3))(x)


class Scenes(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(4)(x.reshape(len(x), -1))


STATISTICS = {"sentinel2_l2a": {b: {"mean": 1000.0, "std": 500.0} for b in ("B02", "B03", "B04")}}
INPUTS = make_inputs(
    {"s2": toy.S2}, [f"sentinel2_l2a/{b}" for b in toy.S2.bands], STATISTICS, (8, 8)
)


def batch(rng, count=4):
    return {"s2": rng.integers(0, 3000, (count, 8, 8, 3)).astype(np.uint16)}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def variables(module, seed):
    return module.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)), False)


def by_hand(module, given, image, way):
    """Logits of a turned image, turned back: with numpy's own functions."""
    turns, mirrored = way
    seen = np.rot90(image, turns, (1, 2))
    seen = seen[:, :, ::-1] if mirrored else seen
    logits = np.asarray(module.apply(given, jnp.asarray(seen.copy()), False))
    if logits.ndim == 2:
        return logits
    logits = logits[:, :, ::-1] if mirrored else logits
    return np.rot90(logits, -turns, (1, 2))


@pytest.mark.parametrize("module", [Maps(), Scenes()])
@pytest.mark.parametrize(("kind", "squash"), [("softmax", softmax), ("sigmoid", sigmoid)])
def test_the_mean_over_models_and_symmetries_equals_one_by_hand(module, kind, squash):
    rng = np.random.default_rng(0)
    raw = batch(rng)
    image = (raw["s2"].astype(np.float32) - 1000) / 500
    given = (variables(module, 0), variables(module, 1))
    temperatures = np.array([1.0, 2.5], np.float32)
    ways = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]
    wanted = np.mean(
        [
            squash(by_hand(module, one, image, way) / t)
            for one, t in zip(given, temperatures, strict=True)
            for way in ways
        ],
        axis=0,
    )
    apply = jax.jit(averaging.logits_of([(module, INPUTS)] * 2, kind, "d4"))
    found = np.asarray(apply(given, temperatures, raw))
    np.testing.assert_allclose(squash(found), wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.argmax(-1), wanted.argmax(-1))


def test_one_model_alone_gives_its_own_logits_divided_by_its_temperature():
    raw = batch(np.random.default_rng(1))
    given = variables(Maps(), 0)
    apply = jax.jit(averaging.logits_of([(Maps(), INPUTS)], "softmax"))
    plain = apply((given,), np.ones(1, np.float32), raw)
    image = jnp.asarray((raw["s2"].astype(np.float32) - 1000) / 500)
    np.testing.assert_allclose(plain, Maps().apply(given, image, False), rtol=1e-5, atol=1e-5)
    warm = apply((given,), np.full(1, 4.0, np.float32), raw)
    np.testing.assert_allclose(warm, plain / 4, rtol=1e-6)


def test_symmetries_of_the_square_make_the_map_turn_with_the_image():
    raw = batch(np.random.default_rng(2))
    turned = {"s2": np.rot90(raw["s2"], 1, (1, 2)).copy()}
    given = (variables(Maps(), 0),)
    once = np.ones(1, np.float32)
    both = jax.jit(averaging.logits_of([(Maps(), INPUTS)], "softmax", "d4"))
    one = np.asarray(both(given, once, raw))
    other = np.asarray(both(given, once, turned))
    np.testing.assert_allclose(np.rot90(one, 1, (1, 2)), other, rtol=1e-4, atol=1e-5)
    alone = jax.jit(averaging.logits_of([(Maps(), INPUTS)], "softmax"))
    first, second = (np.asarray(alone(given, once, x)) for x in (raw, turned))
    assert np.abs(np.rot90(first, 1, (1, 2)) - second).max() > 0.1  # it is no matter of course


def test_a_rectangle_has_four_symmetries():
    assert len(averaging._symmetries(np.zeros((1, 4, 6, 1)))) == 4
    assert len(averaging._symmetries(np.zeros((1, 6, 6, 1)))) == 8
