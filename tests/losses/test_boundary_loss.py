"""Boundaries against scipy's distance transform, and the loss with weights from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import CLASSES, case, equals, one_hot
from scipy import ndimage, special

from rsjax import losses
from rsjax.errors import ConfigError
from rsjax.losses import boundary


def near(labels, mask, radius):
    """One image, pixel by pixel."""
    edge = np.zeros(labels.shape, bool)
    for r, c in np.ndindex(labels.shape):
        for y, x in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
            if 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]:
                edge[r, c] |= mask[r, c] and mask[y, x] and labels[r, c] != labels[y, x]
    if not edge.any():
        return edge
    return ndimage.distance_transform_edt(~edge) <= radius


@pytest.mark.parametrize("radius", [0.0, 1.0, 1.5, 2.0, 3.7])
def test_near_pixels_are_those_of_the_distance_transform(radius):
    rng = np.random.default_rng(1)
    labels = (ndimage.gaussian_filter(rng.normal(size=(3, 24, 18)), (0, 4, 4)) > 0).astype(np.uint8)
    mask = np.ones(labels.shape, bool)
    mask[1, 5:12, 3:14] = False
    mask[1, 20, 4] = False
    labels[1][~mask[1]] = 255
    labels[2] = 7  # no boundary at all
    found = jax.jit(boundary.near_boundaries, static_argnums=2)(labels, mask, radius)
    expected = [near(*image, radius) for image in zip(labels, mask, strict=True)]
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.mean(expected[0]) < 1


def test_ignored_pixels_make_no_boundary():
    labels = np.zeros((1, 5, 5), np.uint8)
    labels[0, 2] = 255
    labels[0, 3:] = 1  # meets class 0 nowhere: the ignored row lies between
    found = jax.jit(boundary.near_boundaries, static_argnums=2)(labels, labels != 255, 3.0)
    assert not found.any()


def test_loss_and_gradient_equal_float64_with_weights_of_the_distance_transform():
    c = case((2, 5, 4), seed=2)
    c["index"][:, :, :2] = 0  # away from any boundary
    weights = [1 + 3 * near(*image, 1.0) for image in zip(c["index"], c["mask"], strict=True)]
    weights = np.asarray(weights, float)[..., None] * c["weights"]
    assert len(np.unique(weights[c["mask"]][:, 0])) == 2
    targets = one_hot(c["index"])
    smoothed = 0.9 * targets + 0.1 / CLASSES

    def reference(logits):
        terms = -weights * smoothed * special.log_softmax(logits, axis=-1)
        return terms[c["mask"]].sum() / (weights * targets)[c["mask"]].sum()

    labels = np.where(c["mask"], c["index"], 255).astype(np.uint8)
    options = {"radius_px": 1.0, "boundary_weight": 3.0, "label_smoothing": 0.1}
    arguments = {"mask": c["mask"], "class_weights": c["weights"], **options}
    equals("boundary_cross_entropy", reference, c["logits"], labels, **arguments)


def test_arguments_that_do_not_fit_are_refused():
    loss = losses.get("boundary_cross_entropy")
    logits, labels = jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2), jnp.int32)
    mask = jnp.ones((1, 2, 2), bool)
    with pytest.raises(ValueError, match=r"expected \(B, H, W, C\)"):
        loss(logits[0], labels[0], mask=mask[0])
    with pytest.raises(ValueError, match="takes no mixtures"):
        loss(logits, logits, mask=mask)
    with pytest.raises(ConfigError, match="radius_px is -1"):
        loss(logits, labels, mask=mask, radius_px=-1.0)
    with pytest.raises(ConfigError, match="boundary_weight is -1"):
        loss(logits, labels, mask=mask, boundary_weight=-1.0)
