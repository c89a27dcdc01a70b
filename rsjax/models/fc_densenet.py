"""FC-DenseNet-56, -67 and -103, the Tiramisu: a U-shaped network of dense blocks.

Jégou et al. 2017, arXiv:1611.09326. Follows the authors' Lasagne code. There are no weights to
load, so that module names are our own: `down_0/layers_0/norm`, `pool_0/conv`, `bottleneck`,
`upsample_0`, `up_0`, `classifier`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsjax.errors import ConfigError
from rsjax.models.layers import Conv, ConvTranspose, norm_layer
from rsjax.models.resampling import max_pool

Array = jax.Array

# Lasagne's HeUniform; a transposed convolution's fan is that of its output there and here.
kernel_init = nn.initializers.he_uniform()


class Layer(nn.Module):
    """Normalisation, ReLU, convolution and dropout, over all maps before it.

    Attributes:
        features: output channels.
        kernel_size: 3 in dense blocks, 1 before a pool.
        dropout_rate: probability to drop a number of the output.
        make_norm: constructor of the normalisation.
        dtype: compute type.
    """

    features: int
    kernel_size: int
    dropout_rate: float
    make_norm: Callable[..., nn.Module]
    dtype: Any

    @nn.compact
    def __call__(self, maps: Sequence[Array], train: bool) -> Array:
        """Maps of (B, H, W, C each) to (B, H, W, features); rng 'dropout' where `train`."""
        x = nn.relu(self.make_norm(name="norm")(jnp.concatenate(maps, axis=-1), train))
        conv = functools.partial(Conv, use_bias=True, dtype=self.dtype, kernel_init=kernel_init)
        x = conv(self.features, self.kernel_size, name="conv")(x)
        return nn.Dropout(self.dropout_rate)(x, deterministic=not train)


class DenseBlock(nn.Module):
    """Layers that each see the input and what all layers before them made.

    Attributes:
        count: number of layers.
        layer: constructor of one.
    """

    count: int
    layer: Callable[[], nn.Module]

    def setup(self) -> None:
        """Names the layers."""
        self.layers = [self.layer() for _ in range(self.count)]

    def __call__(self, maps: Sequence[Array], train: bool) -> list[Array]:
        """The new maps, one for each layer, without the given ones."""
        new: list[Array] = []
        for layer in self.layers:
            new.append(layer((*maps, *new), train))
        return new


class FCDenseNet(nn.Module):
    """Dense blocks down, one at the bottom, and dense blocks up, for a label per pixel.

    Attributes:
        num_classes: length of the logits.
        stage_sizes: layers of each dense block: down, at the bottom, up; an odd number of blocks.
        growth_rate: channels that each layer of a dense block makes.
        width: channels of the first convolution.
        dropout_rate: probability to drop a number, after each convolution of a layer.
        norm: 'batch' or 'group'.
        norm_epsilon: added to the variance; the default is Lasagne's.
        remat: computes the inside of the layers again for the gradient, which saves memory.
        dtype: compute type; parameters, statistics and logits are float32.
    """

    num_classes: int
    stage_sizes: Sequence[int]
    growth_rate: int
    width: int = 48
    dropout_rate: float = 0.2
    norm: str = "batch"
    norm_epsilon: float = 1e-4
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Makes the layers; a transition down keeps the number of channels."""
        depth, even = divmod(len(self.stage_sizes) - 1, 2)
        if even:
            raise ConfigError(
                f"FCDenseNet has {len(self.stage_sizes)} stage_sizes {tuple(self.stage_sizes)}; "
                "give an odd number: those down, one at the bottom, and as many up"
            )
        layer = functools.partial(
            nn.remat(Layer, static_argnums=(2,)) if self.remat else Layer,
            dropout_rate=self.dropout_rate,
            make_norm=norm_layer(self.norm, self.dtype, self.norm_epsilon),
            dtype=self.dtype,
        )
        blocks = [
            DenseBlock(count, functools.partial(layer, self.growth_rate, 3))
            for count in self.stage_sizes
        ]
        made = [count * self.growth_rate for count in self.stage_sizes]
        conv = functools.partial(Conv, use_bias=True, kernel_init=kernel_init)
        deconv = functools.partial(ConvTranspose, dtype=self.dtype, kernel_init=kernel_init)
        self.conv0 = conv(self.width, 3, dtype=self.dtype)
        self.down = blocks[:depth]
        self.pool = [layer(self.width + sum(made[: stage + 1]), 1) for stage in range(depth)]
        self.bottleneck = blocks[depth]
        self.upsample = [deconv(channels, 3, 2) for channels in made[depth:-1]]
        self.up = blocks[depth + 1 :]
        self.classifier = conv(self.num_classes, 1, dtype=jnp.float32)

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits (B, H, W, num_classes) float32 of images (B, H, W, C).

        H and W are at least 2 ** pools: 32 pixels in the published networks.
        """
        maps = [self.conv0(x)]
        skips = []
        for block, pool in zip(self.down, self.pool, strict=True):
            maps = [*maps, *block(maps, train)]
            skips.append(maps)
            maps = [max_pool(pool(maps, train), 2, 2)]
        new = self.bottleneck(maps, train)
        for upsample, block, skip in zip(self.upsample, self.up, reversed(skips), strict=True):
            # Only what the last block made goes up, or the channels would grow without end.
            y = upsample(jnp.concatenate(new, axis=-1))
            # From h to 2 h + 1 pixels, where the skip has 2 h or 2 h + 1: the authors' centre
            # crop, from (2 h + 1 - size) // 2 = 0.
            maps = [y[:, : skip[0].shape[1], : skip[0].shape[2]], *skip]
            new = block(maps, train)
        return self.classifier(jnp.concatenate([*maps, *new], axis=-1))


fc_densenet56 = functools.partial(FCDenseNet, stage_sizes=(4,) * 11, growth_rate=12)
fc_densenet67 = functools.partial(FCDenseNet, stage_sizes=(5,) * 11, growth_rate=16)
fc_densenet103 = functools.partial(
    FCDenseNet, stage_sizes=(4, 5, 7, 10, 12, 15, 12, 10, 7, 5, 4), growth_rate=16
)
