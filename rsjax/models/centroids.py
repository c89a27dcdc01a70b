"""K-means: the class of a pixel is that of the nearest centroid.

MacQueen 1967, Some Methods for Classification and Analysis of Multivariate Observations. Fitting is
done elsewhere (`rsjax.classic`). The probabilities of a pixel are the class frequencies of the
training pixels of its nearest centroid, so that its class is that of their majority. Where clusters
are the classes, they are those of a mixture of equal round clusters: logits are less half the
squared distance, in units of the variance within clusters.

    shift, scale  (F,) float32   features are (x - shift) * scale, which weighs them alike
    centroid      (clusters, F) float32
    frequency     (clusters, K) float32    class frequencies of each; unused where not named
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
        named: whether clusters have class frequencies; else each is a class.
        radius_px, indices, physical, per_image: see `pixel_features.Features`; in a config,
            `indices` has names, see docs/classic.md.
        dtype: of other models; distances are always float32.
    """

    num_classes: int
    named: bool = True
    radius_px: int = 0
    indices: tuple[Any, ...] = ()
    physical: tuple[tuple[float, float], ...] = ()
    per_image: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits (B, H, W, K), or (B, K) of images, from standardised bands (B, H, W, C)."""
        found = pixel_features.of_fields(self)(x)
        clusters = 1 if self.named else self.num_classes
        arrays = stored(self, empty(found.shape[-1], clusters, self.num_classes))
        square = squares(arrays, found.reshape(-1, found.shape[-1]))
        if self.named:
            frequency = arrays["frequency"][square.argmin(axis=1)]
            logits = jnp.log(jnp.maximum(frequency, FLOOR))
        else:
            logits = jax.nn.log_softmax(-0.5 * square / arrays["variance"][0])
        logits = jnp.maximum(logits, np.float32(np.log(FLOOR)))
        return logits.reshape(*found.shape[:-1], self.num_classes)


def squares(arrays: dict[str, Any], x: jax.Array) -> jax.Array:
    """Squared distances of rows of features to all centroids, (N, F) -> (N, clusters).

    A centroid at a time, and of differences: memory stays N times the larger of F and clusters, and
    nothing cancels between centroids that lie near each other.
    """
    scaled = (x - arrays["shift"][None]) * arrays["scale"][None]

    def one(centroid: jax.Array) -> jax.Array:
        return jnp.square(scaled - centroid[None]).sum(axis=1)

    return jax.lax.map(one, arrays["centroid"]).T


def empty(features: int, clusters: int, classes: int) -> dict[str, Any]:
    """Centroids that know nothing."""
    return {
        "shift": np.zeros(features, np.float32),
        "scale": np.ones(features, np.float32),
        "centroid": np.zeros((clusters, features), np.float32),
        "frequency": np.full((clusters, classes), 1 / max(classes, 1), np.float32),
        "variance": np.ones(1, np.float32),
    }


kmeans = KMeans
