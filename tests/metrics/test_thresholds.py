"""Thresholds of the highest F1 against every cut that can be made."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from rsjax import metrics
from rsjax.errors import DatasetError, RsjaxError
from rsjax.metrics import thresholds

K = 4


def case(seed, levels):
    rng = np.random.default_rng(seed)
    labels = (rng.random((30, K)) < [0.5, 0.1, 0.9, 0.0]).astype(np.uint8)
    labels[0, :3] = 1
    scores = 0.7 * rng.random((30, K)) + 0.3 * labels
    return (np.round(scores * levels) / levels).astype(np.float32), labels


@pytest.mark.parametrize("levels", [2, 10, 2**20])
def test_no_cut_is_better(levels):
    for seed in range(5):
        scores, labels = case(seed, levels)
        found, f1 = thresholds.best_f1(scores, labels)
        assert found.shape == f1.shape == (K,)
        for c in range(K - 1):
            cuts = np.unique(scores[:, c])
            every = [sklearn.metrics.f1_score(labels[:, c], scores[:, c] >= cut) for cut in cuts]
            assert f1[c] == pytest.approx(max(every), rel=1e-12)
            # The threshold lies between a best cut and its neighbour below; of the best cuts it
            # is the one whose middle is nearest to the default.
            middles = (cuts + np.concatenate([[0], cuts[:-1]])) / 2
            best = np.isclose(every, max(every), rtol=1e-12)
            nearest = np.abs(middles[best] - 0.5).min()
            assert abs(found[c] - 0.5) == pytest.approx(nearest, abs=1e-6)
        assert found[3] == 0.5
        assert np.isnan(f1[3])
        # The metric at these thresholds finds the same F1: float32 comparisons and all.
        counts = (
            metrics.get("multilabel")
            .for_classes(K, found)
            .from_model_output(
                labels=jnp.asarray(labels),
                probabilities=jnp.asarray(scores),
                mask=jnp.ones(len(labels), bool),
            )
        )
        np.testing.assert_allclose(counts.per_class()["f1"][:3], f1[:3], rtol=1e-12)


def test_neighbours_in_float32_are_told_apart():
    upper = np.float32(0.3)
    for _ in range(2):  # their middle is rounded down once and up once
        lower = np.nextafter(upper, np.float32(0))
        found, f1 = thresholds.best_f1(np.array([[upper], [lower]]), np.array([[1], [0]]))
        assert f1 == [1.0]
        assert np.float32(found[0]) == upper
        upper = lower


def test_equal_cuts_take_the_nearest_to_the_default():
    # Predicting one, or all four: F1 is 2/3 both times.
    scores, labels = np.array([[0.9], [0.5], [0.3], [0.1]]), np.array([[1], [0], [0], [1]])
    for default, expected in [(0.9, 0.7), (0.0, 0.05), (0.3, 0.05), (0.5, 0.7)]:
        found, f1 = thresholds.best_f1(scores, labels, default)
        assert found[0] == pytest.approx(expected, abs=1e-7)
        assert f1[0] == pytest.approx(2 / 3)


def test_without_positives_the_default_stays():
    found, f1 = thresholds.best_f1(np.full((3, 2), 0.4), np.array([[0, 1]] * 3), 0.35)
    np.testing.assert_allclose(found, [0.35, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(f1, [np.nan, 1.0])
    found, f1 = thresholds.best_f1(np.zeros((0, 2)), np.zeros((0, 2)), 0.35)
    np.testing.assert_array_equal(found, [0.35, 0.35])
    assert np.isnan(f1).all()


def test_scores_and_labels_that_cannot_be_compared_are_an_error():
    scores, labels = case(0, 10)
    with pytest.raises(RsjaxError, match="30 predictions that count"):
        thresholds.best_f1(scores + 2, labels)
    bad = scores.copy()
    bad[4, 1] = np.nan
    with pytest.raises(RsjaxError, match="1 predictions that count"):
        thresholds.best_f1(bad, labels)
    with pytest.raises(DatasetError, match="30 labels that count"):
        thresholds.best_f1(scores, labels + 2)
    with pytest.raises(ValueError, match="expected"):
        thresholds.best_f1(scores, labels[:, :2])
