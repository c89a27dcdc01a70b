"""Which record comes when: the endless order of an epoch, and sampling by class.

Everything is a pure function of the position in the stream and a seed, so a run goes on from any
position with any number of hosts.
"""

from __future__ import annotations

import numpy as np
from grain.experimental import index_shuffle

UNIT = 2**30  # weights are counted in its fractions: integers, so that no rounding moves a draw
_OFFSET = 1  # names the seed of an epoch's offset; 0 would be the seed of its order


def order(positions: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The record index at each position of the endless stream.

    Args:
        positions: (B,) non-negative integers.
        count: number of records N.
        seed: seed of the order; every epoch has a seed of its own, drawn from it.

    Returns:
        (B,) int64 in [0, N); a permutation over each epoch.
    """
    seeds: dict[int, int] = {}
    out = np.empty(len(positions), np.int64)
    for row, position in enumerate(positions):
        epoch, index = divmod(int(position), count)
        if epoch not in seeds:
            seeds[epoch] = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
        out[row] = index_shuffle(index, max_index=count - 1, seed=seeds[epoch], rounds=4)
    return out


def weighted_order(positions: np.ndarray, cumulative: np.ndarray, seed: int) -> np.ndarray:
    """The record index at each position of an endless stream in which records have weights.

    Systematic sampling (Madow and Madow, Ann. Math. Stat. 15, 1944): the weights of the N records
    lie end to end on a line of length N; draw k of an epoch is the record at k + u, with one
    random offset u in [0, 1) an epoch. So a record of weight w is drawn floor(w) or ceil(w) times
    an epoch, w times on average over the epochs. The draws of an epoch come in the order of
    `order`; with equal weights this is `order` itself.

    Args:
        positions: (B,) non-negative integers.
        cumulative: (N,) int64, from `cumulate`.
        seed: seed of the order and the offsets.

    Returns:
        (B,) int64 in [0, N).
    """
    count = len(cumulative)
    draws = order(positions, count, seed)
    epochs, which = np.unique(np.asarray(positions, np.int64) // count, return_inverse=True)
    offsets = [
        np.random.SeedSequence([seed, int(epoch), _OFFSET]).generate_state(1)[0] % UNIT
        for epoch in epochs
    ]
    at = draws * UNIT + np.array(offsets, np.int64)[which]
    return np.searchsorted(cumulative, at, side="right").astype(np.int64)


def cumulate(weights: np.ndarray) -> np.ndarray:
    """The ends of the records on the line of `weighted_order`.

    Args:
        weights: (N,) not negative, with mean 1: how often each is drawn an epoch, on average.

    Returns:
        (N,) int64 in units of 1 / UNIT; the last is N * UNIT, exactly.

    Raises:
        ValueError: these are no weights.
    """
    weights = np.asarray(weights, np.float64)
    count = len(weights)
    if not count or not (weights >= 0).all() or abs(weights.sum() - count) > 1e-6 * count:
        raise ValueError(f"{count} weights with sum {weights.sum()}, expected >= 0 with mean 1")
    exact = weights * (UNIT * count / weights.sum())
    whole = np.floor(exact).astype(np.int64)
    missing = int(count * UNIT - whole.sum())  # rounding took less than 1 from each
    largest_remainders = np.argsort(whole - exact, kind="stable")
    whole[largest_remainders[: max(missing, 0)]] += 1
    ends = np.minimum(np.cumsum(whole), count * UNIT)
    ends[-1] = count * UNIT
    return ends


def inverse_frequency(histograms: np.ndarray, cap: float) -> np.ndarray:
    """Weights of records by the inverse frequency of their classes.

    With the shares s_ic = h_ic / sum_c h_ic of the classes in record i and their frequency
    f_c = mean_i s_ic over the records that have any, the weight of a record is sum_c s_ic / f_c:
    records of one class each are then drawn so that every class comes equally often. A record in
    which nothing is labelled has nothing to say about classes and gets the smallest weight of the
    others.

    Args:
        histograms: (N, K) pixels or labels of each class, without what is ignored. Classes that
            no record has play no part.
        cap: the largest weight, at least 1.

    Returns:
        (N,) float64 with mean 1, none above `cap`: what is cut off is given to the others in
        proportion to their weights.
    """
    shares = np.array(histograms, np.float64)
    totals = shares.sum(axis=1)
    labelled = totals > 0
    if not labelled.any():
        return np.ones(len(shares))
    shares /= np.where(labelled, totals, 1)[:, None]
    frequency = shares.sum(axis=0) / labelled.sum()
    weights = shares @ np.divide(1, frequency, out=np.zeros_like(frequency), where=frequency > 0)
    weights[~labelled] = weights[labelled].min()
    return _capped(weights, cap)


def _capped(weights: np.ndarray, cap: float) -> np.ndarray:
    """min(t * w, cap) with the one t for which the mean is 1; weights are positive, cap >= 1."""
    count = len(weights)
    falling = np.sort(weights)[::-1]
    rest = np.cumsum(falling[::-1])[::-1]  # of the j-th and all that are smaller
    scales = (count - cap * np.arange(count)) / rest  # t, if the j largest are cut
    fits = scales * falling <= cap
    fits &= scales > 0
    if not fits.any():  # cap = 1, but for rounding
        return np.ones(count)
    out = np.minimum(weights * scales[np.argmax(fits)], cap)
    return np.asarray(np.minimum(out / out.mean(), cap))
