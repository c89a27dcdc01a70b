"""Names and layouts of torch state dicts, in ours: one rule for all architectures.

Module names are kept; a number is joined to the name before it by '_' (`layer1.0.conv1` is
`layer1_0/conv1`). Convolutions are (out, in, h, w) there and (h, w, in, out) here, transposed ones
(in, out, h, w) and (h, w, out, in), linear layers (out, in) and (in, out).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from rsjax.errors import WeightsError

# torch's name of a leaf: (collection, our name); 'weight' depends on the number of axes.
LEAVES = {
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
WEIGHTS = {
    1: ("scale", ()),
    2: ("kernel", (1, 0)),
    4: ("kernel", (2, 3, 1, 0)),
}
IGNORED = ("num_batches_tracked",)


def module_name(name: str) -> str:
    """Our path of torch's module: 'layer1.0.conv1' is 'layer1_0/conv1'."""
    parts: list[str] = []
    for part in name.split("."):
        if part.isdigit() and parts:
            parts[-1] += f"_{part}"
        else:
            parts.append(part)
    return "/".join(parts)


def from_torch(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Variables of a state dict, {'params': ..., 'batch_stats': ...}, in our names and layouts.

    Raises:
        WeightsError: an entry is none of the kinds that the rule knows.
    """
    flat = {}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        if leaf in IGNORED:
            continue
        if leaf == "weight" and value.ndim in WEIGHTS:
            ours, axes = WEIGHTS[value.ndim]
            collection = "params"
            value = value.transpose(axes) if axes else value
        elif leaf in LEAVES:
            collection, ours = LEAVES[leaf]
        else:
            raise WeightsError(
                f"entry '{name}' of shape {tuple(value.shape)}: no weight, bias or running "
                "statistic of a convolution, linear layer or normalisation"
            )
        flat[f"{collection}/{module_name(module)}/{ours}"] = np.ascontiguousarray(value)
    variables = unflatten_dict(flat, sep="/")
    return {"params": {}, "batch_stats": {}, **variables}
