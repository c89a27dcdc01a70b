"""Reads records of prepared shards by index, a batch at a time, into one block per entry.

Reads and decodes only: no arithmetic, no order, no randomness.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource

from rsjax.errors import ShardError
from rsjax.input import manifest as manifests
from rsjax.input import records


class ShardSource:
    """The records of one split, or of several joined by '+', in the order of their keys.

    Args:
        root: folder of the shards.
        split: e.g. 'train' or 'train+validation'.
        columns: entries to read; None reads images, label and mask.
        fit: {entry: (height, width)}: entries whose size varies are cropped, or padded by
            reflection, about their centre to this size. Without it they are refused.

    Raises:
        ShardError: a shard is missing, has another size or record count than the manifest says,
            the split is unknown, or an entry's size varies and `fit` does not name it.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        columns: Sequence[str] | None = None,
        fit: Mapping[str, tuple[int, int]] | None = None,
    ):
        self.manifest = manifests.load(root)
        self.split = split
        self.fit = dict(fit or {})
        info = self.manifest.info
        available: dict[str, tuple[str, tuple[int, ...]]] = {
            name: (spec.dtype, (spec.height, spec.width, len(spec.bands)))
            for name, spec in info.images.items()
        }
        if info.label:
            classes = len(self.manifest.nomenclature)
            available["label"] = ("int32", ()) if info.label == "index" else ("uint8", (classes,))
        if info.mask:
            available["mask"] = ("uint8", info.mask)
        self.available = available
        unknown = sorted(set(columns or ()) - set(available))
        if unknown:
            raise ShardError(f"{root}: no entries {unknown}; it has {sorted(available)}")
        self.columns = {k: v for k, v in available.items() if columns is None or k in columns}
        for name, (_, shape) in self.columns.items():
            if 0 in shape and name not in self.fit:
                raise ShardError(
                    f"{root}: the images of entry '{name}' differ in size; say to what size they "
                    "are cropped or padded, e.g. --config.data.fit_px=256"
                )
        self.shards = [shard for name in split.split("+") for shard in self._split(name)]
        self.paths = paths = [self._checked(shard) for shard in self.shards]
        self.stamps = [os.stat(path).st_mtime_ns for path in paths]
        self.records = self._open(paths)
        self.ends = np.cumsum([shard["records"] for shard in self.shards])
        if len(self.records) != self.ends[-1]:
            counts = [len(ArrayRecordDataSource(p)) for p in paths]
            bad = next(i for i, s in enumerate(self.shards) if s["records"] != counts[i])
            raise ShardError(
                f"{paths[bad]}: {counts[bad]} records, expected {self.shards[bad]['records']}. "
                "Delete it and run `python -m rsjax.prepare` again: it alone is rewritten"
            )

    def _open(self, paths: list[str]) -> ArrayRecordDataSource:
        try:
            return ArrayRecordDataSource(paths)
        except Exception as error:
            for path in paths:  # the reader does not say which file it was
                try:
                    ArrayRecordDataSource(path)
                except Exception as one:
                    raise ShardError(
                        f"{path}: damaged ({one}). Delete it and run `python -m rsjax.prepare` "
                        "again: it alone is rewritten"
                    ) from error
            raise

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
        if manifests.ends_digest(path) != shard["ends_sha256"]:
            raise ShardError(
                f"{path}: not the shard that was prepared under this name (other bytes at its "
                "ends). Delete it and run `python -m rsjax.prepare` again: it alone is rewritten"
            )
        return os.fspath(path)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The given records as one block per entry.

        Args:
            indices: (B,) integers in [0, len(self)).

        Returns:
            {entry: (B, ...)} in the dtype on disk; label int32 (B,) or uint8 (B, classes).

        Raises:
            ShardError: names the shard and the record that cannot be read.
        """
        parsed = self._parse(indices)
        batch = {}
        for name, (dtype, shape) in self.columns.items():
            full = (*self.fit[name], *shape[2:]) if 0 in shape and name in self.fit else shape
            block = np.empty((len(indices), *full), dtype)
            for row, (index, entries) in enumerate(zip(indices, parsed, strict=True)):
                try:
                    if name == "label" and not shape:
                        block[row] = entries["label"][0]  # an index, stored as int64
                    else:
                        image = records.tensor(entries, name, dtype, shape)
                        block[row] = _fit(image, full) if image.shape != full else image
                except (ValueError, KeyError, IndexError) as error:
                    raise self._damaged(int(index), error) from None
            batch[name] = block
        return batch

    def check(self, indices: np.ndarray) -> None:
        """Parses every entry of the given records, whatever `columns` says.

        Raises:
            ShardError: names the shard and the record that is damaged.
        """
        for index, entries in zip(indices, self._parse(indices), strict=True):
            try:
                for name, (dtype, shape) in self.available.items():
                    if name == "label" and not shape:
                        entries["label"][0]
                    else:
                        records.tensor(entries, name, dtype, shape)
                if not records.text(entries, "id"):
                    raise ValueError("no id")
            except (ValueError, KeyError, IndexError) as error:
                raise self._damaged(int(index), error) from None

    def ids(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The sample ids of the given records."""
        return self.texts(indices, "id")

    def texts(self, indices: Sequence[int] | np.ndarray, name: str) -> list[str]:
        """One text entry of the given records, e.g. 'country'."""
        return [records.text(entries, name) for entries in self._parse(np.asarray(indices))]

    def _parse(self, indices: np.ndarray) -> list[dict[str, memoryview | list[int]]]:
        try:
            raw = self.records.__getitems__([int(i) for i in indices])
        except Exception as error:
            for index in indices:  # the reader does not say which record it was
                try:
                    self.records[int(index)]
                except Exception as one:
                    raise self._damaged(int(index), one) from error
            raise
        self._check_unchanged(indices)
        parsed = []
        for index, record in zip(indices, raw, strict=True):
            try:
                parsed.append(records.parse(record))
            except ValueError as error:
                raise self._damaged(int(index), error) from None
        return parsed

    def _check_unchanged(self, indices: np.ndarray) -> None:
        """Refuses shards that were written to since they were opened.

        Another shard copied over one of equal size has whole records, and the wrong ones. A shard
        that was removed is read on: the open file stays what it was.
        """
        for shard in np.unique(np.searchsorted(self.ends, indices, side="right")):
            path = self.paths[shard]
            try:
                stamp = os.stat(path).st_mtime_ns
            except FileNotFoundError:
                continue
            if stamp != self.stamps[shard]:
                if manifests.digest(path) != self.shards[shard]["sha256"]:
                    raise ShardError(
                        f"{path}: changed while it was read. Delete it and run "
                        "`python -m rsjax.prepare` again: it alone is rewritten"
                    )
                self.stamps[shard] = stamp  # touched, or written again with the same bytes

    def _damaged(self, index: int, error: Exception) -> ShardError:
        shard = int(np.searchsorted(self.ends, index, side="right"))
        start = int(self.ends[shard - 1]) if shard else 0
        path = self.manifest.root / str(self.shards[shard]["file"])
        return ShardError(
            f"{path}: record {index - start} is damaged ({error}). Check all with "
            "`python -m rsjax.prepare --verify`, delete the shard and prepare again: it alone is "
            "rewritten"
        )


def _fit(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Crops or pads (by reflection) an image (H, W, C) about its centre to `shape`."""
    for axis in (0, 1):
        have, want = image.shape[axis], shape[axis]
        if have > want:
            start = (have - want) // 2
            image = np.take(image, range(start, start + want), axis)
        elif have < want:
            before = (want - have) // 2
            widths = [(0, 0)] * image.ndim
            widths[axis] = (before, want - have - before)
            image = np.pad(image, widths, "reflect")
    return image
