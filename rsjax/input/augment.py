"""Augmentation on the device, inside the jitted step, keyed by (seed, step).

Image and mask are transformed together. The draws for a batch depend on the seed, the step and
the position in the batch only, so a resumed run, or one on another number of devices, repeats
them exactly. Everything is off unless the config says so.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Batch = dict[str, jax.Array]


def named_key(key: jax.Array, name: str) -> jax.Array:
    """The key of one use of randomness, split from the root key by name."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def augment(
    key: jax.Array, batch: Batch, config: Mapping[str, Any], sensors: tuple[int, ...]
) -> Batch:
    """Applies the transforms that the config turns on, in a fixed order.

    Args:
        key: key of this step.
        batch: 'image' (B, H, W, C) standardised float32; 'target' (B, K) float32 or 'mask'
            (B, H, W) uint8, or both.
        config: the `augment` part of the config.
        sensors: for each channel the number of its sensor, for sensor dropout.

    Returns:
        The batch, transformed; shapes unchanged.
    """
    if config["d4"]:
        batch = _d4(named_key(key, "d4"), batch)
    if config["max_zoom"] > 1:
        batch = _zoom(named_key(key, "zoom"), batch, config["max_zoom"])
    image = batch["image"]
    per_sample = (image.shape[0], 1, 1, 1)
    if config["brightness_std"] > 0:
        gain = jax.random.normal(named_key(key, "brightness"), per_sample)
        image = image + config["brightness_std"] * gain
    if config["contrast_std"] > 0:
        gain = jax.random.normal(named_key(key, "contrast"), per_sample)
        image = image * jnp.exp(config["contrast_std"] * gain)
    if config["noise_std"] > 0:
        noise = jax.random.normal(named_key(key, "noise"), image.shape)
        image = image + config["noise_std"] * noise
    if config["band_dropout"] > 0:
        keep = _keep(
            named_key(key, "bands"), image.shape[0], image.shape[-1], config["band_dropout"]
        )
        image = image * keep[:, None, None, :]
    if config["sensor_dropout"] > 0 and len(set(sensors)) > 1:
        keep = _keep(
            named_key(key, "sensors"), image.shape[0], len(set(sensors)), config["sensor_dropout"]
        )
        image = image * keep[:, np.asarray(sensors)][:, None, None, :]
    batch = {**batch, "image": image}
    if config["mixup_alpha"] > 0:
        batch = _mixup(named_key(key, "mixup"), batch, config["mixup_alpha"])
    if config["cutmix_alpha"] > 0:
        batch = _cutmix(named_key(key, "cutmix"), batch, config["cutmix_alpha"])
    return batch


def _map_spatial(batch: Batch, transform: Any) -> Batch:
    return {k: transform(v) if k in ("image", "mask") else v for k, v in batch.items()}


def _d4(key: jax.Array, batch: Batch) -> Batch:
    """One of the eight symmetries of the square (four of the rectangle) for each sample."""
    draws = jax.random.bernoulli(key, 0.5, (3, batch["image"].shape[0]))
    square = batch["image"].shape[1] == batch["image"].shape[2]

    def transform(x: jax.Array) -> jax.Array:
        choose = draws.reshape(3, -1, *[1] * (x.ndim - 1))
        x = jnp.where(choose[0], x[:, ::-1], x)
        x = jnp.where(choose[1], x[:, :, ::-1], x)
        return jnp.where(choose[2], x.swapaxes(1, 2), x) if square else x

    return _map_spatial(batch, transform)


def _zoom(key: jax.Array, batch: Batch, max_zoom: float) -> Batch:
    """A random window of the image, enlarged to its full size by 1 to `max_zoom`."""
    count, height, width = batch["image"].shape[:3]
    draws = jax.random.uniform(key, (count, 3))
    size = jnp.array([height, width], jnp.float32)
    scale = 1.0 + (max_zoom - 1.0) * draws[:, :1] * jnp.ones((1, 2))
    shift = -draws[:, 1:] * size[None, :] * (scale - 1.0)

    def one(image: jax.Array, scale: jax.Array, shift: jax.Array, method: str) -> jax.Array:
        return jax.image.scale_and_translate(
            image, image.shape, (0, 1), scale, shift, method, antialias=False
        )

    def nearest(mask: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
        rows = (jnp.arange(height, dtype=jnp.float32) + 0.5 - shift[0]) / scale[0]
        columns = (jnp.arange(width, dtype=jnp.float32) + 0.5 - shift[1]) / scale[1]
        rows = jnp.clip(rows.astype(jnp.int32), 0, height - 1)
        return mask[rows][:, jnp.clip(columns.astype(jnp.int32), 0, width - 1)]

    zoomed = dict(batch)
    zoomed["image"] = jax.vmap(lambda x, s, t: one(x, s, t, "bilinear"))(
        batch["image"], scale, shift
    )
    if "mask" in batch:
        zoomed["mask"] = jax.vmap(nearest)(batch["mask"], scale, shift)
    return zoomed


def _keep(key: jax.Array, count: int, groups: int, rate: float) -> jax.Array:
    """(B, groups) of 0 and 1: each group dropped at `rate`, but never all of a sample's."""
    draws = jax.random.uniform(key, (count, groups))
    best = draws >= draws.max(axis=1, keepdims=True)
    return ((draws >= rate) | best).astype(jnp.float32)


def _beta(key: jax.Array, alpha: float, count: int) -> jax.Array:
    if alpha == 1:  # the same distribution, and seconds less to compile
        return jax.random.uniform(key, (count,))
    return jax.random.beta(key, alpha, alpha, (count,))


def _mixup(key: jax.Array, batch: Batch, alpha: float) -> Batch:
    """Convex mixtures of a sample and its mirror in the batch (Zhang et al. 2018, eq. 1-2)."""
    share = _beta(key, alpha, batch["image"].shape[0])
    share = jnp.maximum(share, 1 - share)

    def mix(x: jax.Array) -> jax.Array:
        part = share.reshape(-1, *[1] * (x.ndim - 1))
        return part * x + (1 - part) * x[::-1]

    # A pixel has one class: in a mask those of the larger share are kept.
    return {k: mix(v) if k in ("image", "target") else v for k, v in batch.items()}


def _cutmix(key: jax.Array, batch: Batch, alpha: float) -> Batch:
    """Pastes a box of the mirrored sample; targets by area (Yun et al. 2019, eq. 1-2)."""
    image = batch["image"]
    count, height, width = image.shape[:3]
    share_key, row_key, column_key = jax.random.split(key, 3)
    share = _beta(share_key, alpha, count)
    side = jnp.sqrt(1 - share)
    box = []
    for draw_key, length in ((row_key, height), (column_key, width)):
        centre = jax.random.uniform(draw_key, (count,)) * length
        low = jnp.clip(centre - side * length / 2, 0, length).astype(jnp.int32)
        high = jnp.clip(centre + side * length / 2, 0, length).astype(jnp.int32)
        at = jnp.arange(length)[None, :]
        box.append((at >= low[:, None]) & (at < high[:, None]))
    inside = box[0][:, :, None] & box[1][:, None, :]  # (B, H, W)
    cut = dict(batch)
    if "target" in batch:
        kept = 1 - inside.mean(axis=(1, 2), dtype=jnp.float32)[:, None]
        cut["target"] = kept * batch["target"] + (1 - kept) * batch["target"][::-1]
    cut["image"] = jnp.where(inside[..., None], image[::-1], image)
    if "mask" in batch:
        cut["mask"] = jnp.where(inside, batch["mask"][::-1], batch["mask"])
    return cut
