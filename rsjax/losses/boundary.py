"""Cross-entropy that weighs the pixels near class boundaries more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rsjax.losses import masked
from rsjax.losses.classification import weighted_cross_entropy


def boundary_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    mask: jax.Array,
    class_weights: Sequence[float] | jax.Array | None = None,
    radius_px: float = 2.0,
    boundary_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Softmax cross-entropy with weight 1 + boundary_weight near boundaries of the reference.

    Like `cross_entropy`, with the class weights w_c of each pixel times its own weight, in the sum
    and in the divisor alike. See `near_boundaries` for which pixels are near.

    The idea is the weight map of U-Net, which falls off with the distances to the two nearest
    cells as a Gaussian; a step at a radius needs one distance only and has no tail to cut.

    Args:
        logits: (B, H, W, C), any floating type.
        labels: (B, H, W), class indices of any integer type.
        mask: (B, H, W), true where a pixel counts.
        class_weights: (C,), not negative, or None for 1 each.
        radius_px: reach of a boundary in pixels, at least 0; 0 is the boundary pixels alone.
        boundary_weight: what a pixel near a boundary counts beyond the others, at least 0.
        label_smoothing: as in `cross_entropy`.

    Returns:
        A float32 scalar. NaN if an index outside [0, C) stands at a pixel that counts.

    Raises:
        ValueError: the shapes are not these, or labels are no indices.
        ConfigError: class_weights or an option cannot work.

    Source: Ronneberger et al. 2015, U-Net, eq. 2, simplified.
    """
    masked.check_least("radius_px", radius_px)
    masked.check_least("boundary_weight", boundary_weight)
    masked.check_smoothing(label_smoothing)
    if logits.ndim != 4:
        raise ValueError(
            f"logits have shape {logits.shape}, expected (B, H, W, C): boundaries need pixels"
        )
    mask = masked.positions(mask, logits.shape[:-1])
    weights = masked.per_class(class_weights, logits.shape, "class_weights")
    targets = masked.indices(labels, logits.shape)
    near = near_boundaries(jnp.asarray(labels), mask, radius_px)
    weights = weights * (1.0 + boundary_weight * near.astype(jnp.float32))[..., None]
    return weighted_cross_entropy(logits, targets, mask, weights, label_smoothing)


def near_boundaries(labels: jax.Array, mask: jax.Array, radius_px: float) -> jax.Array:
    """Pixels whose centre is within `radius_px` of that of a boundary pixel, Euclidean, exactly.

    A boundary pixel is one that counts and has, above, below, left or right, a pixel that counts
    and is of another class. So a boundary is two pixels wide, and ignored pixels make none.

    Args:
        labels: (B, H, W), class indices of any integer type.
        mask: bool (B, H, W), true where a pixel counts.
        radius_px: reach in pixels.

    Returns:
        Bool (B, H, W).
    """
    down = (labels[:, 1:] != labels[:, :-1]) & mask[:, 1:] & mask[:, :-1]
    right = (labels[:, :, 1:] != labels[:, :, :-1]) & mask[:, :, 1:] & mask[:, :, :-1]
    edge = jnp.pad(down, ((0, 0), (1, 0), (0, 0))) | jnp.pad(down, ((0, 0), (0, 1), (0, 0)))
    edge |= jnp.pad(right, ((0, 0), (0, 0), (1, 0))) | jnp.pad(right, ((0, 0), (0, 0), (0, 1)))
    reach = math.floor(radius_px)
    offsets = jnp.arange(-reach, reach + 1)
    disk = offsets[:, None] ** 2 + offsets[None, :] ** 2 <= math.floor(radius_px**2)
    # Counts of boundary pixels under the disk: sums of 0 and 1, exact in any precision of products.
    counts = jax.lax.conv_general_dilated(
        edge[..., None].astype(jnp.float32),
        disk[..., None, None].astype(jnp.float32),
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return counts[..., 0] > 0.5
