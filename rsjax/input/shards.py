"""Writes a dataset as ArrayRecord shards: parallel, resumable, atomic.

A shard is a pure function of (dataset, options, split, shard index, number of shards): which
process or machine writes it, and when, changes no byte. Each is written under a temporary name,
synced and renamed; a note beside it lets the next run keep it. The manifest comes last
(`publish`), and `verify` rereads everything.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import inspect
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import numpy as np

from rsjax import datasets, landcover, sealed, storage
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import ConfigError, DatasetError, NomenclatureError, ShardError
from rsjax.input import histograms, notes, records, statistics
from rsjax.input import manifest as manifests
from rsjax.landcover import Nomenclature

log = logging.getLogger("rsjax")

SHARD_BYTES = 128 * 2**20  # large enough to read fast, small enough to lose little when killed
READERS = 16  # samples that a worker fetches at a time from an object store


@dataclasses.dataclass(frozen=True)
class Job:
    """One shard to write; picklable, so that any pool or cluster can run it."""

    dataset: str
    source: str
    options: tuple[tuple[str, Any], ...]
    split: str
    index: int
    total: int
    root: str
    on_error: str

    @property
    def file(self) -> str:
        """The shard's file name, as TFDS spells it."""
        return f"{self.dataset}-{self.split}.array_record-{self.index:05d}-of-{self.total:05d}"

    @property
    def note(self) -> str:
        """The name of the note that is written after the shard."""
        return f"{notes.FOLDER}/{self.file}.json"


@functools.lru_cache(maxsize=2)
def open_dataset(name: str, source: str, options: tuple[tuple[str, Any], ...]) -> Any:
    """The dataset, opened once in each worker process.

    Raises:
        ConfigError: an option that the dataset does not have.
    """
    make = datasets.get(name)
    known = tuple(inspect.signature(make).parameters)[1:]  # after the source
    for option, _ in options:
        if option not in known:
            raise ConfigError(
                f"--option={option}: {name} has no such option; "
                + (f"it has {', '.join(known)}" if known else "it has none")
            )
    return make(source, **dict(options))


@functools.lru_cache(maxsize=1)
def _split_keys(
    name: str, source: str, options: tuple[tuple[str, Any], ...], split: str
) -> list[str]:
    """The keys of a split, listed once in each worker process and not for every shard."""
    keys: list[str] = open_dataset(name, source, options).keys(split)
    return keys


def forget() -> None:
    """Drops opened datasets: a download may have changed since."""
    open_dataset.cache_clear()
    _split_keys.cache_clear()


