"""U-Net: the network of the paper, and its decoder behind any backbone.

Ronneberger et al. 2015, arXiv:1505.04597. The modules of `unet2015` are named as in
milesial/Pytorch-UNet, those of `unet` as in segmentation-models-pytorch (smp).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from rsjax.errors import ConfigError
from rsjax.models import backbone
from rsjax.models.layers import Conv, ConvTranspose, norm_layer
from rsjax.models.resampling import fit, max_pool, resize, upsample_nearest

Array = jax.Array

# (convolution, normalisation) of the first and of the second unit, in each implementation.
MILESIAL = (("double_conv_0", "double_conv_1"), ("double_conv_3", "double_conv_4"))
SMP = (("conv1_0", "conv1_1"), ("conv2_0", "conv2_1"))

paper_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
decoder_init = nn.initializers.variance_scaling(2.0, "fan_in", "uniform")
head_init = nn.initializers.xavier_uniform()


class TwoConvs(nn.Module):
    """Two 3x3 convolutions, each with normalisation and ReLU.

    Attributes:
        features: channels after the first and after the second.
        names: of convolution and normalisation in both.
        norm: constructor of the normalisation; None: none, and the convolutions have biases.
        kernel_init: initialiser of the kernels.
        dtype: compute type.
    """

    features: tuple[int, int]
    names: tuple[tuple[str, str], ...] = MILESIAL
    norm: Callable[..., nn.Module] | None = None
    kernel_init: nn.initializers.Initializer = paper_init
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H, W, features[1])."""
        for features, (conv, norm) in zip(self.features, self.names, strict=True):
            x = Conv(
                features,
                use_bias=self.norm is None,
                dtype=self.dtype,
                kernel_init=self.kernel_init,
                name=conv,
            )(x)
            x = nn.relu(x if self.norm is None else self.norm(name=norm)(x, train))
        return x


class Down(nn.Module):
    """A 2x2 max-pool and two convolutions; attributes as `TwoConvs`."""

    features: tuple[int, int]
    norm: Callable[..., nn.Module] | None
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H // 2, W // 2, features[1])."""
        convs = TwoConvs(self.features, norm=self.norm, dtype=self.dtype, name="maxpool_conv_1")
        return convs(max_pool(x, 2, 2), train)


class Up(nn.Module):
    """Twice the size, fitted to and joined with the finer map, and two convolutions.

    Attributes: as `TwoConvs`; `bilinear`: interpolates instead of an up-convolution to the
    channels of the finer map.
    """

    features: tuple[int, int]
    bilinear: bool
    norm: Callable[..., nn.Module] | None
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, skip: Array, train: bool) -> Array:
        """(B, H / 2, W / 2, C) and (B, H, W, D) to (B, H, W, features[1])."""
        if self.bilinear:
            x = resize(x, 2 * x.shape[1], 2 * x.shape[2], align_corners=True)
        else:
            x = ConvTranspose(skip.shape[-1], dtype=self.dtype, name="up")(x)
        x = jnp.concatenate([skip, fit(x, skip.shape[1], skip.shape[2])], axis=-1)
        return TwoConvs(self.features, norm=self.norm, dtype=self.dtype, name="conv")(x, train)


class OutConv(nn.Module):
    """The 1x1 convolution to the logits, in float32; `features`: their number."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(B, H, W, C) to (B, H, W, features)."""
        return Conv(self.features, 1, use_bias=True, kernel_init=paper_init, name="conv")(x)


