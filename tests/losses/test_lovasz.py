"""Lovász losses against the definition of the extension over sets, in float64."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import case, equals, one_hot, value_and_grad
from scipy import special
from sklearn import metrics

from rsjax import losses


def jaccard_of_mistakes(truth, mistakes):
    """The Jaccard loss if exactly the positions in `mistakes` are predicted wrongly."""
    predicted = truth ^ mistakes
    union = truth | predicted
    return 1 - len(truth & predicted) / len(union) if union else 0.0


def extension(errors, truth):
    """The integral over thresholds of the loss of the set of positions with larger errors."""
    truth = set(np.flatnonzero(truth).tolist())
    levels = [*np.unique(errors)[::-1].tolist(), 0.0]
    total = 0.0
    for high, low in itertools.pairwise(levels):
        mistakes = set(np.flatnonzero(errors >= high).tolist())
        total += (high - low) * jaccard_of_mistakes(truth, mistakes)
    return total


def reference_of(name, targets, mask, weights, per_image):
    def reference(logits):
        groups = [[b] for b in range(len(mask))] if per_image else [list(range(len(mask)))]
        total = divisor = 0.0
        for group in groups:
            counted = mask[group]
            t, x = targets[group][counted], logits[group][counted]
            if name == "lovasz_softmax":
                errors = np.abs(t - special.softmax(x, axis=-1))
            else:
                errors = np.maximum(1 - x * (2 * t - 1), 0)
            for c in range(t.shape[-1]):
                if len(t) and (name == "lovasz_hinge" or t[:, c].any()):
                    total += weights[c] * extension(errors[:, c], t[:, c])
                    divisor += weights[c]
        return total / divisor

    return reference


@pytest.mark.parametrize("name", ["lovasz_softmax", "lovasz_hinge"])
@pytest.mark.parametrize("per_image", [False, True])
def test_losses_and_gradients_equal_the_extension_over_sets(name, per_image):
    c = case((3, 2, 3), seed=7)
    c["mask"][1] = False  # an image that does not count
    if name == "lovasz_softmax":
        labels, targets = c["index"].astype(np.uint8), one_hot(c["index"])
    else:
        labels = targets = c["multihot"] * np.array([1, 1, 1, 0])  # the last class is absent
    reference = reference_of(name, targets, c["mask"], c["weights"], per_image)
    arguments = {"mask": c["mask"], "class_weights": c["weights"], "per_image": per_image}
    equals(name, reference, c["logits"], labels, **arguments)


def test_hard_predictions_give_the_iou_of_scikit_learn():
    c = case((40,), seed=6)
    mask, labels = c["mask"], c["index"]
    predicted = c["logits"].argmax(axis=-1)
    present = np.unique(labels[mask])
    iou = metrics.jaccard_score(labels[mask], predicted[mask], labels=present, average="macro")
    value, _ = value_and_grad("lovasz_softmax", 1000 * one_hot(predicted), labels, mask=mask)
    np.testing.assert_allclose(value, 1 - iou, rtol=1e-6)


def test_small_steps_of_many_pixels_keep_their_digits():
    rng = np.random.default_rng(0)
    size = 2**16
    labels = rng.random((size, 1)) < 0.3
    logits = rng.uniform(-0.9, 0.9, (size, 1)).astype(np.float32)
    _, gradient = value_and_grad("lovasz_hinge", logits, labels, mask=np.ones(size, bool))

    signs = 2.0 * labels[:, 0] - 1
    order = np.argsort(-(1 - logits[:, 0] * signs), kind="stable")
    hits = labels[order, 0].astype(float)
    jaccard = 1 - (hits.sum() - np.cumsum(hits)) / (hits.sum() + np.cumsum(1 - hits))
    expected = np.empty(size)
    expected[order] = np.diff(jaccard, prepend=0.0)
    # As differences of float32 near 1, one in a hundred of these steps is off by 30 percent.
    # Errors that tie in float32 may be sorted otherwise: next to each other, so close in weight.
    counts = expected > 1e-9
    assert counts.sum() > size / 2
    off = np.abs(gradient[counts, 0] / (-signs * expected)[counts] - 1)
    assert np.quantile(off, 0.99) < 2e-5


def test_mixtures_are_refused():
    logits, mask = jnp.zeros((4, 3)), jnp.ones(4, bool)
    with pytest.raises(ValueError, match="takes no mixtures"):
        losses.get("lovasz_softmax")(logits, logits, mask=mask)
    value, _ = value_and_grad("lovasz_hinge", logits, np.full((4, 3), 0.5), mask=mask)
    assert np.isnan(value)
