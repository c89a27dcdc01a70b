"""Inception-v3 for any number of bands; Szegedy et al. 2015, arXiv:1512.00567.

Sizes, initialisation and module names are torchvision's, which are those of the authors' TensorFlow
code. Keras' published weights have no scales (they are 1) and want `count_padding=False`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from rsjax.errors import ConfigError
from rsjax.models.layers import BatchNorm, Conv, Pair, norm_layer
from rsjax.models.resampling import avg_pool, max_pool

Array = jax.Array
Layer = tuple[str, int, int | Pair]  # name, channels, size of the kernel
Branch = tuple[Layer | tuple[Layer, Layer], ...]  # in a row; a pair side by side, concatenated

SMALLEST = 75  # pixels of an image that leave one of the last map without padding


A: tuple[Branch, ...] = (
    (("branch1x1", 64, 1),),
    (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
    (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
)


B: tuple[Branch, ...] = (
    (("branch3x3", 384, 3),),
    (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
)


def _c(inside: int) -> tuple[Branch, ...]:
    across, down = (1, 7), (7, 1)
    return (
        (("branch1x1", 192, 1),),
        (("branch7x7_1", inside, 1), ("branch7x7_2", inside, across), ("branch7x7_3", 192, down)),
        (
            ("branch7x7dbl_1", inside, 1),
            ("branch7x7dbl_2", inside, down),
            ("branch7x7dbl_3", inside, across),
            ("branch7x7dbl_4", inside, down),
            ("branch7x7dbl_5", 192, across),
        ),
    )


D: tuple[Branch, ...] = (
    (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)),
    (
        ("branch7x7x3_1", 192, 1),
        ("branch7x7x3_2", 192, (1, 7)),
        ("branch7x7x3_3", 192, (7, 1)),
        ("branch7x7x3_4", 192, 3),
    ),
)


E: tuple[Branch, ...] = (
    (("branch1x1", 320, 1),),
    (("branch3x3_1", 384, 1), (("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1)))),
    (
        ("branch3x3dbl_1", 448, 1),
        ("branch3x3dbl_2", 384, 3),
        (("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))),
    ),
)


# name: (branches, channels of the pooled branch); without these the block halves the map.
MIXED: dict[str, tuple[tuple[Branch, ...], int]] = {
    "Mixed_5b": (A, 32),
    "Mixed_5c": (A, 64),
    "Mixed_5d": (A, 64),
    "Mixed_6a": (B, 0),
    "Mixed_6b": (_c(128), 192),
    "Mixed_6c": (_c(160), 192),
    "Mixed_6d": (_c(160), 192),
    "Mixed_6e": (_c(192), 192),
    "Mixed_7a": (D, 0),
    "Mixed_7b": (E, 192),
    "Mixed_7c": (E, 192),
}


class ConvNorm(nn.Module):
    """A convolution, normalisation and ReLU.

    Attributes:
        features: output channels.
        kernel_size, strides, padding: as of `layers.Conv`.
        stddev: of the initial kernel, normal; torchvision cuts it at 2, twenty times that.
        norm: constructor of the normalisation.
        dtype: compute type.
    """

    features: int
    kernel_size: int | Pair = 3
    strides: int = 1
    padding: int | Pair | None = None
    stddev: float = 0.1
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Names the layers as torchvision does."""
        self.conv = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            padding=self.padding,
            dtype=self.dtype,
            kernel_init=nn.initializers.normal(self.stddev),
        )
        self.bn = self.norm()

    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H', W', features)."""
        return nn.relu(self.bn(self.conv(x), train))


class Mixed(nn.Module):
    """Branches side by side, concatenated: the paper's figures 5 to 7 and 10.

    Attributes:
        branches: the convolutions of each branch.
        pooled: channels of the branch that averages 3x3 pixels; 0: the branch is a 3x3/2
            max-pool, and the last convolution of the others strides likewise.
        width: factor of all channels.
        pad: pads where the block strides.
        count_padding: whether the zeros around the map count in the averages.
        norm: constructor of the normalisation.
        dtype: compute type.
    """

    branches: tuple[Branch, ...]
    pooled: int
    width: float = 1.0
    pad: bool = False
    count_padding: bool = True
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """(B, H, W, C) to (B, H', W', channels of all branches)."""
        edge = 1 if self.pad else 0

        def conv(x: Array, layer: Layer, halve: bool = False) -> Array:
            name, features, size = layer
            strides, padding = (2, edge) if halve else (1, None)
            options: dict[str, Any] = {"norm": self.norm, "dtype": self.dtype, "name": name}
            features = _scaled(features, self.width)
            return ConvNorm(features, size, strides, padding, **options)(x, train)

        found = []
        for branch in self.branches:
            ends = [x]
            for position, layers in enumerate(branch, 1):
                halve = not self.pooled and position == len(branch)
                pair = layers if isinstance(layers[0], tuple) else (layers,)
                ends = [conv(ends[0], layer, halve) for layer in pair]
            found += ends
        if self.pooled:
            mean = avg_pool(x, 3, 1, 1, count_padding=self.count_padding)
            found.append(conv(mean, ("branch_pool", self.pooled, 1)))
        else:
            found.append(max_pool(x, 3, 2, edge))
        return jnp.concatenate(found, axis=-1)


class AuxiliaryClassifier(nn.Module):
    """Logits from the maps of stride 16: 5x5/3 average, 1x1 and 5x5 convolution, mean, linear.

    Maps below 17 pixels, of images below 299, are too small for torchvision's: the averaged window
    is cut to the map, and zeros around what it leaves make up the 5 pixels of the convolution. That
    starts with a deviation of 0.01, which torchvision's code states but does not apply (0.1 there).

    Attributes: as `InceptionV3`.
    """

    num_classes: int
    width: float = 1.0
    norm: Callable[..., nn.Module] = BatchNorm
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Names the layers as torchvision does."""
        options: dict[str, Any] = {"norm": self.norm, "dtype": self.dtype}
        self.conv0 = ConvNorm(_scaled(128, self.width), 1, **options)
        self.conv1 = ConvNorm(_scaled(768, self.width), 5, padding=0, stddev=0.01, **options)
        init = nn.initializers.normal(0.001)
        self.fc = nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=init)

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, num_classes) float32, of maps (B, H, W, C)."""
        window = (min(5, x.shape[1]), min(5, x.shape[2]))
        total = nn.pool(x.astype(jnp.float32), 0.0, lax.add, window, (3, 3), "VALID")
        x = self.conv0(total / (window[0] * window[1]), train)
        lacking = [max(0, 5 - side) for side in x.shape[1:3]]
        x = jnp.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in lacking), (0, 0)))
        return self.fc(jnp.mean(self.conv1(x, train), axis=(1, 2), dtype=jnp.float32))


class InceptionV3(nn.Module):
    """Inception-v3 with a linear classifier.

    In training with `aux`, the auxiliary classifier's logits are sown; `features` has none of it.

    Attributes:
        num_classes: length of the logits.
        mixed: names of the blocks of `MIXED` that there are; fewer make a smaller network.
        width: factor of all channels.
        pad: pads all windows alike, as segmentation-models-pytorch does for encoders: maps are
            ceil(side / stride), and images may be smaller than 75 pixels. False: the paper's maps.
            None: only where there is no classifier, as in decoders, whose maps must lie on the
            image.
        count_padding: whether the zeros around a map count in the 3x3 averages: torchvision's;
            Keras leaves them out.
        aux: has the auxiliary classifier.
        aux_weight: weight of its loss; 0.4 in the authors' TensorFlow code, as the paper gives
            none (GoogLeNet's, arXiv:1409.4842, gives 0.3).
        dropout_rate: probability to drop a pooled feature before the classifier.
        norm: 'batch' or 'group'.
        norm_epsilon: added to the variance.
        remat: computes the inside of the blocks again for the gradient, which saves memory.
        dtype: compute type; parameters, statistics, pooling and classifiers are float32.
    """

    num_classes: int
    mixed: Sequence[str] = tuple(MIXED)
    width: float = 1.0
    pad: bool | None = None
    count_padding: bool = True
    aux: bool = True
    aux_weight: float = 0.4
    dropout_rate: float = 0.5
    norm: str = "batch"
    norm_epsilon: float = 1e-3
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def strides(self) -> dict[str, int]:
        """Pixels of the image for each pixel of the maps of `features`."""
        return {"stem": 2, "conv4": 4, "mixed5": 8, "mixed6": 16, "mixed7": 32}

    @property
    def _padded(self) -> bool:
        return self.num_classes == 0 if self.pad is None else self.pad

    def setup(self) -> None:
        """Names the layers as torchvision does."""
        norm = norm_layer(self.norm, self.dtype, self.norm_epsilon)
        options: dict[str, Any] = {"norm": norm, "dtype": self.dtype}

        def conv(features: int, size: int, strides: int = 1, same: bool = False) -> nn.Module:
            padding = None if same or self._padded else 0
            return ConvNorm(_scaled(features, self.width), size, strides, padding, **options)

        self.Conv2d_1a_3x3 = conv(32, 3, strides=2)
        self.Conv2d_2a_3x3 = conv(32, 3)
        self.Conv2d_2b_3x3 = conv(64, 3, same=True)
        self.Conv2d_3b_1x1 = conv(80, 1)
        self.Conv2d_4a_3x3 = conv(192, 3)
        make = nn.remat(Mixed, static_argnums=(2,)) if self.remat else Mixed
        for name in self.mixed:
            branches, pooled = MIXED[name]
            block = make(branches, pooled, self.width, self._padded, self.count_padding, **options)
            setattr(self, name, block)
        if self.aux:
            self.AuxLogits = AuxiliaryClassifier(self.num_classes, self.width, **options)
        self.dropout = nn.Dropout(self.dropout_rate)
        init = nn.initializers.normal(0.1)
        self.fc = nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=init)

    def features(self, x: Array, train: bool) -> dict[str, Array]:
        """Feature maps by stage, fine to coarse, for classifiers and decoders alike.

        Args:
            x: (B, H, W, C) standardised bands.
            train: uses and tracks the batch's statistics.

        Returns:
            'stem' and 'conv4' before the max-pools (stride 2 and 4), 'mixed5' (8), 'mixed6' (16),
            'mixed7' (32), each after the last block of that number. Where the model does not pad,
            maps are up to 5 pixels smaller than ceil(side / stride).

        Raises:
            ConfigError: nothing would be left of the image, as the model does not pad.
        """
        if not self._padded and min(x.shape[1:3]) < SMALLEST:
            raise ConfigError(
                f"Inception-v3 without padding needs images of {SMALLEST} x {SMALLEST} pixels, "
                f"not {x.shape[1]} x {x.shape[2]}; set pad=True, or make the images larger"
            )
        edge = 1 if self._padded else 0
        x = self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x, train), train)
        maps = {"stem": self.Conv2d_2b_3x3(x, train)}
        x = self.Conv2d_3b_1x1(max_pool(maps["stem"], 3, 2, edge), train)
        maps["conv4"] = self.Conv2d_4a_3x3(x, train)
        x = max_pool(maps["conv4"], 3, 2, edge)
        for name in self.mixed:
            x = getattr(self, name)(x, train)
            maps[f"mixed{name[6]}"] = x
        return maps

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, num_classes) float32, of images (B, H, W, C)."""
        maps = self.features(x, train)
        if self.aux and (train or self.is_initializing()):
            logits = self.AuxLogits(maps["mixed6"], train)
            if not self.is_initializing():
                self.sow("auxiliary", "logits", logits)
        pooled = jnp.mean(maps["mixed7"], axis=(1, 2), dtype=jnp.float32)
        return self.fc(self.dropout(pooled, deterministic=not train))


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


inception_v3 = InceptionV3
