"""ResNet-18 to -152, ResNeXt and Wide ResNet for any number of bands.

He et al. 2016, arXiv:1512.03385; Xie et al. 2017, arXiv:1611.05431; Zagoruyko and Komodakis 2016,
arXiv:1605.07146. Version 1.5 as in torchvision: the bottleneck strides in its 3x3 convolution.
Module names are torchvision's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsjax.errors import ConfigError
from rsjax.models.layers import BatchNorm, Conv, DropPath, linear_init, norm_layer
from rsjax.models.resampling import dilations, max_pool

Array = jax.Array

# name: (kernel size, stride, whether a 3x3/2 max-pool follows)
STEMS = {"standard": (7, 2, True), "small": (3, 1, False)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, of ResNet-18 and -34.

    Attributes:
        width: channels inside the block.
        strides: of the first convolution and of the shortcut.
        dilation: of the first and of the second 3x3 convolution; a bottleneck has only the first.
        project: whether the shortcut is a 1x1 convolution.
        groups: groups of channels of the 3x3 convolution.
        channels: channels of the output before the expansion; `width` unless the block is wide.
        stride_in_1x1: strides in the first convolution of a bottleneck, as the paper and Keras do.
        zero_init_residual: starts the last scale at 0, so that the block starts as its shortcut.
        drop_path_rate: probability to drop the branch.
        norm: constructor of the normalisation.
        dtype: compute type.
    """

    width: int
    strides: int = 1
    dilation: tuple[int, int] = (1, 1)
    project: bool = False
    groups: int = 1
    channels: int = 0
    stride_in_1x1: bool = False
    zero_init_residual: bool = True
    drop_path_rate: float = 0.0
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: Any = jnp.float32

    expansion = 1

    def setup(self) -> None:
        """Names the layers as torchvision does."""
        first, second = self.dilation
        self.conv1 = Conv(self.width, 3, self.strides, first, self.groups, dtype=self.dtype)
        self.bn1 = self.norm()
        self.conv2 = Conv(self.width, 3, 1, second, self.groups, dtype=self.dtype)
        self.bn2 = _last_norm(self)
        self.downsample = _shortcut(self)
        self.drop_path = DropPath(self.drop_path_rate)

    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H / strides, W / strides, channels)."""
        y = nn.relu(self.bn1(self.conv1(x), train))
        y = self.bn2(self.conv2(y), train)
        return _join(self, x, y, train)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut, of ResNet-50, -101 and -152.

    Attributes: as `BasicBlock`; the stride is that of the 3x3 convolution unless `stride_in_1x1`.
    """

    width: int
    strides: int = 1
    dilation: tuple[int, int] = (1, 1)
    project: bool = False
    groups: int = 1
    channels: int = 0
    stride_in_1x1: bool = False
    zero_init_residual: bool = True
    drop_path_rate: float = 0.0
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: Any = jnp.float32

    expansion = 4

    def setup(self) -> None:
        """Names the layers as torchvision does."""
        first, second = (self.strides, 1) if self.stride_in_1x1 else (1, self.strides)
        self.conv1 = Conv(self.width, 1, first, dtype=self.dtype)
        self.bn1 = self.norm()
        self.conv2 = Conv(self.width, 3, second, self.dilation[0], self.groups, dtype=self.dtype)
        self.bn2 = self.norm()
        self.conv3 = Conv(_channels(self), 1, dtype=self.dtype)
        self.bn3 = _last_norm(self)
        self.downsample = _shortcut(self)
        self.drop_path = DropPath(self.drop_path_rate)

    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H / strides, W / strides, 4 * channels)."""
        y = nn.relu(self.bn1(self.conv1(x), train))
        y = nn.relu(self.bn2(self.conv2(y), train))
        y = self.bn3(self.conv3(y), train)
        return _join(self, x, y, train)


Block = BasicBlock | Bottleneck


def _channels(block: Block) -> int:
    return (block.channels or block.width) * block.expansion


def _last_norm(block: Block) -> nn.Module:
    init = nn.initializers.zeros if block.zero_init_residual else nn.initializers.ones
    return block.norm(scale_init=init)


def _shortcut(block: Block) -> list[nn.Module]:
    if not block.project:
        return []
    return [Conv(_channels(block), 1, block.strides, dtype=block.dtype), block.norm()]


def _join(block: Block, x: Array, y: Array, train: bool) -> Array:
    if block.project:
        conv, norm = block.downsample
        x = norm(conv(x), train)
    return nn.relu(x + block.drop_path(y, train))


class ResNet(nn.Module):
    """A residual network with a linear classifier.

    Attributes:
        num_classes: length of the logits.
        stage_sizes: blocks of each stage, `layer1` first.
        block: `BasicBlock` or `Bottleneck`.
        width: channels of the stem and inside the blocks of `layer1`; doubles at each stage.
        groups: groups of channels of the 3x3 convolutions, ResNeXt's cardinality.
        group_width: channels inside a bottleneck of `layer1` for each group and for `width` = 64:
            4 in ResNeXt-50 (32x4d), 128 in Wide ResNet-50-2.
        stem: 'standard' (7x7/2 convolution and 3x3/2 max-pool), or 'small' (3x3 convolution,
            neither strides) for images up to 64 pixels.
        output_stride: pixels of the image for each of `layer4`; below 32 (small stem: 8) the last
            stages are dilated instead of striding.
        dilate_first: dilates also the first block of such a stage, as segmentation-models-pytorch
            does; torchvision gives it the dilation of the stage before.
        stride_in_1x1: version 1, of the paper and of Keras.
        zero_init_residual: starts each block as its shortcut; Goyal et al., arXiv:1706.02677.
        dropout_rate: probability to drop a pooled feature before the classifier.
        drop_path_rate: probability to drop the last block's branch; rises linearly from 0 in the
            first block.
        norm: 'batch' or 'group'.
        norm_epsilon: added to the variance; Keras' published weights want 1.001e-5.
        remat: computes the inside of the blocks again for the gradient, which saves memory.
        dtype: compute type; parameters, statistics, pooling and classifier are float32.
    """

    num_classes: int
    stage_sizes: Sequence[int]
    block: type[BasicBlock] | type[Bottleneck]
    width: int = 64
    groups: int = 1
    group_width: int = 64
    stem: str = "standard"
    output_stride: int = 0
    dilate_first: bool = False
    stride_in_1x1: bool = False
    zero_init_residual: bool = True
    dropout_rate: float = 0.0
    drop_path_rate: float = 0.0
    norm: str = "batch"
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    def _plan(self) -> tuple[tuple[int, int], ...]:
        """(stride, dilation) of the stem with its pool, and of each stage."""
        if self.stem not in STEMS:
            raise ConfigError(
                f"ResNet has no stem {self.stem!r}; choose one of: {', '.join(STEMS)}"
            )
        first = 4 if STEMS[self.stem][2] else 1
        strides = (first, 1, *(2,) * (len(self.stage_sizes) - 1))
        return dilations(self.output_stride or math.prod(strides), strides, "ResNet")

    @property
    def strides(self) -> dict[str, int]:
        """Pixels of the image for each pixel of the maps of `features`."""
        (total, _), *stages = self._plan()
        found = {"stem": STEMS[self.stem][1]}
        for number, (step, _) in enumerate(stages, 1):
            total *= step
            found[f"layer{number}"] = total
        return found

    def setup(self) -> None:
        """Names the layers as torchvision does."""
        norm = norm_layer(self.norm, self.dtype, self.norm_epsilon)
        _, *plan = self._plan()
        size, strides, _ = STEMS[self.stem]
        self.conv1 = Conv(self.width, size, strides, dtype=self.dtype)
        self.bn1 = norm()
        make = nn.remat(self.block, static_argnums=(2,)) if self.remat else self.block
        # Setting a list names its elements layer1_0, layer1_1, ...
        channels, position, before = self.width, 0, 1
        for stage, count in enumerate(self.stage_sizes):
            blocks = []
            step, dilation = plan[stage]
            out = self.width * 2**stage
            for index in range(count):
                strides = step if index == 0 else 1
                first = before if index == 0 and not self.dilate_first else dilation
                blocks.append(
                    make(
                        out * self.group_width // 64 * self.groups,
                        strides=strides,
                        dilation=(first, dilation),
                        project=strides > 1 or channels != out * self.block.expansion,
                        groups=self.groups,
                        channels=out,
                        stride_in_1x1=self.stride_in_1x1,
                        zero_init_residual=self.zero_init_residual,
                        drop_path_rate=self.drop_path_rate
                        * position
                        / max(sum(self.stage_sizes) - 1, 1),
                        norm=norm,
                        dtype=self.dtype,
                    )
                )
                channels = out * self.block.expansion
                position += 1
            before = dilation
            setattr(self, f"layer{stage + 1}", blocks)
        self.dropout = nn.Dropout(self.dropout_rate)
        self.fc = nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=linear_init)

    def features(self, x: Array, train: bool) -> dict[str, Array]:
        """Feature maps by stage, fine to coarse, for classifiers and decoders alike.

        Args:
            x: (B, H, W, C) standardised bands.
            train: uses and tracks the batch's statistics; drops paths (rng 'dropout').

        Returns:
            'stem' before the max-pool (stride 2; 1 with the small stem), 'layer1' (4; 1),
            'layer2' (8; 2), 'layer3' (16; 4), 'layer4' (32; 8). Odd sizes round up.
        """
        x = nn.relu(self.bn1(self.conv1(x), train))
        maps = {"stem": x}
        if STEMS[self.stem][2]:
            x = max_pool(x, 3, 2, 1)
        for stage in range(len(self.stage_sizes)):
            for block in getattr(self, f"layer{stage + 1}"):
                x = block(x, train)
            maps[f"layer{stage + 1}"] = x
        return maps

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, num_classes) float32, of images (B, H, W, C)."""
        last = self.features(x, train)[f"layer{len(self.stage_sizes)}"]
        pooled = jnp.mean(last, axis=(1, 2), dtype=jnp.float32)
        return self.fc(self.dropout(pooled, deterministic=not train))


resnet18 = functools.partial(ResNet, stage_sizes=(2, 2, 2, 2), block=BasicBlock)
resnet34 = functools.partial(ResNet, stage_sizes=(3, 4, 6, 3), block=BasicBlock)
resnet50 = functools.partial(ResNet, stage_sizes=(3, 4, 6, 3), block=Bottleneck)
resnet101 = functools.partial(ResNet, stage_sizes=(3, 4, 23, 3), block=Bottleneck)
resnet152 = functools.partial(ResNet, stage_sizes=(3, 8, 36, 3), block=Bottleneck)
resnext50_32x4d = functools.partial(resnet50, groups=32, group_width=4)
wide_resnet50_2 = functools.partial(resnet50, group_width=128)
