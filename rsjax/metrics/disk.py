"""Neighbourhoods within a Euclidean distance: dilation by the exact disk, and zones of class maps.

A disk is not the product of a row and a column, but it is a stack of centred rows: a row is
widened once for all that need it, and the rows are joined. That is about 4 r operations a pixel
instead of the disk's 3.1 r², without a distance transform.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


def half_widths(radius: float, height: int, width: int) -> list[int]:
    """For dy = 0, 1, ... the largest dx with sqrt(dy² + dx²) <= radius: the disk's lower half.

    Distances that an image of this size does not hold are left out.
    """
    rows, columns = min(math.floor(radius), height - 1), min(math.floor(radius), width - 1)
    # The root of the sum, as a distance transform has it: 13 is above the square of its own root.
    return [
        max(dx for dx in range(columns + 1) if math.sqrt(dy * dy + dx * dx) <= radius)
        for dy in range(rows + 1)
    ]


def dilate(
    values: jax.Array, radius: float, join: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """Each position joined with all others within a Euclidean distance.

    Args:
        values: (..., H, W), unsigned; outside lies 0.
        radius: the largest distance in pixels, not negative.
        join: associative, commutative and idempotent with 0 neutral: `jnp.bitwise_or` (of sets as
            bits: their union) or `jnp.maximum`.

    Returns:
        (..., H, W), of the type of `values`.
    """
    height, width = values.shape[-2:]
    widths = half_widths(radius, height, width)
    rows, columns = len(widths) - 1, widths[0]
    around = [(0, 0)] * (values.ndim - 2) + [(rows, rows), (columns, columns)]
    padded = jnp.pad(values, around)
    # The disk reaches dx to each side in the lines dy from first[dx + 1] up to below first[dx].
    first = jnp.array([sum(w > dx for w in widths) for dx in range(-1, columns + 1)])

    def row(dx: jax.Array | int) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(padded, columns + dx, width, axis=-1)

    def widen(dx: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        run, total = state
        run = join(run, join(row(-dx), row(dx)))

        def stack(dy: jax.Array, total: jax.Array) -> jax.Array:
            above = jax.lax.dynamic_slice_in_dim(run, rows - dy, height, axis=-2)
            below = jax.lax.dynamic_slice_in_dim(run, rows + dy, height, axis=-2)
            return join(total, join(above, below))

        return run, jax.lax.fori_loop(first[dx + 1], first[dx], stack, total)

    # Loops, also for the compiler: unrolled, XLA fuses everything into one kernel that computes
    # each row anew for each line (7 to 12 times as long on a CPU).
    _, total = jax.lax.fori_loop(0, columns + 1, widen, (row(0), values))
    return total


def near_other_class(classes: jax.Array, counted: jax.Array, radius: float) -> jax.Array:
    """Where a pixel has one of another class within a distance.

    Args:
        classes: (..., H, W) uint8.
        counted: the same shape, bool; other pixels are neither near nor of another class, and
            neither is what lies outside.
        radius: the largest distance in pixels.

    Returns:
        (..., H, W) bool. With a radius of 1 the inner contour of each class, 4-connected
        neighbours; with a larger one the inner band of each class.
    """
    # Another class is a larger or a smaller one: the largest of the indices and of their inverses.
    largest, inverse = (
        dilate(jnp.where(counted, each, jnp.uint8(0)), radius, jnp.maximum)
        for each in (classes, ~classes)
    )
    return counted & ((largest > classes) | (inverse > ~classes))
