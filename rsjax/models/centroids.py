"""K-means: the class of a pixel is that of the nearest centroid.

MacQueen 1967, Some Methods for Classification and Analysis of Multivariate Observations. Fitting is
done elsewhere (`rsjax.classic`). A class may have several centroids, or none. Logits are those of
a mixture of equal round clusters: less half the squared distance to the class's nearest centroid,
in units of the variance within clusters.

    shift, scale  (F,) float32   features are (x - shift) * scale, which weighs them alike
    centroid      (clusters, F) float32
    owner         (clusters,) int32    class of each
    variance      (1,) float32         mean squared distance of a pixel to its centroid, a feature
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rsjax.models import pixel_features
from rsjax.models.trees import FLOOR, stored


class KMeans(nn.Module):
    """Nearest centroids.

    Attributes:
        num_classes: classes K.
        radius_px, indices, physical, per_image: see `pixel_features.Features`; in a config,
            `indices` has names, see docs/classic.md.
        dtype: of other models; distances are always float32.
    """

    num_classes: int
    radius_px: int = 0
    indices: tuple[Any, ...] = ()
    physical: tuple[tuple[float, float], ...] = ()
    per_image: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits (B, H, W, K), or (B, K) of images, from standardised bands (B, H, W, C)."""
        found = pixel_features.of_fields(self)(x)
        arrays = stored(self, empty(found.shape[-1]))
        square = nearest(arrays, found.reshape(-1, found.shape[-1]), self.num_classes)
        logits = jax.nn.log_softmax(-0.5 * square / arrays["variance"])
        logits = jnp.maximum(logits, np.float32(np.log(FLOOR)))
        return logits.reshape(*found.shape[:-1], self.num_classes)


def nearest(arrays: dict[str, Any], x: jax.Array, classes: int) -> jax.Array:
    """The squared distance to the nearest centroid of each class, (N, F) -> (N, K).

    Infinite for a class without one. A centroid at a time: memory is N times K, and differences
    are squared themselves, so that near centroids are told apart.
    """
    scaled = (x - arrays["shift"][None]) * arrays["scale"][None]

    def one(best: jax.Array, cluster: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        centroid, owner = cluster
        square = jnp.square(scaled - centroid[None]).sum(axis=1, keepdims=True)
        own = jnp.arange(classes, dtype=jnp.int32)[None] == owner
        return jnp.where(own, jnp.minimum(best, square), best), None

    start = jnp.full((len(x), classes), jnp.inf, jnp.float32)
    return jax.lax.scan(one, start, (arrays["centroid"], arrays["owner"]))[0]


def empty(features: int) -> dict[str, Any]:
    """One centroid, of the first class."""
    return {
        "shift": np.zeros(features, np.float32),
        "scale": np.ones(features, np.float32),
        "centroid": np.zeros((1, features), np.float32),
        "owner": np.zeros(1, np.int32),
        "variance": np.ones(1, np.float32),
    }


kmeans = KMeans
