"""Where figures go: metrics.jsonl always, TensorBoard and Weights & Biases if asked, a terminal.

Only the first process writes. TensorBoard files are written by tensorboardX, without TensorFlow.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import logging
import math
import pathlib
import sys
import time
from typing import Any

import jax

from rsjax import sealed
from rsjax.errors import DiskError

log = logging.getLogger("rsjax")

FILE = "metrics.jsonl"


class Writer:
    """Writes figures by step; use it in a `with` block.

    Args:
        workdir: folder of `metrics.jsonl` and of the TensorBoard files.
        resumed_step: rows after it, of a run that was cut off, are removed: they come again.
        tensorboard: whether to write TensorBoard files.
        wandb_project: project at Weights & Biases, or ''.
        config: the resolved config, for Weights & Biases.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        resumed_step: int,
        tensorboard: bool,
        wandb_project: str,
        config: dict[str, Any],
    ):
        self.enabled = jax.process_index() == 0
        self.board: Any = None
        self.wandb: Any = None
        if not self.enabled:
            return
        self.path = workdir / FILE
        rows = [row for row in read(workdir) if row["step"] <= resumed_step and _of_loop(row)]
        sealed.replace(self.path, "".join(json.dumps(row) + "\n" for row in rows).encode())
        self.file = self.path.open("a")
        if tensorboard:
            self.board = _Board(workdir, resumed_step + 1)
        if wandb_project:
            import wandb

            own = hashlib.sha256(str(workdir).encode()).hexdigest()[:16]  # a resumed run is one
            self.wandb = wandb.init(
                project=wandb_project, id=own, resume="allow", dir=str(workdir), config=config
            )

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, error: Any, *_: Any) -> None:
        # After an error what is not written yet may fail again: it comes again on resume.
        with contextlib.suppress(DiskError) if error else contextlib.nullcontext():
            if self.enabled:
                with sealed.writing(self.path):
                    self.file.close()
            if self.board:
                self.board.close()
        if self.wandb:
            self.wandb.finish()

    def scalars(self, step: int, figures: dict[str, float]) -> None:
        """Writes figures of one step; NaN is written as null.

        Raises:
            DiskError: there is no space.
        """
        if not self.enabled:
            return
        row = {name: (value if math.isfinite(value) else None) for name, value in figures.items()}
        with sealed.writing(self.path):
            self.file.write(json.dumps({"step": step, "time": round(time.time(), 1), **row}) + "\n")
            self.file.flush()
        if self.board:
            self.board.add(step, {name: value for name, value in row.items() if value is not None})
        if self.wandb:
            self.wandb.log(figures, step=step)


class _Board:
    """A TensorBoard file, written by the caller.

    tensorboardX's own writer has a thread that dies on a full disk, after which the next figures
    wait for it without end.
    """

    def __init__(self, workdir: pathlib.Path, first: int):
        from tensorboardX import event_file_writer
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.path = workdir / "events"
        with sealed.writing(self.path):
            self.events = event_file_writer.EventsWriter(str(self.path))
            # What an earlier process wrote from this step on is not shown.
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=first, session_log=start))

    def _write(self, event: Any) -> None:
        with sealed.writing(self.path):
            self.events.write_event(event)
            self.events.flush()

    def add(self, step: int, figures: dict[str, float]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        with sealed.writing(self.path):
            self.events.close()


def _of_loop(row: dict[str, Any]) -> bool:
    """Not of the evaluation at the end, which comes again when a finished run is repeated."""
    return any(name.startswith(("train/", "validation/")) for name in row)


def read(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`; a line that is cut off or damaged is left out, and said so."""
    rows = []
    path = workdir / FILE
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    if len(rows) < len(lines):
        log.warning("%s: %d damaged line(s) are left out", path, len(lines) - len(rows))
    return rows


class Progress:
    """A progress bar on a terminal, a log line every `every` steps elsewhere.

    Args:
        name: what is being done.
        total: number of steps.
        start: steps done before.
        every: steps between log lines.
    """

    def __init__(self, name: str, total: int, start: int = 0, every: int = 50):
        self.name, self.total, self.every = name, total, every
        self.began, self.start = time.perf_counter(), start
        self.bar: Any = None
        if jax.process_index() == 0 and sys.stderr.isatty():
            from rich import console, progress

            self.bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[note]}"),
                progress.TimeRemainingColumn(),
                console=console.Console(stderr=True),
            )
            self.task = self.bar.add_task(name, total=total, completed=start, note="")

    def __enter__(self) -> Progress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, step: int, note: str = "") -> None:
        """Shows that `step` is done."""
        if self.bar:
            self.bar.update(self.task, completed=step, **({"note": note} if note else {}))
        elif note:
            done = max(step - self.start, 1)
            left = (self.total - step) * (time.perf_counter() - self.began) / done
            log.info(
                "%s %d/%d  %s  %s left",
                self.name,
                step,
                self.total,
                note,
                datetime.timedelta(seconds=int(left)),
            )
