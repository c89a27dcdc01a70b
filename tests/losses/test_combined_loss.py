"""The weighted sum of losses, and every mistake in its config in one message."""

import jax
import numpy as np
import pytest
from loss_cases import case
from ml_collections import ConfigDict

from rsjax import losses
from rsjax.errors import ConfigError
from rsjax.losses import combined


def test_the_sum_of_losses_with_weights_and_options():
    c = case((2, 3, 2))
    arguments = {"mask": c["mask"], "class_weights": c["weights"]}
    # As a config gives them.
    options = ConfigDict({"focal": {"gamma": 1.0}, "dice": {"per_image": True}})
    loss = combined.make([("focal", 2.0), ["dice", 1]], options, kind="softmax")

    def by_hand(logits):
        focal = losses.get("focal")(logits, c["index"], gamma=1.0, **arguments)
        return 2 * focal + losses.get("dice")(logits, c["index"], per_image=True, **arguments)

    both = jax.jit(lambda x: (loss(x, c["index"], **arguments), by_hand(x)))
    value, expected = both(c["logits"].astype(np.float32))
    assert value.dtype == np.float32
    assert expected > 0.1
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_every_problem_is_in_one_message():
    pairs = [("fokal", 1.0), ("dice", 0.0), ("focal", "1"), ("asymmetric", True), ("jaccard",)]
    options = {
        "focal": {"gama": 2.0, "gamma": "2"},
        "dice": {"per_image": 1},
        "tversky": {"alpha": 0.3},
    }
    with pytest.raises(ConfigError) as caught:
        combined.make(pairs, options, kind="softmax")
    message = str(caught.value)
    for problem in (
        "unknown loss 'fokal'; known losses: boundary_cross_entropy, cross_entropy, dice, focal,",
        "the weight of 'dice' is 0.0, expected a number above 0",
        "the weight of 'focal' is '1'",
        "the weight of 'asymmetric' is True",
        "'asymmetric' is a sigmoid loss, this task takes: boundary_cross_entropy",
        "('jaccard',) is not (name, weight)",
        "'focal' has no option 'gama'; its options: gamma",
        "'gamma' of 'focal' is '2', expected a number",
        "'per_image' of 'dice' is 1, expected True or False",
        "options for 'tversky', which is not among the losses",
    ):
        assert problem in message


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), None])
def test_weights_that_are_no_numbers_above_zero_are_refused(weight):
    with pytest.raises(ConfigError, match="the weight of 'dice'"):
        combined.make([("dice", weight)])


def test_what_does_not_fit_the_task_is_refused():
    boundary = [("boundary_cross_entropy", 1.0)]
    assert callable(combined.make(boundary, kind="softmax"))
    with pytest.raises(ConfigError, match="needs labels of pixels"):
        combined.make(boundary, pixels=False)
    with pytest.raises(ConfigError, match="takes no mixtures of labels"):
        combined.make([("lovasz_hinge", 1.0)], kind="sigmoid", mixtures=True)
    with pytest.raises(ConfigError, match="'dice' stands 2 times"):
        combined.make([("dice", 1.0), ("dice", 2.0)])
    with pytest.raises(ConfigError, match="none given"):
        combined.make([])


def test_options_of_the_contract_are_not_options():
    with pytest.raises(ConfigError, match="'dice' has no option 'mask'; its options: per_image"):
        combined.make([("dice", 1.0)], {"dice": {"mask": None}})
    assert combined.options_of("focal") == {"gamma": 2.0}
    # Every loss has a signature that the check can read.
    for name in losses.LOSSES:
        assert not set(combined.options_of(name)) & set(combined.GIVEN)
