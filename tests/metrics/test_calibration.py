"""Calibration against a slow loop, the temperature against scipy's minimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import optimize, special

from rsjax import metrics
from rsjax.errors import ConfigError, DatasetError, RsjaxError
from rsjax.metrics import calibration, temperature

K = 4
SHAPE = (8, 25, 5)


def case(kind, scale=3.0, seed=0):
    """Labels drawn from the probabilities of `logits / scale`; garbage where masked."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(*SHAPE, K))
    mask = rng.random(SHAPE) < 0.8
    if kind == "softmax":
        labels = np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1).astype(np.uint8)
    else:
        labels = (rng.random(logits.shape) < special.expit(logits)).astype(np.uint8)
    logits = (scale * logits).astype(np.float32)
    labels[~mask], logits[~mask] = 255, np.nan
    return labels, logits, mask


@functools.cache
def compiled(name, kind):
    return jax.jit(metrics.get(name).for_classes(K, kind).from_model_output)


def from_batch(name, kind, labels, scores, mask, key="logits"):
    return compiled(name, kind)(labels=labels, mask=mask, **{key: scores})


def confidences(kind, labels, logits, mask):
    """Confidence in float32 and whether right, of what counts."""
    if kind == "softmax":
        scores = np.asarray(jax.nn.softmax(logits[mask], axis=-1))
        return scores.max(axis=-1), logits[mask].argmax(axis=-1) == labels[mask]
    return np.asarray(jax.nn.sigmoid(logits[mask])).ravel(), labels[mask].ravel() == 1


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_calibration_equals_a_slow_loop(kind):
    labels, logits, mask = case(kind)
    metric = from_batch("calibration", kind, labels, logits, mask)
    assert metric.all.dtype == metric.right.dtype == jnp.int32
    values, right = confidences(kind, labels, logits, mask)
    for bins in (10, 15, 1, 60):
        table = metric.reliability(bins)
        expected, largest = 0.0, 0.0
        for place in range(bins):
            assert table["lower"][place] == place / bins
            assert table["upper"][place] == (place + 1) / bins
            # Products in float32, where the bounds are whole numbers.
            fine = values * np.float32(calibration.FINE) // (calibration.FINE // bins)
            inside = fine == place
            if place == bins - 1:
                inside |= values == 1
            assert table["count"][place] == inside.sum()
            if not inside.any():
                assert np.isnan([table["confidence"][place], table["accuracy"][place]]).all()
                continue
            assert table["accuracy"][place] == pytest.approx(right[inside].mean(), rel=1e-12)
            mean = values[inside].mean(dtype=float)
            assert abs(table["confidence"][place] - mean) <= 1 / 30720
            gap = abs(mean - right[inside].mean())
            expected += inside.mean() * gap
            largest = max(largest, gap)
        if bins == 15:
            figures = metric.compute()
            assert abs(figures["expected_calibration_error"] - expected) <= 1 / 30720
            assert abs(figures["maximum_calibration_error"] - largest) <= 1 / 30720
            assert expected > 0.02  # there is something to find
    assert ("confidence_mean" in figures) == (kind == "softmax")
    if kind == "softmax":
        assert abs(figures["confidence_mean"] - values.mean(dtype=float)) <= 1 / 30720


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_probabilities_are_counted_as_their_logits(kind):
    labels, logits, mask = case(kind)
    function = jax.nn.softmax if kind == "softmax" else jax.nn.sigmoid
    expected = from_batch("calibration", kind, labels, logits, mask)
    probabilities = np.asarray(function(logits))
    actual = from_batch("calibration", kind, labels, probabilities, mask, "probabilities")
    # A last bit of the function may move one across a bound of the 15360 bins.
    assert np.abs(np.cumsum(actual.all) - np.cumsum(expected.all)).max() <= 1
    np.testing.assert_array_equal(np.sum(actual.right), np.sum(expected.right))


def test_probabilities_at_the_bounds_have_their_bins():
    metric = metrics.get("calibration").for_classes(1, "sigmoid")
    values = jnp.array([0.0, 0.5, 1.0, 1.0000001, 0.49999997])[:, None]
    batch = metric.from_model_output(
        probabilities=values, labels=jnp.ones((5, 1), jnp.uint8), mask=jnp.ones(5, bool)
    )
    places = np.flatnonzero(batch.all)
    half = calibration.FINE // 2
    np.testing.assert_array_equal(places, [0, half - 1, half, calibration.FINE - 1])
    np.testing.assert_array_equal(np.asarray(batch.all)[places], [1, 1, 1, 2])
    np.testing.assert_array_equal(batch.all, batch.right)


def mean_nll(kind, labels, logits, mask):
    """The log-loss in float64 as a function of the logarithm of the temperature."""
    z, y = logits[mask].astype(float), labels[mask]

    def loss(log_temperature):
        scaled = z / np.exp(log_temperature)
        if kind == "softmax":
            own = np.take_along_axis(scaled, y[:, None].astype(int), axis=-1)[:, 0]
            return np.mean(special.logsumexp(scaled, axis=-1) - own)
        return np.mean(np.logaddexp(0, np.where(y == 1, -scaled, scaled)))

    return loss


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("scale", [0.21, 1.0, 3.3])
def test_temperature_is_the_minimum_that_scipy_finds(kind, scale):
    labels, logits, mask = case(kind, scale)
    found = from_batch("temperature", kind, labels, logits, mask).compute()
    loss = mean_nll(kind, labels, logits, mask)
    best = optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded")
    assert found["temperature"] == pytest.approx(np.exp(best.x), rel=0.01)
    assert 0.8 < found["temperature"] / scale < 1.25  # that the labels were drawn at
    assert found["nll_before"] == pytest.approx(loss(0.0), rel=1e-6)
    assert found["nll_after"] == pytest.approx(best.fun, rel=1e-4)
    assert found["temperature_at_edge"] == 0.0


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_the_temperature_lowers_the_error_on_other_samples(kind):
    found = from_batch("temperature", kind, *case(kind)).compute()["temperature"]
    labels, logits, mask = case(kind, seed=1)
    before, after = (
        from_batch("calibration", kind, labels, scores, mask).compute()
        for scores in (logits, logits / np.float32(found))
    )
    name = "expected_calibration_error"
    assert after[name] < 0.5 * before[name]


