"""Reads records of prepared shards by index, a batch at a time, into one block per entry.

Reads and decodes only: no arithmetic, no order, no randomness.
"""

from __future__ import annotations

import bisect
import itertools
import os
import resource
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from rsjax.errors import ShardError
from rsjax.input import fitting, records
from rsjax.input import manifest as manifests

# Random access: no reading ahead, and no thread pool for one record.
READER = {"options": "readahead_buffer_size:0,max_parallelism:0", "file_reader_buffer_size": 2**15}


class ShardSource:
    """The records of one split, or of several joined by '+', in the order of their keys.

    Shards are opened when a record of theirs is first read, and then stay open; any number of
    threads may read.

    Args:
        root: folder of the shards.
        split: e.g. 'train' or 'train+validation'.
        columns: entries to read; None reads images, label and mask.
        fit: (steps, rows, columns) that series and images of varying size are brought to, see
            `rsjax.input.fitting`; 0 for what does not vary. Without it such entries are refused.

    Raises:
        ShardError: a shard is missing, has another size or record count than the manifest says,
            the split is unknown, or an entry's size varies and `fit` does not name it.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        columns: Sequence[str] | None = None,
        fit: tuple[int, int, int] = fitting.NONE,
    ):
        self.manifest = manifests.load(root)
        self.split = split
        self.fit = fit
        info = self.manifest.info
        available: dict[str, tuple[str, tuple[int, ...]]] = {
            name: (spec.dtype, spec.shape) for name, spec in info.images.items()
        }
        self._classes = len(self.manifest.nomenclature)
        if info.label:
            multihot = ("uint8", (self._classes,))
            available["label"] = ("int32", ()) if info.label == "index" else multihot
        if info.mask:
            available["mask"] = ("uint8", info.mask)
        self.available = available
        unknown = sorted(set(columns or ()) - set(available))
        if unknown:
            raise ShardError(f"{root}: no entries {unknown}; it has {sorted(available)}")
        self.columns = {k: v for k, v in available.items() if columns is None or k in columns}
        for name, (_, shape) in self.columns.items():
            if 0 in shape and 0 in self._shape(name):
                what = "length: say how many steps to take, e.g. --config.data.fit_steps=4"
                if 0 in self._shape(name)[-3:-1]:
                    what = (
                        "size; say to what size they are cropped or padded, e.g. "
                        "--config.data.fit_px=256"
                    )
                raise ShardError(f"{root}: the images of entry '{name}' differ in {what}")
        self.shards = [shard for name in split.split("+") for shard in self._split(name)]
        self.paths = [self._checked(shard) for shard in self.shards]
        counts = (int(str(shard["records"])) for shard in self.shards)
        self.starts = [0, *itertools.accumulate(counts)]  # of each shard, and the end
        self.reading: dict[int, str] = {}  # thread -> shard, for who waits and asks why
        self._readers: list[ArrayRecordReader | None] = [None] * len(self.paths)
        self._stamps = [0] * len(self.paths)
        self._opening = threading.Lock()
        self._layouts = records.Layouts()
        _allow_open_files(len(self.paths))

    def _reader(self, shard: int) -> ArrayRecordReader:
        """The open reader of a shard.

        Raises:
            ShardError: it is damaged, or has another number of records than the manifest says.
        """
        found = self._readers[shard]
        if found is not None:
            return found
        with self._opening:
            if self._readers[shard] is None:
                path, expected = self.paths[shard], self.shards[shard]["records"]
                ends = self.shards[shard]["ends_sha256"]
                remedy = "Delete it and run `python -m rsjax.prepare` again: it alone is rewritten"
                self._stamps[shard] = os.stat(path).st_mtime_ns
                if manifests.ends_digest(path) != ends:
                    raise ShardError(
                        f"{path}: not the shard that was prepared under this name (other bytes at "
                        f"its ends). {remedy}"
                    )
                try:
                    reader = ArrayRecordReader(path, **READER)
                    count = reader.num_records()
                    if not reader.ok():  # the reader opens what it cannot read as an empty file
                        reader.close()
                except Exception as error:  # it has no errors of its own
                    raise ShardError(f"{path}: damaged ({error}). {remedy}") from error
                if count != expected:
                    raise ShardError(f"{path}: {count} records, expected {expected}. {remedy}")
                self._readers[shard] = reader
            return self._readers[shard]

    def _split(self, name: str) -> list[dict[str, object]]:
        if name not in self.manifest.splits:
            known = ", ".join(self.manifest.splits)
            raise ShardError(f"{self.manifest.root}: no split '{name}'; it has {known}")
        return self.manifest.splits[name]["shards"]

    def _checked(self, shard: dict[str, object]) -> str:
        path = self.manifest.root / str(shard["file"])
        size = path.stat().st_size if path.is_file() else None
        if size != shard["bytes"]:
            found = "missing" if size is None else f"{size} bytes"
            raise ShardError(
                f"{path}: {found}, expected {shard['bytes']} bytes. Delete it if it is there and "
                "run `python -m rsjax.prepare` again: it alone is rewritten"
            )
        return os.fspath(path)

    def __len__(self) -> int:
        return self.starts[-1]

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The given records as one block per entry.

        Args:
            indices: (B,) integers in [0, len(self)).

        Returns:
            {entry: (B, ...)} in the dtype on disk; label int32 (B,) or uint8 (B, classes).

        Raises:
            ShardError: names the shard and the record that cannot be read.
        """
        blocks = {
            name: np.empty((len(indices), *self._shape(name)), dtype)
            for name, (dtype, _) in self.columns.items()
        }
        # Bytes are copied as bytes: values in a record are not aligned to their type. Little Python
        # for each record: the threads that read share one interpreter.
        raw = [
            (name, block.view(np.uint8).reshape(len(block), -1))
            for name, block in blocks.items()
            if self.columns[name][1] and 0 not in self.columns[name][1]
        ]
        other = [(name, *self.columns[name]) for name in blocks if name not in dict(raw)]
        for row, index in enumerate(indices.tolist()):
            record, spans = self._record(index)
            try:
                content = np.frombuffer(record, np.uint8)
                for name, rows in raw:
                    _, start, stop = spans[name]
                    if stop - start != rows.shape[1]:
                        size = f"{stop - start} bytes, expected {rows.shape[1]}"
                        raise ValueError(f"entry '{name}' has {size}")
                    rows[row] = content[start:stop]
                for name, dtype, shape in other:
                    entries = records.parse(record, spans)
                    if name == "label":
                        blocks[name][row] = _class_index(entries, self._classes)
                    else:
                        image = records.tensor(entries, name, dtype, shape)
                        blocks[name][row] = fitting.fit(image, self._shape(name))
            except KeyError as error:
                raise self._damaged(index, ValueError(f"no entry {error}")) from None
            except (ValueError, IndexError) as error:
                raise self._damaged(index, error) from None
        if "label" in blocks and blocks["label"].ndim == 2:
            for row in np.flatnonzero((blocks["label"] > 1).any(axis=1))[:1]:
                raise self._damaged(int(indices[row]), _out_of_range(blocks["label"][row]))
        self._check_unchanged(indices.tolist())
        return blocks

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self.columns[name][1]
        return fitting.wanted(shape, self.fit) if 0 in shape else shape

    def being_read(self) -> str:
        """The shards that threads are reading at this moment."""
        return ", ".join(sorted(set(self.reading.copy().values()))) or "nothing"

    def check(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Parses every entry of the given records, whatever `columns` says.

        Returns:
            the `label` and `mask` of each, as far as there are any.

        Raises:
            ShardError: names the shard and the record that is damaged.
        """
        classes = []
        for index in indices.tolist():
            entries = self.entries(index)
            try:
                found: dict[str, Any] = {}
                for name, (dtype, shape) in self.available.items():
                    if name == "label" and not shape:
                        found[name] = _class_index(entries, self._classes)
                    else:
                        found[name] = records.tensor(entries, name, dtype, shape)
                        if name == "label" and found[name].max(initial=0) > 1:
                            raise _out_of_range(found[name])
                if not records.text(entries, "id"):
                    raise ValueError("no id")
            except (ValueError, KeyError, IndexError) as error:
                raise self._damaged(index, error) from None
            classes.append({k: v for k, v in found.items() if k in ("label", "mask")})
        return classes

    def ids(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The sample ids of the given records."""
        return self.texts(indices, "id")

    def texts(self, indices: Sequence[int] | np.ndarray, name: str) -> list[str]:
        """One text entry of the given records, e.g. 'country'."""
        return [records.text(self.entries(int(index)), name) for index in indices]

    def entries(self, index: int) -> records.Entries:
        """Every entry of one record, as `records.parse` has them, whatever `columns` says."""
        return records.parse(*self._record(index))

    def _record(self, index: int) -> tuple[bytes, records.Spans]:
        shard = bisect.bisect_right(self.starts, index) - 1
        thread = threading.get_ident()
        self.reading[thread] = self.paths[shard]
        try:
            # One at a time: the bytes stay in the processor's cache until they are copied.
            (record,) = self._reader(shard).read([index - self.starts[shard]])
            return record, self._layouts.find(record)
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise self._damaged(index, error) from None
        finally:
            del self.reading[thread]

    def _check_unchanged(self, indices: list[int]) -> None:
        """Refuses shards that were written to since they were opened.

        Another shard copied over one of equal size has whole records, and the wrong ones. A shard
        that was removed is read on: the open file stays what it was.
        """
        for shard in {bisect.bisect_right(self.starts, index) - 1 for index in indices}:
            path = self.paths[shard]
            try:
                stamp = os.stat(path).st_mtime_ns
            except FileNotFoundError:
                continue
            if stamp != self._stamps[shard]:
                if manifests.digest(path) != self.shards[shard]["sha256"]:
                    raise ShardError(
                        f"{path}: changed while it was read. Delete it and run "
                        "`python -m rsjax.prepare` again: it alone is rewritten"
                    )
                self._stamps[shard] = stamp  # touched, or written again with the same bytes

    def _damaged(self, index: int, error: Exception) -> ShardError:
        shard = bisect.bisect_right(self.starts, index) - 1
        record = index - self.starts[shard]
        return ShardError(
            f"{self.paths[shard]}: record {record} is damaged ({error}). Check all with `python "
            "-m rsjax.prepare --verify`, delete the shard and prepare again: it alone is rewritten"
        )


def _out_of_range(label: np.ndarray) -> ValueError:
    return ValueError(f"label {label.max()}, expected zeros and ones")


def _class_index(entries: records.Entries, classes: int) -> int:
    index = int(entries["label"][0])
    if not 0 <= index < classes:  # it would train, and count, as another class or as none
        raise ValueError(f"label {index}, expected 0 to {classes - 1}")
    return index


def _allow_open_files(count: int) -> None:
    """Raises this process's limit of open files, where the shards need more.

    Raises:
        ShardError: the system's own limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 512  # besides the shards: libraries, sockets, checkpoints
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ShardError(
            f"{count} shards need {needed} open files, the system allows {hard}: raise the hard "
            "limit (`ulimit -Hn`, or LimitNOFILE of the service)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
