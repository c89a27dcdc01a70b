"""Where figures go: metrics.jsonl always, TensorBoard and Weights & Biases if asked, a terminal.

Only the first process writes. TensorBoard files are written by tensorboardX, without TensorFlow.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import math
import os
import pathlib
import sys
import time
from typing import Any

import jax

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
        path = workdir / FILE
        rows = [row for row in read(workdir) if row["step"] <= resumed_step and _of_loop(row)]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
        os.replace(temporary, path)
        self.file = path.open("a")
        if tensorboard:
            from tensorboardX import SummaryWriter

            self.board = SummaryWriter(str(workdir), purge_step=resumed_step + 1)
        if wandb_project:
            import wandb

            own = hashlib.sha256(str(workdir).encode()).hexdigest()[:16]  # a resumed run is one
            self.wandb = wandb.init(
                project=wandb_project, id=own, resume="allow", dir=str(workdir), config=config
            )

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.enabled:
            self.file.close()
        if self.board:
            self.board.close()
        if self.wandb:
            self.wandb.finish()

    def scalars(self, step: int, figures: dict[str, float]) -> None:
        """Writes figures of one step; NaN is written as null."""
        if not self.enabled:
            return
        row = {name: (value if math.isfinite(value) else None) for name, value in figures.items()}
        self.file.write(json.dumps({"step": step, "time": round(time.time(), 1), **row}) + "\n")
        self.file.flush()
        if self.board:
            for name, value in row.items():
                if value is not None:
                    self.board.add_scalar(name, value, step)
        if self.wandb:
            self.wandb.log(figures, step=step)


def _of_loop(row: dict[str, Any]) -> bool:
    """Not of the evaluation at the end, which comes again when a finished run is repeated."""
    return any(name.startswith(("train/", "validation/")) for name in row)


def read(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`; a line cut off by a crash is left out."""
    rows = []
    path = workdir / FILE
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
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
