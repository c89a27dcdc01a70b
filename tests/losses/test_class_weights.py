"""Class weights of every rule, by hand."""

import numpy as np
import pytest

from rsjax import config
from rsjax.errors import ConfigError
from rsjax.losses import weights


def ratios(array):
    """To the first class; the mean is 1 whatever the rule."""
    assert array.dtype == np.float32
    np.testing.assert_allclose(array.mean(), 1.0, rtol=1e-6)
    return array / array[0]


def test_no_rule_and_no_counts_give_none():
    assert weights.class_weights("none", [1, 2]) is None
    for rule in weights.RULES:
        assert weights.class_weights(rule, None) is None


def test_inverse():
    found = weights.class_weights("inverse", [10, 40, 0])
    np.testing.assert_allclose(ratios(found), [1, 0.25, 1], rtol=1e-6)


def test_effective_number():
    # The geometric series 1 + beta + beta^2 + ... of count terms.
    beta, counts = 0.9, [3, 8, 30]
    numbers = np.array([sum(beta**k for k in range(n)) for n in counts])
    found = weights.class_weights("effective_number", counts, beta)
    np.testing.assert_allclose(ratios(found), numbers[0] / numbers, rtol=1e-6)


def test_effective_number_lies_between_no_weights_and_inverse():
    counts = [1, 7, 100, 0]
    np.testing.assert_array_equal(weights.class_weights("effective_number", counts, 0.0), 1.0)
    np.testing.assert_allclose(
        weights.class_weights("effective_number", counts, 0.99999999),
        weights.class_weights("inverse", counts),
        rtol=1e-5,
    )


def test_median_frequency():
    counts, totals = [10, 40, 30, 0], [20, 400, 60, 0]  # frequencies 0.5, 0.1, 0.5
    found = weights.class_weights("median_frequency", counts, present_totals=totals)
    np.testing.assert_allclose(ratios(found), [1, 5, 1, 1], rtol=1e-6)


def test_median_frequency_of_shares_of_all_pixels_is_inverse():
    counts = [10, 40, 0, 7]
    np.testing.assert_allclose(
        weights.class_weights("median_frequency", counts),
        weights.class_weights("inverse", counts),
        rtol=1e-6,
    )


@pytest.mark.parametrize("rule", weights.RULES[1:])
def test_a_class_without_samples_gets_the_weight_of_the_rarest(rule):
    found = weights.class_weights(rule, [50, 0, 3, 0])
    assert found[1] == found[2] == found[3]
    assert found[2] > found[0]


def test_the_rules_are_those_of_the_config():
    assert set(config.CHOICES["task.class_weights"]) == set(weights.RULES)


def test_what_cannot_be_weighed_is_refused():
    with pytest.raises(ConfigError, match="known rules: none, inverse"):
        weights.class_weights("sqrt", [1])
    with pytest.raises(ConfigError, match=r"effective_beta is 1\.0"):
        weights.class_weights("effective_number", [1], 1.0)
    with pytest.raises(ConfigError, match="no class has a sample"):
        weights.class_weights("inverse", [0, 0])
    with pytest.raises(ConfigError, match="none below its count"):
        weights.class_weights("median_frequency", [5, 5], present_totals=[4, 9])
    with pytest.raises(ConfigError, match="one per class"):
        weights.class_weights("median_frequency", [5, 5], present_totals=[9])
