"""Names and layouts of keras.applications, in ours; `keras_file` says how arrays come.

Layers are renamed by the rules of each family. Their variables are told apart by the number of
their axes; a batch norm of three has no scale. A convolution's bias before a batch norm, which
ours has not, is taken off the running mean, to the same effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rsjax.errors import WeightsError
from rsjax.models.pretrained.fit import Tree, unflat

Layers = dict[str, list[np.ndarray]]
EPSILON = 1.001e-5  # of the batch norms of ResNet and DenseNet
# Today's name; in the code that the files were published with (keras-team/keras-applications),
# ResNet's is 'probs', DenseNet's 'fc1000', and its first layers are 'conv1/conv' and 'conv1/bn'.
CLASSIFIER = r"predictions|probs|fc1000"


def from_keras(arrays: Mapping[str, np.ndarray], module: str) -> tuple[Tree, dict[str, Any]]:
    """Variables of a model of keras.applications, and the fields that they need.

    Args:
        arrays: 'layer/0', 'layer/1', ..., as `keras_file` gives them.
        module: module of `rsjax.models`.

    Raises:
        WeightsError: there are no rules for the module, or a layer that no rule names.
    """
    if module not in FAMILIES:
        raise WeightsError(
            f"no rules for Keras' weights of models in '{module}'; there are for "
            f"{', '.join(FAMILIES)}"
        )
    layers: Layers = {}
    for name, value in arrays.items():
        layers.setdefault(name.rpartition("/")[0], []).append(value)
    for name, values in layers.items():
        follower = layers.get(f"{name.removesuffix('conv')}bn", [])
        if name.endswith("_conv") and len(values) == 2 and follower:
            follower[-2] = follower[-2] - values.pop()
    naming, fields = FAMILIES[module]
    names = naming(layers)
    if strange := [name for name in layers if name not in names]:
        raise WeightsError(
            f"layers {', '.join(strange[:10])} are none of keras.applications' in '{module}'"
        )
    flat: dict[str, np.ndarray] = {}
    for layer, values in layers.items():
        flat |= _arrays(names[layer], values, layer)
    return unflat(flat), dict(fields)


def _arrays(name: str, values: Sequence[np.ndarray], layer: str) -> dict[str, np.ndarray]:
    """The arrays of one layer, by our names."""
    axes = [value.ndim for value in values]
    if axes in ([4], [4, 1], [2], [2, 1]):
        if name == "classifier_0":  # VGG's first linear layer: flattened channels last, ours first
            values = [_channels_first(values[0]), *values[1:]]
        return {f"params/{name}/{k}": v for k, v in zip(("kernel", "bias"), values, strict=False)}
    if axes in ([1, 1, 1], [1, 1, 1, 1]):
        bias, mean, variance = values[-3:]
        return {
            f"params/{name}/scale": values[0] if len(values) == 4 else np.ones_like(bias),
            f"params/{name}/bias": bias,
            f"batch_stats/{name}/mean": mean,
            f"batch_stats/{name}/var": variance,
        }
    if axes == [4, 4]:  # separable: (h, w, channels, 1), then 1x1
        return {
            f"params/{name}/conv1/kernel": values[0].transpose(0, 1, 3, 2),
            f"params/{name}/pointwise/kernel": values[1],
        }
    raise WeightsError(f"layer '{layer}' has variables of {axes} axes; no kind of layer known here")


def _channels_first(kernel: np.ndarray) -> np.ndarray:
    """Rows of a linear layer on a flattened 7 x 7 map, reordered."""
    rows, outputs = kernel.shape
    maps = kernel.reshape(7, 7, rows // 49, outputs).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(maps.reshape(rows, outputs))


def _by_regex(
    *rules: tuple[str, Callable[[re.Match[str]], str]],
) -> Callable[[Layers], dict[str, str]]:
    def names(layers: Layers) -> dict[str, str]:
        return {
            layer: path(match)
            for layer in layers
            for regex, path in rules
            if (match := re.fullmatch(regex, layer))
        }

    return names


def _residual(match: re.Match[str]) -> str:
    stage, block, number, kind = int(match[1]), int(match[2]), int(match[3]), match[4]
    part = f"downsample_{0 if kind == 'conv' else 1}" if number == 0 else f"{kind}{number}"
    return f"layer{stage - 1}_{block - 1}/{part}"


_DENSE = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}


def _vgg(layers: Layers) -> dict[str, str]:
    """Counts convolutions, ReLUs and pools, as the numbers in torchvision's names do."""
    found = {"fc1": "classifier_0", "fc2": "classifier_3", "predictions": "classifier_6"}
    number = 0
    for block in range(1, 6):
        for conv in range(1, 5):
            if f"block{block}_conv{conv}" in layers:
                found[f"block{block}_conv{conv}"] = f"features_{number}"
                number += 2
        number += 1
    return found


