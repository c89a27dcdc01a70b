"""Xception for any number of bands; Chollet 2016, arXiv:1610.02357.

As the author wrote it for Keras, with Cadene's and timm's module names (`legacy_xception`); theirs
want `pool_padding=1` and `norm_epsilon=1e-5`. DeepLab's is in `aligned_xception.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsjax.models.layers import BatchNorm, Conv, norm_layer
from rsjax.models.resampling import dilations, max_pool

Array = jax.Array

# The maps of `features`, each half as fine as the one before unless `output_stride` forbids it.
STAGES = ("stem", "entry1", "entry2", "middle", "exit")

# Keras' default, which all layers of its Xception have. A depthwise kernel is (3, 3, C, 1) there
# and (3, 3, 1, C) here, which is the same to it.
keras_init = nn.initializers.glorot_uniform()


def stage_plan(output_stride: int) -> tuple[tuple[int, int], ...]:
    """(stride, dilation) of each stage."""
    return dilations(output_stride, (2,) * len(STAGES), "Xception")


def stage_strides(output_stride: int) -> dict[str, int]:
    """Pixels of the image for each pixel of the maps."""
    total, found = 1, {}
    for name, (step, _) in zip(STAGES, stage_plan(output_stride), strict=True):
        total *= step
        found[name] = total
    return found


def scale_channels(channels: int, width: float) -> int:
    """Channels times `width`, at least one."""
    return max(1, round(channels * width))


class SeparableConv(nn.Module):
    """A 3x3 convolution of each channel and a 1x1 convolution, nothing between them.

    Attributes:
        features: output channels.
        dilation: of the 3x3 convolution.
        dtype: compute type.
    """

    features: int
    dilation: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(B, H, W, C) to (B, H, W, features)."""
        channels = x.shape[-1]
        options: dict[str, Any] = {"dtype": self.dtype, "kernel_init": keras_init}
        depthwise = Conv(channels, 3, 1, self.dilation, channels, name="conv1", **options)
        return Conv(self.features, 1, name="pointwise", **options)(depthwise(x))


