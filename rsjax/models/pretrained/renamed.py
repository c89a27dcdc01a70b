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
        module: the module of `rsjax.models` that it is for, e.g. 'vgg'.

    Raises:
        WeightsError: two entries would have one name.
    """
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
