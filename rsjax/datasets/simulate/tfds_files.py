"""Writes the files of a dataset as TensorFlow Datasets does: TFRecord shards and two JSON files."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsjax.datasets import tfrecord

Value = "np.ndarray | Sequence[bytes]"


def example(features: Mapping[str, Any]) -> bytes:
    """A serialised `tf.train.Example`: floats, integers or byte strings by name."""
    return _field(1, b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _feature(value)))
        for name, value in features.items()
    ))  # fmt: skip


def write_folder(
    folder: pathlib.Path,
    name: str,
    version: str,
    features: Mapping[str, Any],
    shards: Mapping[str, Sequence[Sequence[bytes]]],
    config: str = "",
) -> None:
    """Writes shards and metadata.

    Args:
        folder: to write, e.g. `forty_v1/1.0.0`.
        name: of the dataset in TFDS.
        version: e.g. '1.0.0'.
        features: of TFDS, by name.
        shards: split -> shards -> serialised examples.
        config: of the dataset in TFDS.
    """
    import tensorflow_datasets as tfds

    folder.mkdir(parents=True)
    splits = []
    for split, parts in shards.items():
        for index, records in enumerate(parts):
            path = folder / f"{name}-{split}.tfrecord-{index:05d}-of-{len(parts):05d}"
            with path.open("wb") as file:
                for record in records:
                    file.write(tfrecord.frame(record))
        splits.append({
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "name": split,
            "numBytes": str(sum(len(record) for part in parts for record in part)),
            "shardLengths": [str(len(part)) for part in parts],
        })  # fmt: skip
    info = {"fileFormat": "tfrecord", "name": name, "splits": splits, "version": version}
    info |= {"configName": config} if config else {}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
    tfds.features.FeaturesDict(dict(features)).save_config(folder)


def _feature(value: Any) -> bytes:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return _field(2, _field(1, value.astype("<f4").tobytes()))
    if isinstance(value, np.ndarray):
        if value.size and value.max() < 128 and value.min() >= 0:
            packed = value.astype(np.uint8).tobytes()
        else:
            packed = b"".join(_varint(int(number)) for number in value.ravel())
        return _field(3, _field(1, packed))
    return _field(1, b"".join(_field(1, one) for one in value))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
