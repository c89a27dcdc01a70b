"""TensorFlow's checkpoints, as in a SavedModel's `variables/`, without TensorFlow.

`variables.index` is a LevelDB table: name -> dtype, shape, place and CRC32C of each tensor, whose
raw numbers are in `variables.data-00000-of-00001`. Every checksum is compared.

Formats: https://github.com/google/leveldb/blob/main/doc/table_format.md and
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
import pathlib
import struct
from collections.abc import Iterator

import numpy as np

from rsjax.errors import WeightsError
from rsjax.wire import masked_crc, varint

FOOTER, MAGIC = 48, 0xDB4775248B80FB57
TRAILER = struct.Struct("<BI")  # kind of compression and checksum, behind each block
# Numbers in tensorflow/core/framework/types.proto; of strings and other kinds nothing is read.
DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 19: "<f2",
}  # fmt: skip
FACTOR = 8  # bytes of tensors for each of the files; without shared places there is one
MOST_KEYS = 2**24  # bytes of names and entries, in a table that is far smaller than these
Fields = dict[int, list[int | bytes]]


def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The tensors of a checkpoint by name, and the names of entries of other kinds.

    Args:
        path: the file that ends with .index; those with the numbers lie beside it.

    Raises:
        WeightsError: a file is missing or damaged, or holds what is not read here.
    """
    try:
        table = path.read_bytes()
        entries = {key: _fields(value) for key, value in _table(table)}
        header = entries.pop(b"", {})
        shards = _number(header, 1)
        if not shards or _number(header, 2):
            raise ValueError("its header is none of a little-endian checkpoint")
        names = (f"{path.stem}.data-{i:05d}-of-{shards:05d}" for i in range(shards))
        data = [
            path.with_name(name).read_bytes() for name in names
        ]  # the first missing one ends it
        arrays = {}
        left = FACTOR * sum(map(len, data))
        left_out = []
        for key, entry in entries.items():
            if (dtype := DTYPES.get(_number(entry, 1))) is None:
                left_out.append(key.decode())
                continue
            left -= _number(entry, 5)
            if left < 0:
                raise ValueError(f"its tensors are more than {FACTOR} times as large as its files")
            arrays[key.decode()] = _tensor(entry, dtype, data, f"entry '{key.decode()}'")
    except (OSError, ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{path}: damaged, or no checkpoint of TensorFlow ({error}). Download the folder again"
        ) from None
    return arrays, tuple(left_out)


def _tensor(entry: Fields, dtype: str, data: list[bytes], where: str) -> np.ndarray:
    """One tensor, after its checksum was compared."""
    if 7 in entry:
        raise ValueError(f"{where} is in slices; save the model on one device")
    dims = [_fields(dim) for shape in _messages(entry, 2) for dim in _messages(_fields(shape), 2)]
    shape = tuple(_number(dim, 1) for dim in dims)
    offset, size = _number(entry, 4), _number(entry, 5)
    raw = data[_number(entry, 3)][offset : offset + size]
    if len(raw) != size or size != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(f"{where} of shape {shape} has {len(raw)} bytes")
    if masked_crc(raw) != _number(entry, 6):
        raise ValueError(f"the checksum of {where} is wrong")
    return np.frombuffer(raw, dtype).reshape(shape)


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in its order."""
    if len(data) < FOOTER or int.from_bytes(data[-8:], "little") != MAGIC:
        raise ValueError("its end is not that of a table")
    footer = data[-FOOTER:]
    _, at = _handle(footer, 0)  # of the block of metadata, which is empty
    index, _ = _handle(footer, at)
    left = max(MOST_KEYS, FACTOR * len(data))
    for _, handle in _block(data, index):
        for key, value in _block(data, _handle(handle, 0)[0]):
            left -= len(key) + len(value)
            if left < 0:
                raise ValueError("its names are far larger than the file")
            yield key, value


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """(offset, size) of a block, and the byte behind."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(data: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; a key is told by what differs from the one before."""
    start, stop = handle[0], sum(handle)
    if handle[1] < 4 or stop + TRAILER.size > len(data):
        raise ValueError(f"a block of {handle[1]} bytes at byte {start} does not lie in it")
    kind, crc = TRAILER.unpack_from(data, stop)
    if masked_crc(data[start : stop + 1]) != crc:
        raise ValueError(f"the checksum of the block at byte {start} is wrong")
    if kind:
        raise ValueError("it is compressed, as TensorFlow's own never are")
    (restarts,) = struct.unpack_from("<I", data, stop - 4)
    end, at, key = stop - 4 - 4 * restarts, start, b""
    while at < end:
        shared, at = varint(data, at)
        own, at = varint(data, at)
        length, at = varint(data, at)
        key = key[:shared] + data[at : at + own]
        at += own
        yield key, data[at : at + length]
        at += length


def _fields(message: bytes) -> Fields:
    """The fields of a protobuf message by number."""
    found: Fields = {}
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        kind, value = tag & 7, 0
        if kind == 0:
            value, at = varint(message, at)
            found.setdefault(tag >> 3, []).append(value)
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = varint(message, at)
        if size is None or at + size > len(message):
            raise ValueError(f"a field of kind {kind} is cut off or unknown")
        content = message[at : at + size]
        at += size
        found.setdefault(tag >> 3, []).append(
            content if kind == 2 else int.from_bytes(content, "little")
        )
    return found


def _number(fields: Fields, number: int) -> int:
    """A field of one number; 0 where it is left out, as protobuf does."""
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise ValueError(f"field {number} is no number")
    return value


def _messages(fields: Fields, number: int) -> list[bytes]:
    """The messages in a field."""
    found = fields.get(number, [])
    if not all(isinstance(value, bytes) for value in found):
        raise ValueError(f"field {number} is no message")
    return [value for value in found if isinstance(value, bytes)]
