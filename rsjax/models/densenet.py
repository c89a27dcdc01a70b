"""DenseNet-121, -161, -169 and -201 for any number of bands.

Huang et al. 2017, arXiv:1608.06993, with bottlenecks and compression ('DenseNet-BC'). Module
names are torchvision's, of today: its published files say `norm.1` for `norm1`.
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
from rsjax.models.layers import Conv, linear_init, norm_layer
from rsjax.models.resampling import avg_pool, dilations, max_pool
from rsjax.models.resnet import STEMS

Array = jax.Array

# torchvision's `kaiming_normal_` with torch's defaults: by the inputs, unlike its ResNet's.
dense_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class DenseLayer(nn.Module):
    """1x1 and 3x3 convolution, each after normalisation and ReLU, over all maps before it.

    Attributes:
        growth_rate: output channels.
        bottleneck: output channels of the 1x1 convolution, as a multiple of the growth rate.
        dilation: of the 3x3 convolution.
        dropout_rate: probability to drop a number of the output.
        remat: computes what is as wide as the input again for the gradient.
        norm: constructor of the normalisation.
        dtype: compute type.
    """

    growth_rate: int
    bottleneck: int
    dilation: int
    dropout_rate: float
    remat: bool
    norm: Callable[..., nn.Module]
    dtype: Any

    def setup(self) -> None:
        """Names the layers as torchvision does."""
        conv = functools.partial(Conv, dtype=self.dtype, kernel_init=dense_init)
        self.norm1 = self.norm()
        self.conv1 = conv(self.bottleneck * self.growth_rate, 1)
        self.norm2 = self.norm()
        self.conv2 = conv(self.growth_rate, 3, dilation=self.dilation)
        self.dropout = nn.Dropout(self.dropout_rate)

    def narrow(self, maps: tuple[Array, ...], train: bool) -> Array:
        """To the bottleneck: the wide part, of which `remat` keeps nothing."""
        x = jnp.concatenate(maps, axis=-1)
        return self.conv1(nn.relu(self.norm1(x, train)))

    def __call__(self, maps: tuple[Array, ...], train: bool) -> Array:
        """Maps of (B, H, W, C) each to (B, H, W, growth_rate); rng 'dropout' where `train`."""
        narrow = DenseLayer.narrow
        if self.remat:
            narrow = nn.remat(narrow, static_argnums=(2,))
        y = narrow(self, maps, train)
        y = self.conv2(nn.relu(self.norm2(y, train)))
        return self.dropout(y, deterministic=not train)


class DenseBlock(nn.Module):
    """Layers that each see the input and what all layers before them made.

    Attributes:
        count: number of layers.
        layer: constructor of one.
    """

    count: int
    layer: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H, W, C + count * growth_rate)."""
        maps = [x]
        for number in range(1, self.count + 1):
            maps.append(self.layer(name=f"denselayer{number}")(tuple(maps), train))
        return jnp.concatenate(maps, axis=-1)


