"""Multi-label counts and their figures against scikit-learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsjax import metrics
from rsjax.errors import ConfigError, DatasetError, RsjaxError

NUM_CLASSES = 5
COUNTS = ("tp", "fp", "fn", "tn", "exact", "samples")


def case(shape=(60,), seed=0, absent=()):
    """Multi-hot labels; padding holds garbage; probabilities with exact ties at thresholds."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (*shape, NUM_CLASSES)).astype(np.uint8)
    labels[..., list(absent)] = 0
    scores = 0.6 * rng.random(labels.shape) + 0.4 * labels
    probabilities = (np.round(scores * 8) / 8).astype(np.float32)
    mask = rng.random(shape) < 0.8
    mask.flat[0] = True
    labels[~mask], probabilities[~mask] = 255, np.nan
    return labels, probabilities, mask


@functools.cache
def compiled(threshold):
    metric = metrics.get("multilabel").for_classes(NUM_CLASSES, threshold)
    return jax.jit(lambda **batch: metric.from_model_output(**batch))


def from_batch(labels, probabilities, mask, threshold=0.5, key="probabilities"):
    return compiled(threshold)(labels=labels, mask=mask, **{key: probabilities})


@pytest.mark.parametrize("shape", [(60,), (4, 5, 3), (1,)])
@pytest.mark.parametrize("absent", [(), (1, 4)])
@pytest.mark.parametrize("threshold", [0.5, (0.25, 0.5, 0.375, 0.875, 1.0)])
def test_figures_equal_scikit_learn(shape, absent, threshold):
    labels, probabilities, mask = case(shape, absent=absent)
    metric = from_batch(labels, probabilities, mask, threshold)
    y, p = labels[mask], (probabilities[mask] >= np.asarray(threshold)).astype(np.uint8)

    matrices = sklearn.metrics.multilabel_confusion_matrix(y, p)
    for name, (row, column) in {"tn": (0, 0), "fp": (0, 1), "fn": (1, 0), "tp": (1, 1)}.items():
        assert getattr(metric, name).dtype == jnp.int32
        np.testing.assert_array_equal(getattr(metric, name), matrices[:, row, column])

    present = np.flatnonzero(y.any(axis=0))
    scores, table = metric.compute(), metric.per_class()
    expected = {
        "subset_accuracy": sklearn.metrics.accuracy_score(y, p),
        "hamming_loss": sklearn.metrics.hamming_loss(y, p),
        "classes_counted": len(present),
        "samples_counted": len(y),
    }
    functions = {
        "precision": sklearn.metrics.precision_score,
        "recall": sklearn.metrics.recall_score,
        "f1": sklearn.metrics.f1_score,
    }
    for name, function in functions.items():
        expected[f"{name}_macro"] = function(y, p, average="macro", labels=present, zero_division=0)
        expected[f"{name}_micro"] = function(y, p, average="micro", zero_division=0)
        each = function(y, p, average=None, zero_division=0)
        seen = y.any(axis=0) if name == "recall" else y.any(axis=0) | p.any(axis=0)
        np.testing.assert_allclose(table[name], np.where(seen, each, np.nan), rtol=1e-12)
    assert scores == pytest.approx(expected, rel=1e-12)
    assert all(type(value) is float for value in scores.values())
    np.testing.assert_array_equal(table["support"], y.sum(axis=0))


def test_absent_classes_cost_micro_precision_but_not_the_macro_mean():
    labels = jnp.array([[1, 0, 0, 0, 0]])
    metric = from_batch(labels, jnp.array([[0.9, 0.9, 0.1, 0.1, 0.1]]), jnp.ones(1, bool))
    scores = metric.compute()
    assert scores["classes_counted"] == 1
    assert scores["precision_macro"] == scores["f1_macro"] == 1.0
    assert scores["precision_micro"] == 0.5
    np.testing.assert_array_equal(metric.per_class()["f1"], [1, 0, np.nan, np.nan, np.nan])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_logits_are_taken_through_the_sigmoid_in_float32(dtype):
    labels, probabilities, mask = case()
    logits = jnp.asarray(np.log(probabilities + 0.01), dtype)
    metric = from_batch(labels, logits, mask, threshold=0.3, key="logits")
    as_float64 = 1 / (1 + np.exp(-np.asarray(logits, np.float64)[mask]))
    assert np.min(np.abs(as_float64 - 0.3)) > 1e-6
    p, y = as_float64 >= 0.3, labels[mask]
    np.testing.assert_array_equal(metric.tp, (p & (y == 1)).sum(axis=0))
    np.testing.assert_array_equal(metric.fp, (p & (y == 0)).sum(axis=0))


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_labels_of_any_type_give_the_same_counts(dtype):
    labels, probabilities, mask = case()
    expected = from_batch(labels, probabilities, mask)
    actual = from_batch((labels == 1).astype(dtype), probabilities, mask)
    for name in COUNTS:
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))


