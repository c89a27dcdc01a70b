"""ResNet-18 to -152 for any number of bands; He et al. 2016, arXiv:1512.03385.

Version 1.5 as in torchvision: the bottleneck strides in its 3x3 convolution. Module names are
torchvision's with `_` for `.` inside a stage: `layer1.0.downsample.1` is
`layer1_0/downsample_1`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsjax.errors import ConfigError
from rsjax.models.layers import BatchNorm, Conv, DropPath, linear_init

Array = jax.Array

# name: (kernel size, stride, whether a 3x3/2 max-pool follows)
STEMS = {"standard": (7, 2, True), "small": (3, 1, False)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, of ResNet-18 and -34.

    Attributes:
        width: channels inside the block.
        strides: of the first convolution and of the shortcut.
        project: whether the shortcut is a 1x1 convolution.
        zero_init_residual: starts the last scale at 0, so that the block starts as its shortcut.
        drop_path_rate: probability to drop the branch.
        dtype: compute type.
    """

    width: int
    strides: int = 1
    project: bool = False
    zero_init_residual: bool = True
    drop_path_rate: float = 0.0
    dtype: Any = jnp.float32

    expansion = 1

    def setup(self) -> None:
        """Names the layers as torchvision does."""
        self.conv1 = Conv(self.width, 3, self.strides, dtype=self.dtype)
        self.bn1 = BatchNorm(self.dtype)
        self.conv2 = Conv(self.width, 3, dtype=self.dtype)
        self.bn2 = _last_norm(self)
        self.downsample = _shortcut(self)
        self.drop_path = DropPath(self.drop_path_rate)

    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H / strides, W / strides, width * expansion)."""
        y = nn.relu(self.bn1(self.conv1(x), train))
        y = self.bn2(self.conv2(y), train)
        return _join(self, x, y, train)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut, of ResNet-50, -101 and -152.

    Attributes: as `BasicBlock`; the stride is that of the 3x3 convolution.
    """

    width: int
    strides: int = 1
    project: bool = False
    zero_init_residual: bool = True
    drop_path_rate: float = 0.0
    dtype: Any = jnp.float32

    expansion = 4

    def setup(self) -> None:
        """Names the layers as torchvision does."""
        self.conv1 = Conv(self.width, 1, dtype=self.dtype)
        self.bn1 = BatchNorm(self.dtype)
        self.conv2 = Conv(self.width, 3, self.strides, dtype=self.dtype)
        self.bn2 = BatchNorm(self.dtype)
        self.conv3 = Conv(self.width * self.expansion, 1, dtype=self.dtype)
        self.bn3 = _last_norm(self)
        self.downsample = _shortcut(self)
        self.drop_path = DropPath(self.drop_path_rate)

    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H / strides, W / strides, width * expansion)."""
        y = nn.relu(self.bn1(self.conv1(x), train))
        y = nn.relu(self.bn2(self.conv2(y), train))
        y = self.bn3(self.conv3(y), train)
        return _join(self, x, y, train)


Block = BasicBlock | Bottleneck


def _last_norm(block: Block) -> BatchNorm:
    init = nn.initializers.zeros if block.zero_init_residual else nn.initializers.ones
    return BatchNorm(block.dtype, scale_init=init)


def _shortcut(block: Block) -> list[nn.Module]:
    if not block.project:
        return []
    channels = block.width * block.expansion
    return [Conv(channels, 1, block.strides, dtype=block.dtype), BatchNorm(block.dtype)]


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
        stem: 'standard' (7x7/2 convolution and 3x3/2 max-pool), or 'small' (3x3 convolution,
            neither strides) for images up to 64 pixels.
        zero_init_residual: starts each block as its shortcut; Goyal et al., arXiv:1706.02677.
        dropout_rate: probability to drop a pooled feature before the classifier.
        drop_path_rate: probability to drop the last block's branch; rises linearly from 0 in the
            first block.
        dtype: compute type; parameters, statistics, pooling and classifier are float32.
    """

    num_classes: int
    stage_sizes: Sequence[int]
    block: type[BasicBlock] | type[Bottleneck]
    width: int = 64
    stem: str = "standard"
    zero_init_residual: bool = True
    dropout_rate: float = 0.0
    drop_path_rate: float = 0.0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Names the layers as torchvision does."""
        if self.stem not in STEMS:
            raise ConfigError(
                f"ResNet has no stem {self.stem!r}; choose one of: {', '.join(STEMS)}"
            )
        size, strides, _ = STEMS[self.stem]
        self.conv1 = Conv(self.width, size, strides, dtype=self.dtype)
        self.bn1 = BatchNorm(self.dtype)
        # Setting a list names its elements layer1_0, layer1_1, ...
        channels, position = self.width, 0
        for stage, count in enumerate(self.stage_sizes):
            blocks = []
            for index in range(count):
                width = self.width * 2**stage
                strides = 2 if stage > 0 and index == 0 else 1
                blocks.append(
                    self.block(
                        width,
                        strides=strides,
                        project=strides > 1 or channels != width * self.block.expansion,
                        zero_init_residual=self.zero_init_residual,
                        drop_path_rate=self.drop_path_rate
                        * position
                        / max(sum(self.stage_sizes) - 1, 1),
                        dtype=self.dtype,
                    )
                )
                channels = width * self.block.expansion
                position += 1
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
            # Pads with -inf, as torch.
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
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
