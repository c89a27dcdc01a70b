"""VGG-11 to -19, with and without batch normalisation, for any number of bands.

Simonyan and Zisserman 2015, arXiv:1409.1556. Module names are torchvision's, whose numbers count
convolutions, normalisations, ReLUs and pools: `features.0` is `features_0` here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsjax.errors import ConfigError
from rsjax.models.layers import Conv, norm_layer
from rsjax.models.resampling import adaptive_avg_pool, dilations, max_pool

Array = jax.Array

HEADS = ("fc", "pool")
POOLED = 7  # rows and columns of the map that the fully connected layers see

# torchvision's and the paper's for fully connected layers.
fc_init = nn.initializers.normal(0.01)


class VGG(nn.Module):
    """Blocks of 3x3 convolutions, each followed by a 2x2 max-pool; three fully connected layers.

    Attributes:
        num_classes: length of the logits.
        stage_sizes: convolutions of each block.
        use_norm: whether a normalisation follows each convolution, torchvision's `_bn` models.
        width: channels of the first block; they double at each block, up to 8 times.
        head: 'fc' (the paper's three layers on a 7 x 7 map, 120 million parameters), or 'pool'
            (one linear layer on the global average) for small images and small data.
        fc_width: channels of the two hidden fully connected layers.
        output_stride: pixels of the image for each of the last pool; below 32 the last pools are
            3x3 and do not stride, and the convolutions after them are dilated, as in DeepLab
            (arXiv:1606.00915).
        dropout_rate: probability to drop a value after each hidden fully connected layer; with
            the head 'pool', a pooled feature.
        norm: 'batch' or 'group'; means nothing without `use_norm`.
        norm_epsilon: added to the variance.
        remat: computes the inside of the blocks again for the gradient, which saves memory.
        dtype: compute type; parameters, statistics and the last layer are float32.
    """

    num_classes: int
    stage_sizes: Sequence[int]
    use_norm: bool = False
    width: int = 64
    head: str = "fc"
    fc_width: int = 4096
    output_stride: int = 0
    dropout_rate: float = 0.5
    norm: str = "batch"
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    def _plan(self) -> tuple[tuple[int, int], ...]:
        """(stride, dilation) of the image and of each pool."""
        strides = (1, *(2,) * len(self.stage_sizes))
        return dilations(self.output_stride or 2 ** len(self.stage_sizes), strides, "VGG")

    @property
    def strides(self) -> dict[str, int]:
        """Pixels of the image for each pixel of the maps of `features`."""
        total, found = 1, {}
        for number, (step, _) in enumerate(self._plan()[1:], 1):
            found[f"block{number}"] = total
            total *= step
        found[f"pool{len(self.stage_sizes)}"] = total
        return found

    def _numbers(self) -> tuple[tuple[int, ...], ...]:
        """For each block, the numbers of its convolutions in torchvision's sequence."""
        step, first, found = 3 if self.use_norm else 2, 0, []
        for count in self.stage_sizes:
            found.append(tuple(range(first, first + step * count, step)))
            first += step * count + 1
        return tuple(found)

    def setup(self) -> None:
        """Names the layers as torchvision does."""
        if self.head not in HEADS:
            raise ConfigError(f"VGG has no head {self.head!r}; choose one of: {', '.join(HEADS)}")
        norm = norm_layer(self.norm, self.dtype, self.norm_epsilon)
        for stage, numbers in enumerate(self._numbers()):
            channels, (_, dilation) = self.width * 2 ** min(stage, 3), self._plan()[stage]
            for number in numbers:
                conv = Conv(channels, dilation=dilation, use_bias=True, dtype=self.dtype)
                setattr(self, f"features_{number}", conv)
                if self.use_norm:
                    setattr(self, f"features_{number + 1}", norm())
        dense = functools.partial(nn.Dense, kernel_init=fc_init)
        self.dropout = nn.Dropout(self.dropout_rate)
        if self.head == "pool":
            self.fc = dense(self.num_classes)
        else:
            self.classifier_0 = dense(self.fc_width, dtype=self.dtype)
            self.classifier_3 = dense(self.fc_width, dtype=self.dtype)
            self.classifier_6 = dense(self.num_classes, dtype=jnp.float32)

    def _block(self, x: Array, numbers: tuple[int, ...], train: bool) -> Array:
        for number in numbers:
            x = getattr(self, f"features_{number}")(x)
            if self.use_norm:
                x = getattr(self, f"features_{number + 1}")(x, train)
            x = nn.relu(x)
        return x

    def features(self, x: Array, train: bool) -> dict[str, Array]:
        """Feature maps by stage, fine to coarse, for classifiers and decoders alike.

        Args:
            x: (B, H, W, C) standardised bands.
            train: uses and tracks the batch's statistics.

        Returns:
            'block1' to 'block5', each before its max-pool (strides 1, 2, 4, 8 and 16), and the
            last pool, 'pool5' (32). Odd sizes round down.
        """
        block = nn.remat(VGG._block, static_argnums=(2, 3)) if self.remat else VGG._block
        maps = {}
        for stage, numbers in enumerate(self._numbers(), 1):
            maps[f"block{stage}"] = x = block(self, x, numbers, train)
            x = max_pool(x, 2, 2) if self._plan()[stage][0] == 2 else max_pool(x, 3, 1, 1)
        maps[f"pool{len(self.stage_sizes)}"] = x
        return maps

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, num_classes) float32, of images (B, H, W, C)."""
        x = self.features(x, train)[f"pool{len(self.stage_sizes)}"]
        if self.head == "pool":
            x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
            return self.fc(self.dropout(x, deterministic=not train))
        # Flattened as torch does, channels first, so that its weights need no other order.
        x = adaptive_avg_pool(x, POOLED).transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        for layer in (self.classifier_0, self.classifier_3):
            x = self.dropout(nn.relu(layer(x)), deterministic=not train)
        return self.classifier_6(x)


vgg11 = functools.partial(VGG, stage_sizes=(1, 1, 2, 2, 2))
vgg13 = functools.partial(VGG, stage_sizes=(2, 2, 2, 2, 2))
vgg16 = functools.partial(VGG, stage_sizes=(2, 2, 3, 3, 3))
vgg19 = functools.partial(VGG, stage_sizes=(2, 2, 4, 4, 4))
vgg11_bn = functools.partial(vgg11, use_norm=True)
vgg13_bn = functools.partial(vgg13, use_norm=True)
vgg16_bn = functools.partial(vgg16, use_norm=True)
vgg19_bn = functools.partial(vgg19, use_norm=True)
