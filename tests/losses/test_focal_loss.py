"""Focal and asymmetric losses against float64 and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from loss_cases import case, equals, one_hot, value_and_grad
from scipy import special

from rsjax import losses
from rsjax.errors import ConfigError


@pytest.mark.parametrize(
    ("kind", "gamma", "weighted"), [("index", 2.0, True), ("mixture", 0.5, False)]
)
def test_focal_and_its_gradient_equal_float64(kind, gamma, weighted):
    c = case((2, 3, 2))
    labels = c[kind].astype(np.uint8 if kind == "index" else np.float32)
    targets = one_hot(c["index"]) if kind == "index" else labels.astype(float)
    w = c["weights"] if weighted else np.ones(4)

    def reference(logits):
        total = divisor = 0.0
        for position in zip(*np.nonzero(c["mask"]), strict=True):
            p = special.softmax(logits[position])
            t = targets[position]
            total += np.sum(w * t * (1 - p) ** gamma * -np.log(p))
            divisor += np.sum(w * t)
        return total / divisor

    weights = c["weights"] if weighted else None
    equals(
        "focal", reference, c["logits"], labels, mask=c["mask"], class_weights=weights, gamma=gamma
    )


@pytest.mark.parametrize(
    ("name", "plain", "kind"),
    [
        ("focal", "cross_entropy", "index"),
        ("binary_focal", "binary_cross_entropy", "multihot"),
    ],
)
def test_without_focus_it_is_the_cross_entropy(name, plain, kind):
    c = case((6,))
    arguments = {"mask": c["mask"], "class_weights": c["weights"]}

    @jax.jit
    def both(logits):
        focused = losses.get(name)(logits, c[kind], gamma=0.0, **arguments)
        return focused, losses.get(plain)(logits, c[kind], **arguments)

    focused, expected = both(jnp.asarray(c["logits"], jnp.float32))
    np.testing.assert_allclose(focused, expected, rtol=1e-6)


def test_binary_focal_equals_optax():
    c = case((2, 3, 2))

    def ours(logits):
        return losses.get("binary_focal")(logits, c["multihot"], mask=c["mask"], alpha=0.25)

    def theirs(logits):
        terms = optax.losses.sigmoid_focal_loss(logits, jnp.asarray(c["multihot"]), alpha=0.25)
        return jnp.sum(jnp.where(c["mask"][..., None], terms, 0.0)) / float(4 * c["mask"].sum())

    both = jax.jit(lambda x: (jax.value_and_grad(ours)(x), jax.value_and_grad(theirs)(x)))
    found, expected = both(jnp.asarray(c["logits"], jnp.float32))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-7)


def asymmetric_reference(c, targets, w, gamma_pos, gamma_neg, clip, frozen=None):
    x, t = c["logits"][c["mask"]], targets[c["mask"]].astype(float)

    def focus(logits):
        p = special.expit(logits)
        return (1 - p) ** gamma_pos, np.maximum(p - clip, 0) ** gamma_neg

    at_start = focus(x)

    def reference(logits):
        x = logits[c["mask"]]
        p = special.expit(x)
        pos, neg = at_start if frozen else focus(x)
        q = np.maximum(p - clip, 0)
        terms = -(t * pos * np.log(p) + (1 - t) * neg * np.log(1 - q))
        return np.sum(w * terms) / np.sum(np.broadcast_to(w, x.shape))

    return reference


@pytest.mark.parametrize(
    ("kind", "gamma_pos", "gamma_neg", "clip", "detach"),
    [
        ("multihot", 0.0, 4.0, 0.05, False),
        ("multihot", 1.0, 4.0, 0.05, True),
        ("mixture", 0.5, 0.5, 0.0, False),
    ],
)
def test_asymmetric_and_its_gradient_equal_float64(kind, gamma_pos, gamma_neg, clip, detach):
    c = case((2, 3, 2), seed=3)
    labels = c[kind].astype(np.float32)
    reference = asymmetric_reference(c, labels, c["weights"], gamma_pos, gamma_neg, clip, detach)
    options = {"gamma_pos": gamma_pos, "gamma_neg": gamma_neg, "clip": clip, "detach": detach}
    if kind == "multihot" and not detach:
        options = {}  # the defaults are the paper's
    arguments = {"mask": c["mask"], "class_weights": c["weights"], **options}
    equals("asymmetric", reference, c["logits"], labels, **arguments)


def test_negatives_below_the_margin_are_left_out():
    logits = [[special.logit(0.04), special.logit(0.06), special.logit(0.04)]]
    value, gradient = value_and_grad(
        "asymmetric", logits, np.array([[0, 0, 1]]), mask=np.array([True])
    )
    assert value > 0
    assert gradient[0, 0] == 0.0
    assert gradient[0, 1] > 0
    assert gradient[0, 2] < 0


@pytest.mark.parametrize("name", ["focal", "binary_focal", "asymmetric"])
def test_small_exponents_have_finite_gradients_where_the_factor_is_zero(name):
    key = {"focal": ["gamma"], "binary_focal": ["gamma"], "asymmetric": ["gamma_pos", "gamma_neg"]}
    logits = [[1e4, -1e4], [-1e4, 1e4]]
    labels = np.array([0, 1]) if name == "focal" else np.eye(2, dtype=np.float32)
    value, gradient = value_and_grad(
        name, logits, labels, mask=np.ones(2, bool), **dict.fromkeys(key[name], 0.3)
    )
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("focal", {"gamma": -1.0}),
        ("binary_focal", {"gamma": float("nan")}),
        ("binary_focal", {"alpha": 1.5}),
        ("asymmetric", {"gamma_pos": -0.1}),
        ("asymmetric", {"gamma_neg": float("inf")}),
        ("asymmetric", {"clip": 1.0}),
    ],
)
def test_options_that_cannot_work_are_refused(name, option):
    labels = jnp.zeros(4, jnp.int32) if name == "focal" else jnp.zeros((4, 3))
    with pytest.raises(ConfigError, match=next(iter(option))):
        losses.get(name)(jnp.zeros((4, 3)), labels, mask=jnp.ones(4, bool), **option)
