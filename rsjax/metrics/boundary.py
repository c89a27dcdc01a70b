"""Where the outlines of the classes are met: counts of each image, for F1 and IoU of boundaries.

The boundary of class c in a map are the counted pixels of c with a counted pixel of another class
among their four neighbours: the inner contour, one pixel wide, of the map of c against the rest.
The image's border and ignored pixels make no boundary. The band of c are the counted pixels of c
within the distance `radius_px` of a counted pixel of another class: empty below one pixel. Pixels
that the mask ignores are taken out of both maps, since a prediction cannot be right or wrong there.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from rsjax.errors import ConfigError
from rsjax.metrics import base, disk

# What is counted for each image and class, in this order: pixels of the predicted boundary near
# the reference boundary, of the predicted boundary, of the reference boundary near the predicted
# one, of the reference boundary; of both bands, of the predicted band, of the reference band.
COUNTS = (
    "predicted_near",
    "predicted",
    "reference_near",
    "reference",
    "band_hits",
    "band_predicted",
    "band_reference",
)
MOST_CLASSES = 255  # uint8 indices, 255 is ignored


def radius_of(
    tolerance: float, unit: str, shape: tuple[int, int], gsd_m: float | None = None
) -> float:
    """The tolerance in pixels.

    Args:
        tolerance: in `unit`.
        unit: 'px'; 'm', metres on the ground; 'diagonal', a share of the image's diagonal.
        shape: height and width of the image in pixels.
        gsd_m: edge of a pixel in metres, needed for metres.

    Raises:
        ConfigError: a tolerance that is negative or not finite, an unknown unit, or metres
            without a positive `gsd_m`.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ConfigError(f"boundary tolerance is {tolerance}, expected a finite number from 0 on")
    if unit == "px":
        return float(tolerance)
    if unit == "diagonal":
        return tolerance * math.hypot(*shape)
    if unit != "m":
        raise ConfigError(f"boundary unit is {unit!r}, expected 'px', 'm' or 'diagonal'")
    if gsd_m is None or not (math.isfinite(gsd_m) and gsd_m > 0):
        raise ConfigError(
            f"a boundary tolerance in metres needs the size of a pixel, and it is {gsd_m}. "
            "Give the tolerance in 'px' or 'diagonal' for images without georeference"
        )
    return tolerance / gsd_m


def check_options(num_classes: int, radius_px: float) -> None:
    """Checks what the counts are made for.

    Raises:
        ConfigError: more classes than uint8 indices, or a radius that is negative or not finite.
    """
    if not 1 <= num_classes <= MOST_CLASSES:
        raise ConfigError(f"boundaries of {num_classes} classes, expected 1 to {MOST_CLASSES}")
    if not (math.isfinite(radius_px) and radius_px >= 0):
        raise ConfigError(f"radius_px is {radius_px}, expected a finite number of pixels from 0 on")


def boundary_counts(
    labels: jax.Array,
    predictions: jax.Array,
    mask: jax.Array,
    num_classes: int,
    radius_px: float,
) -> jax.Array:
    """What `COUNTS` names, for each image and class; under jit, on any sharding of the images.

    Args:
        labels: class indices (B, H, W) of any integer type.
        predictions: class indices (B, H, W) of any integer type.
        mask: (B, H, W), true where a pixel counts. A pixel whose label or prediction is no class
            does not: `confusion.count_invalid` counts them.
        num_classes: K, at most 255.
        radius_px: the tolerance of the boundaries and the width of the bands, in pixels.

    Returns:
        (B, K, 7) int32.

    Raises:
        ConfigError: see `check_options`.
        ValueError: the shapes differ, or labels or predictions are not integers.
    """
    check_options(num_classes, radius_px)
    for name, array in (("labels", labels), ("predictions", predictions)):
        if not jnp.issubdtype(array.dtype, jnp.integer) or array.ndim != 3:
            raise ValueError(
                f"{name} are {array.dtype} of shape {array.shape}, expected integers (B, H, W)"
            )
    base.check_shapes(mask, labels.shape, predictions=(predictions, labels.shape))
    counted = mask.astype(bool)
    for array in (labels, predictions):
        counted &= (array.astype(jnp.int32) >= 0) & (array.astype(jnp.int32) < num_classes)
    # Both maps in one array, the prediction first, and one after the other where they can be: the
    # first touch of fresh memory takes longer than the arithmetic.
    maps = jnp.stack([predictions.astype(jnp.uint8), labels.astype(jnp.uint8)])
    edges, bands = jax.lax.map(
        lambda classes: tuple(
            disk.near_other_class(classes, counted, radius) for radius in (1.0, radius_px)
        ),
        maps,
    )
    near = _near_same_class(maps, edges, num_classes, radius_px)
    both = bands[0] & bands[1] & (maps[0] == maps[1])
    predicted, reference = jax.lax.map(
        lambda each: _count_sets(each[0], counted, (*each[1:3], both, each[3]), num_classes),
        (maps, near, edges, bands),
    )
    return jnp.concatenate(
        [predicted[..., :2], reference[..., :2], predicted[..., 2:], reference[..., 3:]], axis=-1
    )


def _near_same_class(
    maps: jax.Array, edges: jax.Array, num_classes: int, radius: float
) -> jax.Array:
    """Where the boundary of each of two maps (2, B, H, W) has the other's of its class near."""

    def eight(first: jax.Array, near: jax.Array) -> jax.Array:
        # The classes of the boundary near a pixel as bits, eight at a time: the fewest bytes.
        place = maps - first
        own = jnp.where(edges & (place < 8), jnp.uint8(1) << jnp.minimum(place, 7), jnp.uint8(0))
        return near | ((own & disk.dilate(own, radius, jnp.bitwise_or)[::-1]) != 0)

    firsts = jnp.arange(0, num_classes, 8, dtype=jnp.uint8)
    near, _ = jax.lax.scan(
        lambda near, first: (eight(first, near), None), jnp.zeros_like(edges), firsts
    )
    return near


def _count_sets(
    classes: jax.Array, counted: jax.Array, sets: tuple[jax.Array, ...], num_classes: int
) -> jax.Array:
    """The pixels (B, H, W) of each image and class in each of a few sets, (B, K, sets) int32."""
    # One histogram of class and membership, a bit for each set; the sum over members follows.
    cells = 2 ** len(sets)
    members = sum(where.astype(jnp.int32) << bit for bit, where in enumerate(sets))
    ignored = num_classes * cells
    cell = jnp.where(counted, classes.astype(jnp.int32) * cells + members, ignored)
    histogram = jax.vmap(lambda cell: jnp.bincount(cell.reshape(-1), length=ignored + 1))
    counts = histogram(cell)[:, :ignored].reshape(-1, num_classes, cells)
    inside = jnp.arange(cells)[:, None] >> jnp.arange(len(sets))[None] & 1
    return jnp.einsum("bkc,cs->bks", counts, inside)
