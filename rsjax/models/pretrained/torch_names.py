"""Names and layouts of torch state dicts, in ours and back: one rule for all architectures.

Module names are kept; a number is joined to the name before it by '_' (`layer1.0.conv1` is
`layer1_0/conv1`). Convolutions are (out, in, h, w) there and (h, w, in, out) here, transposed ones
(in, out, h, w) and (h, w, out, in), linear layers (out, in) and (in, out).
`renamed.py` has what differs where a library names a module otherwise than the reference that ours
follows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

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

# Our modules whose last number is part of the reference's name, and no place in a sequence:
# Inception's branches, and the Caffe names of FCN, which stand at the top.
KEPT = re.compile(r"(.*/)?branch\w*_\d|conv\d_\d")


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


def torch_name(path: str) -> str:
    """Torch's module of our path, the inverse of `module_name`: 'layer1_0' is 'layer1.0'."""
    names, whole = [], ""
    for part in path.split("/"):
        whole = f"{whole}/{part}" if whole else part
        name = part
        while not KEPT.fullmatch(whole) and (
            found := re.fullmatch(r"(.+)_(\d+)((?:\.\d+)*)", name)
        ):
            name = f"{found[1]}.{found[2]}{found[3]}"
        names.append(name)
    return ".".join(names)


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of variables, which a torch module of the same names loads strictly.

    Torch counts the batches that a batch normalisation saw; that count is 0 here, and only used
    there where the momentum is None.

    Raises:
        WeightsError: a leaf is none of the kinds that the rule knows.
    """
    leaves = {ours: theirs for theirs, ours in LEAVES.items()}
    kernels = {len(axes): np.argsort(axes) for name, axes in WEIGHTS.values() if name == "kernel"}
    state = {}
    for path, leaf in flatten_dict(dict(variables), sep="/").items():
        collection, _, rest = path.partition("/")
        module, _, name = rest.rpartition("/")
        value = np.asarray(leaf)
        if (collection, name) in leaves:
            theirs = leaves[collection, name]
        elif collection == "params" and name == "scale" and value.ndim == 1:
            theirs = "weight"
        elif collection == "params" and name == "kernel" and value.ndim in kernels:
            theirs, value = "weight", value.transpose(kernels[value.ndim])
        else:
            raise WeightsError(
                f"'{path}' of shape {value.shape}: no kernel, scale, bias, mean or var of a "
                "convolution, linear layer or normalisation"
            )
        module = torch_name(module)
        state[f"{module}.{theirs}"] = np.ascontiguousarray(value)
        if theirs == "running_mean":
            state[f"{module}.{IGNORED[0]}"] = np.zeros((), np.int64)
    return state
