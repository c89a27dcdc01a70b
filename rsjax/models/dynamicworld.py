"""Dynamic World's network: residual blocks of depthwise convolutions at half the resolution.

Brown et al. 2022, https://doi.org/10.1038/s41597-022-01307-4; the published graph is
https://github.com/google/dynamicworld, in whose order `pretrained.dynamicworld` names its arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rsjax.errors import ConfigError
from rsjax.models.layers import BatchNorm, Conv
from rsjax.models.resampling import resize

Array = jax.Array

EPSILON = 1e-3  # Keras' default, added to the variance
PAIRS = 3  # of a pointwise and a depthwise convolution, in a block


def squash(reflectance: Array, percentiles: Sequence[tuple[float, float]]) -> Array:
    """Reflectances to (0, 1): logistic(5 (log(0.005 x + 1) - a) / b - 1) for each band.

    Args:
        reflectance: (B, H, W, C), reflectance times 10000; negative values count as 0.
        percentiles: (a, b) of each band.

    Raises:
        ConfigError: there are not as many as bands.

    Source: single_image_runner.ipynb of the publishers' repository.
    """
    if len(percentiles) != reflectance.shape[-1]:
        raise ConfigError(
            f"{len(percentiles)} percentiles for {reflectance.shape[-1]} bands; give a pair each"
        )
    low, scale = (
        np.asarray(side, np.float32).reshape(1, 1, 1, -1) for side in zip(*percentiles, strict=True)
    )
    logs = jnp.log1p(jnp.maximum(reflectance.astype(jnp.float32), 0) * 0.005)
    return nn.sigmoid((logs - low) / scale * 5 - 1)


def mish(x: Array) -> Array:
    """The activation x tanh(log(1 + exp(x))); Misra, arXiv:1908.08681."""
    return x * jnp.tanh(nn.softplus(x))


def unit_length(x: Array) -> Array:
    """Vectors along the last axis, brought to length 1; those shorter than 1e-6 times 1e6."""
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * lax.rsqrt(jnp.maximum(squares, 1e-12))


class Unit(nn.Module):
    """Convolution, batch norm, Mish.

    Attributes:
        features: output channels.
        kernel_size: taps along both axes.
        depthwise: each channel by itself.
        dtype: compute type.
    """

    features: int
    kernel_size: int = 1
    depthwise: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H, W, features); zeros around the image."""
        groups = self.features if self.depthwise else 1
        conv = Conv(self.features, self.kernel_size, groups=groups, dtype=self.dtype, name="conv")
        norm = BatchNorm(dtype=self.dtype, epsilon=EPSILON, name="bn")
        return mish(norm(conv(x), train))


class Block(nn.Module):
    """Pointwise and depthwise convolutions in turn, plus a pointwise one of the block's input.

    Attributes:
        features: output channels.
        dtype: compute type.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H, W, features)."""
        shortcut = Unit(self.features, dtype=self.dtype, name="shortcut")(x, train)
        for pair in range(1, PAIRS + 1):
            x = Unit(self.features, dtype=self.dtype, name=f"pw{pair}")(x, train)
            x = Unit(self.features, 3, True, self.dtype, name=f"dw{pair}")(x, train)
        return x + shortcut


class DynamicWorld(nn.Module):
    """The network of Dynamic World; a pixel of its map sees 22 around it.

    With `percentiles` it takes reflectances times 10000, see `Inputs.rescale`; without,
    standardised bands as the other models.

    Attributes:
        num_classes: length of a pixel's logits.
        width: channels of the skip and the stem are 1.5 and 2 times as many.
        multiplier: growth of the channels at each of the first two blocks.
        percentiles: of each band, what `squash` takes off and divides by; empty: no such squashing.
        dtype: compute type; parameters, statistics and logits are float32.
    """

    num_classes: int
    width: int = 32
    multiplier: float = 1.5
    percentiles: Sequence[tuple[float, float]] = ()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, H, W, num_classes) float32, of images (B, H, W, C)."""
        batch, height, width = x.shape[:3]
        narrow, stem = round(self.width * self.multiplier), 2 * self.width
        middle, wide = (round(stem * self.multiplier**power) for power in (1, 2))
        if self.percentiles:
            x = squash(x, self.percentiles)
        x = Unit(stem, 3, dtype=self.dtype, name="stem")(x, train)
        half = (batch, height // 2, width // 2, stem)
        x = jax.image.resize(x.astype(jnp.float32), half, "linear", antialias=True)
        x = x.astype(self.dtype)
        skip = Unit(narrow, dtype=self.dtype, name="skip_pw")(x, train)
        skip = Unit(narrow, 3, True, self.dtype, name="skip_dw")(skip, train)
        x = Block(middle, self.dtype, name="block1")(x, train)
        x = Block(wide, self.dtype, name="block2")(x, train)
        x = Block(wide, self.dtype, name="block3")(jnp.concatenate([x, skip], axis=-1), train)
        x = resize(x.astype(jnp.float32), height, width)
        return Conv(self.num_classes, 1, use_bias=True, name="classifier")(unit_length(x))


dynamicworld = DynamicWorld
