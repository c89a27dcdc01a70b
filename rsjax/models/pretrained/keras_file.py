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

# Bytes of arrays for each of the file, which Keras does not compress; who does gains less.
FACTOR = 8
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
        reader = _Reader(FACTOR * path.stat().st_size)
        if path.suffix != ".keras":
            with h5py.File(path) as file:
                arrays = reader.layers(file, {})
        else:
            with zipfile.ZipFile(path) as archive:
                names = _names(json.loads(reader.part(archive, "config.json")))
                content = io.BytesIO(reader.part(archive, "model.weights.h5"))
            with h5py.File(content) as file:
                arrays = reader.layers(file, names)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except Exception as error:  # h5py, zipfile and json raise anything on bytes of other content
        raise WeightsError(
            f"{path}: damaged or not of Keras ({type(error).__name__}: {error}). Download it again"
        ) from None
    if not arrays:
        raise WeightsError(f"{path}: no weights of layers in it")
    return arrays


class _Reader:
    """Reads what lies in one file, up to a number of bytes; HDF5 can refer to others."""

    def __init__(self, limit: int):
        self.limit = limit
        self.left = limit

    def spend(self, size: int, name: str) -> None:
        """Refuses what a sound file of this size cannot hold, before it is allocated."""
        self.left -= size
        if self.left < 0:
            raise WeightsError(
                f"{name} has {size} bytes, so that all is larger than {FACTOR} times the file, "
                f"{self.limit} bytes. Save it anew with Keras, uncompressed"
            )

    def part(self, archive: zipfile.ZipFile, name: str) -> bytes:
        """A part of a `.keras`; not counted with the arrays in it."""
        size = archive.getinfo(name).file_size
        self.spend(size, name)
        self.left += size
        return archive.read(name)

    def array(self, group: Any, path: str) -> np.ndarray:
        """The dataset of this path."""
        dataset = _inside(group, path)
        if dataset.external or dataset.is_virtual:
            raise WeightsError(f"'{path}' lies in another file. Save it anew with Keras")
        if dataset.shape is None or dataset.dtype.kind not in "fiub":
            raise WeightsError(f"'{path}' holds no numbers. Save it anew with Keras")
        self.spend(dataset.nbytes, f"'{path}'")
        return np.asarray(dataset)

    def layers(self, file: Any, names: dict[str, str]) -> dict[str, np.ndarray]:
        """The arrays of all layers; `names` has those that a file does not name."""
        arrays = {}
        if "layers" in file:  # Keras 3: layers/conv2d_1/vars/0
            found = _inside(file, "layers")
            for key in found:
                group = _inside(found, key)
                if "layers" in group:
                    raise WeightsError(f"layer '{key}' is a model itself; save that one by itself")
                if "vars" not in group:
                    continue
                variables = _inside(group, "vars")
                if not len(variables):
                    continue
                name = variables.attrs.get("name") or names.get(key)
                if name is None:
                    raise WeightsError(NAMELESS)
                for index in range(len(variables)):
                    arrays[f"{name}/{index}"] = self.array(variables, str(index))
            return arrays
        root = _inside(file, "model_weights") if "model_weights" in file else file
        for layer in _attribute(root, "layer_names"):
            group = _inside(root, layer)
            for index, entry in enumerate(_attribute(group, "weight_names")):
                arrays[f"{layer}/{index}"] = self.array(group, entry)
        return arrays


def _inside(group: Any, path: str) -> Any:
    """What lies under a path, all of it in this file."""
    import h5py

    for part in path.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise WeightsError(
                f"'{path}' is a link to somewhere else, or missing. Save it anew with Keras"
            )
        group = group[part]
    return group


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
