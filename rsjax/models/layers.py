"""Layers that every architecture shares: the one convolution, batch norm, stochastic depth.

A convolution is lowered per platform: as itself on GPU and TPU, as a matrix product on CPU where
XLA's CPU convolution is slow (`benchmarks/conv_cpu.py` has the measurement). The mathematics is
the same everywhere; only the order of the float additions differs.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

MOMENTUM = 0.9  # of the running statistics: torchvision's momentum 0.1
EPSILON = 1e-5
PATCH_LIMIT = 2**20  # numbers per image
DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")

# torchvision's initialisation: `kaiming_normal_(mode='fan_out', nonlinearity='relu')` for
# convolutions, `nn.Linear`'s uniform of bound 1 / sqrt(inputs) for the classifier.
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
linear_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv2d(
    x: Array,
    kernel: Array,
    *,
    strides: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Array:
    """A two-dimensional convolution (cross-correlation), in the form fastest on the platform.

    Args:
        x: (B, H, W, C).
        kernel: (k, k, C / groups, D), of the dtype of `x`.
        strides: step of the output grid in pixels, both axes.
        padding: zeros added on each of the four sides.
        dilation: distance between the taps of the kernel in pixels.
        groups: number of groups of channels that do not see each other.

    Returns:
        (B, H', W', D) with H' = (H + 2 padding - dilation (k - 1) - 1) // strides + 1.
    """

    def native(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(strides, strides),
            padding=[(padding, padding)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=DIMENSION_NUMBERS,
            feature_group_count=groups,
        )

    if groups > 1 or not matmul_on_cpu(x.shape, kernel.shape, strides):
        return native(x, kernel)

    # So that x and the kernel are the only residuals: differentiation keeps those of every
    # platform's form on each of them, and the patches are large.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def matmul(x: Array, kernel: Array) -> Array:
        patches = _patches(x, kernel.shape[0], strides, padding, dilation)
        taps_in = kernel.reshape(-1, kernel.shape[-1])
        return lax.dot_general(patches, taps_in, (((3,), (0,)), ((), ())))

    return lax.platform_dependent(x, kernel, cpu=matmul, default=native)


def matmul_on_cpu(x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], strides: int) -> bool:
    """Whether a CPU computes this ungrouped convolution as patches times a matrix.

    That is faster for nearly every shape measured, up to 50 times where the map is no larger than
    the kernel; the limit is for memory, as the backward pass keeps the patches of every layer.
    """
    size, _, channels, _ = kernel_shape
    rows, cols = (-(-side // strides) for side in x_shape[1:3])
    return size == 1 or rows * cols * size * size * channels <= PATCH_LIMIT


def _patches(x: Array, size: int, strides: int, padding: int, dilation: int) -> Array:
    """What each output pixel sees, (B, H', W', size * size * C), taps in the kernel's order.

    By slices: `lax.conv_general_dilated_patches` is a convolution itself, and slow on CPU.
    """
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    batch, height, width, channels = x.shape
    reach = dilation * (size - 1)
    taps = [
        lax.slice(
            x,
            (0, row, col, 0),
            (batch, height - reach + row, width - reach + col, channels),
            (1, strides, strides, 1),
        )
        for row in range(0, reach + 1, dilation)
        for col in range(0, reach + 1, dilation)
    ]
    return taps[0] if len(taps) == 1 else jnp.concatenate(taps, axis=-1)


class Conv(nn.Module):
    """A square convolution, padded on all sides alike by dilation * (kernel_size // 2).

    That is torchvision's padding, not 'SAME' (which pads one side only where it strides).

    Attributes:
        features: output channels.
        kernel_size: taps along each axis.
        strides: step of the output grid in pixels.
        dilation: distance between taps in pixels.
        groups: groups of channels that do not see each other.
        use_bias: adds a bias per output channel.
        dtype: compute type; parameters are float32.
        kernel_init: initialiser of the kernel.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    dilation: int = 1
    groups: int = 1
    use_bias: bool = False
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = conv_init

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(B, H, W, C) to (B, H', W', features)."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = conv2d(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            strides=self.strides,
            padding=self.dilation * (self.kernel_size // 2),
            dilation=self.dilation,
            groups=self.groups,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return y


class BatchNorm(nn.Module):
    """Batch normalisation with torchvision's constants; Ioffe and Szegedy, arXiv:1502.03167.

    Statistics are float32 whatever the compute type, and over the whole batch, also where it is
    sharded. The running variance is the biased one (torch keeps the unbiased one).

    Attributes:
        dtype: type of the output.
        scale_init: initialiser of the scale.
    """

    dtype: Any = jnp.float32
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Normalises (..., C); by the batch's statistics where `train`, which it then tracks."""
        shape = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        x = x.astype(jnp.float32)
        if train:
            axes = tuple(range(x.ndim - 1))
            mean = jnp.mean(x, axes)
            # One pass over x; rounding may take the difference below zero.
            var = jnp.maximum(jnp.mean(jnp.square(x), axes) - jnp.square(mean), 0.0)
            if not self.is_initializing():
                running_mean.value = MOMENTUM * running_mean.value + (1 - MOMENTUM) * mean
                running_var.value = MOMENTUM * running_var.value + (1 - MOMENTUM) * var
        else:
            mean, var = running_mean.value, running_var.value
        mean, factor, bias = (
            jnp.expand_dims(v, tuple(range(x.ndim - 1)))
            for v in (mean, lax.rsqrt(var + EPSILON) * scale, bias)
        )
        return ((x - mean) * factor + bias).astype(self.dtype)


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch per image; Huang et al., arXiv:1603.09382.

    Attributes:
        rate: probability of a branch to be dropped; the kept ones are scaled by 1 / (1 - rate).
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """(B, ...), unchanged unless `train` and the rate is above 0; rng 'dropout'."""
        if not train or self.rate == 0:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, shape)
        return jnp.where(keep, x / (1 - self.rate), jnp.zeros_like(x))
