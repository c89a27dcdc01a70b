import numpy as np
import pytest

from rsjax.input import sampling

N = 40


def weights_of(kind, rng):
    if kind == "equal":
        return np.ones(N)
    if kind == "zeros":  # half are never drawn
        return np.repeat([0.0, 2.0], N // 2)
    raw = rng.gamma(0.5, size=N) + 1e-3
    return raw / raw.mean()


@pytest.mark.parametrize("kind", ["equal", "zeros", "skewed"])
def test_every_epoch_has_floor_or_ceil_and_the_mean_is_the_weight(kind, monkeypatch):
    # Counts do not depend on the order within an epoch, which takes time.
    monkeypatch.setattr(sampling, "order", lambda positions, count, seed: positions % count)
    weights, epochs = weights_of(kind, np.random.default_rng(0)), 4000
    ends = sampling.cumulate(weights)
    assert ends[-1] == N * sampling.UNIT
    np.testing.assert_allclose(np.diff(ends, prepend=0) / sampling.UNIT, weights, atol=1e-9)
    drawn = sampling.weighted_order(np.arange(epochs * N), ends, seed=3).reshape(epochs, N)
    counts = np.stack([np.bincount(epoch, minlength=N) for epoch in drawn])
    assert (counts >= np.floor(weights)).all()
    assert (counts <= np.ceil(weights)).all()
    # Of 4000 uniform offsets the standard error is at most 0.5 / 63.
    np.testing.assert_allclose(counts.mean(axis=0), weights, atol=0.035)
    assert len({tuple(row) for row in counts}) > (N / 2 if kind == "skewed" else 0)


def test_equal_weights_give_the_order_without_weights():
    positions = np.arange(5, 5 + 2 * N)
    found = sampling.weighted_order(positions, sampling.cumulate(np.ones(N)), seed=8)
    np.testing.assert_array_equal(found, sampling.order(positions, N, 8))


def test_the_stream_depends_on_position_and_seed_alone():
    ends = sampling.cumulate(weights_of("skewed", np.random.default_rng(1)))
    unbroken = sampling.weighted_order(np.arange(3 * N), ends, seed=1)
    assert (np.diff(unbroken) < 0).sum() > N  # not in the order of the records
    shuffled = np.random.default_rng(2).permutation(3 * N)
    np.testing.assert_array_equal(
        sampling.weighted_order(shuffled, ends, seed=1), unbroken[shuffled]
    )
    other = sampling.weighted_order(np.arange(3 * N), ends, seed=2)
    assert (other != unbroken).mean() > 0.5


def capped_slowly(weights, cap):
    """Cuts, and gives what was cut to the others, until nothing is above the cap."""
    weights = weights / weights.mean()
    for _ in range(10_000):
        above = weights > cap
        if not above.any():
            break
        free = ~above & (weights < cap)
        excess = (weights[above] - cap).sum()
        weights[above] = cap
        weights[free] *= 1 + excess / weights[free].sum()
    return weights


@pytest.mark.parametrize("cap", [1.0, 1.2, 3.0, 1e6])
def test_weights_are_those_of_a_slow_loop(cap):
    rng = np.random.default_rng(5)
    counts = rng.integers(0, 50, (60, 5)) * (rng.random((60, 5)) < [0.9, 0.5, 0.2, 0.05, 0])
    counts[7] = 0
    frequency = [0.0] * 5
    rows = [row for row in counts.tolist() if sum(row)]
    for row in rows:
        for c in range(5):
            frequency[c] += row[c] / sum(row) / len(rows)
    raw = [
        sum(row[c] / sum(row) / frequency[c] for c in range(5) if row[c]) for row in counts.tolist()
    ]
    raw = [value or min(v for v in raw if v) for value in raw]  # nothing labelled: the smallest
    found = sampling.inverse_frequency(counts.astype(np.uint16), cap)
    expected = np.ones(60) if cap == 1 else capped_slowly(np.array(raw), cap)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.mean() == pytest.approx(1, abs=1e-14)
    assert found.max() <= cap


def test_rare_classes_come_as_often_as_others_up_to_the_cap():
    of = np.repeat([0, 1, 2], [900, 90, 10])

    def shares(cap):
        weights = sampling.inverse_frequency(np.eye(3, dtype=np.uint8)[of], cap)
        drawn = sampling.weighted_order(np.arange(5000), sampling.cumulate(weights), seed=0)
        return np.bincount(of[drawn], minlength=3) / 5000

    np.testing.assert_allclose(shares(1e6), 1 / 3, atol=1e-3)
    np.testing.assert_allclose(shares(10), [0.45, 0.45, 0.1], atol=1e-3)
    np.testing.assert_allclose(shares(1), [0.9, 0.09, 0.01], atol=1e-12)


def test_nothing_labelled_at_all_is_uniform():
    np.testing.assert_array_equal(sampling.inverse_frequency(np.zeros((4, 3)), 10), np.ones(4))


@pytest.mark.parametrize("weights", [[], [1.0, 1.5], [3.0, -1.0], [np.nan, 1.0]])
def test_what_is_no_weights_is_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        sampling.cumulate(np.array(weights))
