"""Aligned Xception-41, -65 and -71 of DeepLab v3+, for any number of bands.

Chen et al. 2018, arXiv:1802.02611, figure 4, as in the authors' DeepLab, with timm's module names.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsjax.models.layers import BatchNorm, Conv, linear_init, norm_layer
from rsjax.models.xception import STAGES, scale_channels, stage_plan, stage_strides

Array = jax.Array

# torch's default, which timm's Aligned Xception has.
torch_init = linear_init


class ConvNorm(nn.Module):
    """A convolution and normalisation.

    Attributes:
        features, kernel_size, strides: as of `layers.Conv`.
        norm: constructor of the normalisation.
        dtype: compute type.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Names the layers as timm does."""
        self.conv = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            dtype=self.dtype,
            kernel_init=torch_init,
        )
        self.bn = self.norm()

    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H / strides, W / strides, features)."""
        return self.bn(self.conv(x), train)


class SeparableConvNorm(nn.Module):
    """A 3x3 convolution of each channel and a 1x1 convolution, each normalised.

    Attributes:
        features: output channels.
        strides: of the 3x3 convolution.
        dilation: of the 3x3 convolution.
        relu: has a ReLU after each.
        norm: constructor of the normalisation.
        dtype: compute type.
    """

    features: int
    strides: int = 1
    dilation: int = 1
    relu: bool = False
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H / strides, W / strides, features)."""
        channels = x.shape[-1]
        options: dict[str, Any] = {"dtype": self.dtype, "kernel_init": torch_init}
        x = Conv(channels, 3, self.strides, self.dilation, channels, name="conv_dw", **options)(x)
        x = self.norm(name="bn_dw")(x, train)
        x = nn.relu(x) if self.relu else x
        x = Conv(self.features, 1, name="conv_pw", **options)(x)
        x = self.norm(name="bn_pw")(x, train)
        return nn.relu(x) if self.relu else x


class Stack(nn.Module):
    """Three separable convolutions; the last one strides.

    Attributes: as `AlignedBlock`.
    """

    features: tuple[int, ...]
    strides: int
    dilation: int
    last: bool
    norm: Callable[..., nn.Module]
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H / strides, W / strides, the last features)."""
        for number, channels in enumerate(self.features, 1):
            strides = self.strides if number == len(self.features) else 1
            conv = SeparableConvNorm(
                channels,
                strides,
                self.dilation,
                relu=self.last,
                norm=self.norm,
                dtype=self.dtype,
                name=f"conv{number}",
            )
            x = conv(x if self.last else nn.relu(x), train)
        return x


class AlignedBlock(nn.Module):
    """A stack and, except in the last block, a shortcut.

    Attributes:
        features: output channels of each separable convolution.
        strides: of the last one and of the shortcut.
        dilation: of the separable convolutions.
        project: whether the shortcut is a 1x1 convolution.
        last: has ReLUs after all convolutions instead of before, and no shortcut.
        norm: constructor of the normalisation.
        dtype: compute type.
    """

    features: tuple[int, ...]
    strides: int = 1
    dilation: int = 1
    project: bool = False
    last: bool = False
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Names the layers as timm does."""
        options: dict[str, Any] = {"norm": self.norm, "dtype": self.dtype}
        self.stack = Stack(self.features, self.strides, self.dilation, self.last, **options)
        if self.project:
            self.shortcut = ConvNorm(self.features[-1], 1, self.strides, **options)

    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H / strides, W / strides, the last features)."""
        y = self.stack(x, train)
        if self.last:
            return y
        return y + (self.shortcut(x, train) if self.project else x)


class Head(nn.Module):
    """Mean over the map, dropout, and the linear classifier.

    Attributes: as `AlignedXception`.
    """

    num_classes: int
    dropout_rate: float

    def setup(self) -> None:
        """Names the layers as timm does."""
        self.dropout = nn.Dropout(self.dropout_rate)
        self.fc = nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=torch_init)

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, num_classes) float32, of a map."""
        pooled = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
        return self.fc(self.dropout(pooled, deterministic=not train))


class AlignedXception(nn.Module):
    """DeepLab's Xception: strided separable convolutions for max-pools, and more normalisation.

    Attributes:
        num_classes: length of the logits.
        entry: (channels, stride) of the blocks of the entry flow, three of which stride.
        middle_blocks: blocks of the middle flow.
        width, output_stride, dropout_rate, norm, norm_epsilon, remat, dtype: as of `Xception`.
    """

    num_classes: int
    entry: Sequence[tuple[int, int]] = ((128, 2), (256, 2), (728, 2))
    middle_blocks: int = 16
    width: float = 1.0
    output_stride: int = 32
    dropout_rate: float = 0.0
    norm: str = "batch"
    norm_epsilon: float = 1e-3
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def strides(self) -> dict[str, int]:
        """Pixels of the image for each pixel of the maps of `features`."""
        return stage_strides(self.output_stride)

    def setup(self) -> None:
        """Names the layers as timm does."""
        norm = norm_layer(self.norm, self.dtype, self.norm_epsilon)
        options: dict[str, Any] = {"norm": norm, "dtype": self.dtype}
        scaled = functools.partial(scale_channels, width=self.width)
        plan = stage_plan(self.output_stride)
        self.stem = [ConvNorm(scaled(32), 3, 2, **options), ConvNorm(scaled(64), **options)]
        flow = [((channels,) * 3, step) for channels, step in self.entry]
        flow += [((728,) * 3, 1)] * self.middle_blocks
        flow += [((728, 1024, 1024), 2), ((1536, 1536, 2048), 1)]
        make = nn.remat(AlignedBlock, static_argnums=(2,)) if self.remat else AlignedBlock
        blocks, stages, stage, inputs = [], [], 0, 64
        for number, (features, step) in enumerate(flow, 1):
            # A block that enters a stage still has the dilation of the one before.
            dilation = plan[stage][1]
            stage += step > 1
            blocks.append(
                make(
                    tuple(map(scaled, features)),
                    strides=plan[stage][0] if step > 1 else 1,
                    dilation=dilation,
                    project=number < len(flow) and (step > 1 or features[-1] != inputs),
                    last=number == len(flow),
                    **options,
                )
            )
            stages.append(STAGES[stage])
            inputs = features[-1]
        self.blocks = blocks
        self.stages = tuple(stages)
        self.head = Head(self.num_classes, self.dropout_rate)

    def features(self, x: Array, train: bool) -> dict[str, Array]:
        """Feature maps by stage, fine to coarse, for classifiers and decoders alike.

        Args:
            x: (B, H, W, C) standardised bands.
            train: uses and tracks the batch's statistics.

        Returns:
            'stem' (stride 2), 'entry1' (4) and 'entry2' (8) after the last block of that stride,
            'middle' (16), 'exit' (32). All but the first and the last still lack their ReLU.
        """
        for conv in self.stem:
            x = nn.relu(conv(x, train))
        maps = {"stem": x}
        for stage, block in zip(self.stages, self.blocks, strict=True):
            x = block(x, train)
            maps[stage] = x
        return maps

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, num_classes) float32, of images (B, H, W, C)."""
        return self.head(self.features(x, train)["exit"], train)


xception41 = functools.partial(AlignedXception, middle_blocks=8)
xception65 = AlignedXception
xception71 = functools.partial(
    AlignedXception, entry=((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))
)
