"""Fully convolutional networks: FCN-32s, -16s and -8s on VGG-16, and torchvision's on a backbone.

Long, Shelhamer and Darrell 2015, arXiv:1411.4038, and its journal version, Shelhamer et al. 2017,
arXiv:1605.06211. Module names of `VGGFCN` are those of the authors' Caffe models, which pytorch-fcn
keeps; of `FCN`, torchvision's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from rsjax.errors import ConfigError
from rsjax.models import backbone
from rsjax.models.layers import Conv, ConvTranspose, linear_init, norm_layer
from rsjax.models.resampling import max_pool, resize
from rsjax.models.vgg import fc_init

Array = jax.Array

PADDING = 100  # of the first convolution: fc6 sees 7 x 7 pixels of pool5 in any image
# stride of the finest scores: (name, taps, stride, first row and column kept) of each up-scoring,
# coarse to fine. What is cut makes the pixels lie on those of the pool, or of the image.
UPSCORES = {
    32: (("upscore", 64, 32, 19),),
    16: (("upscore2", 4, 2, 5), ("upscore16", 32, 16, 27)),
    8: (("upscore2", 4, 2, 5), ("upscore_pool4", 4, 2, 9), ("upscore8", 16, 8, 31)),
}
SKIPS = ("pool4", "pool3")
# Of these, before they are scored, when all streams are trained at once (`scale_skips`).
SKIP_SCALES = {"pool4": 1e-2, "pool3": 1e-4}


def bilinear_init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Kernel (k, k, out, in) of a transposed convolution that interpolates each channel alone."""
    del key
    size = shape[0]
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    taps = 1 - jnp.abs(jnp.arange(size, dtype=dtype) - center) / factor
    return jnp.einsum("i,j,oc->ijoc", taps, taps, jnp.eye(shape[2], shape[3], dtype=dtype))


class VGGFCN(nn.Module):
    """VGG-16 whose fully connected layers became convolutions, with skips from the finer pools.

    The class scores start at 0 and the up-scorings as bilinear interpolation, both as in the
    papers. The published models keep the up-scorings as they start: give `upscore` the
    learning-rate factor 0 for that.

    Attributes:
        num_classes: length of a pixel's logits.
        stride: pixels of the image for each of the finest scores: 32, 16 (with pool4) or 8 (with
            pool4 and pool3).
        stage_sizes: convolutions of each of the five blocks.
        width: channels of the first block; they double at each block, up to 8 times.
        fc_width: channels of fc6 and fc7.
        scale_skips: multiplies pool4 by 0.01 and pool3 by 0.0001, as the authors do where they
            train all streams at once from VGG-16's weights, not one after the other.
        dropout_rate: probability to drop a value after fc6 and fc7.
        remat: computes the inside of the blocks again for the gradient, which saves memory.
        dtype: compute type; parameters and scores are float32.
    """

    num_classes: int
    stride: int = 8
    stage_sizes: Sequence[int] = (2, 2, 3, 3, 3)
    width: int = 64
    fc_width: int = 4096
    scale_skips: bool = False
    dropout_rate: float = 0.5
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Names the layers as the authors do."""
        if self.stride not in UPSCORES:
            raise ConfigError(
                f"FCN has no stride {self.stride}; choose one of: {', '.join(map(str, UPSCORES))}"
            )
        conv = functools.partial(Conv, use_bias=True, dtype=self.dtype)
        for stage, count in enumerate(self.stage_sizes):
            for number in range(1, count + 1):
                first = stage == 0 and number == 1
                layer = conv(self.width * 2 ** min(stage, 3), padding=PADDING if first else 1)
                setattr(self, f"conv{stage + 1}_{number}", layer)
        self.fc6 = conv(self.fc_width, 7, padding=0, kernel_init=fc_init)
        self.fc7 = conv(self.fc_width, 1, kernel_init=fc_init)
        self.dropout = nn.Dropout(self.dropout_rate)
        score = functools.partial(
            Conv, self.num_classes, 1, use_bias=True, kernel_init=nn.initializers.zeros
        )
        self.score_fr = score()
        upscores = UPSCORES[self.stride]
        for name in SKIPS[: len(upscores) - 1]:
            setattr(self, f"score_{name}", score())
        for name, size, step, _ in upscores:
            up = ConvTranspose(
                self.num_classes, size, step, use_bias=False, kernel_init=bilinear_init
            )
            setattr(self, name, up)

    def _block(self, x: Array, stage: int) -> Array:
        for number in range(1, self.stage_sizes[stage - 1] + 1):
            x = nn.relu(getattr(self, f"conv{stage}_{number}")(x))
        return max_pool(x, 2, 2, ceil=True)

    def features(self, x: Array, train: bool) -> dict[str, Array]:
        """'pool1' to 'pool5', of the padded image, and 'fc7', of strides 2 to 32 and 32."""
        block = nn.remat(VGGFCN._block, static_argnums=(2,)) if self.remat else VGGFCN._block
        maps = {}
        for stage in range(1, len(self.stage_sizes) + 1):
            maps[f"pool{stage}"] = x = block(self, x, stage)
        for layer in (self.fc6, self.fc7):
            x = self.dropout(nn.relu(layer(x)), deterministic=not train)
        maps["fc7"] = x
        return maps

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, H, W, num_classes) float32, of images (B, H, W, C) of any size."""
        maps = self.features(x, train)
        *fused, (last, _, _, edge) = UPSCORES[self.stride]
        y = self.score_fr(maps["fc7"])
        for (name, _, _, start), skip in zip(fused, SKIPS, strict=False):
            y = getattr(self, name)(y)
            scale = SKIP_SCALES[skip] if self.scale_skips else 1.0
            finer = getattr(self, f"score_{skip}")(maps[skip] * scale)
            y = y + _cut(finer, start, y)
        return _cut(getattr(self, last)(y), edge, x)


