"""Writes a dataset as ArrayRecord shards: parallel, resumable, atomic.

A shard is a pure function of (dataset, options, split, shard index, number of shards): which
process or machine writes it, and when, changes no byte. Each is written under a temporary name,
synced and renamed; a note beside it lets the next run keep it. The manifest comes last
(`publish`), and `verify` rereads everything.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from rsjax import datasets, landcover, sealed
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import DatasetError, NomenclatureError
from rsjax.input import manifest as manifests
from rsjax.input import records, statistics
from rsjax.input.manifest import digest as digest
from rsjax.landcover import Nomenclature

SHARD_BYTES = 128 * 2**20  # large enough to read fast, small enough to lose little when killed
NOTES = ".shards"  # notes on finished shards, until the manifest is written


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


@functools.lru_cache(maxsize=2)
def open_dataset(name: str, source: str, options: tuple[tuple[str, Any], ...]) -> Any:
    """The dataset, opened once in each worker process."""
    return datasets.get(name)(source, **dict(options))


def jobs(
    dataset: str,
    source: str,
    options: dict[str, Any],
    root: str | os.PathLike[str],
    on_error: str = "raise",
) -> list[Job]:
    """The shards of all splits that the download has."""
    frozen = tuple(sorted(options.items()))
    opened = open_dataset(dataset, source, frozen)
    bytes_each = sum(
        (s.height or 256) * (s.width or 256) * len(s.bands) * np.dtype(s.dtype).itemsize
        for s in opened.info.images.values()
    )
    todo = []
    for split in opened.info.splits:
        count = len(opened.keys(split))
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


def write_shard(job: Job) -> dict[str, Any]:
    """Writes one shard and its note; returns the note.

    Raises:
        DatasetError, NomenclatureError: a sample is damaged and `job.on_error` is 'raise'.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    dataset = open_dataset(job.dataset, job.source, job.options)
    info: DatasetInfo = dataset.info
    classes = landcover.load(info.nomenclature)
    mask_classes = landcover.load(info.mask_nomenclature) if info.mask_nomenclature else None
    features = records.features(info, classes.names)
    keys = dataset.keys(job.split)
    keys = keys[len(keys) * job.index // job.total : len(keys) * (job.index + 1) // job.total]

    path = pathlib.Path(job.root) / job.file
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    note: dict[str, Any] = {"file": job.file, "records": 0, "skipped": []}
    class_counts = np.zeros(len(classes), np.int64)
    mask_counts = np.zeros(256, np.int64)
    sums: dict[str, list[dict[str, Any]]] = {name: [] for name in info.images}
    writer = ArrayRecordWriter(os.fspath(temporary), "group_size:1,uncompressed")
    try:
        for key in keys:
            try:
                example = dataset.read(key)
                _check(example, info, classes, mask_classes, key)
            except (DatasetError, NomenclatureError) as error:
                if job.on_error != "skip":
                    raise
                note["skipped"].append({"key": key, "reason": str(error)})
                continue
            writer.write(records.canonical(features.serialize_example(example)))
            note["records"] += 1
            if info.label == "index":
                class_counts[example["label"]] += 1
            elif info.label:
                class_counts += example["label"]
            if info.mask:
                mask_counts += np.bincount(example["mask"].ravel(), minlength=256)
            for name, image in info.images.items():
                sums[name].append(statistics.of_image(example[name], image))
        writer.close()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        note["bytes"] = temporary.stat().st_size
        note["sha256"] = digest(temporary)
        note["ends_sha256"] = manifests.ends_digest(temporary)
        note["class_counts"] = class_counts.tolist()
        note["mask_counts"] = mask_counts.tolist() if info.mask else None
        note["sums"] = {k: statistics.merge(v) for k, v in sums.items() if v}
        os.replace(temporary, path)
    finally:
        if writer.is_open():
            writer.close()
        temporary.unlink(missing_ok=True)
    sealed.write(path.parent / NOTES / f"{job.file}.json", note)
    return note


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
        shape = (spec.height or image.shape[0], spec.width or image.shape[1], len(spec.bands))
        if image.shape != shape or image.dtype != np.dtype(spec.dtype):
            refuse(name, f"{image.dtype} {image.shape}", f"{spec.dtype} {shape}")
        if image.dtype.kind == "f" and not np.isfinite(image).all():
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
    """The note of a shard that an earlier run finished, or None."""
    path = pathlib.Path(job.root)
    try:
        note = sealed.read(path / NOTES / f"{job.file}.json")
        whole = (path / job.file).stat().st_size == note["bytes"]
        return note if whole and (job.on_error == "skip" or not note["skipped"]) else None
    except (OSError, ValueError, KeyError):
        return None


def run(todo: Iterable[Job], workers: int, done: Callable[[Job, dict[str, Any]], None]) -> None:
    """Maps `write_shard` over the jobs in a pool of processes; the first error ends all."""
    import concurrent.futures
    import multiprocessing

    todo = list(todo)
    if workers <= 1 or len(todo) <= 1:
        for job in todo:
            done(job, write_shard(job))
        return
    context = multiprocessing.get_context("spawn")  # fork would copy the threads' locks
    with concurrent.futures.ProcessPoolExecutor(
        min(workers, len(todo)), mp_context=context, initializer=_die_with_parent
    ) as pool:
        running = {pool.submit(write_shard, job): job for job in todo}
        try:
            for future in concurrent.futures.as_completed(running):
                done(running[future], future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _die_with_parent() -> None:
    """Asks Linux to kill this worker when its parent dies, so that none is orphaned."""
    import ctypes
    import signal
    import sys

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
