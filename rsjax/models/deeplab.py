"""DeepLab v3 and v3+: atrous spatial pyramid pooling on a dilated backbone.

Chen et al. 2017, arXiv:1706.05587 (v3, module names of torchvision) and 2018, arXiv:1802.02611
(v3+, module names of segmentation-models-pytorch, smp). A batch norm follows the pooling of the
whole image, so training needs batches of more than one image: one alone has no variance there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from rsjax.errors import ConfigError
from rsjax.models import backbone
from rsjax.models.layers import Conv, linear_init, norm_layer
from rsjax.models.resampling import resize

Array = jax.Array

AUX_DROPOUT = 0.1
LOW_STRIDE = 4  # of the encoder's map that v3+ joins

decoder_init = nn.initializers.variance_scaling(2.0, "fan_in", "uniform")  # smp's
head_init = nn.initializers.xavier_uniform()


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one map seen at several distances.

    A 1x1 convolution, a 3x3 convolution of each rate and the mean of the whole map, side by side,
    each with normalisation and ReLU, are projected by a 1x1 convolution.

    Attributes:
        features: channels of each branch and of the output.
        rates: distance between the taps of each 3x3 convolution in pixels of the map.
        separable: splits these into depthwise and pointwise ones, with nothing between them.
        dropout_rate: probability to drop a value of the output.
        norm: constructor of the normalisation.
        kernel_init: initialiser of the kernels.
        dtype: compute type.
    """

    features: int
    rates: tuple[int, ...]
    separable: bool
    dropout_rate: float
    norm: Callable[..., nn.Module]
    kernel_init: nn.initializers.Initializer
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H, W, features)."""
        conv = functools.partial(Conv, dtype=self.dtype, kernel_init=self.kernel_init)

        def norm_relu(y: Array, name: str) -> Array:
            return nn.relu(self.norm(name=name)(y, train))

        branches = [norm_relu(conv(self.features, 1, name="convs_0_0")(x), "convs_0_1")]
        for number, rate in enumerate(self.rates, 1):
            name = f"convs_{number}_0"
            if self.separable:
                y = separable_conv(conv, x, self.features, rate, name)
            else:
                y = conv(self.features, 3, dilation=rate, name=name)(x)
            branches.append(norm_relu(y, f"convs_{number}_1"))
        last = f"convs_{len(branches)}"
        pooled = jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32)
        pooled = norm_relu(conv(self.features, 1, name=f"{last}_1")(pooled), f"{last}_2")
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        joined = jnp.concatenate(branches, axis=-1)
        y = norm_relu(conv(self.features, 1, name="project_0")(joined), "project_1")
        return nn.Dropout(self.dropout_rate)(y, deterministic=not train)


def separable_conv(
    conv: Callable[..., nn.Module], x: Array, features: int, dilation: int, name: str
) -> Array:
    """A 3x3 convolution of each channel, `name`_0, and a 1x1 convolution, `name`_1."""
    channels = x.shape[-1]
    x = conv(channels, 3, dilation=dilation, groups=channels, name=f"{name}_0")(x)
    return conv(features, 1, name=f"{name}_1")(x)


class DeepLabV3(nn.Module):
    """DeepLab v3: the pyramid on the last map, a 3x3 convolution, logits, bilinear to the image.

    Attributes:
        num_classes: channels of the logits.
        encoder_name: name in `rsjax.models.BACKBONES`.
        encoder_fields: fields of the encoder that differ from its defaults and from those below.
        output_stride: pixels of the image for each of the encoder's last map.
        rates: of the pyramid; empty: the paper's, (6, 12, 18) at output stride 16, (12, 24, 36) at
            8, and so on.
        decoder_channels: channels of the pyramid and behind it.
        dropout_rate: probability to drop a value of the pyramid; in the auxiliary classifier at
            most 0.1.
        aux_weight: weight of the loss of the auxiliary classifier, on the last stage but one
            (`layer3`), 0.5 in torchvision's recipe; 0: there is none, as in the paper.
        norm: 'batch' or 'group', of encoder and decoder.
        norm_epsilon: added to the variance in the decoder; the encoder has its own.
        remat: computes the inside of the encoder's blocks again for the gradient.
        dtype: compute type; parameters, statistics and logits are float32.

    Raises:
        ConfigError: the encoder is unknown, or has no map of this output stride.
    """

    num_classes: int
    encoder_name: str = "resnet50"
    encoder_fields: Mapping[str, Any] = FrozenDict()
    output_stride: int = 8
    rates: tuple[int, ...] = ()
    decoder_channels: int = 256
    dropout_rate: float = 0.5
    aux_weight: float = 0.5
    norm: str = "batch"
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Makes the encoder."""
        self.backbone = _encoder(self)
        _check_strides(self, self.backbone.strides, self.output_stride)

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, H, W, num_classes) float32, of images (B, H, W, C).

        In training and with an `aux_weight`, sows those of the auxiliary classifier as 'logits' in
        the collection 'auxiliary'.
        """
        height, width = x.shape[1:3]
        *_, before, last = self.backbone.features(x, train).values()
        norm = norm_layer(self.norm, self.dtype, self.norm_epsilon)
        conv = functools.partial(Conv, dtype=self.dtype, kernel_init=linear_init)
        head = functools.partial(Conv, self.num_classes, 1, use_bias=True, kernel_init=linear_init)
        if self.aux_weight and (train or self.is_initializing()):
            y = conv(before.shape[-1] // 4, 3, name="aux_classifier_0")(before)
            y = nn.relu(norm(name="aux_classifier_1")(y, train))
            y = nn.Dropout(min(AUX_DROPOUT, self.dropout_rate))(y, deterministic=not train)
            logits = resize(head(name="aux_classifier_4")(y), height, width)
            if not self.is_initializing():
                self.sow("auxiliary", "logits", logits)
        y = ASPP(
            self.decoder_channels,
            tuple(self.rates) or tuple(96 * k // self.output_stride for k in (1, 2, 3)),
            separable=False,
            dropout_rate=self.dropout_rate,
            norm=norm,
            kernel_init=linear_init,
            dtype=self.dtype,
            name="classifier_0",
        )(last, train)
        y = conv(self.decoder_channels, 3, name="classifier_1")(y)
        y = nn.relu(norm(name="classifier_2")(y, train))
        return resize(head(name="classifier_4")(y), height, width)


class PlusDecoder(nn.Module):
    """The pyramid on the last map, brought to and joined with a finer one.

    Attributes: as `ASPP`; `skip_channels`: of the finer map when it is joined.
    """

    features: int
    rates: tuple[int, ...]
    separable: bool
    skip_channels: int
    dropout_rate: float
    norm: Callable[..., nn.Module]
    dtype: Any

    @nn.compact
    def __call__(self, low: Array, last: Array, train: bool) -> Array:
        """The map of stride 4 (B, H, W, C) and the last one, to (B, H, W, features)."""
        conv = functools.partial(Conv, dtype=self.dtype, kernel_init=decoder_init)
        y = ASPP(
            self.features,
            self.rates,
            self.separable,
            self.dropout_rate,
            self.norm,
            decoder_init,
            self.dtype,
            name="aspp_0",
        )(last, train)
        y = separable_conv(conv, y, self.features, 1, "aspp_1")
        y = nn.relu(self.norm(name="aspp_2")(y, train))
        y = resize(y, low.shape[1], low.shape[2], align_corners=True)
        low = conv(self.skip_channels, 1, name="block1_0")(low)
        low = nn.relu(self.norm(name="block1_1")(low, train))
        y = separable_conv(conv, jnp.concatenate([y, low], axis=-1), self.features, 1, "block2_0")
        return nn.relu(self.norm(name="block2_1")(y, train))


class DeepLabV3Plus(nn.Module):
    """DeepLab v3+ as smp builds it, for images of any size.

    The pyramid and one separable convolution are joined with the map of stride 4; another
    separable convolution, logits, bilinear (corners aligned) to the image. The paper has two of
    the latter and none of the former, and normalises inside them. The first block of a dilated
    stage is dilated too, as in smp.

    Attributes: as `DeepLabV3`, without an auxiliary classifier, and
        rates: smp's for every output stride; the paper has (6, 12, 18) at 16.
        separable: whether the convolutions of the pyramid are separable.
        skip_channels: of the map of stride 4 when it is joined.

    Raises:
        ConfigError: the encoder is unknown, or has no map of stride 4 or of this output stride.
    """

    num_classes: int
    encoder_name: str = "resnet34"
    encoder_fields: Mapping[str, Any] = FrozenDict()
    output_stride: int = 16
    rates: tuple[int, ...] = (12, 24, 36)
    separable: bool = True
    decoder_channels: int = 256
    skip_channels: int = 48
    dropout_rate: float = 0.5
    norm: str = "batch"
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Names the layers as smp does."""
        self.encoder = _encoder(self, dilate_first=True, rectify_last=False)
        _check_strides(self, self.encoder.strides, LOW_STRIDE, self.output_stride)
        self.decoder = PlusDecoder(
            self.decoder_channels,
            tuple(self.rates),
            self.separable,
            self.skip_channels,
            self.dropout_rate,
            norm_layer(self.norm, self.dtype, self.norm_epsilon),
            self.dtype,
        )
        self.segmentation_head_0 = Conv(self.num_classes, 1, use_bias=True, kernel_init=head_init)

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, H, W, num_classes) float32, of images (B, H, W, C)."""
        maps = self.encoder.features(x, train)
        by_stride = {stride: maps[stage] for stage, stride in self.encoder.strides.items()}
        y = self.decoder(by_stride[LOW_STRIDE], by_stride[self.output_stride], train)
        logits = self.segmentation_head_0(y)
        return resize(logits, x.shape[1], x.shape[2], align_corners=True)


def _encoder(model: DeepLabV3 | DeepLabV3Plus, **defaults: Any) -> nn.Module:
    """The dilated backbone of a model."""
    return backbone(
        model.encoder_name,
        model.encoder_fields,
        output_stride=model.output_stride,
        norm=model.norm,
        remat=model.remat,
        dtype=model.dtype,
        pad=True,
        **defaults,
    )


def _check_strides(
    model: DeepLabV3 | DeepLabV3Plus, strides: Mapping[str, int], *wanted: int
) -> None:
    """Raises ConfigError unless the encoder has maps of these strides, the last one's the last."""
    found = sorted(set(strides.values()))
    if found[-1] != wanted[-1] or not set(wanted) <= set(found):
        raise ConfigError(
            f"{type(model).__name__} needs maps of strides {', '.join(map(str, wanted))} and none "
            f"coarser, but those of {model.encoder_name} have {', '.join(map(str, found))}; "
            f"choose another encoder_name or output_stride (now {model.output_stride})"
        )


deeplabv3 = DeepLabV3
deeplabv3_resnet50 = functools.partial(DeepLabV3, encoder_name="resnet50")
deeplabv3_resnet101 = functools.partial(DeepLabV3, encoder_name="resnet101")
deeplabv3plus = DeepLabV3Plus
