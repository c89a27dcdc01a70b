"""Random forests and boosted trees as flat arrays, walked on the device.

Breiman 2001, Random Forests; Friedman 2001, Greedy Function Approximation: A Gradient Boosting
Machine. Fitting is done elsewhere (`rsjax.classic`); here are the decisions and their sum. All
trees lie one behind another, the two children of a node side by side:

    child      (nodes,) int32    the left child, the right one is the next; of a leaf, itself
    feature    (nodes,) int32    what the node compares; of a leaf, the row of its value
    threshold  (nodes,) float32  right if the feature is larger; of a leaf infinity: it stays there
    value      (leaves, K) float32
    root, depth  (trees,) int32  the first node of each tree, and the steps to its deepest leaf
    baseline   (K,) float32      of boosting, where the sum begins; -inf for a class without pixels

A tree at a time goes over all pixels of a batch: memory is some numbers a pixel, whatever the
number of trees.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rsjax.models import pixel_features

FLOOR = 1e-7  # the smallest probability: a forest has exact zeros, whose logarithm is none
Arrays = dict[str, Any]


class Trees(nn.Module):
    """The mean of the leaves (a forest) or their sum (boosting), as logarithms of probabilities.

    Attributes:
        num_classes: classes K.
        boosted: whether leaves are summed and go through a softmax.
        radius_px, indices, physical, per_image: see `pixel_features.Features`; in a config,
            `indices` has names, see docs/classic.md.
        dtype: of other models; thresholds are always compared in float32.
    """

    num_classes: int
    boosted: bool = False
    radius_px: int = 0
    indices: tuple[Any, ...] = ()
    physical: tuple[tuple[float, float], ...] = ()
    per_image: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits (B, H, W, K), or (B, K) of images, from standardised bands (B, H, W, C)."""
        arrays = stored(self, empty(self.num_classes))
        found = pixel_features.of_fields(self)(x)
        total = walk(arrays, found.reshape(-1, found.shape[-1]))
        if self.boosted:
            logits = jax.nn.log_softmax(total + arrays["baseline"][None])
        else:
            mean = total / arrays["root"].shape[0]
            logits = jnp.log(jnp.maximum(mean, FLOOR))
        logits = jnp.maximum(logits, np.float32(np.log(FLOOR)))
        return logits.reshape(*found.shape[:-1], self.num_classes)


def walk(arrays: Arrays, x: jax.Array) -> jax.Array:
    """The sum of the leaves that rows of features reach, (N, F) -> (N, K)."""
    child, feature, threshold = (arrays[name] for name in ("child", "feature", "threshold"))

    def step(_: Any, node: jax.Array) -> jax.Array:
        asked = feature[node][:, None]  # of a leaf beyond the features, which clip allows
        value = jnp.take_along_axis(x, asked, axis=1, mode="clip")[:, 0]
        return child[node] + (value > threshold[node]).astype(jnp.int32)

    def tree(total: jax.Array, one: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        root, depth = one
        start = jnp.full(x.shape[:1], root, jnp.int32)
        leaf = jax.lax.fori_loop(np.int32(0), depth, step, start)
        return total + arrays["value"][feature[leaf]], None

    total = jnp.zeros((x.shape[0], arrays["value"].shape[1]), jnp.float32)
    return jax.lax.scan(tree, total, (arrays["root"], arrays["depth"]))[0]


def empty(classes: int) -> Arrays:
    """One tree of one leaf that knows nothing."""
    zero = np.zeros(1, np.int32)
    return {
        "child": zero,
        "feature": zero,
        "threshold": np.full(1, np.inf, np.float32),
        "value": np.full((1, classes), 1 / max(classes, 1), np.float32),
        "root": zero,
        "depth": zero,
        "baseline": np.zeros(classes, np.float32),
    }


def stored(module: nn.Module, otherwise: Arrays) -> Arrays:
    """The arrays of a fitted model, of any size; those given where it was not fitted."""
    if module.has_variable("params", next(iter(otherwise))):
        found: Arrays = {name: module.get_variable("params", name) for name in otherwise}
    else:
        found = {name: module.param(name, lambda _, v=v: v) for name, v in otherwise.items()}
    return {name: jnp.asarray(value) for name, value in found.items()}


# Probabilities are the mean of the class frequencies in the leaves, or the softmax of their sum.
random_forest = Trees
gradient_boosting = functools.partial(Trees, boosted=True)
