"""Overlap losses against slow loops in float64, and scikit-learn where predictions are hard."""

import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import case, equals, one_hot, value_and_grad
from scipy import special
from sklearn import metrics

from rsjax import losses
from rsjax.errors import ConfigError

# alpha, beta and exponent of each.
FORMS = {
    "dice": (0.5, 0.5, 1.0),
    "jaccard": (1.0, 1.0, 1.0),
    "tversky": (0.2, 0.9, 1.0),
    "focal_tversky": (0.3, 0.7, 0.75),
}
OPTIONS = {"tversky": {"alpha": 0.2, "beta": 0.9}}


def loop(targets, mask, weights, form, per_image):
    alpha, beta, exponent = form

    def reference(logits):
        p = special.softmax(logits, axis=-1)
        groups = [[b] for b in range(len(mask))] if per_image else [range(len(mask))]
        total = divisor = 0.0
        for group in groups:
            for c in range(p.shape[-1]):
                hit = false = missed = size = 0.0
                for b in group:
                    for at in zip(*np.nonzero(mask[b]), strict=True):
                        have, want = p[b][at][c], targets[b][at][c]
                        hit += min(have, want)
                        false += max(have - want, 0)
                        missed += max(want - have, 0)
                        size += want
                if size > 0:
                    index = hit / (hit + alpha * false + beta * missed)
                    total += weights[c] * (1 - index) ** exponent
                    divisor += weights[c]
        return total / divisor

    return reference


@pytest.mark.parametrize(
    ("name", "kind", "per_image"),
    [
        ("dice", "index", False),
        ("jaccard", "mixture", False),
        ("tversky", "index", True),
        ("focal_tversky", "index", False),
        ("focal_tversky", "mixture", True),
    ],
)
def test_losses_and_gradients_equal_slow_loops(name, kind, per_image):
    c = case((2, 3, 2), seed=5)
    labels = c[kind].astype(np.uint8 if kind == "index" else np.float32)
    targets = one_hot(c["index"]) if kind == "index" else labels.astype(float)
    reference = loop(targets, c["mask"], c["weights"], FORMS[name], per_image)
    arguments = {"mask": c["mask"], "class_weights": c["weights"], "per_image": per_image}
    equals(name, reference, c["logits"], labels, **arguments, **OPTIONS.get(name, {}))


@pytest.mark.parametrize(
    ("name", "score"), [("dice", metrics.f1_score), ("jaccard", metrics.jaccard_score)]
)
def test_hard_predictions_give_the_scores_of_scikit_learn(name, score):
    c = case((40,), seed=6)
    mask, labels = c["mask"], c["index"]
    predicted = c["logits"].argmax(axis=-1)
    present = np.unique(labels[mask])
    expected = 1 - score(labels[mask], predicted[mask], labels=present, average="macro")
    value, _ = value_and_grad(name, 1000 * one_hot(predicted), labels, mask=mask)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_the_mixture_itself_has_no_loss():
    c = case((12,))
    mixture = c["mixture"].astype(np.float32)
    value, _ = value_and_grad("dice", np.log(mixture), mixture, mask=c["mask"])
    assert 0 <= value < 1e-6


def test_weights_of_the_errors_that_cannot_work_are_refused():
    arguments = (jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32))
    mask = jnp.ones(4, bool)
    with pytest.raises(ConfigError, match="alpha is -1"):
        losses.get("tversky")(*arguments, mask=mask, alpha=-1.0)
    with pytest.raises(ConfigError, match="beta is 0"):
        losses.get("focal_tversky")(*arguments, mask=mask, beta=0.0)
    with pytest.raises(ConfigError, match=r"gamma is 0\.5"):
        losses.get("focal_tversky")(*arguments, mask=mask, gamma=0.5)
