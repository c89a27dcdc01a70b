"""Rereads prepared shards: sizes, checksums, record counts, every entry of every record."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from rsjax.errors import ShardError
from rsjax.input import manifest as manifests
from rsjax.input.shards import digest
from rsjax.input.source import ShardSource


def verify(root: str | os.PathLike[str]) -> Iterator[tuple[str, int]]:
    """Rereads every shard: size, checksum, record count, and each record's entries.

    Yields:
        (file, records) of each sound shard, as it is done.

    Raises:
        ShardError: names the first damaged shard or record, and the remedy.
    """
    made = manifests.load(root)
    for split, entry in made.splits.items():
        for shard in entry["shards"]:
            path = made.root / shard["file"]
            remedy = "Delete it and run `python -m rsjax.prepare` again: it alone is rewritten"
            if not path.is_file() or path.stat().st_size != shard["bytes"]:
                found = f"{path.stat().st_size} bytes" if path.is_file() else "missing"
                raise ShardError(f"{path}: {found}, expected {shard['bytes']} bytes. {remedy}")
            if digest(path) != shard["sha256"]:
                raise ShardError(f"{path}: its sha256 is not that of the manifest. {remedy}")
        source = ShardSource(made.root, split, columns=())
        at = 0
        for shard in entry["shards"]:
            for start in range(at, at + shard["records"], 64):
                source.check(np.arange(start, min(start + 64, at + shard["records"])))
            at += shard["records"]
            yield shard["file"], shard["records"]
