"""Average precision against scikit-learn, ties included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsjax import metrics
from rsjax.errors import DatasetError, RsjaxError
from rsjax.metrics import ranking

NUM_CLASSES = 5


def case(shape=(80,), seed=0, absent=(), levels=None):
    """Multi-hot labels with padding; scores rounded to `levels` values have ties."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((*shape, NUM_CLASSES)) < 0.3).astype(np.uint8)
    labels.reshape(-1, NUM_CLASSES)[0] = 1
    labels[..., list(absent)] = 0
    scores = rng.normal(labels, 1.0)
    if levels:
        scores = np.round(scores * levels / 4)
    mask = rng.random(shape) < 0.8
    mask.flat[0] = True
    labels[~mask], scores[~mask] = 255, np.nan
    return labels, scores.astype(np.float32), mask


@jax.jit
def compiled(**batch):
    return metrics.get("average_precision").for_classes(NUM_CLASSES).from_model_output(**batch)


def from_batch(labels, scores, mask, key="logits"):
    return compiled(labels=labels, mask=mask, **{key: scores})


def reference(labels, scores, mask):
    y, s = labels[mask], scores[mask].astype(np.float64)
    each = np.full(NUM_CLASSES, np.nan)
    for c in np.flatnonzero(y.any(axis=0)):
        each[c] = sklearn.metrics.average_precision_score(y[:, c], s[:, c])
    return each, {
        "mAP_macro": np.nanmean(each),
        "mAP_micro": sklearn.metrics.average_precision_score(y, s, average="micro"),
        "classes_counted": np.sum(~np.isnan(each)),
        "samples_counted": len(y),
    }


@pytest.mark.parametrize("shape", [(80,), (4, 5, 6), (1,)])
@pytest.mark.parametrize("absent", [(), (0, 3)])
@pytest.mark.parametrize("levels", [None, 8, 1])
def test_figures_equal_scikit_learn(shape, absent, levels):
    labels, scores, mask = case(shape, absent=absent, levels=levels)
    metric = from_batch(labels, scores, mask)
    each, expected = reference(labels, scores, mask)
    table = metric.per_class()
    np.testing.assert_allclose(table["average_precision"], each, rtol=1e-12)
    np.testing.assert_array_equal(table["support"], labels[mask].sum(axis=0))
    assert metric.compute() == pytest.approx(expected, rel=1e-12)
    assert all(type(value) is float for value in metric.compute().values())


def test_all_scores_equal_give_the_share_of_positives():
    labels = np.array([True, False, False, True, False])
    for order in (labels, labels[::-1]):
        found = ranking.average_precision(np.zeros((5, 1)), order[:, None], np.ones((1, 5)))
        np.testing.assert_allclose(found, [0.4], rtol=1e-12)


def test_large_logits_are_not_tied_by_the_sigmoid():
    labels = jnp.array([[1], [0]])
    metric = metrics.get("average_precision").for_classes(1)
    logits = jnp.array([[40.0], [30.0]])
    batch = metric.from_model_output(labels=labels, logits=logits, mask=jnp.ones(2, bool))
    assert batch.compute()["mAP_macro"] == 1.0


def test_probabilities_and_bfloat16_are_ranked_as_they_are():
    labels, scores, mask = case()
    scores = jnp.asarray(scores, jnp.bfloat16)
    _, expected = reference(labels, np.asarray(scores.astype(jnp.float32)), mask)
    assert from_batch(labels, scores, mask).compute() == pytest.approx(expected, rel=1e-12)
    batch = from_batch(labels, scores, mask, key="probabilities")
    assert batch.compute() == pytest.approx(expected, rel=1e-12)


def test_nothing_counted_is_nan():
    labels, scores, mask = case()
    metric = metrics.get("average_precision").for_classes(NUM_CLASSES)
    masked = from_batch(labels, scores, np.zeros_like(mask))
    for empty in (metric.empty(), masked, metric.empty().merge(masked)):
        values = empty.compute()
        assert values["classes_counted"] == values["samples_counted"] == 0
        assert np.isnan([values["mAP_macro"], values["mAP_micro"]]).all()
        assert np.isnan(empty.per_class()["average_precision"]).all()
        assert empty.per_class()["average_precision"].shape == (NUM_CLASSES,)


@pytest.mark.parametrize("on_host", [True, False])
def test_merged_uneven_batches_equal_the_whole(on_host):
    labels, scores, mask = case((40,), levels=8)
    total = metrics.get("average_precision").for_classes(NUM_CLASSES).empty()
    for part in np.split(np.arange(40), [1, 11, 21]):
        batch = from_batch(labels[part], scores[part], mask[part])
        total = total.merge(metrics.to_host(batch) if on_host else batch)
    assert all(isinstance(array, np.ndarray) for array in total.scores)
    assert {array.dtype for array in total.labels + total.mask} == {np.dtype(bool)}
    assert total.compute() == from_batch(labels, scores, mask).compute()
    _, expected = reference(labels, scores, mask)
    assert total.compute() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("devices", [1, 4])
def test_sharded_scores_are_identical(devices):
    labels, scores, mask = case((8, 6))
    mesh = Mesh(np.array(jax.devices()[:devices]), "data")
    place = lambda array: jax.device_put(array, NamedSharding(mesh, PartitionSpec("data")))  # noqa: E731
    metric = from_batch(place(labels), place(scores), place(mask))
    assert len(metric.scores[0].sharding.device_set) == devices
    assert metric.compute() == from_batch(labels, scores, mask).compute()


def test_labels_and_scores_that_cannot_be_ranked_are_an_error():
    labels, scores, mask = case()
    first = np.flatnonzero(mask)[0]
    metric = metrics.get("average_precision").for_classes(NUM_CLASSES)
    bad = scores.copy()
    bad[first, 0] = np.nan
    batch = metric.empty().merge(from_batch(labels, bad, mask))
    with pytest.raises(RsjaxError, match="1 predictions that count"):
        batch.compute()
    labels[first, 0] = 2
    batch = metric.empty().merge(from_batch(labels, scores, mask))
    with pytest.raises(DatasetError, match="1 labels that count"):
        batch.per_class()


def test_merging_under_jit_and_wrong_shapes_are_refused():
    labels, scores, mask = case()
    batch = from_batch(labels, scores, mask)
    with pytest.raises(TypeError, match="runs on the host"):
        jax.jit(lambda left, right: left.merge(right))(batch, batch)
    metric = metrics.get("average_precision").for_classes(NUM_CLASSES)
    with pytest.raises(ValueError, match="needs logits or probabilities"):
        metric.from_model_output(labels=labels, mask=mask)
    with pytest.raises(ValueError, match="scores have shape"):
        metric.from_model_output(labels=labels, mask=mask, logits=scores[:, :2])