def test_a_set_without_a_minimum_says_so():
    labels = np.arange(1000, dtype=np.uint8).reshape(SHAPE) % K
    mask = np.ones(SHAPE, bool)
    own = np.eye(K, dtype=np.float32)[labels]
    # Always right: best at temperature 0; the loss is 0 in float32 before the end of the grid.
    for size, bound in [(0.02, 1 / 20), (30.0, 1.0)]:
        found = from_batch("temperature", "softmax", labels, size * own, mask).compute()
        assert found["temperature_at_edge"] == 1.0
        assert found["temperature"] == pytest.approx(bound, rel=1e-6)
    # Always wrong: the flatter the better.
    found = from_batch("temperature", "softmax", labels, -9 * own, mask).compute()
    assert found["temperature_at_edge"] == 1.0
    assert found["temperature"] == pytest.approx(20)
    # Logits that say nothing: no temperature is better than 1.
    found = from_batch("temperature", "softmax", labels, 0 * own, mask).compute()
    assert found["temperature"] == pytest.approx(1.0)
    assert found["nll_after"] == pytest.approx(np.log(K), rel=1e-6)


@pytest.mark.parametrize("name", ["calibration", "temperature"])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_merged_batches_equal_the_whole(name, kind):
    labels, logits, mask = case(kind)
    total = metrics.get(name).for_classes(K, kind).empty()
    assert np.isnan(list(total.compute().values())).all()
    for part in ([0, 1], [2, 3], [4, 5], [6, 7]):
        batch = from_batch(name, kind, labels[part], logits[part], mask[part])
        total = total.merge(metrics.to_host(batch))
    whole = from_batch(name, kind, labels, logits, mask)
    if name == "calibration":
        np.testing.assert_array_equal(total.all, whole.all)
        np.testing.assert_array_equal(total.right, whole.right)
        assert total.all.dtype == np.int64
    else:
        assert total.losses.dtype == np.float64
        np.testing.assert_allclose(total.losses, whole.losses, rtol=1e-6)
    assert total.compute() == pytest.approx(whole.compute(), rel=1e-3)
    assert total.per_class() == {}


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_four_devices_count_as_one(kind):
    batch = case(kind)
    found = {"calibration": [], "temperature": []}
    for devices in (1, 4):
        mesh = Mesh(np.array(jax.devices()[:devices]), "data")
        placed = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
        for name, each in found.items():
            metric = from_batch(name, kind, *placed)
            assert len(metric.invalid_labels.sharding.device_set) == devices
            each.append(metrics.to_host(metric))
    one, four = found["calibration"]
    jax.tree.map(np.testing.assert_array_equal, one, four)
    assert one.all.sum() == batch[2].sum() * (1 if kind == "softmax" else K)
    one, four = found["temperature"]
    assert one.cases == four.cases
    np.testing.assert_allclose(one.losses, four.losses, rtol=1e-6)


@pytest.mark.parametrize("name", ["calibration", "temperature"])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_what_cannot_be_scored_is_an_error(name, kind):
    labels, logits, mask = case(kind)
    first = tuple(np.argwhere(mask)[0])
    bad = labels.copy()
    bad[first] = 9
    with pytest.raises(DatasetError, match="1 labels that count"):
        from_batch(name, kind, bad, logits, mask).compute()
    bad = logits.copy()
    bad[first] = np.inf
    metric = from_batch(name, kind, labels, bad, mask)
    with pytest.raises(RsjaxError, match="1 predictions that count"):
        metric.per_class()
    counts = metric.all.sum() if name == "calibration" else metric.cases
    assert counts == (mask.sum() - 1) * (1 if kind == "softmax" else K)


def test_arguments_that_do_not_fit_are_refused():
    metric = metrics.get("calibration").for_classes(K)
    labels, mask = jnp.zeros(3, jnp.int32), jnp.ones(3, bool)
    with pytest.raises(ValueError, match="needs logits or probabilities"):
        metric.from_model_output(labels=labels, mask=mask)
    with pytest.raises(ValueError, match="scores have shape"):
        metric.from_model_output(labels=labels, mask=mask, logits=jnp.zeros((3, K + 1)))
    batch = metric.from_model_output(labels=labels, mask=mask, probabilities=jnp.full((3, K), 7.0))
    with pytest.raises(RsjaxError, match="3 predictions"):
        batch.compute()
    with pytest.raises(ConfigError, match="7 bins do not divide"):
        metric.empty().reliability(7)
    for name in ("calibration", "temperature"):
        with pytest.raises(ConfigError, match="unknown kind 'tanh'"):
            metrics.get(name).for_classes(K, "tanh")
    assert temperature.LOG_BETAS[temperature.UNITY] == 0
