"""What classic models see of a pixel or of an image, computed on the device from its bands.

Of a pixel: the bands, as they come in; normalised differences of two bands; and of these the mean
and standard deviation over a square around the pixel. Of an image: mean, standard deviation and
percentiles of all of these over its pixels. Fitting and prediction share this code, so that a
threshold decides alike in both.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsjax.errors import ConfigError

PERCENTILES = (10, 50, 90)
LARGEST_RADIUS = 7  # pixels; each pixel of the square is one more addition


@dataclasses.dataclass(frozen=True)
class Features:
    """Which features; hashable, made from a model's fields.

    Attributes:
        radius_px: half the side of the square less half a pixel; 0: no neighbourhood.
        indices: pairs of channels (a, b), for (a - b) / (a + b).
        physical: of each channel (factor, offset): its value as reflectance, or as a number in
            proportion to it, is factor * input + offset. Only used by `indices`.
        per_image: whether one row is made of each image instead of each pixel.
    """

    radius_px: int = 0
    indices: tuple[tuple[int, int], ...] = ()
    physical: tuple[tuple[float, float], ...] = ()
    per_image: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.radius_px <= LARGEST_RADIUS:
            raise ConfigError(
                f"radius_px={self.radius_px}: must lie in [0, {LARGEST_RADIUS}]; 1 is a square of "
                "3 x 3 pixels"
            )
        known = range(len(self.physical))
        if any(not isinstance(i, int) or i not in known for pair in self.indices for i in pair):
            raise ConfigError(
                f"indices={self.indices}: channels without physical values ({len(known)} have "
                "them). Names of bands and indices become channels when a model is fitted"
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features of standardised bands.

        Args:
            x: (B, H, W, C).

        Returns:
            float32 (B, H, W, F), or (B, F) of images, as `names` has them.
        """
        x = x.astype(jnp.float32)
        parts = [x, *(self._difference(x, *pair) for pair in self.indices)]
        found = jnp.concatenate(parts, axis=-1)
        if self.radius_px:
            found = jnp.concatenate([found, *neighbourhood(found, self.radius_px)], axis=-1)
        if not self.per_image:
            return found
        flat = found.reshape(len(x), -1, found.shape[-1])
        points = np.asarray(PERCENTILES, np.float32)
        ranked = jnp.percentile(flat, points, axis=1)
        return jnp.concatenate([flat.mean(axis=1), flat.std(axis=1), *ranked], axis=-1)

    def _difference(self, x: jax.Array, a: int, b: int) -> jax.Array:
        """(a - b) / (a + b) in [-1, 1], (B, H, W, 1); 0 where the sum is as good as 0."""
        one, other = (
            x[..., i : i + 1] * np.float32(self.physical[i][0]) + np.float32(self.physical[i][1])
            for i in (a, b)
        )
        total = one + other
        usable = jnp.abs(total) > 1e-6
        ratio = (one - other) / jnp.where(usable, total, 1)
        return jnp.where(usable, jnp.clip(ratio, -1, 1), 0)

    def names(self, bands: Sequence[str]) -> list[str]:
        """Names of the features, in their order, from those of the channels."""
        found = [*bands, *(f"({bands[a]} - {bands[b]}) / sum" for a, b in self.indices)]
        if self.radius_px:
            side = f"{2 * self.radius_px + 1}x{2 * self.radius_px + 1}"
            square = [f"{what} {side} of {n}" for what in ("mean", "std") for n in found]
            found = [*found, *square]
        if not self.per_image:
            return found
        kinds = ("mean", "std", *(f"percentile {p}" for p in PERCENTILES))
        return [f"{kind} of {name}" for kind in kinds for name in found]


def neighbourhood(x: jax.Array, radius: int) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation over the square around each pixel, as far as it is in the image.

    Deviations from the pixel itself are summed: nothing cancels where a square is even.

    Args:
        x: (B, H, W, C).
        radius: in pixels; the square has 2 * radius + 1 a side.

    Returns:
        both float32 (B, H, W, C).
    """
    height, width = x.shape[1:3]
    pad = ((0, 0), (radius, radius), (radius, radius), (0, 0))
    padded = jnp.pad(x, pad)
    inside = np.pad(np.ones((1, height, width, 1), np.float32), pad)
    total, square = jnp.zeros_like(x), jnp.zeros_like(x)
    count = np.zeros((1, height, width, 1), np.float32)
    for row, column in itertools.product(range(2 * radius + 1), repeat=2):
        at = np.s_[:, row : row + height, column : column + width]
        apart = (padded[at] - x) * inside[at]
        total, square, count = total + apart, square + apart * apart, count + inside[at]
    mean = total / count
    return x + mean, jnp.sqrt(jnp.maximum(square / count - mean * mean, 0))


def of_fields(module: Any) -> Features:
    """The features of a classic model, which has the same fields."""
    pairs = tuple(tuple(pair) for pair in module.indices)
    return Features(module.radius_px, pairs, module.physical, module.per_image)
