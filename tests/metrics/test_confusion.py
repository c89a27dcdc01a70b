"""The confusion matrix and its figures against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsjax import metrics
from rsjax.errors import ConfigError, DatasetError, RsjaxError
from rsjax.metrics import confusion

NUM_CLASSES = 6


def case(shape=(50,), seed=0, absent=()):
    """Labels with padding that holds garbage, logits with NaN there."""
    rng = np.random.default_rng(seed)
    classes = [c for c in range(NUM_CLASSES) if c not in absent]
    labels = rng.choice(classes, shape).astype(np.uint8)
    logits = rng.normal(size=(*shape, NUM_CLASSES)).astype(np.float32)
    logits += 1.5 * np.eye(NUM_CLASSES, dtype=np.float32)[labels]
    logits[..., list(absent)] -= 100
    mask = rng.random(shape) < 0.8
    mask.flat[0] = True
    labels[~mask], logits[~mask] = 255, np.nan
    return labels, logits, mask


@jax.jit
def from_batch(labels, logits, mask):
    metric = metrics.get("confusion").for_classes(NUM_CLASSES)
    return metric.from_model_output(labels=labels, logits=logits, mask=mask)


@pytest.mark.parametrize("shape", [(50,), (3, 8, 5), (1,)])
@pytest.mark.parametrize("absent", [(), (0,), (2, 5)])
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_figures_equal_scikit_learn(shape, absent):
    labels, logits, mask = case(shape, absent=absent)
    metric = from_batch(labels, logits, mask)
    y, p = labels[mask], logits[mask].argmax(-1)

    assert metric.counts.dtype == jnp.int32
    every = np.arange(NUM_CLASSES)
    np.testing.assert_array_equal(
        metric.counts, sklearn.metrics.confusion_matrix(y, p, labels=every)
    )
    scores, table = metric.compute(), metric.per_class()
    assert all(type(value) is float for value in scores.values())
    seen = np.union1d(y, p)
    expected = {
        "overall_accuracy": sklearn.metrics.accuracy_score(y, p),
        "average_accuracy": sklearn.metrics.balanced_accuracy_score(y, p),
        "precision_macro": sklearn.metrics.precision_score(y, p, average="macro", zero_division=0),
        "f1_macro": sklearn.metrics.f1_score(y, p, average="macro"),
        "iou_macro": sklearn.metrics.jaccard_score(y, p, average="macro"),
        "iou_frequency_weighted": sklearn.metrics.jaccard_score(y, p, average="weighted"),
        "classes_counted": len(seen),
        "classes_in_reference": len(np.unique(y)),
        "samples_counted": len(y),
    }
    if len(seen) > 1:
        expected["kappa"] = sklearn.metrics.cohen_kappa_score(y, p)
    else:
        assert np.isnan(scores["kappa"])
    assert {key: scores[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    assert set(scores) == {*expected, "kappa"}

    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        y, p, labels=every, zero_division=0
    )
    iou = sklearn.metrics.jaccard_score(y, p, labels=every, average=None, zero_division=0)
    unseen, no_reference = ~np.isin(every, seen), ~np.isin(every, y)
    for name, values, undefined in [
        ("precision", precision, unseen),
        ("recall", recall, no_reference),
        ("f1", f1, unseen),
        ("iou", iou, unseen),
    ]:
        np.testing.assert_allclose(table[name], np.where(undefined, np.nan, values), rtol=1e-12)
    np.testing.assert_array_equal(table["support"], support)


def test_rules_for_absent_classes_by_hand():
    # 0: found and confused; 1: in the reference, never predicted; 2: predicted only; 3: nowhere.
    matrix = np.array([[6, 0, 2, 0], [2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    table = confusion.class_table(matrix)
    np.testing.assert_allclose(table["recall"], [0.75, 0, np.nan, np.nan])
    np.testing.assert_allclose(table["precision"], [0.75, 0, 0, np.nan])
    np.testing.assert_allclose(table["f1"], [0.75, 0, 0, np.nan])
    np.testing.assert_allclose(table["iou"], [0.6, 0, 0, np.nan])
    scores = confusion.summary(matrix)
    assert scores["average_accuracy"] == pytest.approx(0.375)
    assert scores["iou_macro"] == pytest.approx(0.2)
    assert scores["classes_counted"] == 3
    assert scores["classes_in_reference"] == 2


def test_an_all_masked_batch_counts_nothing():
    labels, logits, mask = case()
    metric = from_batch(labels, logits, np.zeros_like(mask))
    scores = metric.compute()
    assert scores["samples_counted"] == scores["classes_counted"] == 0
    undefined = set(scores) - {"samples_counted", "classes_counted", "classes_in_reference"}
    assert all(np.isnan(scores[key]) for key in undefined)
    whole = metrics.to_host(from_batch(labels, logits, mask))
    np.testing.assert_array_equal(whole.merge(metrics.to_host(metric)).counts, whole.counts)


@pytest.mark.parametrize("devices", [1, 4])
def test_sharded_counts_are_identical(devices):
    labels, logits, mask = case((8, 6, 5))
    mesh = Mesh(np.array(jax.devices()[:devices]), "data")
    place = lambda array: jax.device_put(array, NamedSharding(mesh, PartitionSpec("data")))  # noqa: E731
    metric = from_batch(place(labels), place(logits), place(mask))
    assert len(metric.counts.sharding.device_set) == devices
    np.testing.assert_array_equal(
        metric.counts,
        sklearn.metrics.confusion_matrix(
            labels[mask], logits[mask].argmax(-1), labels=np.arange(NUM_CLASSES)
        ),
    )


@pytest.mark.parametrize("on_host", [True, False])
def test_merged_uneven_batches_equal_the_whole(on_host):
    labels, logits, mask = case((40,))
    metric = metrics.get("confusion").for_classes(NUM_CLASSES)
    total = metric.empty()
    for part in np.split(np.arange(40), [1, 11, 21]):
        batch = from_batch(labels[part], logits[part], mask[part])
        total = total.merge(metrics.to_host(batch) if on_host else batch)
    whole = from_batch(labels, logits, mask)
    assert isinstance(total.counts, np.ndarray)
    assert total.counts.dtype == np.int64
    np.testing.assert_array_equal(total.counts, whole.counts)
    assert total.compute() == whole.compute()


def test_merging_under_jit_stays_on_the_device():
    labels, logits, mask = case()
    batch = from_batch(labels, logits, mask)
    merged = jax.jit(lambda left, right: left.merge(right))(batch, batch)
    np.testing.assert_array_equal(merged.counts, 2 * np.asarray(batch.counts))


def test_counts_beyond_int32_are_exact():
    metric = metrics.get("confusion").for_classes(2)
    zero = np.zeros((), np.int64)
    half = metric(zero, zero, np.array([[2**40 + 1, 3], [5, 2**40]], np.int64))
    # One part on the device, where a careless sum would be narrowed to int32.
    one = metric(*(jnp.zeros((), jnp.int32) for _ in range(2)), jnp.ones((2, 2), jnp.int32))
    total = half.merge(half).merge(one)
    np.testing.assert_array_equal(total.counts, [[2**41 + 3, 7], [11, 2**41 + 1]])
    expected = sklearn.metrics.cohen_kappa_score(
        [0, 0, 1, 1], [0, 1, 0, 1], sample_weight=total.counts.ravel().astype(float)
    )
    assert total.compute()["kappa"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("label", [NUM_CLASSES, 255])
def test_labels_outside_the_nomenclature_are_an_error(label):
    labels, logits, _ = case()
    mask = np.ones(labels.shape, bool)
    labels, logits = labels % NUM_CLASSES, np.nan_to_num(logits)
    labels[3:5] = label
    metric = from_batch(labels, logits, mask)
    assert metric.invalid_labels == 2
    assert metric.counts.sum() == mask.sum() - 2
    for figure in (metric.compute, metric.per_class):
        with pytest.raises(DatasetError, match="2 labels that count are outside the 6 classes"):
            figure()
    # The error survives merging with sound batches.
    merged = metrics.to_host(metric).merge(metrics.get("confusion").for_classes(6).empty())
    with pytest.raises(DatasetError):
        merged.compute()


def test_negative_labels_are_an_error():
    metric = metrics.get("confusion").for_classes(3)
    batch = metric.from_model_output(
        labels=jnp.array([-1, 2]), predictions=jnp.array([2, 2]), mask=jnp.ones(2, bool)
    )
    np.testing.assert_array_equal(batch.counts, [[0, 0, 0], [0, 0, 0], [0, 0, 1]])
    with pytest.raises(DatasetError, match="1 labels"):
        batch.compute()


def test_nan_logits_and_foreign_predictions_are_an_error():
    labels, logits, mask = case()
    logits[np.flatnonzero(mask)[0], 1] = np.nan
    with pytest.raises(RsjaxError, match="1 predictions that count are not finite"):
        from_batch(labels, logits, mask).compute()
    metric = metrics.get("confusion").for_classes(2)
    batch = metric.from_model_output(
        labels=jnp.array([0, 1]), predictions=jnp.array([2, 1]), mask=jnp.ones(2, bool)
    )
    assert batch.counts.sum() == 1
    with pytest.raises(RsjaxError, match="outside the 2 classes"):
        batch.compute()


def test_equal_logits_choose_the_first_class():
    metric = metrics.get("confusion").for_classes(3)
    batch = metric.from_model_output(
        labels=jnp.array([2]), logits=jnp.array([[0.0, 1.0, 1.0]]), mask=jnp.ones(1, bool)
    )
    assert batch.counts[2, 1] == 1


def test_one_class_per_arguments():
    make = metrics.get("confusion").for_classes
    assert make(3) is make(3)
    assert make(3) is not make(4)


def test_arguments_that_do_not_fit_are_refused():
    metric = metrics.get("confusion").for_classes(3)
    labels, mask = jnp.zeros(4, jnp.int32), jnp.ones(4, bool)
    with pytest.raises(ValueError, match="needs logits or predictions"):
        metric.from_model_output(labels=labels, mask=mask)
    with pytest.raises(ValueError, match=r"logits have shape \(4, 2\), expected \(4, 3\)"):
        metric.from_model_output(labels=labels, mask=mask, logits=jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match="mask has shape"):
        confusion.confusion_matrix(labels, labels, mask[:2], 3)
    with pytest.raises(ValueError, match="labels are float32"):
        confusion.confusion_matrix(labels.astype(jnp.float32), labels, mask, 3)


def test_unknown_names_list_the_known():
    known = "average_precision, boundary, calibration, confusion, multilabel, temperature"
    with pytest.raises(ConfigError, match=known):
        metrics.get("accuracy")
    assert all(hasattr(metrics.get(name), "for_classes") for name in metrics.METRICS)
