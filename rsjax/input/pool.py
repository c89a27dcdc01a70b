"""Writes shards in worker processes of this machine, and never waits for one in vain.

Python's own process pools do not say what a dead worker was doing, and wait for ever for one that
hangs. Here each worker has a pipe, holds one job at a time and reports every sample, so that a
death and a stall both name their shard. Workers are killed when anything ends the run.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any

from rsjax.errors import RsjaxError, ShardError
from rsjax.input import shards

BEAT_S = 0.5  # between two reports of a worker
START_S = 60.0  # that a worker may take to start and open the download, at least
KEPT = "Finished shards are kept: run the same command again"


class _Worker:
    """One process, its pipe, and the job that it holds."""

    def __init__(self, context: Any):
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()  # so that its death ends the pipe
        self.job: shards.Job | None = None
        self.started = False

    def give(self, job: shards.Job) -> None:
        self.job, self.heard = job, time.monotonic()
        with contextlib.suppress(OSError):  # dead already: seen when it is listened to
            self.pipe.send(job)

    def hear(self) -> tuple[str, Any]:
        try:
            message: tuple[str, Any] = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(10)
            return "died", self.process.exitcode
        self.heard, self.started = time.monotonic(), True
        return message

    def silent_for(self, stall_s: float) -> bool:
        limit = stall_s if self.started else max(stall_s, START_S)
        return self.job is not None and time.monotonic() - self.heard > limit


def run(
    todo: Sequence[shards.Job],
    workers: int,
    stall_s: float,
    done: Callable[[shards.Job, dict[str, Any]], None],
    beat: Callable[[str, int], None],
) -> None:
    """Maps `write_shard` over the jobs; the first error ends all.

    Args:
        todo: the shards to write.
        workers: processes; 1 writes in this process, and then nothing watches for stalls.
        stall_s: seconds without a sample after which a worker counts as hung.
        done: called with each finished shard and its note.
        beat: called with a shard's file and its samples so far.

    Raises:
        DatasetError, NomenclatureError, StorageError: from `write_shard`.
        ShardError: a worker died or hangs; names the shards in work.
    """
    if workers <= 1:
        for job in todo:
            done(job, shards.write_shard(job, lambda count, file=job.file: beat(file, count)))  # type: ignore[misc]
        return
    left = iter(todo)
    with _crew(min(workers, len(todo))) as crew:
        for worker, job in zip(crew, left, strict=False):
            worker.give(job)
        while busy := {w.pipe: w for w in crew if w.job}:
            for pipe in connection.wait(list(busy), timeout=min(1.0, stall_s / 4)):
                _answer(busy[pipe], left, crew, done, beat)  # type: ignore[index]
            for worker in busy.values():
                if worker.silent_for(stall_s):
                    assert worker.job
                    raise ShardError(
                        f"{worker.job.file}: no sample was done for {stall_s:g} s; a disk or the "
                        f"network does not answer, or the process was stopped"
                        f"{_others(worker, crew)}. {KEPT}, with a larger "
                        f"--stall_s if the source is only slow"
                    )


@contextlib.contextmanager
def _crew(count: int) -> Iterator[list[_Worker]]:
    """Starts workers, and kills them at the end, whatever they do."""
    context = multiprocessing.get_context("spawn")  # fork would copy the threads' locks
    crew: list[_Worker] = []
    try:
        for _ in range(count):
            crew.append(_Worker(context))
        yield crew
    finally:
        for worker in crew:
            worker.process.kill()  # also ends one that is stopped
        for worker in crew:
            worker.process.join()
            worker.pipe.close()


def _answer(
    worker: _Worker,
    left: Iterator[shards.Job],
    crew: list[_Worker],
    done: Callable[[shards.Job, dict[str, Any]], None],
    beat: Callable[[str, int], None],
) -> None:
    """Acts on what a worker says."""
    job = worker.job
    assert job is not None
    kind, value = worker.hear()
    if kind == "beat":
        beat(job.file, value)
    elif kind == "done":
        done(job, value)
        worker.job = None
        if (following := next(left, None)) is not None:
            worker.give(following)
    elif kind == "died":
        how = f"killed by {signal.Signals(-value).name}" if (value or 0) < 0 else f"exit {value}"
        hint = ", with fewer --workers if memory ran out" if value == -signal.SIGKILL else ""
        raise ShardError(
            f"{job.file}: the process that wrote it ended ({how}){_others(worker, crew)}. "
            f"{KEPT}{hint}"
        )
    elif kind == "refused":
        raise value
    else:
        raise RuntimeError(f"{job.file}: a bug in a worker\n{value}")


def _others(worker: _Worker, crew: list[_Worker]) -> str:
    names = [w.job.file for w in crew if w.job and w is not worker]
    return f"; also in work: {', '.join(names)}" if names else ""


def _work(pipe: Any, parent: int) -> None:
    """The life of a worker: jobs in, reports out, until it is killed."""
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    last = 0.0

    def beat(count: int) -> None:
        nonlocal last
        if time.monotonic() - last > BEAT_S:
            last = time.monotonic()
            pipe.send(("beat", count))

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job = pipe.recv()
            try:
                answer = "done", shards.write_shard(job, beat)
            except RsjaxError as error:
                answer = "refused", type(error)(str(error))  # type: ignore[assignment]
            except Exception:
                answer = "bug", traceback.format_exc()  # type: ignore[assignment]
            pipe.send(answer)


def _die_with(parent: int) -> None:
    """Asks Linux to kill this worker when its parent dies, so that none is orphaned."""
    import ctypes

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before Linux was asked
            os._exit(1)
