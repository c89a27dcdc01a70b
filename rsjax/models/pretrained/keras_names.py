"""Names and layouts of keras.applications, in ours; `keras_file` says how arrays come.

Layers are renamed by the rules of each family; their variables are told apart by their number of
axes, and those of a batch norm by their number. A bias before a batch norm, which ours has not, is
taken off the running mean, to the same effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rsjax.errors import WeightsError
from rsjax.models.pretrained.fit import unflat

Layers = dict[str, list[np.ndarray]]
EPSILON = 1.001e-5  # of the batch norms of ResNet and DenseNet


def from_keras(arrays: Mapping[str, np.ndarray], module: str) -> tuple[dict[str, Any], dict]:
    """Variables of a model of keras.applications, and the fields that they need.

    Args:
        arrays: 'layer/0', 'layer/1', ..., as `keras_file` gives them.
        module: module of `rsjax.models`.

    Raises:
        WeightsError: there are no rules for the module, or a layer that no rule names.
    """
    if module not in FAMILIES:
        raise WeightsError(
            f"no rules for Keras' weights of the models in '{module}'; there are for "
            f"{', '.join(FAMILIES)}"
        )
    layers: Layers = {}
    for name, value in arrays.items():
        layers.setdefault(name.rpartition("/")[0], []).append(value)
    naming, fields = FAMILIES[module]
    names = naming(layers)
    flat: dict[str, np.ndarray] = {}
    for layer, values in layers.items():
        if layer not in names:
            raise WeightsError(f"layer '{layer}' is none of keras.applications' for '{module}'")
        flat |= _layer(names[layer], values, layer)
    return unflat(_fold_biases(flat)), dict(fields)


def _layer(name: str, values: Sequence[np.ndarray], layer: str) -> dict[str, np.ndarray]:
    """The arrays of one layer by our names."""
    axes = [value.ndim for value in values]
    if axes in ([4], [4, 1], [2, 1], [2]):
        return {f"params/{name}/{k}": v for k, v in zip(("kernel", "bias"), values, strict=False)}
    if axes in ([1, 1, 1, 1], [1, 1, 1]):
        scale = values[:-3] or [np.ones_like(values[0])]  # Inception-v3 has none
        shift, mean, variance = values[-3:]
        return {
            f"params/{name}/scale": scale[0],
            f"params/{name}/bias": shift,
            f"batch_stats/{name}/mean": mean,
            f"batch_stats/{name}/var": variance,
        }
    if axes == [4, 4]:  # depthwise (h, w, channels, 1), pointwise
        return {
            f"params/{name}/conv1/kernel": values[0].transpose(0, 1, 3, 2),
            f"params/{name}/pointwise/kernel": values[1],
        }
    raise WeightsError(f"layer '{layer}' has variables of {axes} axes: no layer that is known here")


def _fold_biases(flat: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Takes biases of ResNet's convolutions off the running means after them."""
    for name in [n for n in flat if re.search(r"(conv\d|downsample_0)/bias$", n)]:
        follower = (
            name.replace("downsample_0/bias", "downsample_1/mean")
            if "downsample" in name
            else re.sub(r"conv(\d)/bias$", r"bn\1/mean", name)
        ).replace("params/", "batch_stats/")
        if follower in flat:
            flat[follower] = flat[follower] - flat.pop(name)
    return flat


def _by_regex(
    rules: Sequence[tuple[str, Callable[[re.Match[str]], str]]],
) -> Callable[[Layers], dict]:
    def names(layers: Layers) -> dict[str, str]:
        found = {}
        for layer in layers:
            for regex, path in rules:
                if match := re.fullmatch(regex, layer):
                    found[layer] = path(match)
        return found

    return names


def _block(match: re.Match[str]) -> str:
    stage, block, number, kind = int(match[1]), int(match[2]), int(match[3]), match[4]
    part = {"conv": f"conv{number}", "bn": f"bn{number}"}[kind]
    if number == 0:
        part = {"conv": "downsample_0", "bn": "downsample_1"}[kind]
    return f"layer{stage - 1}_{block - 1}/{part}"


_resnet = _by_regex(
    [
        (r"conv1_(conv|bn)", lambda m: f"{m[1]}1"),
        (r"conv([2-5])_block(\d+)_([0-3])_(conv|bn)", _block),
        (r"predictions|probs", lambda m: "fc"),
    ]
)

FAMILIES: dict[str, tuple[Callable[[Layers], dict[str, str]], Mapping[str, Any]]] = {
    "resnet": (_resnet, {"stride_in_1x1": True, "norm_epsilon": EPSILON}),
}