_A = "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 branch_pool"
_B = "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3"
_C = (
    "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 "
    "branch7x7dbl_4 branch7x7dbl_5 branch_pool"
)
_D = "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4"
_E = (
    "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 "
    "branch3x3dbl_3a branch3x3dbl_3b branch_pool"
)
_MIXED = {
    "5b": _A, "5c": _A, "5d": _A, "6a": _B, "6b": _C, "6c": _C, "6d": _C, "6e": _C, "7a": _D,
    "7b": _E, "7c": _E,
}  # fmt: skip
_STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
# Inception-v3's convolutions in the order in which Keras makes, and so numbers, them.
CREATED = tuple(f"Conv2d_{name}" for name in _STEM) + tuple(
    f"Mixed_{block}/{branch}" for block, names in _MIXED.items() for branch in names.split()
)


def _numbered(layers: Layers, kind: str) -> list[str]:
    """Layers that Keras named itself, 'conv2d', 'conv2d_1', ..., in the order of their making."""
    found = [re.fullmatch(rf"{kind}(?:_(\d+))?", layer) for layer in layers]
    numbers = {int(match[1] or 0): match[0] for match in found if match}
    return [numbers[number] for number in sorted(numbers)]


def _inception(layers: Layers) -> dict[str, str]:
    found = {"predictions": "fc"}
    for kind, part in (("conv2d", "conv"), ("batch_normalization", "bn")):
        numbered = _numbered(layers, kind)
        if len(numbered) != len(CREATED):
            raise WeightsError(f"{len(numbered)} layers '{kind}', Inception-v3 has {len(CREATED)}")
        found |= {layer: f"{path}/{part}" for layer, path in zip(numbered, CREATED, strict=True)}
    return found


def _xception(layers: Layers) -> dict[str, str]:
    """Cadene's names: a block's `rep` counts ReLUs, convolutions and normalisations."""
    found = {"predictions": "fc"}
    for number in (1, 2):
        found[f"block1_conv{number}"] = f"conv{number}"
        found[f"block1_conv{number}_bn"] = f"bn{number}"
        found[f"block14_sepconv{number}"] = f"conv{number + 2}"
        found[f"block14_sepconv{number}_bn"] = f"bn{number + 2}"
    for block in range(2, 14):
        first = 0 if block == 2 else 1  # the first block begins without a ReLU
        for number in range(3):
            path, at = f"block{block - 1}/rep_", first + 3 * number
            found[f"block{block}_sepconv{number + 1}"] = f"{path}{at}"
            found[f"block{block}_sepconv{number + 1}_bn"] = f"{path}{at + 1}"
    for kind, part in (("conv2d", "skip"), ("batch_normalization", "skipbn")):
        blocks = ("block1", "block2", "block3", "block12")
        found |= {
            layer: f"{block}/{part}"
            for layer, block in zip(_numbered(layers, kind), blocks, strict=False)
        }
    return found


# module of rsjax.models: (layers -> our path of each, fields that these weights need)
FAMILIES: dict[str, tuple[Callable[[Layers], dict[str, str]], Mapping[str, Any]]] = {
    "resnet": (
        _by_regex(
            (r"conv1_(conv|bn)", lambda m: f"{m[1]}1"),
            (r"conv([2-5])_block(\d+)_([0-3])_(conv|bn)", _residual),
            (CLASSIFIER, lambda m: "fc"),
        ),
        {"stride_in_1x1": True, "norm_epsilon": EPSILON},
    ),
    "vgg": (_vgg, {}),
    "densenet": (
        _by_regex(
            (r"conv1[_/]conv", lambda m: "features/conv0"),
            (r"conv1[_/]bn", lambda m: "features/norm0"),
            (
                r"conv([2-5])_block(\d+)_(0_bn|1_conv|1_bn|2_conv)",
                lambda m: f"features/denseblock{int(m[1]) - 1}/denselayer{m[2]}/{_DENSE[m[3]]}",
            ),
            (
                r"pool([2-4])_(bn|conv)",
                lambda m: f"features/transition{int(m[1]) - 1}/{m[2].replace('bn', 'norm')}",
            ),
            (r"bn", lambda m: "features/norm5"),
            (CLASSIFIER, lambda m: "classifier"),
        ),
        {"norm_epsilon": EPSILON},
    ),
    "inception": (_inception, {"norm_epsilon": 1e-3, "count_padding": False, "aux": False}),
    "xception": (_xception, {"norm_epsilon": 1e-3}),
}
