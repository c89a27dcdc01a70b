"""SegNet: VGG encoder, and a decoder that unpools by the places of the encoder's maxima.

Badrinarayanan, Kendall and Cipolla 2017, arXiv:1511.00561. The decoder's names are those of the
authors' Caffe model (`conv5_3_D`, `conv5_3_D_bn`); the encoder's are torchvision's under
`encoder`, so that VGG-16's published weights load by their own names (`features.0` is
`encoder/features_0`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from rsjax.errors import ConfigError
from rsjax.models import backbone
from rsjax.models.layers import Conv, norm_layer
from rsjax.models.resampling import max_pool_with_indices, unpool
from rsjax.models.vgg import VGG

Array = jax.Array

# Caffe's 'msra', of all convolutions of the authors' model; He et al., arXiv:1502.01852.
msra_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class SegNet(nn.Module):
    """Class scores per pixel; the decoder mirrors the encoder, block for block.

    Attributes:
        num_classes: length of a pixel's logits.
        encoder_name: one of the VGG backbones; the paper's is VGG-16 with batch normalisation.
        encoder_fields: its fields, e.g. `width`.
        dropout_rate: probability to drop a value of the coarsest map and after the three coarsest
            blocks of the decoder: the decoder's half of Bayesian SegNet (arXiv:1511.02680).
        norm: 'batch' or 'group', in encoder and decoder.
        norm_epsilon: added to the variance in the decoder.
        remat: computes the inside of the blocks again for the gradient, which saves memory.
        dtype: compute type; parameters, statistics and the last convolution are float32.
    """

    num_classes: int
    encoder_name: str = "vgg16_bn"
    encoder_fields: Mapping[str, Any] = FrozenDict()
    dropout_rate: float = 0.0
    norm: str = "batch"
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Names the decoder's layers as the authors do: 5_3, 5_2, 5_1, 4_3, ..."""
        encoder = backbone(
            self.encoder_name,
            self.encoder_fields,
            norm=self.norm,
            remat=self.remat,
            dtype=self.dtype,
        )
        if not isinstance(encoder, VGG) or encoder.output_stride:
            raise ConfigError(
                f"SegNet mirrors a VGG whose pools all stride, not {self.encoder_name!r} with "
                f"{dict(self.encoder_fields)}; choose e.g. encoder_name='vgg16_bn', and no "
                "output_stride"
            )
        self.encoder = encoder
        norm = norm_layer(self.norm, self.dtype, self.norm_epsilon)
        for stage, count in enumerate(encoder.stage_sizes):
            for number in range(1, count + 1):
                name = f"conv{stage + 1}_{number}_D"
                # The last of a block has the channels of the block before.
                channels = encoder.width * 2 ** min(max(stage - (number == 1), 0), 3)
                dtype = self.dtype
                if name == "conv1_1_D":
                    channels, dtype = self.num_classes, jnp.float32
                else:
                    setattr(self, f"{name}_bn", norm())
                conv = Conv(channels, use_bias=True, dtype=dtype, kernel_init=msra_init)
                setattr(self, name, conv)
        self.dropout = nn.Dropout(self.dropout_rate)

    def _block(self, x: Array, stage: int, train: bool) -> Array:
        for number in range(self.encoder.stage_sizes[stage - 1], 0, -1):
            name = f"conv{stage}_{number}_D"
            x = getattr(self, name)(x)
            if name != "conv1_1_D":
                x = nn.relu(getattr(self, f"{name}_bn")(x, train))
        return x

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, H, W, num_classes) float32, of images (B, H, W, C)."""
        block = nn.remat(SegNet._block, static_argnums=(2, 3)) if self.remat else SegNet._block
        *maps, y = self.encoder.features(x, train).values()
        for stage in range(len(maps), 0, -1):
            finer = maps[stage - 1]
            if stage > 1:
                y = self.dropout(y, deterministic=not train)
            # The encoder's pool has given the maxima; XLA drops those computed here again.
            _, where = max_pool_with_indices(finer)
            y = block(self, unpool(y, where, *finer.shape[1:3]), stage, train)
        return y


segnet = SegNet