def jobs(
    dataset: str,
    source: str,
    options: dict[str, Any],
    root: str | os.PathLike[str],
    on_error: str = "raise",
) -> list[Job]:
    """The shards of all splits that the download has; warns of sizes that are not official."""
    frozen = tuple(sorted(options.items()))
    opened = open_dataset(dataset, source, frozen)
    bytes_each = sum(
        (s.steps or 16 if s.steps is not None else 1)  # of a series that varies: a guess
        * (s.height or 256)
        * (s.width or 256)
        * len(s.bands)
        * np.dtype(s.dtype).itemsize
        for s in opened.info.images.values()
    )
    todo = []
    for split in opened.info.splits:
        count = len(opened.keys(split))
        expected = opened.info.splits[split]
        if count != expected and (expected or not count) and not opened.simulated:
            log.warning(
                "%s: %s samples in split '%s', expected %s: complete the download, unless it or an "
                "option leaves samples out on purpose",
                *(source, f"{count:,}", split, f"{expected:,}" if expected else "some"),
            )
        if count == 0:
            continue
        total = max(-(-count * bytes_each // SHARD_BYTES), min(8, count // 64), 1)
        todo += [
            Job(dataset, source, frozen, split, i, total, os.fspath(root), on_error)
            for i in range(total)
        ]
    if not todo:
        raise DatasetError(f"{source}: no samples of '{dataset}' in any split")
    return todo


def write_shard(job: Job, beat: Callable[[int], None] = lambda samples: None) -> dict[str, Any]:
    """Writes one shard, then its note; returns the note.

    Args:
        job: the shard.
        beat: called with the number of samples done, after each of them.

    Raises:
        DatasetError, NomenclatureError: a sample is damaged and `job.on_error` is 'raise'.
        ShardError: the shard could not be written.
        StorageError: an object store does not answer.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    dataset = open_dataset(job.dataset, job.source, job.options)
    tally = _Tally(dataset.info)
    if (old := _sound(job)) and "histograms" not in old:  # of an rsjax that did not count them
        rows = histograms.recount(job.root, old, tally.layout, beat)
        if rows is not None:
            old["histograms"] = histograms.pack(rows)
            notes.write(job.root, job.note, old)
            return old
    features = records.features(dataset.info, tally.classes.names)
    keys = _split_keys(job.dataset, job.source, job.options, job.split)
    keys = keys[len(keys) * job.index // job.total : len(keys) * (job.index + 1) // job.total]
    beat(0)  # the download is open

    temporary = storage.stage(job.root) / f".{job.file}.{secrets.token_hex(4)}.tmp"
    skipped: list[dict[str, str]] = []
    with sealed.writing(f"{job.root}/{job.file}"):
        writer = ArrayRecordWriter(os.fspath(temporary), "group_size:1,uncompressed")
    try:
        for done, (key, read) in enumerate(_reads(dataset, keys, job.source), 1):
            try:
                example = read()
                _check(example, dataset.info, tally.classes, tally.mask_classes, key)
            except (DatasetError, NomenclatureError) as error:
                if job.on_error != "skip":
                    raise
                skipped.append({"key": key, "reason": str(error)})
            else:
                record = records.canonical(features.serialize_example(example))
                with sealed.writing(f"{job.root}/{job.file}"):
                    writer.write(record)
                tally.add(example)
            beat(done)
        with sealed.writing(f"{job.root}/{job.file}"):
            writer.close()
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        note = {
            "file": job.file,
            "records": len(keys) - len(skipped),
            "skipped": skipped,
            "bytes": temporary.stat().st_size,
            "sha256": manifests.digest(temporary),
            "ends_sha256": manifests.ends_digest(temporary),
            **tally.sums(),
        }
        with sealed.writing(f"{job.root}/{job.file}"):
            storage.publish(temporary, job.root, job.file)
    finally:
        if writer.is_open():
            with contextlib.suppress(RuntimeError):  # of a full disk, raised before
                writer.close()
        temporary.unlink(missing_ok=True)
    notes.write(job.root, job.note, note)
    return note


def _reads(
    dataset: Any, keys: list[str], source: str
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Keys in their order, each with what gives its example; read ahead from an object store."""
    if not storage.is_remote(source):  # a disk answers at once, and threads would share one core
        yield from ((key, functools.partial(dataset.read, key)) for key in keys)
        return
    ahead: collections.deque[tuple[str, futures.Future[dict[str, Any]]]] = collections.deque()
    pool = futures.ThreadPoolExecutor(READERS)
    try:
        for key in keys:
            ahead.append((key, pool.submit(dataset.read, key)))
            if len(ahead) == 2 * READERS:
                first, future = ahead.popleft()
                yield first, future.result
        yield from ((key, future.result) for key, future in ahead)
    finally:
        pool.shutdown(cancel_futures=True)


class _Tally:
    """Class counts and pixel sums over the examples of one shard."""

    def __init__(self, info: DatasetInfo):
        self.info = info
        self.classes = landcover.load(info.nomenclature)
        self.mask_classes = (
            landcover.load(info.mask_nomenclature) if info.mask_nomenclature else None
        )
        self.layout = histograms.layout(info, self.classes, self.mask_classes)
        self._rows: list[dict[str, np.ndarray]] = []
        self._sums: dict[str, list[dict[str, Any]]] = {name: [] for name in info.images}

    def add(self, example: dict[str, Any]) -> None:
        """Counts one example."""
        self._rows.append(histograms.of_example(example, self.layout))
        for name, image in self.info.images.items():
            self._sums[name].append(statistics.of_image(example[name], image))

    def sums(self) -> dict[str, Any]:
        """What a note says of them."""
        rows = histograms.stack(self._rows, self.layout)
        totals = {name: array.sum(axis=0, dtype=np.int64) for name, array in rows.items()}
        classes, mask_counts = np.zeros(len(self.classes), np.int64), np.zeros(256, np.int64)
        if "mask" in totals:
            mask_counts[: len(totals["mask"]) - 1] = totals["mask"][:-1]
            mask_counts[histograms.IGNORE] = totals["mask"][-1]
        return {
            "class_counts": totals.get("label", classes).tolist(),
            "mask_counts": mask_counts.tolist() if "mask" in totals else None,
            "sums": {k: statistics.merge(v) for k, v in self._sums.items() if v},
            "histograms": histograms.pack(rows),
        }


def _check(
    example: dict[str, Any],
    info: DatasetInfo,
    classes: Nomenclature,
    mask_classes: Nomenclature | None,
    key: str,
) -> None:
    """Refuses what would fail, or lie, later: shapes, dtypes, labels out of range, NaN."""

    def refuse(entry: str, found: Any, expected: Any) -> None:
        raise DatasetError(
            f"sample {key}, entry '{entry}': {found}, expected {expected}. "
            "Repair the file, or leave the sample out with --on_error=skip"
        )

    for name, spec in info.images.items():
        image = example[name]
        shape = spec.shape
        if len(shape) == image.ndim:
            shape = tuple(want or found for want, found in zip(shape, image.shape, strict=True))
        if image.shape != shape or 0 in shape or image.dtype != np.dtype(spec.dtype):
            refuse(name, f"{image.dtype} {image.shape}", f"{spec.dtype} {shape}")
        if image.dtype.kind == "f":
            bad = np.isinf(image) if spec.missing_is_nan else ~np.isfinite(image)
            if bad.any():
                refuse(name, "NaN or infinite pixels", "finite ones")
    if info.label == "index" and not 0 <= int(example["label"]) < len(classes):
        refuse("label", example["label"], f"0 to {len(classes) - 1}")
    if info.label == "multihot" and (
        example["label"].shape != (len(classes),) or example["label"].max(initial=0) > 1
    ):
        refuse("label", example["label"], f"{len(classes)} zeros and ones")
    if info.mask and mask_classes:
        mask = example["mask"]
        if mask.shape != info.mask or mask.dtype != np.uint8:
            refuse("mask", f"{mask.dtype} {mask.shape}", f"uint8 {info.mask}")
        bad = mask[(mask >= len(mask_classes)) & (mask != 255)]
        if bad.size:
            refuse("mask", f"class {bad[0]}", f"0 to {len(mask_classes) - 1}, or 255")


def finished(job: Job) -> dict[str, Any] | None:
    """The note of a shard that was finished, or None: it, or its histograms, are to be made."""
    note = _sound(job)
    return note if note and "histograms" in note else None


def _sound(job: Job) -> dict[str, Any] | None:
    """The note of a shard that need not be written again, or None.

    The shard's size is compared and not its content, which would read everything again: the note
    holds the checksum of what was written, `--verify` compares it, and ArrayRecord's own
    checksums name a damaged record whenever it is read.
    """
    try:
        note = notes.read(job.root, job.note)
        if note is None or storage.size(f"{job.root}/{job.file}") != note["bytes"]:
            return None
        return note if job.on_error == "skip" or not note["skipped"] else None
    except (KeyError, ShardError):  # a damaged note is written again, with its shard
        return None