class Transition(nn.Module):
    """Halves the channels, and the sides unless the stages are dilated instead.

    Attributes:
        strides: 2, or 1 where it does not pool.
        make_norm: constructor of the normalisation.
        dtype: compute type.
    """

    strides: int
    make_norm: Callable[..., nn.Module]
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array]:
        """(B, H, W, C) normalised, and (B, H // strides, W // strides, C // 2)."""
        skip = nn.relu(self.make_norm(name="norm")(x, train))
        # The paper pools after the convolution, four times the work: both are linear and commute.
        y = avg_pool(skip, 2, 2) if self.strides == 2 else skip
        conv = Conv(x.shape[-1] // 2, 1, dtype=self.dtype, kernel_init=dense_init, name="conv")
        return skip, conv(y)


class Features(nn.Module):
    """The network without its classifier, which torchvision keeps in a module of its own.

    Attributes:
        stage_sizes: layers of each block.
        plan: stride and dilation of each block.
        stem: kernel size, stride, and whether a max-pool follows.
        width: channels of the stem.
        layer: constructor of a layer of a block.
        rectify_last: has a ReLU after the last normalisation.
        make_norm: constructor of the normalisation.
        dtype: compute type.
    """

    stage_sizes: Sequence[int]
    plan: Sequence[tuple[int, int]]
    stem: tuple[int, int, bool]
    width: int
    layer: Callable[..., nn.Module]
    rectify_last: bool
    make_norm: Callable[..., nn.Module]
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> dict[str, Array]:
        """Maps by stage, as `DenseNet.features`."""
        size, strides, pool = self.stem
        conv = functools.partial(Conv, dtype=self.dtype, kernel_init=dense_init)
        x = conv(self.width, size, strides, name="conv0")(x)
        x = nn.relu(self.make_norm(name="norm0")(x, train))
        maps = {"stem": x}
        if pool:
            x = max_pool(x, 3, 2, 1)
        for number, (count, (_, dilation)) in enumerate(
            zip(self.stage_sizes, self.plan, strict=True), 1
        ):
            layer = functools.partial(self.layer, dilation=dilation)
            x = DenseBlock(count, layer, name=f"denseblock{number}")(x, train)
            if number < len(self.stage_sizes):
                strides, _ = self.plan[number]
                transition = Transition(
                    strides, self.make_norm, self.dtype, name=f"transition{number}"
                )
                maps[f"block{number}"], x = transition(x, train)
        x = self.make_norm(name="norm5")(x, train)
        return maps | {f"block{number}": nn.relu(x) if self.rectify_last else x}


class DenseNet(nn.Module):
    """A densely connected network with a linear classifier.

    A layer takes the maps before it as a list and joins them itself. For DenseNet-121 and 8 images
    of 120 x 120 x 10, float32, JAX then hands from the forward to the backward pass, in MiB: 550,
    as where one map grows by concatenation; 563 where layers write into one map allocated before;
    245 with `remat` (the growing map: 308), 88 if the whole layer was computed again. A CPU needs
    the same temporary memory with and without: XLA merges there what is computed twice. Neither
    did time differ by more than the noise between these forms: 168 to 177 ms of CPU per image.

    Attributes:
        num_classes: length of the logits.
        stage_sizes: layers of each block, `denseblock1` first.
        width: channels of the stem.
        growth_rate: channels that each layer makes.
        bottleneck: channels between the two convolutions of a layer, in growth rates.
        stem: 'standard' (7x7/2 convolution and 3x3/2 max-pool), or 'small' (3x3 convolution,
            neither strides) for images up to 64 pixels.
        output_stride: pixels of the image for each of the last map; below 32 (small stem: 8) the
            last transitions do not pool and the blocks after them are dilated.
        rectify_last: has a ReLU after the last normalisation; segmentation-models-pytorch's
            encoders have none.
        dropout_rate: probability to drop a number, after each 3x3 convolution.
        norm: 'batch' or 'group'.
        norm_epsilon: added to the variance; Keras' published weights want 1.001e-5.
        remat: computes the joined maps, their normalisation and the 1x1 convolutions again for
            the gradient: Pleiss et al., arXiv:1707.06990, torchvision's `memory_efficient`.
        dtype: compute type; parameters, statistics, pooling and classifier are float32.
    """

    num_classes: int
    stage_sizes: Sequence[int]
    width: int = 64
    growth_rate: int = 32
    bottleneck: int = 4
    stem: str = "standard"
    output_stride: int = 0
    rectify_last: bool = True
    dropout_rate: float = 0.0
    norm: str = "batch"
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    def _plan(self) -> tuple[tuple[int, int], ...]:
        """(stride, dilation) of the stem with its pool, and of each block."""
        if self.stem not in STEMS:
            raise ConfigError(
                f"DenseNet has no stem {self.stem!r}; choose one of: {', '.join(STEMS)}"
            )
        first = 4 if STEMS[self.stem][2] else 1
        strides = (first, 1, *(2,) * (len(self.stage_sizes) - 1))
        return dilations(self.output_stride or math.prod(strides), strides, "DenseNet")

    @property
    def strides(self) -> dict[str, int]:
        """Pixels of the image for each pixel of the maps of `features`."""
        (total, _), *blocks = self._plan()
        found = {"stem": STEMS[self.stem][1]}
        for number, (step, _) in enumerate(blocks, 1):
            total *= step
            found[f"block{number}"] = total
        return found

    def setup(self) -> None:
        """Names the parts as torchvision does."""
        _, *plan = self._plan()
        norm = norm_layer(self.norm, self.dtype, self.norm_epsilon)
        layer = functools.partial(
            DenseLayer,
            growth_rate=self.growth_rate,
            bottleneck=self.bottleneck,
            dropout_rate=self.dropout_rate,
            remat=self.remat,
            norm=norm,
            dtype=self.dtype,
        )
        self.trunk = Features(
            self.stage_sizes,
            tuple(plan),
            STEMS[self.stem],
            self.width,
            layer,
            self.rectify_last,
            norm,
            self.dtype,
            name="features",
        )
        self.classifier = nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=linear_init)

    def features(self, x: Array, train: bool) -> dict[str, Array]:
        """Feature maps by stage, fine to coarse, for classifiers and decoders alike.

        A block's map is what segmentation-models-pytorch takes for its skips: normalised and
        rectified by the transition after it, before that halves the channels. The last is
        rectified, as before the classifier, if `rectify_last`.

        Args:
            x: (B, H, W, C) standardised bands.
            train: uses and tracks the batch's statistics; drops numbers (rng 'dropout').

        Returns:
            'stem' before the max-pool (stride 2; 1 with the small stem), 'block1' (4; 1),
            'block2' (8; 2), 'block3' (16; 4), 'block4' (32; 8). The stem and its pool round odd
            sizes up, transitions down.
        """
        return self.trunk(x, train)

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, num_classes) float32, of images (B, H, W, C)."""
        last = self.features(x, train)[f"block{len(self.stage_sizes)}"]
        return self.classifier(jnp.mean(last, axis=(1, 2), dtype=jnp.float32))


densenet121 = functools.partial(DenseNet, stage_sizes=(6, 12, 24, 16))
densenet161 = functools.partial(DenseNet, stage_sizes=(6, 12, 36, 24), width=96, growth_rate=48)
densenet169 = functools.partial(DenseNet, stage_sizes=(6, 12, 32, 32))
densenet201 = functools.partial(DenseNet, stage_sizes=(6, 12, 48, 32))
