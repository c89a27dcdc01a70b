"""Samples done, rate and time left: a bar on a terminal, a line a shard elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any


class Progress:
    """Counts samples of finished shards, and of those in work.

    Args:
        total: samples to come to.
        done: samples of shards that an earlier run finished.
    """

    def __init__(self, total: int, done: int):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar
        from rich.progress import TimeRemainingColumn as Remaining

        self.bar = Bar(
            TextColumn("prepare"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            Remaining(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task("prepare", total=total, completed=done, rate="")
        self.total, self.before, self.done = total, done, done
        self.partial: dict[str, int] = {}

    def __enter__(self) -> Progress:
        self.began = time.perf_counter()
        self.bar.start()
        if self.done and not sys.stderr.isatty():
            print(f"prepare: {self.done} of {self.total} samples were ready", file=sys.stderr)
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def beat(self, file: str, count: int) -> None:
        """Counts the samples of a shard in work."""
        self.partial[file] = count
        self._show()

    def add(self, file: str, count: int) -> None:
        """Counts the samples of a shard that is done."""
        self.partial.pop(file, None)
        self.done += count
        rate = self._show()
        if not sys.stderr.isatty():
            left = (self.total - self.done) / max(rate, 1e-9)
            print(
                f"prepare: {self.done}/{self.total} samples, {rate:.0f}/s, {left:.0f} s left",
                file=sys.stderr,
            )

    def _show(self) -> float:
        now = self.done + sum(self.partial.values())
        rate = (now - self.before) / max(time.perf_counter() - self.began, 1e-9)
        self.bar.update(self.task, completed=now, rate=f"{rate:.0f} samples/s")
        return rate