def _cut(x: Array, start: int, like: Array) -> Array:
    """The rows and columns of `x` from `start` on, as many as `like` has."""
    rows, cols = like.shape[1:3]
    return x[:, start : start + rows, start : start + cols]


class FCN(nn.Module):
    """A convolution and class scores on the last map of a dilated backbone, then interpolation.

    Attributes:
        num_classes: length of a pixel's logits.
        encoder_name: name of the backbone.
        encoder_fields: its fields.
        output_stride: pixels of the image for each of the backbone's last map; 0: its own
            default, for a backbone that cannot be dilated.
        aux_weight: weight of the auxiliary scores, from the last map but one, in the loss; 0: none.
        dropout_rate: probability to drop a value before the class scores.
        norm: 'batch' or 'group', in backbone and head.
        norm_epsilon: added to the variance in the head.
        remat: computes the inside of the backbone's blocks again for the gradient.
        dtype: compute type; parameters, statistics and scores are float32.
    """

    num_classes: int
    encoder_name: str = "resnet50"
    encoder_fields: Mapping[str, Any] = FrozenDict()
    output_stride: int = 8
    aux_weight: float = 0.5
    dropout_rate: float = 0.1
    norm: str = "batch"
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Makes the backbone."""
        stride = {"output_stride": self.output_stride} if self.output_stride else {}
        self.backbone = backbone(
            self.encoder_name,
            self.encoder_fields,
            norm=self.norm,
            remat=self.remat,
            dtype=self.dtype,
            **stride,
        )

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, H, W, num_classes) float32, of images (B, H, W, C)."""
        height, width = x.shape[1:3]
        *_, finer, last = self.backbone.features(x, train).values()
        if self.aux_weight and (train or self.is_initializing()):
            scores = self._head(finer, "aux_classifier", train)
            if not self.is_initializing():
                self.sow("auxiliary", "logits", resize(scores, height, width))
        return resize(self._head(last, "classifier", train), height, width)

    def _head(self, x: Array, name: str, train: bool) -> Array:
        """Scores; the numbers are torchvision's, which counts the ReLU and the dropout."""
        norm = norm_layer(self.norm, self.dtype, self.norm_epsilon)
        # torch's default initialisation, kernels alike for convolutions and linear layers.
        conv = functools.partial(Conv, kernel_init=linear_init)
        x = conv(x.shape[-1] // 4, dtype=self.dtype, name=f"{name}_0")(x)
        x = nn.relu(norm(name=f"{name}_1")(x, train))
        x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        return conv(self.num_classes, 1, use_bias=True, name=f"{name}_4")(x)


fcn = FCN
fcn_resnet50 = functools.partial(FCN, encoder_name="resnet50")
fcn_resnet101 = functools.partial(FCN, encoder_name="resnet101")
fcn32s = functools.partial(VGGFCN, stride=32)
fcn16s = functools.partial(VGGFCN, stride=16)
fcn8s = functools.partial(VGGFCN, stride=8)
