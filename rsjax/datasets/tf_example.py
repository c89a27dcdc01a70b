"""Reads `tf.train.Example` messages into numpy arrays, without TensorFlow and protobuf.

A million packed numbers are one array here; the protobuf library makes an object of each. The wire
format: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import numpy as np

from rsjax.wire import LONGEST, varint

_BYTES, _FLOATS, _INTEGERS = 1, 2, 3  # fields of tf.train.Feature


def parse(record: bytes) -> dict[str, np.ndarray | list[bytes]]:
    """The features of one serialised example.

    Returns:
        name -> float32 of a float list, integers of an integer list (uint8 where each fits seven
        bits, else int64), the strings of a bytes list; an empty list of bytes for a feature
        without any list. Arrays are one-dimensional and may be views into `record`.

    Raises:
        ValueError: not a `tf.train.Example`, or lists that are not packed.
    """
    found: dict[str, np.ndarray | list[bytes]] = {}
    number, pos, end = field(record, 0) if record else (1, 0, 0)
    if number != 1 or end != len(record):
        raise ValueError(f"not a tf.train.Example ({len(record)} bytes)")
    while pos < end:
        _, entry, entry_end = field(record, pos, end)
        key, name, name_end = field(record, entry, entry_end)
        if key != 1:
            raise ValueError("a feature without a name")
        found[record[name:name_end].decode()] = _feature(record, name_end, entry_end)
        pos = entry_end
    return found


def _feature(record: bytes, pos: int, end: int) -> np.ndarray | list[bytes]:
    if pos == end:
        return []
    _, feature, feature_end = field(record, pos, end)
    if feature == feature_end:
        return []
    kind, at, stop = field(record, feature, feature_end)
    if kind == _BYTES:
        strings = []
        while at < stop:
            _, first, last = field(record, at, stop)
            strings.append(record[first:last])
            at = last
        return strings
    if kind not in (_FLOATS, _INTEGERS):
        raise ValueError(f"a list of unknown kind {kind}")
    first = last = stop
    if at < stop:
        _, first, last = field(record, at, stop)
        if last != stop:
            raise ValueError("a list of numbers in several pieces")
    if kind == _INTEGERS:
        return varints(record, first, last)
    if (last - first) % 4:
        raise ValueError(f"a float list of {last - first} bytes")
    return np.frombuffer(record, "<f4", (last - first) // 4, first)


def varints(data: bytes, pos: int, end: int) -> np.ndarray:
    """The integers of a packed list; uint8 (a view) where each fits seven bits, else int64."""
    octets = np.frombuffer(data, np.uint8, end - pos, pos)
    last = octets < 0x80
    if last.all():
        return octets
    ends = np.flatnonzero(last)
    if not last[-1]:
        raise ValueError("the last integer of a list is cut off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= LONGEST:
        raise ValueError(f"an integer of more than {LONGEST} bytes")
    place = np.arange(len(octets)) - np.repeat(starts, ends - starts + 1)
    parts = (octets & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).view(np.int64)


def field(data: bytes, pos: int, limit: int | None = None) -> tuple[int, int, int]:
    """(field number, first byte, last byte + 1) of the length-delimited field at `pos`.

    Raises:
        ValueError: another kind of field, or one that ends behind `limit`, or else the data.
    """
    try:
        tag, pos = varint(data, pos)
        length, pos = varint(data, pos)
    except IndexError:
        raise ValueError("the record ends inside a field") from None
    except ValueError as error:
        raise ValueError(f"not a tf.train.Example: {error}") from None
    if tag & 7 != 2 or pos + length > (len(data) if limit is None else limit):
        raise ValueError("not a tf.train.Example")
    return tag >> 3, pos, pos + length
