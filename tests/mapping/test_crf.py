"""The field against loops over pairs, and its window against all pairs."""

import numpy as np
import pytest

from rsjax.errors import ConfigError
from rsjax.mapping import crf
from rsjax.mapping.crf import Crf

SHAPE, K, B = (9, 11), 3, 2


def random(seed, shape=SHAPE):
    rng = np.random.default_rng(seed)
    unary = -np.log(rng.dirichlet(np.ones(K), shape)).transpose(2, 0, 1).astype(np.float32)
    bands = rng.normal(size=(B, *shape)).astype(np.float32)
    costs = np.triu(rng.uniform(0.2, 2, (K, K)), 1)
    return unary, bands, rng.random(shape) < 0.8, (costs + costs.T).astype(np.float32)


def slow(unary, bands, valid, costs, settings, radius=99):
    """Algorithm 1 of Krähenbühl & Koltun, a pair at a time in float64."""
    places = [(r, c) for r, c in np.ndindex(valid.shape) if valid[r, c]]
    kernels = []
    for theta, beta in ((settings.theta_alpha, settings.theta_beta), (settings.theta_gamma, None)):
        kernel = np.zeros((len(places),) * 2)
        for i, (r, c) in enumerate(places):
            for j, (s, d) in enumerate(places):
                if max(abs(r - s), abs(c - d)) > radius:
                    continue
                power = ((r - s) ** 2 + (c - d) ** 2) / (2 * theta**2)
                if beta:
                    power += sum((bands[:, r, c] - bands[:, s, d]) ** 2) / (2 * beta**2)
                kernel[i, j] = np.exp(-power)
        total = kernel.sum(axis=1)
        for i in range(len(places)):
            for j in range(len(places)):
                kernel[i, j] = 0 if i == j else kernel[i, j] / np.sqrt(total[i] * total[j])
        kernels.append(kernel)
    pair = settings.appearance * kernels[0] + settings.smoothness * kernels[1]
    start = np.exp(-unary.astype(np.float64))
    found = start / start.sum(axis=0)
    for _ in range(settings.iterations):
        new = found.copy()
        for i, (r, c) in enumerate(places):
            message = np.zeros(K)
            for j, (s, d) in enumerate(places):
                message += pair[i, j] * found[:, s, d]
            energy = unary[:, r, c] + costs @ message
            new[:, r, c] = np.exp(-energy) / np.exp(-energy).sum()
        found = new
    return found


SETTINGS = Crf(2.0, 1.5, 2.0, 1.3, 1.2, iterations=3, radius=2)
WIDE = Crf(2.0, 1.5, 2.0, 1.3, 1.2, iterations=3, radius=10)  # reaches across the image


def test_all_pairs_and_those_of_a_window_are_as_loops_say():
    unary, bands, valid, costs = random(0)
    valid &= random(1)[2]
    for settings, radius in ((WIDE, 99), (SETTINGS, 2)):
        found = crf.exact(unary, bands, valid, costs, settings, window=radius == 2)
        expected = slow(unary, bands, valid, costs, settings, radius)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_the_window_is_exact_within_it_and_exact_where_it_covers_the_image():
    for seed, settings in ((1, SETTINGS), (2, SETTINGS), (3, WIDE)):
        unary, bands, valid, costs = random(seed)
        found = crf.mean_field(unary, bands, valid, costs, settings)
        np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
        window = settings == SETTINGS
        expected = crf.exact(unary, bands, valid, costs, settings, window=window)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
        assert np.abs(found - np.exp(-unary)).max() > 0.1


def test_what_is_not_valid_is_heard_by_nobody():
    unary, bands, valid, costs = random(3)
    found = np.asarray(crf.mean_field(unary, bands, valid, costs, SETTINGS))
    other, rest = unary.copy(), bands.copy()
    other[:, ~valid], rest[:, ~valid] = 0, 1e20
    again = np.asarray(crf.mean_field(other, rest, valid, costs, SETTINGS))
    np.testing.assert_array_equal(found[:, valid], again[:, valid])
    np.testing.assert_allclose(again[:, ~valid], 1 / K, rtol=1e-6)


def test_without_weights_nothing_changes_and_bands_hold_borders():
    unary, bands, valid, _ = random(4)
    table = crf.potts(K)
    still = Crf(0, 0, 2.0, 1.3, 1.2, iterations=3, radius=2)
    found = crf.mean_field(unary, bands, valid, table, still)
    np.testing.assert_allclose(found, np.exp(-unary), atol=1e-6)
    # Two fields of one colour each, with a wrong pixel in each and one at their border.
    truth = np.zeros(SHAPE, int)
    truth[:, 6:] = 1
    noisy = truth.copy()
    noisy[3, 3], noisy[6, 8], noisy[5, 5] = 1, 0, 1
    shares = np.where(np.arange(K)[:, None, None] == noisy, 0.6, 0.2)
    costs, bands = -np.log(shares).astype(np.float32), np.stack([4.0 * truth, 0.0 * truth])
    all_valid = np.ones(SHAPE, bool)
    found = crf.mean_field(costs, bands, all_valid, table, Crf(3, 0, 2, 1, 1, 3, 2))
    np.testing.assert_array_equal(found.argmax(axis=0), truth)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"theta_beta": 0}, "theta_beta=0, expected a number from 0.001 to 1,000,000"),
     ({"radius": 2.5}, "radius=2.5, expected a whole number"),
     ({"smoothness": -1}, "smoothness=-1, expected a number from 0 to"),
     ({"theta_beta": 1e-30}, "theta_beta=1e-30"), ({"appearance": 1e38}, "appearance=1e[+]38"),
     ({"iterations": 2**40}, "iterations=1099511627776, expected a whole number from 1 to 1,000"),
     ({"theta_alpha": float("nan")}, "theta_alpha=nan"), ({"iterations": "5"}, "iterations='5'")],
)  # fmt: skip
def test_parameters_that_cannot_be_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Crf(**given)


def test_the_halo_is_as_wide_as_what_a_pixel_hears_of_and_no_wider():
    settings = Crf(6.0, 3.0, 2.0, 1.5, 1.0, iterations=2, radius=1)
    unary, bands, _, costs = random(5, (20, 20))
    core = np.s_[:, 8:12, 8:12]

    def seen(halo):
        """The core, from a tile with this halo: nothing counts beyond it."""
        valid = np.zeros((20, 20), bool)
        valid[8 - halo : 12 + halo, 8 - halo : 12 + halo] = True
        return np.asarray(crf.mean_field(unary, bands, valid, costs, settings))[core]

    whole = seen(8)
    np.testing.assert_allclose(seen(settings.halo), whole, rtol=0, atol=1e-6)
    assert np.abs(seen(settings.halo - 1) - whole).max() > 1e-4


def test_the_smallest_and_largest_parameters_give_finite_marginals():
    unary, bands, valid, _ = random(6)
    low, high = ({n: r[end] for n, r in crf.RANGES.items()} for end in (0, 1))
    for given in (low, high):
        settings = Crf(**{**given, "iterations": 1, "radius": 2})
        found = crf.mean_field(unary, 1e3 * bands, valid, 1e6 * crf.potts(K), settings)
        assert np.isfinite(found).all()
