"""Batches read ahead by threads, in order; a read that hangs becomes an error that says where.

grain's own read-ahead waits for a reader without a limit, and joins its threads when the process
ends, so that a dead network disk holds a job, and its accelerator, for ever.
"""

from __future__ import annotations

import concurrent.futures
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

from rsjax.errors import ShardError

log = logging.getLogger("rsjax")

T = TypeVar("T")


def read_ahead(
    read: Callable[[int], T],
    count: int,
    threads: int,
    buffer: int,
    stall_s: float,
    reading: Callable[[], str],
) -> Iterator[T]:
    """`read(0)`, `read(1)`, ... up to `count`, some of them ahead of their use.

    Args:
        read: reads one batch; called by several threads.
        count: number of batches.
        threads: reading threads; 0 reads in the caller's, without a limit of time.
        buffer: batches read or being read ahead, at least one a thread.
        stall_s: how long to wait for a batch before giving up, in seconds; a warning comes after
            a tenth of it.
        reading: says what the threads are reading at this moment.

    Raises:
        ShardError: no batch came for `stall_s` seconds.
    """
    if not threads:
        yield from map(read, range(count))
        return
    todo: queue.SimpleQueue[tuple[int, concurrent.futures.Future[T]] | None] = queue.SimpleQueue()

    def work() -> None:
        while (item := todo.get()) is not None:
            step, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(read(step))
            except BaseException as error:
                future.set_exception(error)

    pending: deque[concurrent.futures.Future[T]] = deque()
    for number in range(threads):  # daemons: one that hangs must not hold the process
        threading.Thread(target=work, daemon=True, name=f"rsjax_read_{number}").start()
    try:
        submitted = 0
        for _ in range(count):
            while submitted < count and len(pending) < max(buffer, threads):
                pending.append(concurrent.futures.Future())
                todo.put((submitted, pending[-1]))
                submitted += 1
            yield _wait(pending.popleft(), stall_s, reading)
    finally:
        for future in pending:
            future.cancel()
        for _ in range(threads):
            todo.put(None)


def _wait(future: concurrent.futures.Future[T], stall_s: float, reading: Callable[[], str]) -> T:
    began = time.monotonic()
    for share in (0.1, 1.0):
        try:
            return future.result(max(began + share * stall_s - time.monotonic(), 0.0))
        except concurrent.futures.TimeoutError:
            if future.done():  # the reader's own error, or a batch that came just now
                return future.result()
            log.warning("no batch for %.0f s; being read: %s", share * stall_s, reading())
    raise ShardError(
        f"no batch for {stall_s:g} s, gave up; being read: {reading()}. Check that the disk or "
        "network folder answers (`ls`, `dmesg`) and run the same command again: it resumes. "
        "--config.data.stall_s waits longer"
    )
