"""Layers that every architecture shares: convolutions, normalisation, stochastic depth.

A convolution is lowered per platform: as itself on GPU and TPU; on CPU, where XLA's convolution is
slow and its gradient more so, as a matrix product (one per group), and a depthwise one as a sum of
shifted maps (`benchmarks/conv_cpu.py` has the measurements). The mathematics is the same
everywhere; only the order of the float additions differs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from rsjax.errors import ConfigError

Array = jax.Array
Pair = tuple[int, int]

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
    padding: int | Pair = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Array:
    """A two-dimensional convolution (cross-correlation), in the form fastest on the platform.

    Args:
        x: (B, H, W, C).
        kernel: (kh, kw, C / groups, D), of the dtype of `x`.
        strides: step of the output grid in pixels, both axes.
        padding: zeros added on each of the four sides; or above and below, left and right.
        dilation: distance between the taps of the kernel in pixels.
        groups: number of groups of channels that do not see each other.

    Returns:
        (B, H', W', D) with H' = (H + 2 padding - dilation (kh - 1) - 1) // strides + 1.
    """
    padding = pair(padding)
    size = (kernel.shape[0], kernel.shape[1])

    def native(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(strides, strides),
            padding=[(side, side) for side in padding],
            rhs_dilation=(dilation, dilation),
            dimension_numbers=DIMENSION_NUMBERS,
            feature_group_count=groups,
        )

    def matmul(x: Array, kernel: Array) -> Array:
        patches = jnp.concatenate(_taps(x, size, strides, padding, dilation), axis=-1)
        taps_in = kernel.reshape(-1, kernel.shape[-1])
        return lax.dot_general(patches, taps_in, (((3,), (0,)), ((), ())))

    def summed(x: Array, kernel: Array) -> Array:
        taps_in = kernel.reshape(-1, *kernel.shape[2:])
        taps = _taps(x, size, strides, padding, dilation)
        terms = [
            lax.dot_general(tap, weight, (((3,), (0,)), ((), ())))
            for tap, weight in zip(taps, taps_in, strict=True)
        ]
        return functools.reduce(jnp.add, terms)

    def grouped(x: Array, kernel: Array) -> Array:
        batch, height, width, channels = x.shape
        features = kernel.shape[-1]
        x = x.reshape(batch, height, width, groups, channels // groups)
        x = x.transpose(3, 0, 1, 2, 4).reshape(groups * batch, height, width, channels // groups)
        patches = jnp.concatenate(_taps(x, size, strides, padding, dilation), axis=-1)
        _, height, width, seen = patches.shape
        patches = patches.reshape(groups, batch * height * width, seen)
        taps_in = kernel.reshape(seen, groups, features // groups).transpose(1, 0, 2)
        y = lax.dot_general(patches, taps_in, (((2,), (1,)), ((0,), (0,))))
        y = y.reshape(groups, batch, height, width, features // groups)
        return y.transpose(1, 2, 3, 0, 4).reshape(batch, height, width, features)

    def depthwise(x: Array, kernel: Array) -> Array:
        wide = jnp.float32 if x.dtype.itemsize < 4 else x.dtype  # as a convolution adds up
        weights = kernel.astype(wide).reshape(-1, 1, 1, 1, kernel.shape[-1])
        taps = _taps(x, size, strides, padding, dilation)
        terms = [tap.astype(wide) * weight for tap, weight in zip(taps, weights, strict=True)]
        return functools.reduce(jnp.add, terms).astype(x.dtype)

    if groups == x.shape[3] == kernel.shape[3] > 1:
        form = depthwise
    elif groups > 1:
        form = grouped
    elif matmul_on_cpu(_grid(x, size, strides, padding, dilation), kernel.shape):
        form = matmul
    elif taps_on_cpu(kernel.shape, dilation):
        form = summed
    else:
        return native(x, kernel)
    # So that x and the kernel are the only residuals: differentiation keeps those of every
    # platform's form on each of them, and the patches are large.
    form = jax.checkpoint(form, prevent_cse=False)
    return lax.platform_dependent(x, kernel, cpu=form, default=native)


def matmul_on_cpu(grid: tuple[int, ...], kernel_shape: tuple[int, ...]) -> bool:
    """Whether a CPU computes this ungrouped convolution as patches times a matrix.

    That is faster for nearly every shape measured, up to 50 times where the map is no larger than
    the kernel; the limit is for memory. Sizes left open by `jax.export` count as too large.

    Args:
        grid: rows and columns of the output.
        kernel_shape: (kh, kw, C, D).
    """
    taps = kernel_shape[0] * kernel_shape[1]
    if not all(isinstance(side, int) for side in grid):
        return taps == 1
    return taps == 1 or grid[0] * grid[1] * taps * kernel_shape[2] <= PATCH_LIMIT


def taps_on_cpu(kernel_shape: tuple[int, ...], dilation: int) -> bool:
    """Whether a CPU adds up one product per tap where the patches are too large.

    XLA's own form is up to nine times slower for distant taps, and its gradient 14 times for wide
    kernels of many channels; for the others it is the faster one.
    """
    rows, cols, channels, _ = kernel_shape
    return dilation > 1 or (rows * cols > 25 and channels >= 64)


def _grid(x: Array, size: Pair, strides: int, padding: Pair, dilation: int) -> Pair:
    """Rows and columns of the output."""
    rows, cols = (
        (side + 2 * pad - dilation * (taps - 1) - 1) // strides + 1
        for side, pad, taps in zip(x.shape[1:3], padding, size, strict=True)
    )
    return rows, cols


def pair(value: int | Pair) -> Pair:
    """(rows, columns) of what may be given as one number for both."""
    return (value, value) if isinstance(value, int) else value


def _taps(x: Array, size: Pair, strides: int, padding: Pair, dilation: int) -> list[Array]:
    """What each tap of the kernel sees, kh * kw times (B, H', W', C), in the kernel's order.

    By slices: `lax.conv_general_dilated_patches` is a convolution itself, and slow on CPU.
    """
    x = jnp.pad(x, ((0, 0), *((side, side) for side in padding), (0, 0)))
    batch, height, width, channels = x.shape
    down, right = (dilation * (taps - 1) for taps in size)
    return [
        lax.slice(
            x,
            (0, row, col, 0),
            (batch, height - down + row, width - right + col, channels),
            (1, strides, strides, 1),
        )
        for row in range(0, down + 1, dilation)
        for col in range(0, right + 1, dilation)
    ]


class Conv(nn.Module):
    """A convolution, by default padded on both sides alike by dilation * (kernel_size // 2).

    That is torchvision's padding, not 'SAME' (which pads one side only where it strides).

    Attributes:
        features: output channels.
        kernel_size: taps along both axes, or (down, right).
        strides: step of the output grid in pixels.
        dilation: distance between taps in pixels.
        groups: groups of channels that do not see each other.
        padding: zeros on each side, or (above and below, left and right); None: the default.
        use_bias: adds a bias per output channel.
        dtype: compute type; parameters are float32.
        kernel_init: initialiser of the kernel.
    """

    features: int
    kernel_size: int | Pair = 3
    strides: int = 1
    dilation: int = 1
    groups: int = 1
    padding: int | Pair | None = None
    use_bias: bool = False
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = conv_init

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(B, H, W, C) to (B, H', W', features)."""
        size = pair(self.kernel_size)
        shape = (*size, x.shape[-1] // self.groups, self.features)
        same = (self.dilation * (size[0] // 2), self.dilation * (size[1] // 2))
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = conv2d(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            strides=self.strides,
            padding=same if self.padding is None else self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return y


class ConvTranspose(nn.Module):
    """A transposed convolution, torch's `ConvTranspose2d`: H to (H - 1) * strides - 2 p + k + e.

    The kernel is (kh, kw, features, C), Keras' layout and torch's by the rule for convolutions.

    Attributes:
        features: output channels.
        kernel_size: taps along both axes, k.
        strides: pixels of the output for each of the input.
        padding: rows and columns cut from each side of the whole output, p.
        output_padding: of these, how many are left at the bottom and right, e; at most p.
        use_bias: adds a bias per output channel.
        dtype: compute type; parameters are float32.
        kernel_init: initialiser of the kernel.
    """

    features: int
    kernel_size: int = 2
    strides: int = 2
    padding: int = 0
    output_padding: int = 0
    use_bias: bool = True
    dtype: Any = jnp.float32
    # Each output pixel sees k^2 / strides^2 taps; the last but one axis is the output's.
    kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(
        2.0, "fan_in", "normal", in_axis=-1, out_axis=-2
    )

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(B, H, W, C) to (B, H', W', features)."""
        size, step = self.kernel_size, self.strides
        shape = (size, size, self.features, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        batch, height, width, _ = x.shape
        if size == step and self.padding == 0:  # no overlap: one product, then pixels in place
            y = jnp.einsum("bhwc,ijoc->bhiwjo", x, kernel)
            y = y.reshape(batch, height * size, width * size, self.features)
        else:
            edge = size - 1 - self.padding
            y = lax.conv_general_dilated(
                x,
                kernel[::-1, ::-1],
                window_strides=(1, 1),
                padding=[(edge, edge + self.output_padding)] * 2,
                lhs_dilation=(step, step),
                dimension_numbers=("NHWC", "HWOI", "NHWC"),
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
        epsilon: added to the variance.
        scale_init: initialiser of the scale.
    """

    dtype: Any = jnp.float32
    epsilon: float = EPSILON
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
            for v in (mean, lax.rsqrt(var + self.epsilon) * scale, bias)
        )
        return ((x - mean) * factor + bias).astype(self.dtype)


class GroupNorm(nn.Module):
    """Group normalisation, for small batches; Wu and He, arXiv:1803.08494.

    Named and called as `BatchNorm`; it has no running statistics.

    Attributes:
        dtype: type of the output.
        epsilon: added to the variance.
        scale_init: initialiser of the scale.
        groups: groups of channels; their greatest common divisor where they do not divide.
    """

    dtype: Any = jnp.float32
    epsilon: float = EPSILON
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    groups: int = 32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Normalises (B, ..., C) for each image and group of channels."""
        del train
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        groups = math.gcd(self.groups, channels)
        y = x.astype(jnp.float32).reshape(*x.shape[:-1], groups, channels // groups)
        axes = (*range(1, y.ndim - 2), y.ndim - 1)
        mean = jnp.mean(y, axes, keepdims=True)
        var = jnp.mean(jnp.square(y - mean), axes, keepdims=True)
        y = ((y - mean) * lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        scale, bias = (jnp.expand_dims(v, tuple(range(x.ndim - 1))) for v in (scale, bias))
        return (y * scale + bias).astype(self.dtype)


NORMS = {"batch": BatchNorm, "group": GroupNorm}


def norm_layer(norm: str, dtype: Any, epsilon: float = EPSILON) -> Callable[..., nn.Module]:
    """The constructor of the normalisation called `norm`, 'batch' or 'group'.

    Raises:
        ConfigError: there is no such normalisation.
    """
    if norm not in NORMS:
        raise ConfigError(f"no normalisation {norm!r}; choose one of: {', '.join(NORMS)}")
    return functools.partial(NORMS[norm], dtype=dtype, epsilon=epsilon)


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
