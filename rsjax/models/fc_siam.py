"""Changes between two dates: FC-EF, FC-Siam-conc, FC-Siam-diff, and the U-Net made siamese.

Daudt, Le Saux and Boulch 2018, Fully Convolutional Siamese Networks for Change Detection,
arXiv:1810.08462. The modules of their three networks are named as in
rcdaudt/fully_convolutional_change_detection, those of `siam_unet` as in `rsjax.models.unet`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsjax.errors import ConfigError
from rsjax.models.layers import Conv, ConvTranspose, linear_init, norm_layer
from rsjax.models.resampling import fit, max_pool
from rsjax.models.unet import UNet

Array = jax.Array

# What the decoder gets of the maps of both dates; with 'early' there is one, of both images.
JOINS: dict[str, Callable[..., list[Array]]] = {
    "early": lambda both: [both],
    "conc": lambda before, after: [before, after],
    "diff": lambda before, after: [jnp.abs(before - after)],
}
SIAMESE = ("conc", "diff")


def dates(x: Array, steps: int, model: str) -> tuple[Array, Array]:
    """The images before and after, each (B, H, W, C / 2), of (B, H, W, C).

    Raises:
        ConfigError: an odd number of channels, or another number of steps than two.
    """
    if steps != 2 or x.shape[-1] % 2:
        raise ConfigError(
            f"{model}: {x.shape[-1]} channels and steps={steps} are not those of two dates; choose "
            "the same bands of both, first all of '@0', then all of '@1'"
        )
    before, after = jnp.split(x, 2, axis=-1)
    return before, after


def _choice(model: str, field: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{model}: {field}={value!r}, expected one of {list(known)}")


class FCSiam(nn.Module):
    """The three networks: an encoder of four levels, a decoder of transposed convolutions.

    Both dates pass the same encoder, one after the other, so that in training each is normalised
    by its own statistics. The decoder starts from the pooled map of the later date alone, as in
    the authors' code: with `join='diff'`, too, the order of the dates matters, unless
    `bottom='diff'`. Where a size does not divide, the last row or column is repeated.

    Attributes:
        num_classes: channels of the logits.
        join: 'early', 'conc' or 'diff': images of both dates as channels of one; maps of both;
            absolute difference of the maps.
        bottom: what the decoder starts from, 'after' (as published) or 'diff'; not of 'early'.
        steps: dates in the channels, 2; 'early' takes any number.
        width: channels of the finest maps; doubles with each level.
        convolutions: of each level, fine to coarse.
        dropout_rate: probability to drop a channel of a map.
        norm: 'batch' or 'group'.
        norm_epsilon: added to the variance.
        dtype: compute type; parameters, statistics and logits are float32.

    Raises:
        ConfigError: an unknown `join` or `bottom`, an odd number of channels, or other `steps`.
    """

    num_classes: int
    join: str = "diff"
    bottom: str = "after"
    steps: int = 2
    width: int = 16
    convolutions: tuple[int, ...] = (2, 2, 3, 3)
    dropout_rate: float = 0.2
    norm: str = "batch"
    norm_epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, H, W, num_classes) float32, of both dates, (B, H, W, 2 * bands)."""
        _choice("fc_siam", "join", self.join, tuple(JOINS))
        known = ("after",) if self.join == "early" else ("after", "diff")
        _choice("fc_siam", "bottom", self.bottom, known)
        conv = functools.partial(Conv, use_bias=True, dtype=self.dtype, kernel_init=linear_init)
        up = functools.partial(
            ConvTranspose, kernel_size=3, padding=1, dtype=self.dtype, kernel_init=linear_init
        )
        norm = norm_layer(self.norm, self.dtype, self.norm_epsilon)
        widths = [self.width * 2**level for level in range(len(self.convolutions))]

        def unit(make: Callable[..., nn.Module], name: str, features: int) -> Callable[..., Array]:
            layer, normalise = make(features, name=f"conv{name}"), norm(name=f"bn{name}")
            drop = nn.Dropout(self.dropout_rate, broadcast_dims=(1, 2))
            return lambda y: drop(nn.relu(normalise(layer(y), train)), deterministic=not train)

        encoder = [
            [unit(conv, f"{level}{number + 1}", width) for number in range(count)]
            for level, (width, count) in enumerate(zip(widths, self.convolutions, strict=True), 1)
        ]

        def encode(y: Array) -> list[Array]:
            maps = []
            for units in encoder:
                for one in units:
                    y = one(y)
                maps.append(y)
                y = max_pool(y, 2, 2)
            return [*maps, y]

        images = (x,) if self.join == "early" else dates(x, self.steps, "fc_siam")
        encoded = [encode(image) for image in images]
        bottoms = [maps.pop() for maps in encoded]
        joined = [JOINS[self.join](*maps) for maps in zip(*encoded, strict=True)]
        y = jnp.abs(bottoms[0] - bottoms[1]) if self.bottom == "diff" else bottoms[-1]
        for level in range(len(widths), 0, -1):
            skips = joined[level - 1]
            y = up(y.shape[-1], strides=2, output_padding=1, name=f"upconv{level}")(y)
            y = jnp.concatenate([fit(y, *skips[0].shape[1:3]), *skips], axis=-1)
            for number in range(self.convolutions[level - 1], 0, -1):
                if (level, number) == (1, 1):
                    break
                features = widths[level - 1 if number > 1 else level - 2]
                y = unit(functools.partial(up, strides=1), f"{level}{number}d", features)(y)
        return up(self.num_classes, strides=1, dtype=jnp.float32, name="conv11d")(y)


class SiamUNet(UNet):
    """The U-Net of `rsjax.models.unet` on two dates; attributes as there, and two.

    One encoder for both dates, whose maps are joined at every stride. With 'diff' the order of the
    dates does not matter, and two equal images give what does not depend on them. In training both
    dates are one batch, for the statistics of the normalisation. An encoder can be loaded; with
    'diff' a whole U-Net of one date, too.

    Attributes:
        join: 'diff' or 'conc': absolute difference of the maps; maps of both.
        steps: dates in the channels, 2.

    Raises:
        ConfigError: as `UNet`; an unknown `join`, an odd number of channels, or other `steps`.
    """

    join: str = "diff"
    steps: int = 2

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, H, W, num_classes) float32, of both dates, (B, H, W, 2 * bands)."""
        _choice("siam_unet", "join", self.join, SIAMESE)
        found = self.encoder.features(jnp.concatenate(dates(x, self.steps, "siam_unet")), train)
        maps = {
            stride: jnp.concatenate(JOINS[self.join](*jnp.split(found[stage], 2)), axis=-1)
            for stride, stage in self.stages.items()
        }
        return self.segmentation_head_0(self.decoder(maps, x.shape[1], x.shape[2], train))


fc_ef = functools.partial(FCSiam, join="early")
fc_siam_conc = functools.partial(FCSiam, join="conc")
fc_siam_diff = functools.partial(FCSiam, join="diff")
siam_unet = SiamUNet
