"""Weights in torch's names and layouts, as safetensors: for `load_state_dict` of the reference.

Which reference, and so whose names: the first lines of the model's module in `rsjax.models`. The
file holds no graph and no preprocessing; its metadata has the bands with their mean and standard
deviation, and the classes, in the order of the logits.
"""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import load, save

from rsjax.bundle import Model
from rsjax.errors import ConfigError, ExportError
from rsjax.exporting import graph as graphs
from rsjax.models.pretrained.torch_names import from_torch, to_torch


def make(model: Model, height: int, width: int, step: int) -> tuple[bytes, dict[str, Any]]:
    """See `rsjax.exporting`."""
    if height or width or step:
        raise ConfigError("safetensors has weights and no sizes; leave height, width and step out")
    variables = jax.device_get(model.variables)
    about = {
        **graphs.about(model, "safetensors"),
        "inputs": model.inputs.to_json()["images"],
        "verified": {"largest_difference": 0.0},  # or it is refused below
    }
    # 'pt' tells those who load it that the layouts are torch's.
    content = save(to_torch(variables), {"format": "pt", "rsjax": json.dumps(about)})
    wanted, found = (
        flatten_dict(dict(tree), sep="/") for tree in (variables, from_torch(load(content)))
    )
    lost = [
        name
        for name in sorted({*wanted, *found})
        if name not in wanted or name not in found or not np.array_equal(wanted[name], found[name])
    ]
    if lost:
        raise ExportError(
            f"{model.about['model']['name']} to safetensors: {', '.join(lost[:3])} "
            f"({len(lost)} in all) come back otherwise; nothing was written. Please report this"
        )
    return content, about
