"""Maps to other sizes: pooling with and without indices, unpooling, resizing, fitting.

Pooling pads and rounds as torch does, which the published weights expect; where Keras' padding
differs it has a name of its own. Geometry is aligned at the first pixel, (0, 0).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from rsjax.errors import ConfigError

Array = jax.Array


def max_pool(
    x: Array, size: int, strides: int, padding: int | str = 0, *, ceil: bool = False
) -> Array:
    """The largest value of each window.

    Args:
        x: (B, H, W, C).
        size: pixels of the window along both axes.
        strides: step of the output grid.
        padding: rows and columns of -inf on each side; or 'SAME', Keras' and TensorFlow's, which
            pads one side only where the size is even.
        ceil: rounds the output's size up, torch's `ceil_mode`: a last window may be cut.

    Returns:
        (B, H', W', C) with H' = (H + 2 padding - size) / strides + 1, rounded down.
    """
    if isinstance(padding, str):
        pads = [_same(side, size, strides) for side in x.shape[1:3]]
    else:
        pads = _sides(x, size, strides, padding, ceil)
    return nn.max_pool(x, (size, size), strides=(strides, strides), padding=pads)


def avg_pool(
    x: Array, size: int, strides: int, padding: int = 0, *, count_padding: bool = True
) -> Array:
    """The mean of each window, computed in float32.

    Args:
        x: (B, H, W, C).
        size: pixels of the window along both axes.
        strides: step of the output grid.
        padding: rows and columns of zeros on each side.
        count_padding: whether these zeros count as pixels: torch's default; Keras' 'same' pooling
            leaves them out.
    """
    pads = [(padding, padding)] * 2

    def windows(x: Array) -> Array:
        return nn.pool(x, 0.0, lax.add, (size, size), (strides, strides), pads)

    total = windows(x.astype(jnp.float32))
    if count_padding or padding == 0:
        return (total / size**2).astype(x.dtype)
    pixels = windows(jnp.ones((1, *x.shape[1:3], 1), jnp.float32))
    return (total / pixels).astype(x.dtype)


def _sides(x: Array, size: int, strides: int, padding: int, ceil: bool) -> list[tuple[int, int]]:
    """Padding before and after, per axis."""
    extra = [0, 0]
    if ceil:
        extra = [-(side + 2 * padding - size) % strides for side in x.shape[1:3]]
    return [(padding, padding + more) for more in extra]


def max_pool_with_indices(x: Array) -> tuple[Array, Array]:
    """2 x 2 max-pool with stride 2, and where in its window each maximum stood.

    Returns:
        The maxima (B, H // 2, W // 2, C), and their positions 0 to 3 (row-major; the first where
        several are equal), uint8, which `unpool` takes.

    Source: SegNet, Badrinarayanan et al., arXiv:1511.00561, section 3.
    """
    batch, height, width, channels = x.shape
    # As the pool of `max_pool` counts, so that symbolic sizes are seen to be equal.
    rows, cols = (height - 2) // 2 + 1, (width - 2) // 2 + 1
    x = x[:, : 2 * rows, : 2 * cols]
    windows = x.reshape(batch, rows, 2, cols, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    windows = windows.reshape(batch, rows, cols, 4, channels)
    where = jnp.argmax(lax.stop_gradient(windows), axis=3)
    # A sum over a one-hot mask: its gradient is a product, where a gather's would be a scatter.
    chosen = jnp.arange(4).reshape(1, 1, 1, 4, 1) == where[:, :, :, None, :]
    maxima = jnp.sum(jnp.where(chosen, windows, jnp.zeros_like(windows)), axis=3)
    return maxima, where.astype(jnp.uint8)


def unpool(x: Array, where: Array, height: int, width: int) -> Array:
    """The inverse of `max_pool_with_indices`: values at their positions, zeros elsewhere.

    Args:
        x: (B, h, w, C).
        where: positions 0 to 3 in the 2 x 2 windows, of the shape of `x`.
        height: rows of the output, 2 h or 2 h + 1.
        width: columns of the output, 2 w or 2 w + 1.

    Returns:
        (B, height, width, C).
    """
    batch, rows, cols, channels = x.shape
    chosen = jnp.arange(4, dtype=jnp.uint8).reshape(1, 1, 1, 4, 1) == where[:, :, :, None, :]
    y = jnp.where(chosen, x[:, :, :, None, :], jnp.zeros((), x.dtype))
    y = y.reshape(batch, rows, cols, 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(batch, 2 * rows, 2 * cols, channels)
    return jnp.pad(y, ((0, 0), (0, height - 2 * rows), (0, width - 2 * cols), (0, 0)))


def _same(side: int, size: int, strides: int) -> tuple[int, int]:
    """Padding before and after that makes ceil(side / strides) windows.

    Written so that, where `side` is symbolic, the number of windows is that of a convolution.
    """
    total = size - side + (side - 1) // strides * strides
    if size < strides:
        total = max(total, 0)
    return total // 2, total - total // 2


def adaptive_avg_pool(x: Array, size: int) -> Array:
    """Means over size x size windows that cover the map, torch's `AdaptiveAvgPool2d`.

    Window i covers the rows from floor(i H / size) to ceil((i + 1) H / size): they overlap where
    the size does not divide, and repeat pixels where the map is smaller.

    Returns:
        (B, size, size, C) float32.
    """

    def weights(side: int) -> Array:
        window, pixel = jnp.arange(size)[:, None], jnp.arange(side)[None]
        first, last = window * side // size, -(-(window + 1) * side // size)
        inside = (first <= pixel) & (pixel < last)
        return jnp.where(inside, 1 / (last - first).astype(jnp.float32), 0.0)

    x = x.astype(jnp.float32)
    if x.shape[1:3] == (size, size):
        return x
    return jnp.einsum("bhwc,ih,jw->bijc", x, weights(x.shape[1]), weights(x.shape[2]))


def resize(x: Array, height: int, width: int, *, align_corners: bool = False) -> Array:
    """Bilinear interpolation, torch's `interpolate(mode='bilinear')`; computed in float32.

    Args:
        x: (B, H, W, C).
        height: rows of the output.
        width: columns of the output.
        align_corners: maps the centres of the corner pixels on each other, where the default maps
            the outer edges of the images.
    """
    rows, cols = x.shape[1:3]
    if (rows, cols) == (height, width):
        return x
    shape = (x.shape[0], height, width, x.shape[3])
    y = x.astype(jnp.float32)
    if align_corners:
        scales, shifts = zip(_corners(rows, height), _corners(cols, width), strict=True)
        scale, shift = (jnp.asarray(v, jnp.float32) for v in (scales, shifts))
        y = jax.image.scale_and_translate(y, shape, (1, 2), scale, shift, "linear", antialias=False)
    else:
        y = jax.image.resize(y, shape, "linear", antialias=False)
    return y.astype(x.dtype)


def _corners(old: int, new: int) -> tuple[float, float]:
    """Scale and shift, as `scale_and_translate` takes them, that keep the outer pixels outside."""
    if not old > 1:  # no corners: all of the output lies on the one pixel
        return new, 0.0
    scale = (new - 1) / (old - 1) if new > 1 else 1.0
    return scale, 0.5 - 0.5 * scale


def upsample_nearest(x: Array, factor: int = 2) -> Array:
    """Repeats each pixel `factor` times down and right."""
    batch, rows, cols, channels = x.shape
    y = jnp.broadcast_to(x[:, :, None, :, None, :], (batch, rows, factor, cols, factor, channels))
    return y.reshape(batch, rows * factor, cols * factor, channels)


def fit(x: Array, height: int, width: int) -> Array:
    """Cuts at the bottom and right what is too much, and repeats the edge where it lacks.

    What a decoder does with a map that was upsampled by a whole number, to lie on a finer one
    whose size does not divide: pixels keep their place, as both grids start at (0, 0).
    """
    x = x[:, :height, :width]
    lacking = (height - x.shape[1], width - x.shape[2])
    if lacking == (0, 0):
        return x
    return jnp.pad(x, ((0, 0), (0, lacking[0]), (0, lacking[1]), (0, 0)), mode="edge")


def dilations(
    output_stride: int, strides: tuple[int, ...], model: str
) -> tuple[tuple[int, int], ...]:
    """(stride, dilation) of each stage, where the map may not become coarser than asked.

    A stage that would pass `output_stride` does not stride, and its convolutions and those of the
    stages after it are dilated in its place; Chen et al., arXiv:1706.05587, section 3.1.

    Args:
        output_stride: pixels of the image for each of the last map.
        strides: what each stage strides by, the stem first.
        model: for the message.

    Raises:
        ConfigError: `output_stride` is none that the strides reach.
    """
    total, dilation, plan = 1, 1, []
    for step in strides:
        if total * step > output_stride:
            dilation, step = dilation * step, 1
        total *= step
        plan.append((step, dilation))
    if total != output_stride:
        raise ConfigError(
            f"{model} cannot have output_stride {output_stride}; choose a product of the first "
            f"of its strides {strides}"
        )
    return tuple(plan)
