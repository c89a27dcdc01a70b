"""Losses against formulas in numpy float64; masks, garbage, weights, smoothing, types, sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import special

from rsjax import losses
from rsjax.errors import ConfigError

SHAPES = [(1,), (2, 3, 2)]
NUM_CLASSES = 5


def reference_cross_entropy(logits, targets, mask, weights, smoothing):
    """Float64; targets are distributions."""
    x, t = logits[mask], targets[mask]
    smoothed = (1 - smoothing) * t + smoothing / NUM_CLASSES
    return -np.sum(weights * smoothed * special.log_softmax(x, axis=-1)) / np.sum(weights * t)


def reference_binary(logits, targets, mask, weights, smoothing, positive):
    x, t = logits[mask], targets[mask]
    smoothed = (1 - smoothing) * t + smoothing / 2
    p = special.expit(x)
    terms = -(positive * smoothed * np.log(p) + (1 - smoothed) * np.log1p(-p))
    return np.sum(weights * terms) / np.sum(np.broadcast_to(weights, x.shape))


def case(shape, seed=0):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.7
    mask.flat[0] = True
    return {
        "logits": rng.normal(0, 3, (*shape, NUM_CLASSES)),
        "index": rng.integers(0, NUM_CLASSES, shape),
        "mixture": rng.dirichlet(np.ones(NUM_CLASSES), shape),
        "multihot": rng.integers(0, 2, (*shape, NUM_CLASSES)),
        "mask": mask,
        # The sum may be far below 1, and a common factor must not matter.
        "weights": rng.uniform(0.01, 0.2, NUM_CLASSES),
        "positive": rng.uniform(0.5, 4, NUM_CLASSES),
    }


def numerical_gradient(function, x, step=1e-5):
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[index] += step
        low[index] -= step
        gradient[index] = (function(high) - function(low)) / (2 * step)
    return gradient


def float32(array):
    return jnp.asarray(array, jnp.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["index", "mixture"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_and_its_gradient_equal_float64(shape, kind, weighted, smoothing):
    c = case(shape)
    weights = c["weights"] if weighted else None
    labels = c[kind].astype(np.uint8 if kind == "index" else np.float32)

    @jax.jit
    @jax.value_and_grad
    def run(logits):
        return losses.get("cross_entropy")(
            logits, labels, mask=c["mask"], class_weights=weights, label_smoothing=smoothing
        )

    targets = np.eye(NUM_CLASSES)[c["index"]] if kind == "index" else labels.astype(float)

    def expected(logits):
        w = np.ones(NUM_CLASSES) if weights is None else weights
        return reference_cross_entropy(logits, targets, c["mask"], w, smoothing)

    value, gradient = run(float32(c["logits"]))
    assert value.dtype == jnp.float32
    assert value.shape == ()
    np.testing.assert_allclose(value, expected(c["logits"]), rtol=2e-6)
    np.testing.assert_allclose(
        gradient, numerical_gradient(expected, c["logits"]), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["multihot", "mixture"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_and_its_gradient_equal_float64(shape, kind, weighted, smoothing):
    c = case(shape, seed=1)
    weights, positive = (c["weights"], c["positive"]) if weighted else (None, None)
    labels = c[kind].astype(np.uint8 if kind == "multihot" else np.float32)

    @jax.jit
    @jax.value_and_grad
    def run(logits):
        return losses.get("binary_cross_entropy")(
            logits,
            labels,
            mask=c["mask"],
            class_weights=weights,
            label_smoothing=smoothing,
            pos_weight=positive,
        )

    def expected(logits):
        one = np.ones(NUM_CLASSES)
        w, v = (one, one) if weights is None else (weights, positive)
        return reference_binary(logits, labels.astype(float), c["mask"], w, smoothing, v)

    value, gradient = run(float32(c["logits"]))
    assert value.dtype == jnp.float32
    assert value.shape == ()
    np.testing.assert_allclose(value, expected(c["logits"]), rtol=2e-6)
    np.testing.assert_allclose(
        gradient, numerical_gradient(expected, c["logits"]), rtol=1e-4, atol=1e-6
    )


def test_one_sample_with_a_small_weight_keeps_its_full_loss():
    logits, labels, mask = float32([[1.0, 2.0]]), jnp.array([0]), jnp.array([True])
    plain = losses.get("cross_entropy")(logits, labels, mask=mask)
    weighted = losses.get("cross_entropy")(logits, labels, mask=mask, class_weights=(0.01, 1.0))
    np.testing.assert_allclose(weighted, plain, rtol=1e-6)


KINDS = [
    ("cross_entropy", "index", 255, np.uint8),
    ("cross_entropy", "index", -1, np.int32),
    ("cross_entropy", "mixture", np.nan, np.float32),
    ("binary_cross_entropy", "multihot", 255, np.uint8),
    ("binary_cross_entropy", "mixture", np.nan, np.float32),
]


@pytest.mark.parametrize(("name", "kind", "garbage", "dtype"), KINDS)
def test_garbage_at_masked_positions_touches_nothing(name, kind, garbage, dtype):
    c = case((2, 3, 4))
    mask = c["mask"]
    assert not mask.all()

    @jax.jit
    def run(logits, labels):
        return jax.value_and_grad(
            lambda x: losses.get(name)(
                x, labels, mask=mask, class_weights=c["weights"], label_smoothing=0.1
            )
        )(logits)

    clean = run(float32(c["logits"]), jnp.asarray(c[kind].astype(dtype)))
    logits, labels = c["logits"].copy(), c[kind].astype(dtype)
    labels[~mask] = garbage
    for bad_logit in (np.nan, np.inf, -np.inf):
        logits[~mask] = bad_logit
        dirty = run(float32(logits), jnp.asarray(labels))
        assert np.isfinite(dirty[0])
        np.testing.assert_array_equal(dirty[0], clean[0])
        np.testing.assert_array_equal(dirty[1], clean[1])
        assert not np.any(np.asarray(dirty[1])[~mask])
        assert np.all(np.any(np.asarray(dirty[1])[mask], axis=-1))


@pytest.mark.parametrize(("name", "kind", "garbage", "dtype"), KINDS)
def test_an_all_masked_batch_gives_zero_and_no_gradient(name, kind, garbage, dtype):
    c = case((6,))
    labels = np.full_like(c[kind].astype(dtype), garbage)
    value, gradient = jax.jit(
        jax.value_and_grad(
            lambda x: losses.get(name)(
                x, labels, mask=np.zeros(6, bool), class_weights=c["weights"]
            )
        )
    )(jnp.full((6, NUM_CLASSES), jnp.nan))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize(("name", "kind", "garbage", "dtype"), KINDS)
def test_garbage_that_counts_is_not_hidden(name, kind, garbage, dtype):
    c = case((6,))
    labels = c[kind].astype(dtype)
    labels[0] = garbage
    value, gradient = jax.jit(
        jax.value_and_grad(lambda x: losses.get(name)(x, labels, mask=np.ones(6, bool)))
    )(float32(c["logits"]))
    assert np.isnan(value)
    assert np.isnan(gradient).any()


def test_class_weights_of_zero_leave_a_finite_zero():
    logits, labels, mask = float32([[1.0, 2.0]]), jnp.array([0]), jnp.array([True])
    value = losses.get("cross_entropy")(logits, labels, mask=mask, class_weights=(0.0, 1.0))
    assert value == 0.0


@pytest.mark.parametrize(
    ("name", "kind"), [("cross_entropy", "index"), ("binary_cross_entropy", "multihot")]
)
def test_bfloat16_logits_are_computed_in_float32(name, kind):
    c = case((64,))
    logits = jnp.asarray(c["logits"] * 5, jnp.bfloat16)
    run = jax.jit(lambda x: losses.get(name)(x, c[kind], mask=np.ones(64, bool)))
    value = run(logits)
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(value, run(logits.astype(jnp.float32)))
    gradient = jax.eval_shape(jax.grad(run), logits)
    assert gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_multi_hot_targets_of_any_type_give_one_loss(dtype):
    c = case((6,))
    run = jax.jit(lambda y: losses.get("binary_cross_entropy")(c["logits"], y, mask=c["mask"]))
    expected = reference_binary(
        c["logits"].astype(np.float32), c["multihot"], c["mask"], np.ones(NUM_CLASSES), 0.0, 1.0
    )
    np.testing.assert_allclose(run(jnp.asarray(c["multihot"].astype(dtype))), expected, rtol=2e-6)


@pytest.mark.parametrize("devices", [1, 4])
def test_sharded_batches_give_the_loss_of_the_whole(devices):
    c = case((8, 2))
    sharding = NamedSharding(Mesh(np.array(jax.devices()[:devices]), "data"), PartitionSpec("data"))
    arrays = [float32(c["logits"]), jnp.asarray(c["index"]), jnp.asarray(c["mask"])]
    logits, labels, mask = (jax.device_put(array, sharding) for array in arrays)
    run = jax.jit(lambda x, y, m: losses.get("cross_entropy")(x, y, mask=m))
    expected = reference_cross_entropy(
        c["logits"], np.eye(NUM_CLASSES)[c["index"]], c["mask"], np.ones(NUM_CLASSES), 0.0
    )
    np.testing.assert_allclose(run(logits, labels, mask), expected, rtol=2e-6)


@pytest.mark.parametrize("mask", [np.array([1, 0, 1], np.uint8), np.array([1.0, 0, 1], np.float32)])
def test_masks_of_numbers_mean_non_zero(mask):
    c = case((3,))
    run = losses.get("cross_entropy")
    expected = run(float32(c["logits"]), c["index"], mask=mask.astype(bool))
    np.testing.assert_array_equal(run(float32(c["logits"]), c["index"], mask=mask), expected)


def test_arguments_that_do_not_fit_are_refused():
    logits, labels, mask = jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32), jnp.ones(4, bool)
    cross_entropy, binary = losses.get("cross_entropy"), losses.get("binary_cross_entropy")
    with pytest.raises(ValueError, match=r"mask has shape \(4, 1\), expected \(4,\)"):
        cross_entropy(logits, labels, mask=mask[:, None])
    with pytest.raises(ValueError, match=r"labels are float32 \(4,\)"):
        cross_entropy(logits, labels.astype(jnp.float32), mask=mask)
    with pytest.raises(ValueError, match=r"labels are int32 \(4, 3\)"):
        cross_entropy(logits, logits.astype(jnp.int32), mask=mask)
    with pytest.raises(ValueError, match=r"labels have shape \(4,\)"):
        binary(logits, labels, mask=mask)
    with pytest.raises(ConfigError, match=r"class_weights has shape \(2,\), expected \(3,\)"):
        cross_entropy(logits, labels, mask=mask, class_weights=(1.0, 2.0))
    with pytest.raises(ConfigError, match="pos_weight"):
        binary(logits, logits, mask=mask, pos_weight=(1.0,))
    with pytest.raises(ConfigError, match=r"label_smoothing is 1\.0"):
        cross_entropy(logits, labels, mask=mask, label_smoothing=1.0)


def test_unknown_names_list_the_known():
    with pytest.raises(ConfigError, match=r"binary_cross_entropy, .*cross_entropy, dice"):
        losses.get("crossentropy")
    assert all(callable(losses.get(name)) for name in losses.LOSSES)