class UNet2015(nn.Module):
    """The U-Net of the paper, with zero padding and batch normalisation.

    The paper has neither: its convolutions cut the border, so that the output is smaller than the
    image, which is mirrored around for that. `norm='none', dropout_rate=0.5` is its network but
    for the padding.
    Where a size does not divide, the last row or column is repeated (Pytorch-UNet: zeros).
    Kernels are initialised as the paper says, normal with variance 2 / fan-in.

    Attributes:
        num_classes: channels of the logits.
        width: channels of the finest maps; doubles with each pooling.
        depth: number of poolings.
        bilinear: interpolates where the paper has up-convolutions, with half the channels there.
        dropout_rate: probability to drop a value of the two coarsest maps; the authors' code has
            0.5, Pytorch-UNet none.
        norm: 'batch', 'group' or 'none'.
        norm_epsilon: added to the variance.
        remat: computes the inside of each stage again for the gradient, which saves memory.
        dtype: compute type; parameters, statistics and logits are float32.
    """

    num_classes: int
    width: int = 64
    depth: int = 4
    bilinear: bool = False
    dropout_rate: float = 0.0
    norm: str = "batch"
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, H, W, num_classes) float32, of images (B, H, W, C)."""
        plain = self.norm == "none"
        norm = None if plain else norm_layer(self.norm, self.dtype, self.norm_epsilon)
        first, down, up = TwoConvs, Down, Up
        if self.remat:
            first = nn.remat(TwoConvs, static_argnums=(2,))
            down, up = nn.remat(Down, static_argnums=(2,)), nn.remat(Up, static_argnums=(3,))
        widths = [self.width * 2**level for level in range(self.depth + 1)]
        if self.bilinear:
            widths[-1] //= 2
        pair = (self.width, self.width)
        maps = [first(pair, norm=norm, dtype=self.dtype, name="inc")(x, train)]
        for level, width in enumerate(widths[1:], 1):
            coarser = down((width, width), norm, self.dtype, name=f"down{level}")
            y = coarser(maps[-1], train)
            if level > self.depth - 2:
                y = nn.Dropout(self.dropout_rate)(y, deterministic=not train)
            maps.append(y)
        y = maps.pop()
        for level, width in enumerate(reversed(widths[:-1]), 1):
            out = width // 2 if self.bilinear and maps[1:] else width
            finer = up((width, out), self.bilinear, norm, self.dtype, name=f"up{level}")
            y = finer(y, maps.pop(), train)
        return OutConv(self.num_classes, name="outc")(y)


class UNetDecoder(nn.Module):
    """Doubles the coarsest map until it has the image's size, joining the encoder's maps.

    Attributes:
        channels: of each block's output, coarse to fine.
        norm: constructor of the normalisation.
        remat: computes the inside of the blocks again for the gradient.
        dtype: compute type.
    """

    channels: tuple[int, ...]
    norm: Callable[..., nn.Module]
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, maps: Mapping[int, Array], height: int, width: int, train: bool) -> Array:
        """The maps of the encoder by stride, to (B, height, width, channels[-1])."""
        make = nn.remat(TwoConvs, static_argnums=(2,)) if self.remat else TwoConvs
        stride = max(maps)
        x = maps[stride]
        for number, features in enumerate(self.channels):
            stride //= 2
            size = (-(-height // stride), -(-width // stride))
            skip = [maps[stride]] if stride in maps else []
            x = fit(upsample_nearest(x), *(skip[0].shape[1:3] if skip else size))
            x = make(
                (features, features),
                SMP,
                norm=self.norm,
                kernel_init=decoder_init,
                dtype=self.dtype,
                name=f"blocks_{number}",
            )(jnp.concatenate([x, *skip], axis=-1), train)
        return x


class UNet(nn.Module):
    """The U-Net of segmentation-models-pytorch: its decoder behind any backbone.

    One map of each stride is used, the last one. A stride that the encoder lacks has a block
    without that map; so has the image's size, unless the encoder has a map of it (VGG, the small
    stem): smp leaves that one out, and puts a block of its own behind VGG's last map.

    Attributes:
        num_classes: channels of the logits.
        encoder_name: name in `rsjax.models.BACKBONES`.
        encoder_fields: fields of the encoder that differ from its defaults and from those below.
        decoder_channels: channels of each block's output, coarse to fine; an encoder that reduces
            less than 32 times takes the first ones.
        norm: 'batch' or 'group', of encoder and decoder.
        norm_epsilon: added to the variance in the decoder; the encoder has its own.
        remat: computes the inside of the blocks again for the gradient, which saves memory.
        dtype: compute type; parameters, statistics and logits are float32.

    Raises:
        ConfigError: the encoder is unknown, or there are fewer `decoder_channels` than steps.
    """

    num_classes: int
    encoder_name: str = "resnet34"
    encoder_fields: Mapping[str, Any] = FrozenDict()
    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16)
    norm: str = "batch"
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Names the layers as smp does."""
        self.encoder = backbone(
            self.encoder_name,
            self.encoder_fields,
            norm=self.norm,
            remat=self.remat,
            dtype=self.dtype,
            pad=True,
            rectify_last=False,
        )
        self.stages = {stride: stage for stage, stride in self.encoder.strides.items()}
        steps = max(self.stages).bit_length() - 1
        channels = tuple(self.decoder_channels)[:steps]
        if len(channels) < steps:
            raise ConfigError(
                f"unet: {len(channels)} decoder_channels, but {self.encoder_name} reduces "
                f"{max(self.stages)} times; give {steps}"
            )
        norm = norm_layer(self.norm, self.dtype, self.norm_epsilon)
        self.decoder = UNetDecoder(channels, norm, self.remat, self.dtype)
        self.segmentation_head_0 = Conv(self.num_classes, 3, use_bias=True, kernel_init=head_init)

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, H, W, num_classes) float32, of images (B, H, W, C)."""
        found = self.encoder.features(x, train)
        maps = {stride: found[stage] for stride, stage in self.stages.items()}
        return self.segmentation_head_0(self.decoder(maps, x.shape[1], x.shape[2], train))


unet2015 = UNet2015
unet = UNet