def test_an_all_masked_batch_counts_nothing():
    labels, probabilities, mask = case()
    metric = from_batch(labels, probabilities, np.zeros_like(mask))
    scores = metric.compute()
    assert scores.pop("samples_counted") == scores.pop("classes_counted") == 0
    assert all(np.isnan(value) for value in scores.values())
    assert np.isnan(metric.per_class()["f1"]).all()


@pytest.mark.parametrize("devices", [1, 4])
def test_sharded_counts_are_identical(devices):
    labels, probabilities, mask = case((8, 6))
    mesh = Mesh(np.array(jax.devices()[:devices]), "data")
    place = lambda array: jax.device_put(array, NamedSharding(mesh, PartitionSpec("data")))  # noqa: E731
    metric = from_batch(place(labels), place(probabilities), place(mask))
    assert len(metric.tp.sharding.device_set) == devices
    matrices = sklearn.metrics.multilabel_confusion_matrix(labels[mask], probabilities[mask] >= 0.5)
    np.testing.assert_array_equal(metric.tp, matrices[:, 1, 1])
    np.testing.assert_array_equal(metric.tn, matrices[:, 0, 0])


@pytest.mark.parametrize("on_host", [True, False])
def test_merged_uneven_batches_equal_the_whole(on_host):
    labels, probabilities, mask = case((40,))
    total = metrics.get("multilabel").for_classes(NUM_CLASSES).empty()
    for part in np.split(np.arange(40), [1, 11, 21]):
        batch = from_batch(labels[part], probabilities[part], mask[part])
        total = total.merge(metrics.to_host(batch) if on_host else batch)
    whole = from_batch(labels, probabilities, mask)
    for name in COUNTS:
        assert getattr(total, name).dtype == np.int64
        np.testing.assert_array_equal(getattr(total, name), getattr(whole, name))
    assert total.compute() == whole.compute()


@pytest.mark.parametrize("label", [2, 255])
def test_labels_that_are_not_multi_hot_are_an_error(label):
    labels, probabilities, mask = case()
    first = np.flatnonzero(mask)[0]
    labels[first, 2] = label
    metric = from_batch(labels, probabilities, mask)
    assert metric.samples == mask.sum() - 1
    with pytest.raises(DatasetError, match="1 labels that count"):
        metric.compute()
    with pytest.raises(DatasetError, match="1 labels that count"):
        metric.per_class()


@pytest.mark.parametrize("key", ["logits", "probabilities"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_predictions_that_are_not_finite_are_an_error(key, bad):
    labels, probabilities, mask = case()
    probabilities[np.flatnonzero(mask)[0], 2] = bad
    with pytest.raises(RsjaxError, match="1 predictions that count"):
        from_batch(labels, probabilities, mask, key=key).compute()


def test_thresholds_make_classes():
    make = metrics.get("multilabel").for_classes
    assert make(2, 0.5) is make(2, (0.5, 0.5))
    assert make(2, 0.5) is make(2, np.array([0.5, 0.5]))
    assert make(2, 0.5) is not make(2, 0.25)
    with pytest.raises(ConfigError, match="expected one number"):
        make(2, (0.5, 0.5, 0.5))
    with pytest.raises(ConfigError, match=r"threshold is 1\.5"):
        make(2, 1.5)


def test_arguments_that_do_not_fit_are_refused():
    metric = metrics.get("multilabel").for_classes(3)
    labels, mask = jnp.zeros((4, 3)), jnp.ones(4, bool)
    with pytest.raises(ValueError, match="needs logits or probabilities"):
        metric.from_model_output(labels=labels, mask=mask)
    with pytest.raises(ValueError, match=r"labels have shape \(4, 2\)"):
        metric.from_model_output(labels=labels[:, :2], mask=mask, logits=labels)
    with pytest.raises(ValueError, match="mask has shape"):
        metric.from_model_output(labels=labels, mask=labels, logits=labels)
