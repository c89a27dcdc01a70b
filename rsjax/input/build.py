"""From an official download to verified shards: one call, to be repeated after any interruption."""

from __future__ import annotations

import os
import pathlib
import sys
import time
from typing import Any

from rsjax import datasets, lock, sealed
from rsjax.errors import ShardError
from rsjax.input import publish, shards
from rsjax.input.manifest import Manifest

PLAN = "plan.json"


def build(
    dataset: str,
    source: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    options: dict[str, Any] | None = None,
    workers: int = 0,
    on_error: str = "raise",
    max_skipped: float = 0.001,
) -> Manifest:
    """Writes the shards of a dataset into `data_dir/name/version`; finished ones are kept.

    Args:
        dataset: name in `rsjax.datasets`.
        source: folder or archive of the official download.
        data_dir: folder of all prepared data.
        options: options of the dataset, e.g. {'sensors': ('s2',)}.
        workers: processes; 0 is one per core.
        on_error: 'raise', or 'skip' to leave damaged samples out and list them in the manifest.
        max_skipped: largest share of a split that may be skipped.

    Raises:
        DatasetError, NomenclatureError: the download is missing or damaged.
        ShardError: the folder holds shards of another source, or too much was skipped.
    """
    options = dict(options or {})
    source = os.fspath(pathlib.Path(source).absolute())
    opened = datasets.get(dataset)(source, **options)
    root = pathlib.Path(data_dir) / opened.info.name / opened.info.version
    with lock.exclusive(root):
        (root / shards.NOTES).mkdir(parents=True, exist_ok=True)
        plan = {
            "dataset": dataset,
            "options": {k: _plain(v) for k, v in options.items()},
            "source_fingerprint": opened.fingerprint(),
        }
        _check_plan(root, plan)
        for leftover in root.glob(".*.tmp"):  # of a run that was killed
            leftover.unlink()
        todo = shards.jobs(dataset, source, options, root, on_error)
        notes = {job.file: note for job in todo if (note := shards.finished(job))}
        total = sum(len(opened.keys(split)) for split in opened.info.splits)
        with _Progress(total, sum(_samples(note) for note in notes.values())) as progress:

            def done(job: shards.Job, note: dict[str, Any]) -> None:
                notes[job.file] = note
                progress.add(_samples(note))

            shards.run(
                [j for j in todo if j.file not in notes], workers or os.cpu_count() or 1, done
            )
        made = publish.publish(todo, [notes[job.file] for job in todo], max_skipped)
    return made


def _samples(note: dict[str, Any]) -> int:
    return note["records"] + len(note["skipped"])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_plan(root: pathlib.Path, plan: dict[str, Any]) -> None:
    """Refuses to mix shards of two sources in one folder.

    Raises:
        ShardError: names what differs.
    """
    path = root / shards.NOTES / PLAN
    if path.is_file():
        try:
            before = sealed.read(path)
        except ValueError as error:
            raise ShardError(
                f"{path}: {error}. If --source and --option are what they were, delete this file "
                f"and run the same command again; else delete {root}"
            ) from None
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
    sealed.write(path, plan)


class _Progress:
    """Samples done, rate and time left: a bar on a terminal, lines elsewhere."""

    def __init__(self, total: int, done: int):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self.bar = Progress(
            TextColumn("prepare"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            Remaining(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task("prepare", total=total, completed=done, rate="")
        self.total, self.done, self.new = total, done, 0

    def __enter__(self) -> _Progress:
        self.began = time.perf_counter()
        self.bar.start()
        if self.done and not sys.stderr.isatty():
            print(f"prepare: {self.done} of {self.total} samples were ready", file=sys.stderr)
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def add(self, count: int) -> None:
        """Counts samples of a shard that is done."""
        self.done += count
        self.new += count
        rate = self.new / max(time.perf_counter() - self.began, 1e-9)
        self.bar.update(self.task, completed=self.done, rate=f"{rate:.0f} samples/s")
        if not sys.stderr.isatty():
            left = (self.total - self.done) / max(rate, 1e-9)
            print(
                f"prepare: {self.done}/{self.total} samples, {rate:.0f}/s, {left:.0f} s left",
                file=sys.stderr,
            )
