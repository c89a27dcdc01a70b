"""Bootstrap intervals hold the truth as often as they say; groups are the metric of the subset."""

import numpy as np
import pytest
import sklearn.metrics

from rsjax.errors import ConfigError
from rsjax.metrics import resample, weighted


def scenes(right, rng, classes=3):
    """Samples of which `right` are predicted right."""
    labels = rng.integers(0, classes, len(right))
    predicted = np.where(right, labels, (labels + 1) % classes)
    probabilities = np.eye(classes, dtype=np.float32)[predicted]
    return {"index": np.arange(len(right)), "labels": labels, "probabilities": probabilities}


def accuracy(samples, weights):
    """Only the figure that is looked at: hundreds of simulations."""
    figures, _ = weighted.single_label(samples, weights)
    return {"overall_accuracy": figures["overall_accuracy"]}, {}


def bounds(samples, blocks, seed=0, level=0.9, replicates=300):
    found, _ = resample.intervals(accuracy, samples, blocks, replicates, level, seed)
    return found["overall_accuracy"]


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    simulations, held = 200, 0
    for seed in range(simulations):
        low, high = bounds(scenes(rng.random(150) < 0.7, rng), None, seed)
        held += low <= 0.7 <= high
    # Three standard deviations of the binomial around 90 %.
    assert abs(held / simulations - 0.9) < 3 * np.sqrt(0.9 * 0.1 / simulations)


def test_blocks_keep_the_dependence_of_neighbours():
    rng = np.random.default_rng(1)
    blocks = np.repeat(np.arange(40), 15)
    simulations, held, naive = 100, 0, 0
    for seed in range(simulations):
        right = rng.random(600) < np.repeat(rng.beta(1.4, 0.6, 40), 15)
        samples = scenes(right, rng)
        (low, high), (left, low_right) = bounds(samples, blocks, seed), bounds(samples, None, seed)
        assert high - low > 1.5 * (low_right - left)
        held += low <= 0.7 <= high
        naive += left <= 0.7 <= low_right
    assert abs(held / simulations - 0.9) < 3 * np.sqrt(0.9 * 0.1 / simulations)
    assert naive / simulations < 0.7


def test_copies_of_a_sample_in_one_block_add_nothing():
    rng = np.random.default_rng(2)
    single = scenes(rng.random(60) < 0.6, rng)
    copies = {name: np.repeat(values, 4, axis=0) for name, values in single.items()}
    blocks = np.repeat(rng.permutation(60) * 7, 4)  # any numbers, in any order
    expected = bounds(single, None)
    # The same draws meet the blocks in the order of their numbers.
    order = np.argsort(blocks[::4])
    sorted_single = {name: values[order] for name, values in single.items()}
    assert bounds(copies, blocks) == bounds(sorted_single, None)
    low, high = bounds(copies, None)
    assert high - low < 0.75 * (expected[1] - expected[0])


def test_weights_are_multinomial_and_do_not_depend_on_the_parts(monkeypatch):
    blocks = np.array([5, 5, 2, 9, 9, 9])
    whole = np.concatenate(list(resample.bootstrap_weights(blocks, 4000, 3)))
    monkeypatch.setattr(resample, "LARGEST", 60)
    parts = list(resample.bootstrap_weights(blocks, 4000, 3))
    assert {part.shape for part in parts} == {(10, 6)}
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    each = whole[:, [2, 0, 3]]
    np.testing.assert_array_equal(whole, each[:, [1, 1, 0, 2, 2, 2]])
    assert (each.sum(axis=1) == 3).all()
    # Multinomial of 3 draws: mean 1, variance 2/3, covariance -1/3.
    np.testing.assert_allclose(each.mean(axis=0), 1, atol=0.06)
    covariance = np.where(np.eye(3), 2 / 3, -1 / 3)
    np.testing.assert_allclose(np.cov(each.T), covariance, atol=0.06)


def test_every_figure_has_an_interval_around_its_value():
    rng = np.random.default_rng(4)
    samples = scenes(rng.random(80) < 0.7, rng, classes=4)
    samples["labels"][:] %= 3  # the last class is in the predictions only, or nowhere
    overall, per_class = resample.intervals(weighted.single_label, samples, None, 200, 0.95, 0)
    figures, table = weighted.single_label(samples, np.ones((1, 80)))
    assert overall.keys() == figures.keys()
    assert per_class.keys() == table.keys()
    for name, (low, high) in overall.items():
        assert type(low) is float
        assert low <= figures[name][0] <= high, name
    for name, (low, high) in per_class.items():
        assert low.shape == high.shape == (4,)
        defined = ~np.isnan(table[name][0])
        assert (low <= table[name][0])[defined].all(), name
        assert (table[name][0] <= high)[defined].all(), name
    assert np.isnan(per_class["recall"][0][3])


def test_quantiles_leave_out_undefined_replicates():
    values = np.array([[1.0, 1, 1], [2, np.nan, np.nan], [3, 3, np.nan], [4, np.nan, np.nan]])
    low, high = resample.quantiles(values, 0.5)
    np.testing.assert_allclose(low, [*np.quantile([1, 2, 3, 4], [0.25]), 1.5, np.nan])
    np.testing.assert_allclose(high, [*np.quantile([1, 2, 3, 4], [0.75]), 2.5, np.nan])


def test_groups_are_the_figures_of_the_subset(monkeypatch):
    monkeypatch.setattr(resample, "LARGEST", 120)  # one or two groups at a time
    rng = np.random.default_rng(5)
    samples = scenes(rng.random(90) < 0.7, rng)
    countries = rng.choice(["Austria", "Kosovo", "Serbia"], 90)
    table = resample.groups(weighted.single_label, samples, countries.tolist())
    assert list(table) == ["Austria", "Kosovo", "Serbia"]
    y, p = samples["labels"], samples["probabilities"].argmax(axis=1)
    for value, found in table.items():
        own = countries == value
        assert found["samples"] == own.sum()
        expected = sklearn.metrics.accuracy_score(y[own], p[own])
        assert found["overall_accuracy"] == pytest.approx(expected, rel=1e-12)
        expected = sklearn.metrics.f1_score(y[own], p[own], average="macro")
        assert found["f1_macro"] == pytest.approx(expected, rel=1e-12)


def test_what_cannot_be_resampled_is_refused():
    rng = np.random.default_rng(6)
    samples = scenes(rng.random(10) < 0.5, rng)
    with pytest.raises(ConfigError, match="1 block of 10 samples"):
        bounds(samples, np.zeros(10, int))
    with pytest.raises(ConfigError, match="0 replicates"):
        bounds(samples, None, replicates=0)
    with pytest.raises(ConfigError, match="level is 95"):
        bounds(samples, None, level=95)
