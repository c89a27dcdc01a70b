"""Files of weights -> arrays by name, without the framework that wrote them; nothing is executed.

`.safetensors`, torch's `.pth`/`.pt` (`torch_file`), Keras' `.weights.h5`, `.keras` and `.h5`
(`keras_file`), and TensorFlow's `variables.index` (`tf_checkpoint`) or its arrays as `.npz`. What a
checkpoint holds besides the weights is left out and named.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rsjax.errors import WeightsError
from rsjax.models.pretrained import keras_file, tf_checkpoint, torch_file

NESTED = ("state_dict", "model_state_dict", "model")  # where checkpoints keep their weights
# What wrappers put before each name: Lightning modules, DataParallel, BigEarthNet's classifiers.
PREFIXES = ("module.", "model.", "vision_encoder.", "backbone.", "encoder.")
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U8": "u1", "BOOL": "?", "BF16": "<u2",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Weights:
    """The content of a file of weights.

    Attributes:
        framework: 'torch', 'keras' or 'tensorflow'.
        arrays: by the names of the file, less the prefix; Keras' are 'layer/0', 'layer/1', ...,
            in the order of the layer's variables.
        prefix: what was removed from the start of every name.
        left_out: other entries of the file.
    """

    framework: str
    arrays: dict[str, np.ndarray]
    prefix: str = ""
    left_out: tuple[str, ...] = ()


def read(path: str | os.PathLike[str], prefix: str = "") -> Weights:
    """Reads a file of weights.

    Args:
        path: the file; its ending says what it is.
        prefix: start of the names of a torch file to take, and to remove; the other entries are
            left out. Empty: `PREFIXES` are removed as long as every name has them.

    Raises:
        WeightsError: no such file, an unknown ending, a damaged file, content that is not
            weights, or no entry with the prefix.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file. Download it first; rsjax downloads nothing")
    try:
        reader = next(READERS[e] for e in READERS if path.name.endswith(e))
    except StopIteration:
        raise WeightsError(
            f"{path}: its ending says not what it is; known: {', '.join(READERS)}. Rename it"
        ) from None
    content = reader(path)
    if reader is keras_file.read:
        return Weights("keras", content)
    if reader in (tf_checkpoint.read, _npz):
        return Weights("tensorflow", content[0], left_out=content[1])
    arrays, left_out = _state_dict(content, path)
    if prefix:
        left_out += tuple(name for name in arrays if not name.startswith(prefix))
        arrays = {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}
        if not arrays:
            raise WeightsError(
                f"{path}: no entry begins with '{prefix}'; there are {', '.join(left_out[:10])}"
            )
    else:
        arrays, prefix = strip(arrays)
    return Weights("torch", arrays, prefix, left_out)


def strip(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """Arrays without the wrappers' prefixes that all names share, and what was removed."""
    removed = ""
    found = dict(arrays)
    while common := [p for p in PREFIXES if all(name.startswith(p) for name in found)]:
        found = {name.removeprefix(common[0]): value for name, value in found.items()}
        removed += common[0]
    return found, removed


def _state_dict(content: Any, path: pathlib.Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The mapping of names to arrays in a checkpoint, and the other entries of that checkpoint."""
    left_out: tuple[str, ...] = ()
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            left_out += tuple(str(k) for k in content if k != key)
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: holds {type(content).__name__}, no state dict")
    arrays = {str(k): v for k, v in content.items() if isinstance(v, np.ndarray)}
    if len(arrays) != len(content):
        others = [str(k) for k in content if str(k) not in arrays]
        raise WeightsError(
            f"{path}: entries that are no arrays: {', '.join(others[:10])}; a state dict is "
            f"wanted, by itself or under {' or '.join(NESTED)}. Save model.state_dict()"
        )
    if sum(value.nbytes for value in arrays.values()) > torch_file.FACTOR * path.stat().st_size:
        raise WeightsError(f"{path}: {torch_file.SHARED}")
    return arrays, left_out


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: {error}. Download it again") from None
    arrays = {}
    for name, entry in entries:
        if entry["dtype"] not in DTYPES:
            raise WeightsError(f"{path}: entry '{name}' is {entry['dtype']}; save it as float32")
        flat = np.frombuffer(bytes(entry["data"]), DTYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            flat = torch_file.from_bfloat16(flat)
        arrays[name] = flat.reshape(entry["shape"])
    return arrays


def _npz(path: pathlib.Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    arrays: dict[str, np.ndarray] = {}
    left_out = []
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if size > torch_file.FACTOR * path.stat().st_size:
                raise WeightsError(
                    f"{path}: {size:,} bytes of arrays, far more than the file; refused"
                )
            for member in members:
                name = member.filename
                if name.endswith(".npy"):
                    arrays[name.removesuffix(".npy")] = _npy(archive, member)
                else:
                    left_out.append(name)
    except WeightsError:
        raise
    except Exception as error:  # zipfile, its decompressors and numpy raise anything on bad bytes
        raise WeightsError(
            f"{path}: no arrays of NumPy ({type(error).__name__}: {error}). Download it again"
        ) from None
    return arrays, tuple(left_out)


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """A `.npy` in a zip; its header is held against the size of the member before it is read."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in NPY_HEADERS:
            raise ValueError(f"{member.filename} is of version {version}")
        shape, by_columns, dtype = NPY_HEADERS[version](file)
        if dtype.kind not in "fiub":
            raise ValueError(f"{member.filename} holds {dtype}, no numbers")
        if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise ValueError(f"{member.filename} is not as large as its shape {shape} says")
        flat = np.frombuffer(file.read(), dtype)  # to the end, where its checksum is compared
    return flat.reshape(shape, order="F" if by_columns else "C")


NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


READERS: dict[str, Callable[[pathlib.Path], Any]] = {
    ".safetensors": _safetensors,
    ".pth": torch_file.read,
    ".pt": torch_file.read,
    ".bin": torch_file.read,
    ".ckpt": torch_file.read,
    ".h5": keras_file.read,
    ".keras": keras_file.read,
    ".index": tf_checkpoint.read,
    ".npz": _npz,
}
