"""How often each class occurs in each record: counted when shards are written, kept beside them.

Sampling by class needs these numbers of every record before the first step, and reading all
labels and masks for them would take as long as an epoch.
"""

from __future__ import annotations

import base64
import io
import math
import pathlib
import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rsjax import sealed, storage
from rsjax.datasets.info import DatasetInfo
from rsjax.input import manifest as manifests
from rsjax.input import records
from rsjax.landcover import Nomenclature

FILES = {"label": "class_histograms-{}.npy", "mask": "mask_histograms-{}.npy"}  # of a split
IGNORE = 255

Layout = dict[str, tuple[int, np.dtype]]  # 'label' and 'mask' -> columns, type


def layout(info: DatasetInfo, classes: Nomenclature, mask_classes: Nomenclature | None) -> Layout:
    """Columns and types of a dataset's histograms.

    Of labels one column a class, of masks one more for the pixels that are ignored; the smallest
    unsigned type that holds the largest count.
    """
    found: Layout = {}
    if info.label:
        found["label"] = (len(classes), np.dtype("u1"))
    if info.mask and mask_classes:
        kind = np.min_scalar_type(math.prod(info.mask))
        found["mask"] = (len(mask_classes) + 1, kind.newbyteorder("<"))
    return found


def of_example(example: Mapping[str, Any], wanted: Layout) -> dict[str, np.ndarray]:
    """The histograms of one example.

    Args:
        example: has 'label', a class index or (K,) zeros and ones, and 'mask' (H, W) uint8, as far
            as `wanted` names them.
        wanted: the layout.

    Returns:
        {'label': (K,), 'mask': (K_mask + 1,)}.

    Raises:
        ValueError: a class that the layout has no column for.
    """
    found = {}
    for name, (columns, kind) in wanted.items():
        values = np.asarray(example[name])
        if name == "mask":
            counts = np.bincount(values.ravel(), minlength=IGNORE + 1)
            if counts[columns - 1 : IGNORE].any():
                raise ValueError(f"mask has classes above {columns - 2}")
            row = np.append(counts[: columns - 1], counts[IGNORE])
        else:
            row = values if values.ndim else np.arange(columns) == values
            if row.shape != (columns,) or not (values.ndim or row.any()):
                raise ValueError(f"label {values}, expected one of {columns} classes")
        found[name] = row.astype(kind)
    return found


def stack(rows: Sequence[Mapping[str, np.ndarray]], wanted: Layout) -> dict[str, np.ndarray]:
    """Rows of single examples as arrays {name: (N, columns)}; N may be 0."""
    return {
        name: np.array([row[name] for row in rows], kind).reshape(-1, columns)
        for name, (columns, kind) in wanted.items()
    }


def pack(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Arrays as text for a note: little-endian rows, compressed by zlib, in base 64."""
    return {k: base64.b64encode(zlib.compress(v.tobytes())).decode() for k, v in arrays.items()}


def unpack(texts: Mapping[str, str], wanted: Layout) -> dict[str, np.ndarray]:
    """The inverse of `pack`."""
    return {
        name: np.frombuffer(zlib.decompress(base64.b64decode(texts[name])), kind).reshape(
            -1, columns
        )
        for name, (columns, kind) in wanted.items()
    }


def recount(
    root: str, note: Mapping[str, Any], wanted: Layout, beat: Callable[[int], None]
) -> dict[str, np.ndarray] | None:
    """The histograms of a shard that was written before they were kept.

    Args:
        root: folder or URL of the shards.
        note: the shard's note.
        wanted: the layout.
        beat: called with the number of records done, after each of them.

    Returns:
        {name: (records, columns)}; None if the shard is not the one of the note.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    path = pathlib.Path(root) / note["file"]
    if copied := storage.is_remote(root):
        path = storage.stage(root) / f".{note['file']}.{secrets.token_hex(4)}.tmp"
        with sealed.writing(path):
            path.write_bytes(storage.read(f"{root}/{note['file']}"))
    try:
        if manifests.digest(path) != note["sha256"]:
            return None
        reader, rows = ArrayRecordReader(str(path)), []
        for index in range(note["records"]):
            rows.append(of_example(_classes(reader.read([index])[0], wanted), wanted))
            beat(index + 1)
        reader.close()
        return stack(rows, wanted)
    finally:
        if copied:
            path.unlink(missing_ok=True)


def _classes(record: bytes, wanted: Layout) -> dict[str, Any]:
    """Label and mask of a record; a mask stays flat."""
    entries = records.parse(record)
    return {
        name: entries[name][0]
        if isinstance(entries[name], list)
        else np.frombuffer(entries[name], np.uint8)  # type: ignore[arg-type]
        for name in wanted
    }


def save(folder: pathlib.Path, split: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Writes the histograms of a split into a folder, each file whole or absent.

    Args:
        folder: takes the files.
        split: its name.
        arrays: {name: (N, columns)}, the rows in the order of the records.

    Returns:
        {name: {file, sha256}}, as the manifest lists them.
    """
    listed = {}
    for name, array in arrays.items():
        file = FILES[name].format(split)
        content = io.BytesIO()
        np.save(content, array, allow_pickle=False)
        sealed.replace(folder / file, content.getvalue())
        listed[name] = {"file": file, "sha256": manifests.digest(folder / file)}
    return listed
