"""What Keras writes, without Keras: `.weights.h5` and `.keras` of Keras 3, `.h5` of all before.

Arrays are named 'layer/0', 'layer/1', ..., in the order of the layer's variables: kernel and bias;
gamma, beta, mean and variance. Needs h5py: pip install 'rsjax[keras]'.
"""

from __future__ import annotations

import io
import json
import pathlib
import re
import zipfile
from typing import Any

import numpy as np

from rsjax.errors import WeightsError

NAMELESS = (
    "its layers have no names, as in files of the first versions of Keras 3; load the model there, "
    "and save it as .keras"
)


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a file.

    Raises:
        WeightsError: h5py is missing, the file is damaged or holds no weights, or the layers in
            it have no names.
    """
    try:
        import h5py
    except ImportError:
        raise WeightsError(f"{path}: reading it needs h5py: pip install 'rsjax[keras]'") from None
    try:
        if path.suffix != ".keras":
            with h5py.File(path) as file:
                arrays = _layers(file, {})
        else:
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
                content = io.BytesIO(archive.read("model.weights.h5"))
            with h5py.File(content) as file:
                arrays = _layers(file, _names(config))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path}: damaged or not of Keras ({error}). Download it again"
        ) from None
    if not arrays:
        raise WeightsError(f"{path}: no weights of layers in it")
    return arrays


def _layers(file: Any, names: dict[str, str]) -> dict[str, np.ndarray]:
    arrays = {}
    if "layers" in file:  # Keras 3: layers/conv2d_1/vars/0
        for key, group in file["layers"].items():
            if "layers" in group:
                raise WeightsError(f"layer '{key}' is a model itself; save that one by itself")
            variables = group.get("vars", {})
            if not len(variables):
                continue
            name = variables.attrs.get("name") or names.get(key)
            if name is None:
                raise WeightsError(NAMELESS)
            for index in range(len(variables)):
                arrays[f"{name}/{index}"] = np.asarray(variables[str(index)])
        return arrays
    root = file.get("model_weights", file)
    for layer in _attribute(root, "layer_names"):
        for index, entry in enumerate(_attribute(root[layer], "weight_names")):
            arrays[f"{layer}/{index}"] = np.asarray(root[layer][entry])
    return arrays


def _attribute(group: Any, name: str) -> list[str]:
    """A list of names; one that is too long for HDF5 lies in name0, name1, ..."""
    found: list[Any] = list(group.attrs.get(name, ()))
    part = 0
    while f"{name}{part}" in group.attrs:
        found += list(group.attrs[f"{name}{part}"])
        part += 1
    return [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in found]


def _names(config: dict[str, Any]) -> dict[str, str]:
    """Which layer lies under which key: the class in snake case, counted in the model's order."""
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for layer in config["config"]["layers"]:
        kind = _snake_case(layer["class_name"])
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        name = layer.get("name") or layer["config"]["name"]
        found[f"{kind}_{number}" if number else kind] = name
    return found


def _snake_case(name: str) -> str:
    """'SeparableConv2D' is 'separable_conv2d': words begin at capitals that touch lower case."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", name).lower()