class Block(nn.Module):
    """Separable convolutions, a ReLU before each, and a shortcut.

    Attributes:
        features: output channels of each convolution.
        pool: ends with a 3x3 max-pool, and has a 1x1 convolution in the shortcut.
        strides: of both.
        dilation: of the separable convolutions.
        relu_first: has a ReLU before the first convolution.
        pool_padding: as of `Xception`.
        norm: constructor of the normalisation.
        dtype: compute type.
    """

    features: tuple[int, ...]
    pool: bool = False
    strides: int = 1
    dilation: int = 1
    relu_first: bool = True
    pool_padding: int | str = "SAME"
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H / strides, W / strides, the last features)."""
        y = x
        number = 0  # in the reference's `rep`, where a ReLU counts
        for channels in self.features:
            if number or self.relu_first:
                y = nn.relu(y)
                number += 1
            y = SeparableConv(channels, self.dilation, self.dtype, name=f"rep_{number}")(y)
            y = self.norm(name=f"rep_{number + 1}")(y, train)
            number += 2
        if self.pool:
            y = max_pool(y, 3, self.strides, self.pool_padding)
            x = Conv(
                self.features[-1],
                1,
                self.strides,
                dtype=self.dtype,
                kernel_init=keras_init,
                name="skip",
            )(x)
            x = self.norm(name="skipbn")(x, train)
        return x + y


class Xception(nn.Module):
    """Xception with a linear classifier.

    Attributes:
        num_classes: length of the logits.
        middle_blocks: blocks of the middle flow.
        width: factor of all channels.
        pad: pads the first two convolutions, as segmentation-models-pytorch does for encoders:
            maps are ceil(side / stride). False: the paper's maps. None: only where there is no
            classifier, as in decoders, whose maps must lie on the image.
        pool_padding: of the max-pools: 'SAME', Keras'; or 1, of Cadene and timm, whose windows lie
            a pixel further up and left where a side is even.
        output_stride: pixels of the image for each of the last map; below 32 the last max-pools do
            not stride and the convolutions after them are dilated.
        rectify_last: has a ReLU after the last normalisation; segmentation-models-pytorch's
            encoder has none.
        dropout_rate: probability to drop a pooled feature before the classifier; the paper has 0.5
            on ImageNet, Keras and timm have none.
        norm: 'batch' or 'group'.
        norm_epsilon: added to the variance.
        remat: computes the inside of the blocks again for the gradient, which saves memory.
        dtype: compute type; parameters, statistics, pooling and classifier are float32.
    """

    num_classes: int
    middle_blocks: int = 8
    width: float = 1.0
    pad: bool | None = None
    pool_padding: int | str = "SAME"
    output_stride: int = 32
    rectify_last: bool = True
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
        scaled = functools.partial(scale_channels, width=self.width)
        plan = stage_plan(self.output_stride)
        pad = self.num_classes == 0 if self.pad is None else self.pad
        first: dict[str, Any] = {
            "padding": 1 if pad else 0,
            "dtype": self.dtype,
            "kernel_init": keras_init,
        }
        self.conv1 = Conv(scaled(32), 3, 2, **first)
        self.bn1 = norm()
        self.conv2 = Conv(scaled(64), 3, **first)
        self.bn2 = norm()
        make = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        # Channels, and the stage that the block enters; 0: none.
        flow: list[tuple[tuple[int, ...], int]] = [
            *(((128,) * 2, 1), ((256,) * 2, 2), ((728,) * 2, 3)),
            *[((728,) * 3, 0)] * self.middle_blocks,
            ((728, 1024), 4),
        ]
        blocks = []
        for number, (features, stage) in enumerate(flow, 1):
            # A block that enters a stage still has the dilation of the one before.
            block = make(
                tuple(map(scaled, features)),
                pool=stage > 0,
                strides=plan[stage][0] if stage else 1,
                dilation=plan[stage - 1 if stage else 3][1],
                relu_first=number > 1,
                pool_padding=self.pool_padding,
                norm=norm,
                dtype=self.dtype,
            )
            setattr(self, f"block{number}", block)
            blocks.append((STAGES[stage or 3], f"block{number}"))
        self.blocks = tuple(blocks)
        self.conv3 = SeparableConv(scaled(1536), plan[4][1], self.dtype)
        self.bn3 = norm()
        self.conv4 = SeparableConv(scaled(2048), plan[4][1], self.dtype)
        self.bn4 = norm()
        self.dropout = nn.Dropout(self.dropout_rate)
        self.fc = nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=keras_init)

    def features(self, x: Array, train: bool) -> dict[str, Array]:
        """Feature maps by stage, fine to coarse, for classifiers and decoders alike.

        Args:
            x: (B, H, W, C) standardised bands.
            train: uses and tracks the batch's statistics.

        Returns:
            'stem' (stride 2), 'entry1' (4) and 'entry2' (8) after the first two blocks, 'middle'
            (16) after the middle flow, 'exit' (32). Where the model does not pad, maps are up to 3
            pixels smaller than ceil(side / stride).
        """
        x = nn.relu(self.bn1(self.conv1(x), train))
        x = nn.relu(self.bn2(self.conv2(x), train))
        maps = {"stem": x}
        for stage, name in self.blocks:
            x = getattr(self, name)(x, train)
            maps[stage] = x
        x = nn.relu(self.bn3(self.conv3(x), train))
        x = self.bn4(self.conv4(x), train)
        maps["exit"] = nn.relu(x) if self.rectify_last else x
        return maps

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, num_classes) float32, of images (B, H, W, C)."""
        last = self.features(x, train)["exit"]
        pooled = jnp.mean(last, axis=(1, 2), dtype=jnp.float32)
        return self.fc(self.dropout(pooled, deterministic=not train))


xception = Xception
