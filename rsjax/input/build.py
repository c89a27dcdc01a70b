"""From an official download to verified shards: one call, to be repeated after any interruption."""

from __future__ import annotations

import os
from typing import Any

from rsjax import storage
from rsjax.datasets import leakage
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import ShardError
from rsjax.input import lease, notes, on_beam, pool, publish, shards
from rsjax.input.manifest import Manifest
from rsjax.input.progress import Progress

PLAN = f"{notes.FOLDER}/plan.json"


def build(
    dataset: str,
    source: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    options: dict[str, Any] | None = None,
    workers: int = 0,
    on_error: str = "raise",
    max_skipped: float = 0.001,
    runner: str = "",
    beam: str = "",
    stall_s: float = 600.0,
) -> Manifest:
    """Writes the shards of a dataset into `data_dir/name/version`; finished ones are kept.

    Args:
        dataset: name in `rsjax.datasets`.
        source: folder or archive of the official download; a path, or a URL of an object store.
        data_dir: folder of all prepared data; a path or a URL. Of a URL, the `root` of the
            returned manifest is the name only, and nothing to open.
        options: options of the dataset, e.g. {'sensors': ('s2',)}.
        workers: processes on this machine; 0 is one per core, 1 is none beside this one.
        on_error: 'raise', or 'skip' to leave damaged samples out and list them in the manifest.
        max_skipped: largest share of a split that may be skipped.
        runner: a runner of Apache Beam, e.g. 'DataflowRunner', instead of local processes.
        beam: Beam's own options for it, as on a command line.
        stall_s: seconds without a sample after which a local worker counts as hung.

    Raises:
        ConfigError: an option, a URL or a runner that cannot work.
        DatasetError, NomenclatureError: the download is missing or damaged.
        ShardError: the folder holds shards of another source, too much was skipped, a shard could
            not be written, or a worker died or hangs.
        StorageError: an object store does not answer.
    """
    options = dict(options or {})
    source = storage.absolute(source)
    shards.forget()
    opened = shards.open_dataset(dataset, source, tuple(sorted(options.items())))
    if check := getattr(opened, "check", None):  # of what a dataset does not document
        check()
    root = root_of(data_dir, opened.info)
    if runner:
        on_beam.parse(runner, beam)
    with lease.exclusive(root):
        notes.clean(root)
        try:
            plan = {
                "dataset": dataset,
                "options": {k: _plain(v) for k, v in options.items()},
                "source_fingerprint": opened.fingerprint(),
            }
            _check_plan(root, plan)
            todo = shards.jobs(dataset, source, options, root, on_error)
            total = sum(len(opened.keys(split)) for split in opened.info.splits)
            found = _write(todo, total, workers or os.cpu_count() or 1, runner, beam, stall_s)
            if hasattr(opened, "report"):  # of datasets that rsjax splits by place
                notes.write(root, leakage.FILE, opened.report())
            return publish.publish(todo, [found[job.file] for job in todo], max_skipped)
        except BaseException:
            if not runner:  # Beam's workers may still be writing
                notes.clean(root)
            raise


def _write(
    todo: list[shards.Job], total: int, workers: int, runner: str, beam: str, stall_s: float
) -> dict[str, dict[str, Any]]:
    """Writes the shards that are not finished; returns the notes of all."""
    found = {job.file: note for job in todo if (note := shards.finished(job))}
    with Progress(total, sum(_samples(note) for note in found.values())) as progress:

        def done(job: shards.Job, note: dict[str, Any]) -> None:
            found[job.file] = note
            progress.add(job.file, _samples(note))

        left = [job for job in todo if job.file not in found]
        if left and runner:
            on_beam.run(left, runner, beam, done)
        elif left:
            pool.run(left, workers, stall_s, done, progress.beat)
    return found


def root_of(data_dir: str | os.PathLike[str], info: DatasetInfo) -> str:
    """The folder or URL of a dataset's shards."""
    return f"{storage.absolute(data_dir)}/{info.name}/{info.version}"


def _samples(note: dict[str, Any]) -> int:
    return int(note["records"]) + len(note["skipped"])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_plan(root: str, plan: dict[str, Any]) -> None:
    """Refuses to mix shards of two sources in one folder.

    Raises:
        ShardError: names what differs.
    """
    if before := notes.read(root, PLAN):
        changed = [
            f"{k}: {before.get(k)!r} then, {plan[k]!r} now"
            for k in plan
            if before.get(k) != plan[k]
        ]
        if changed:
            raise ShardError(
                f"{root} holds shards prepared from another source or with other options\n  "
                + "\n  ".join(changed)
                + "\nUse another --data_dir, or delete that folder"
            )
    notes.write(root, PLAN, plan)
