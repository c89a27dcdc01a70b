"""Rereads prepared shards: sizes, checksums, record counts, every entry of every record."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np

from rsjax import storage
from rsjax.errors import ShardError
from rsjax.input import histograms, notes
from rsjax.input import manifest as manifests
from rsjax.input.manifest import Manifest
from rsjax.input.source import ShardSource

_PIECE = 2**24  # bytes read at a time
_REMEDY = "Delete it and run `python -m rsjax.prepare` again: it alone is rewritten"


def find(data_dir: str | os.PathLike[str], name: str) -> str:
    """The folder or URL of a dataset's shards, as `manifest.find`.

    Raises:
        ShardError: none or several are there.
    """
    if not storage.is_remote(data_dir):
        return os.fspath(manifests.find(data_dir, name))
    parent = f"{storage.absolute(data_dir)}/{name}"
    versions = storage.names(parent)
    found = [v for v in versions if storage.is_file(f"{parent}/{v}/{manifests.FILE}")]
    if len(found) != 1:
        raise ShardError(
            f"{parent}: {len(found)} versions with prepared shards, expected one "
            f"({', '.join(found) or 'run `python -m rsjax.prepare`'})"
        )
    return f"{parent}/{found[0]}"


def verify(root: str | os.PathLike[str]) -> Iterator[tuple[str, int]]:
    """Rereads every shard: size, checksum, record count, and each record's entries and classes.

    Of shards on an object store the records are not parsed; their checksum is that of the bytes
    that the writer made.

    Yields:
        (file, records) of each sound shard, as it is done.

    Raises:
        ShardError: names the first damaged file or record, and the remedy.
    """
    where = os.fspath(root)
    made = _load(where)
    beside = {**made.metadata}
    for kinds in made.histograms.values():
        beside |= {entry["file"]: entry["sha256"] for entry in kinds.values()}
    for file, sha256 in beside.items():
        path = f"{where}/{file}"
        if storage.size(path) is None:
            raise ShardError(f"{path}: missing. {_REMEDY}")
        if _digest(path) != sha256:
            raise ShardError(f"{path}: its sha256 is not that of the manifest. {_REMEDY}")
    for split, entry in made.splits.items():
        for shard in entry["shards"]:
            path = f"{where}/{shard['file']}"
            size = storage.size(path)
            if size != shard["bytes"]:
                found = "missing" if size is None else f"{size} bytes"
                raise ShardError(f"{path}: {found}, expected {shard['bytes']} bytes. {_REMEDY}")
            if _digest(path) != shard["sha256"]:
                raise ShardError(f"{path}: its sha256 is not that of the manifest. {_REMEDY}")
        source = None if storage.is_remote(where) else ShardSource(where, split, columns=())
        yield from _records(made, split, source)


def _records(made: Manifest, split: str, source: ShardSource | None) -> Iterator[tuple[str, int]]:
    """Parses the records of a split, and counts their classes again."""
    kept = {
        kind: manifests.histograms(made, split, kind)
        for kind in (made.histograms.get(split, {}) if source else {})
    }
    everything = histograms.layout(made.info, made.nomenclature, made.mask_nomenclature)
    wanted = {kind: everything[kind] for kind in kept}
    at = 0
    for shard in made.splits[split]["shards"]:
        end = at + shard["records"]
        for start in range(at, end, 64) if source else ():
            index = np.arange(start, min(start + 64, end))
            for row, found in zip(index, source.check(index), strict=True):  # type: ignore[union-attr]
                try:
                    counted = histograms.of_example(found, wanted)
                except ValueError as error:
                    where = f"{made.root}/{shard['file']}: record {row - at}"
                    raise ShardError(f"{where}: {error}. {_REMEDY}") from None
                for kind, array in kept.items():
                    if not np.array_equal(array[row], counted[kind]):
                        raise ShardError(
                            f"{made.root}/{made.histograms[split][kind]['file']}: row {row} is not "
                            f"what record {row - at} of {shard['file']} holds. Delete "
                            f"{notes.FOLDER}/{shard['file']}.json beside it and run "
                            "`python -m rsjax.prepare` again: that shard alone is rewritten"
                        )
        at = end
        yield shard["file"], shard["records"]


def _load(root: str) -> Manifest:
    """The manifest of a folder, or of a URL by way of a local copy."""
    if not storage.is_remote(root):
        return manifests.load(root)
    path = f"{root}/{manifests.FILE}"
    try:
        content = storage.read(path)
    except FileNotFoundError:
        raise ShardError(f"{path}: not there; run `python -m rsjax.prepare` (again)") from None
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / manifests.FILE).write_bytes(content)
        try:
            made = manifests.load(folder)
        except ShardError as error:
            raise ShardError(str(error).replace(folder, root)) from None
    return dataclasses.replace(made, root=pathlib.Path(root))


def _digest(path: str) -> str:
    """The sha256 of a file, read in pieces."""
    found, size = hashlib.sha256(), storage.size(path) or 0
    for start in range(0, size, _PIECE):  # stores refuse a range that begins at the end
        found.update(storage.read(path, start, min(start + _PIECE, size)))
    return found.hexdigest()
