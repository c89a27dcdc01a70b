"""State dicts of libraries that name modules otherwise than the reference that ours follows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsjax.errors import WeightsError

# module of rsjax.models: (regex, replacement) for each name, in order; no-ops on the reference's.
RENAMED: dict[str, tuple[tuple[str, str], ...]] = {
    # torchvision's files of 2017 say denselayer1.norm.1; torchvision renames them when it loads.
    "densenet": ((r"(denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2"),),
    # timm has the classifier's first two layers as convolutions.
    "vgg": (
        (r"^pre_logits\.fc1\.", "classifier.0."),
        (r"^pre_logits\.fc2\.", "classifier.3."),
        (r"^head\.fc\.", "classifier.6."),
    ),
    # Cadene's; timm's legacy_xception has fc.
    "xception": ((r"^last_linear\.", "fc."),),
}
# name in rsjax.models: fields that torch's weights need, where the model's defaults are others;
# alone and as the encoder of a decoder.
FIELDS: dict[str, dict[str, Any]] = {"xception": {"pool_padding": 1, "norm_epsilon": 1e-5}}
# Linear layers here whose weight may come as a convolution over the whole map, (out, in, h, w).
FLATTENED = {"vgg": r"^classifier\."}


def renamed(state: Mapping[str, np.ndarray], module: str) -> dict[str, np.ndarray]:
    """A state dict in the names of the reference.

    Args:
        state: of torchvision, timm, TorchGeo, segmentation-models-pytorch or Cadene.
        module: the module of `rsjax.models` that it is for, e.g. 'vgg'. For 'fcn', those of VGG
            become FCN's, as in its paper: linear layers are convolutions, of 7x7 and 1x1 pixels.

    Raises:
        WeightsError: two entries would have one name, or they are of a VGG that FCN is not made of.
    """
    if module == "fcn" and any(name.startswith("features.0.") for name in state):
        return _vgg_as_fcn(renamed(state, "vgg"))
    found: dict[str, np.ndarray] = {}
    for name, value in state.items():
        new = name
        for regex, replacement in RENAMED.get(module, ()):
            new = re.sub(regex, replacement, new)
        if new in found:
            raise WeightsError(f"entries '{name}' and another are both '{new}'; remove one")
        if value.ndim == 4 and re.search(FLATTENED.get(module, "(?!)"), new):
            value = value.reshape(len(value), -1)
        found[new] = value
    return found


def _vgg_as_fcn(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """VGG's entries in FCN's names; its last layer, which FCN does not have, keeps its own."""
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("features.")})
    if any("running_" in name for name in state):
        raise WeightsError("a VGG with batch normalisation; FCN is made of one without, e.g. vgg16")
    names, stage, conv = {"classifier.0": "fc6", "classifier.3": "fc7"}, 0, 0
    for before, number in zip([-3, *numbers], numbers, strict=False):
        # A ReLU lies between two convolutions, and before a block a pool, too.
        stage, conv = (stage + 1, 1) if number - before == 3 else (stage, conv + 1)
        names[f"features.{number}"] = f"conv{stage}_{conv}"
    found = {}
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        new = names.get(layer, layer)
        if new in ("fc6", "fc7") and value.ndim == 2:  # of a map that was flattened channels first
            side = 7 if new == "fc6" else 1
            if value.shape[1] % side**2:
                raise WeightsError(f"'{name}' of shape {value.shape} sees no map of 7x7 pixels")
            value = value.reshape(len(value), -1, side, side)
        found[f"{new}.{leaf}"] = value
    return found
