"""What `torch.save` writes, without torch: a zip of `data.pkl` and one file for each storage.

A pickle is a program. This reader knows tensors, parameters, `OrderedDict` and Python's own
containers; any other name in the pickle is refused before anything is called.
https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import collections
import io
import math
import pathlib
import pickle
import sys
import zipfile
from typing import Any, ClassVar

import numpy as np

from rsjax.errors import WeightsError

STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "u2",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
MOST_AXES = 32  # numpy's limit before 2.0
LARGEST_PICKLE = 2**24  # bytes; that of a thousand tensors has 2e5
# Bytes of storages and tensors for each of the file. Without shared storages there are two; four
# of bfloat16, which becomes float32.
FACTOR = 8
REMEDY = "Save it anew as torch.save(model.state_dict(), path), or as safetensors"
SHARED = (
    f"its tensors are more than {FACTOR} times as large as the file: too many share a storage. "
    "Save copies, {name: tensor.clone() ...}"
)


def read(path: pathlib.Path) -> Any:
    """The pickled object with its tensors as numpy arrays; bfloat16 comes as float32.

    Raises:
        WeightsError: the file is damaged, of the format before torch 1.6, or its pickle names
            anything but tensors and containers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, path.stat().st_size).load()
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except zipfile.BadZipFile as error:
        with path.open("rb") as file:
            head = file.read(2)
        if head == b"PK":
            raise WeightsError(f"{path}: damaged or cut off ({error}). Download it again") from None
        raise WeightsError(
            f"{path}: no zip file, so not what torch.save writes since torch 1.6. {REMEDY} there"
        ) from None
    except RecursionError:
        raise WeightsError(f"{path}: nested too deeply to be weights") from None
    except Exception as error:  # the unpickler raises anything on bytes that are no pickle
        raise WeightsError(
            f"{path}: damaged ({type(error).__name__}: {error}). Download it again"
        ) from None


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 of the bits of bfloat16, which are its upper half."""
    wide = bits.astype(np.uint32) << 16
    return wide.view(np.float32)


class _Named:
    """Stands for a name in the pickle; without attributes that a pickle could set."""

    __slots__ = ("called", "name")
    called: Any
    name: str

    def __init__(self, name: str, called: Any = None):
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "called", called)

    def __setattr__(self, *_: Any) -> None:
        raise WeightsError(f"its pickle sets attributes of {self.name}")

    def __call__(self, *args: Any) -> Any:
        if self.called is None:
            raise WeightsError(f"its pickle calls {self.name}")
        return self.called(*args)


class _Archive:
    """One open file."""

    def __init__(self, archive: zipfile.ZipFile, size: int):
        self.archive = archive
        self.left = FACTOR * size
        names = archive.namelist()
        pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise WeightsError(f"a zip without the data.pkl of torch.save. {REMEDY}")
        self.root = pickles[0].removesuffix("data.pkl")
        if f"{self.root}constants.pkl" in names:
            raise WeightsError(f"a TorchScript program. {REMEDY}")
        order = self.bytes("byteorder") if f"{self.root}byteorder" in names else b"little"
        self.order = {b"little": "<", b"big": ">"}[order]
        self.storages: dict[str, np.ndarray] = {}

    def bytes(self, name: str) -> bytes:
        entry = self.archive.getinfo(self.root + name)
        if entry.compress_type != zipfile.ZIP_STORED:  # torch compresses nothing; bombs do
            raise WeightsError(f"{name} is compressed, which torch.save never does. {REMEDY}")
        return self.archive.read(entry)  # checks the CRC

    def load(self) -> Any:
        outer = self
        if self.archive.getinfo(f"{self.root}data.pkl").file_size > LARGEST_PICKLE:
            raise WeightsError(f"its pickle is larger than {LARGEST_PICKLE} bytes. {REMEDY}")

        def refuse(_: Any) -> None:
            raise WeightsError(f"its pickle asks for a buffer. {REMEDY}")

        # That of C allocates as many entries as the largest number of a memo says; this one has
        # a dict. Byte arrays are allocated before they are read.
        class Unpickler(pickle._Unpickler):
            dispatch: ClassVar = {
                **pickle._Unpickler.dispatch,
                **dict.fromkeys((pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0]), refuse),
            }

            def find_class(self, module: str, name: str) -> Any:
                return outer.find(module, name)

            def persistent_load(self, reference: Any) -> Any:
                return outer.storage(reference)

        return Unpickler(io.BytesIO(self.bytes("data.pkl"))).load()

    def spend(self, size: int) -> None:
        """Refuses what a sound file of this size cannot hold, before it is allocated."""
        self.left -= size
        if self.left < 0:
            raise WeightsError(SHARED)

    def find(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return _Named(name)
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): _Named(name, self.tensor),
            ("torch._utils", "_rebuild_parameter"): _Named(name, lambda data, *_: data),
            ("collections", "OrderedDict"): collections.OrderedDict,
        }
        if (module, name) not in known:
            raise WeightsError(
                f"its pickle asks for {module}.{name}, which is no tensor or container; nothing "
                f"was executed. {REMEDY}"
            )
        return known[module, name]

    def storage(self, reference: Any) -> np.ndarray:
        what, kind, key, _, count = reference
        sound = type(what) is str and type(key) is str and type(count) is int
        if not sound or what != "storage":  # not shown: nested containers grow without limit
            raise WeightsError(f"its pickle refers to what is no storage. {REMEDY}")
        if not isinstance(kind, _Named) or kind.name not in STORAGES:
            raise WeightsError(f"storage {key} is of no known kind. {REMEDY}")
        if key not in self.storages:
            size = self.archive.getinfo(f"{self.root}data/{key}").file_size
            self.spend(size * 2 if kind.name == "BFloat16Storage" else size)
            code = STORAGES[kind.name]
            flat = np.frombuffer(self.bytes(f"data/{key}"), self.order + code)
            if kind.name == "BFloat16Storage":
                flat = from_bfloat16(flat)
            self.storages[key] = flat.astype(flat.dtype.newbyteorder("="), copy=False)
        flat = self.storages[key]
        if len(flat) < count:
            raise WeightsError(f"storage {key} has {len(flat)} of {count} numbers")
        return flat

    def tensor(self, storage: Any, offset: Any, size: Any, strides: Any, *_: Any) -> np.ndarray:
        """`torch._utils._rebuild_tensor_v2`: a view of a storage, here copied."""
        sound = (
            isinstance(storage, np.ndarray)
            and type(size) is type(strides) is tuple
            and len(size) == len(strides) <= MOST_AXES
            and all(type(n) is int and 0 <= n < sys.maxsize for n in (offset, *size, *strides))
        )
        if not sound:
            raise WeightsError("a tensor of no sound size, or outside its storage: damaged")
        count = math.prod(size)
        last = offset + sum((n - 1) * s for n, s in zip(size, strides, strict=True))
        if (count and last >= len(storage)) or count > len(storage):
            raise WeightsError(f"a tensor of size {size} lies outside its storage: damaged")
        if not count:
            return np.zeros(size, storage.dtype)
        step = storage.itemsize
        self.spend(count * step)
        view = np.lib.stride_tricks.as_strided(
            storage[offset:], size, tuple(s * step for s in strides), writeable=False
        )
        return np.array(view)
