"""One example as bytes and back: TFDS examples, written by TFDS, parsed here without a copy.

Records are `tf.train.Example` messages whose tensors are raw little-endian bytes, so TFDS and
grain read them without rsjax. Parsing them through the protobuf library copies every pixel
twice; walking the wire format (https://protobuf.dev/programming-guides/encoding/) copies none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rsjax.datasets.info import DatasetInfo
from rsjax.datasets.tf_example import field
from rsjax.wire import varint

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

Example = dict[str, Any]


def features(info: DatasetInfo, class_names: tuple[str, ...]) -> tfds.features.FeaturesDict:
    """The TFDS features of a dataset's examples: native resolution, native dtype, raw bytes."""
    import tensorflow_datasets as tfds

    def tensor(shape: tuple[int | None, ...], dtype: str) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=shape, dtype=np.dtype(dtype), encoding="bytes")

    spec: dict[str, Any] = {"id": tfds.features.Text()}
    for name, image in info.images.items():
        spec[name] = tensor(tuple(side or None for side in image.shape), image.dtype)
    if info.label == "index":
        spec["label"] = tfds.features.ClassLabel(names=list(class_names))
    elif info.label == "multihot":
        spec["label"] = tensor((len(class_names),), "uint8")
    if info.mask:
        spec["mask"] = tensor(info.mask, "uint8")
    if info.georeferenced:
        spec["crs"] = tfds.features.Text()
        spec["transform"] = tensor((6,), "float64")
    for name in info.metadata:
        spec[name] = tfds.features.Text()
    return tfds.features.FeaturesDict(spec)


def canonical(record: bytes) -> bytes:
    """The same example with its entries in the order of their names.

    Protobuf writes maps in an order that differs from process to process; shards must not.
    """
    entries = []
    _, pos, end = field(record, 0)
    head = record[:pos]
    while pos < end:
        _, entry, stop = field(record, pos)
        _, key, key_end = field(record, entry)
        entries.append((record[key:key_end], record[pos:stop]))
        pos = stop
    return head + b"".join(entry for _, entry in sorted(entries))


Entries = dict[str, "memoryview | list[int]"]
Spans = dict[str, tuple[int, int, int]]  # name -> kind of list, first byte, end

_BYTES, _INTEGERS = 1, 3  # fields of tf.train.Feature


def parse(record: bytes, spans: Spans | None = None) -> Entries:
    """The entries of one serialised example: bytes as views into `record`, integers as lists.

    Args:
        record: the example.
        spans: where its values lie, where that is known; see `Layouts`.

    Raises:
        ValueError: `record` is not a `tf.train.Example` of byte and integer lists.
    """
    view = memoryview(record)
    return {
        name: view[start:stop] if kind == _BYTES else _varints(record, start, stop)
        for name, (kind, start, stop) in (spans or find_spans(record)).items()
    }


def find_spans(record: bytes) -> Spans:
    """Where the values of a record lie.

    Raises:
        ValueError: see `parse`.
    """
    spans: Spans = {}
    tag, pos, end = field(record, 0)
    if tag != 1 or end != len(record):
        raise ValueError(f"not a tf.train.Example ({len(record)} bytes)")
    while pos < end:
        _, entry, entry_end = field(record, pos)
        _, key, key_end = field(record, entry)
        _, feature, _ = field(record, key_end)
        kind, values, values_end = field(record, feature)
        if kind not in (_BYTES, _INTEGERS):
            raise ValueError(f"feature {record[key:key_end]!r} has unexpected kind {kind}")
        start = stop = values
        if values < values_end:  # one byte string, or packed integers
            _, start, stop = field(record, values)
        spans[record[key:key_end].decode()] = (kind, start, stop)
        pos = entry_end
    return spans


class Layouts:
    """Where the values of records lie, without walking each: most share a few layouts.

    A record that equals an earlier one in everything but its values (tags, names, lengths; byte
    for byte) has its values in the same places. To see that takes a sixth of the time of a walk.
    """

    def __init__(self) -> None:
        # By length of the record: pairs of spans and the content of all that is between them.
        self._known: dict[int, list[tuple[Spans, list[tuple[int, int, bytes]]]]] = {}

    def find(self, record: bytes) -> Spans:
        """Where the values of a record lie.

        Raises:
            ValueError: see `parse`.
        """
        known = self._known.setdefault(len(record), [])
        for spans, frame in known:
            if all(record[start:stop] == content for start, stop, content in frame):
                return spans
        spans = find_spans(record)
        edges = sorted((start, stop) for _, start, stop in spans.values())
        gaps = zip([0, *(b for _, b in edges)], [*(a for a, _ in edges), len(record)], strict=True)
        if len(known) < 64:  # of images that vary in size nearly every record has its own
            known.append((spans, [(a, b, record[a:b]) for a, b in gaps if a < b]))
        return spans


def tensor(entries: Entries, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """One tensor of a parsed record, as a read-only view; zeros in `shape` are sizes that vary.

    Raises:
        ValueError: the entry is missing or has another size.
    """
    if shape.count(0) == 1 and name in entries:  # TFDS writes no shape that the length tells
        rest = math.prod(side for side in shape if side) * np.dtype(dtype).itemsize
        shape = tuple(side or len(entries[name]) // rest for side in shape)
    elif 0 in shape:
        if f"{name}/shape" not in entries:
            raise ValueError(f"no entry '{name}'")
        found = tuple(entries[f"{name}/shape"])
        if len(found) != len(shape) or any(b not in (0, a) for a, b in zip(found, shape)):  # noqa: B905
            raise ValueError(f"entry '{name}' has shape {found}, expected {shape}")
        name, shape = f"{name}/value", found
    if name not in entries:
        raise ValueError(f"no entry '{name}'")
    values = np.frombuffer(entries[name], dtype)  # type: ignore[arg-type]
    if values.size != math.prod(shape):
        raise ValueError(f"entry '{name}' has {values.size} values of {dtype}, expected {shape}")
    return values.reshape(shape)


def text(entries: Entries, name: str) -> str:
    """One text entry of a parsed record."""
    return bytes(entries[name]).decode()  # type: ignore[arg-type]


def _varints(data: bytes, pos: int, end: int) -> list[int]:
    values = []
    while pos < end:
        value, pos = varint(data, pos)
        values.append(value - (1 << 64) if value >> 63 else value)
    return values
