"""Figures of weighted sets: ones are the metrics themselves, multiplicities are scikit-learn's."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from rsjax import metrics
from rsjax.errors import DatasetError, RsjaxError
from rsjax.metrics import ranking, weighted

N, K = 40, 5
THRESHOLDS = (0.5, 0.25, 0.375, 0.75, 0.5)
RNG = np.random.default_rng(0)


def segmentation():
    """Maps (N, 6, 6) with a class that is nowhere, and their counts per sample."""
    reference = RNG.integers(0, K - 1, (N, 6, 6))
    maps = np.where(RNG.random(reference.shape) < 0.7, reference, RNG.integers(0, 3, (N, 6, 6)))
    each = lambda where: np.stack(  # noqa: E731
        [(where == c).sum(axis=(1, 2)) for c in range(K)], axis=1, dtype=np.int32
    )
    hits = np.stack(
        [((maps == c) & (reference == c)).sum(axis=(1, 2)) for c in range(K)], axis=1
    ).astype(np.int32)
    samples = {"hits": hits, "reference": each(reference), "predicted": each(maps)}
    whole = metrics.get("confusion").for_classes(K)
    batch = whole.from_model_output(
        labels=jnp.asarray(reference), predictions=jnp.asarray(maps), mask=jnp.ones((N, 6, 6), bool)
    )
    return samples, batch, (reference, maps)


def single():
    labels = RNG.integers(0, K - 1, N)
    probabilities = RNG.dirichlet(np.ones(K), N).astype(np.float32)
    probabilities[:3] = 0.2  # ties
    metric = metrics.get("confusion").for_classes(K)
    batch = metric.from_model_output(
        labels=jnp.asarray(labels), logits=jnp.asarray(probabilities), mask=jnp.ones(N, bool)
    )
    return {"labels": labels, "probabilities": probabilities}, batch


def multi():
    labels = (RNG.random((N, K)) < [0.5, 0.3, 0.1, 0.6, 0.0]).astype(np.uint8)
    scores = np.round((0.6 * RNG.random((N, K)) + 0.4 * labels) * 16) / 16
    arguments = {
        "labels": jnp.asarray(labels),
        "probabilities": jnp.asarray(scores, jnp.float32),
        "mask": jnp.ones(N, bool),
    }
    counts = metrics.get("multilabel").for_classes(K, THRESHOLDS).from_model_output(**arguments)
    ranked = metrics.get("average_precision").for_classes(K).from_model_output(**arguments)
    samples = {"labels": labels, "probabilities": scores.astype(np.float32)}
    return samples, counts, ranked


def at_thresholds(samples, weights):
    return weighted.multilabel(samples, weights, THRESHOLDS)


def test_weights_of_ones_give_the_metrics_exactly():
    samples, counts, ranked = multi()
    for measure, found, metric in [
        (weighted.confusion, *segmentation()[:2]),
        (weighted.single_label, *single()),
        (at_thresholds, samples, counts),
        (weighted.average_precision, samples, ranked),
    ]:
        # A row of ones among others: every row stands for itself.
        weights = np.stack([RNG.integers(0, 3, N), np.ones(N, int), RNG.integers(0, 2, N)])
        figures, per_class = measure(found, weights)
        expected, table = metric.compute(), metric.per_class()
        assert figures.keys() == expected.keys()
        assert per_class.keys() == table.keys()
        for name, values in figures.items():
            assert values.shape == (3,)
            assert values.dtype == np.float64
            np.testing.assert_array_equal(values[1], expected[name], err_msg=name)
        for name, values in per_class.items():
            assert values.shape == (3, K)
            np.testing.assert_array_equal(values[1], table[name], err_msg=name)


def test_multiplicities_of_maps_equal_scikit_learn():
    samples, _, (reference, maps) = segmentation()
    weights = RNG.integers(0, 4, (2, N))
    figures, per_class = weighted.confusion(samples, weights)
    y, p = reference.ravel(), maps.ravel()
    for row in range(2):
        w = np.repeat(weights[row], 36)
        kappa = sklearn.metrics.cohen_kappa_score(y, p, sample_weight=w)
        iou = sklearn.metrics.jaccard_score(
            y, p, labels=np.arange(K - 1), average=None, sample_weight=w
        )
        weighted_iou = sklearn.metrics.jaccard_score(y, p, average="weighted", sample_weight=w)
        assert figures["kappa"][row] == pytest.approx(kappa, rel=1e-12)
        assert figures["iou_macro"][row] == pytest.approx(iou.mean(), rel=1e-12)
        assert figures["iou_frequency_weighted"][row] == pytest.approx(weighted_iou, rel=1e-12)
        np.testing.assert_allclose(per_class["iou"][row], [*iou, np.nan], rtol=1e-12)
        assert figures["samples_counted"][row] == w.sum()


def test_multiplicities_of_scenes_equal_scikit_learn():
    samples, _ = single()
    weights = RNG.integers(0, 4, (2, N))
    figures, per_class = weighted.single_label(samples, weights)
    y, p = samples["labels"], samples["probabilities"].argmax(axis=1)
    for row, w in enumerate(weights):
        accuracy = sklearn.metrics.accuracy_score(y, p, sample_weight=w)
        assert figures["overall_accuracy"][row] == pytest.approx(accuracy, rel=1e-12)
        f1 = sklearn.metrics.f1_score(y, p, average=None, sample_weight=w)
        np.testing.assert_allclose(per_class["f1"][row], f1, rtol=1e-12)


def test_multiplicities_of_labels_equal_scikit_learn(monkeypatch):
    monkeypatch.setattr(ranking, "LARGEST", 30)  # every set in a block of its own
    samples, _, _ = multi()
    weights = RNG.integers(0, 3, (4, N))
    weights[3] = samples["labels"][:, 0] == 0  # a set without the first class
    figures, per_class = weighted.average_precision(samples, weights)
    counted, _ = at_thresholds(samples, weights)
    y, s = samples["labels"], samples["probabilities"]
    p = (s >= np.asarray(THRESHOLDS)).astype(int)
    for row, w in enumerate(weights):
        present = (w @ y) > 0
        each = [
            sklearn.metrics.average_precision_score(y[:, c], s[:, c], sample_weight=w)
            if present[c]
            else np.nan
            for c in range(K)
        ]
        np.testing.assert_allclose(per_class["average_precision"][row], each, rtol=1e-12)
        assert figures["mAP_macro"][row] == pytest.approx(np.nanmean(each), rel=1e-12)
        micro = sklearn.metrics.average_precision_score(
            y.ravel(), s.ravel(), sample_weight=np.repeat(w, K)
        )
        assert figures["mAP_micro"][row] == pytest.approx(micro, rel=1e-12)
        expected = {
            "f1_micro": sklearn.metrics.f1_score(y, p, average="micro", sample_weight=w),
            "subset_accuracy": sklearn.metrics.accuracy_score(y, p, sample_weight=w),
            "hamming_loss": sklearn.metrics.hamming_loss(y, p, sample_weight=w),
        }
        assert {name: counted[name][row] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert np.isnan(per_class["average_precision"][:, 4]).all()
    assert np.isnan(per_class["average_precision"][3, 0])


def test_sets_of_nothing_are_nan():
    samples, _, _ = multi()
    none = np.zeros((1, N), int)
    for measure, found in [
        (weighted.confusion, segmentation()[0]),
        (weighted.single_label, single()[0]),
        (at_thresholds, samples),
        (weighted.average_precision, samples),
    ]:
        figures, _ = measure(found, none)
        numbers = {"classes_counted", "classes_in_reference", "samples_counted"}
        assert all((figures[name] == 0).all() for name in numbers & figures.keys())
        assert all(np.isnan(figures[name]).all() for name in figures.keys() - numbers)


def test_products_beyond_int64_are_kept():
    counts = np.full((1, 2), 2**40)
    samples = {"hits": counts // 2, "reference": counts, "predicted": counts}
    figures, _ = weighted.confusion(samples, np.full((1, 1), 2**10))
    assert figures["kappa"][0] == 0.0  # half are right, as by chance
    assert figures["samples_counted"][0] == 2.0**51


def test_samples_that_cannot_be_scored_are_an_error():
    samples, _ = single()
    weights = np.ones((1, N))
    with pytest.raises(DatasetError, match="40 labels that count"):
        weighted.single_label({**samples, "labels": np.full(N, 255)}, weights)
    with pytest.raises(RsjaxError, match="40 predictions that count"):
        weighted.single_label({**samples, "probabilities": np.full((N, K), np.nan)}, weights)
    samples, _, _ = multi()
    for measure in (at_thresholds, weighted.average_precision):
        with pytest.raises(DatasetError, match="40 labels that count"):
            measure({**samples, "labels": np.full((N, K), 2)}, weights)
