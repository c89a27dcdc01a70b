"""A polite end: SIGTERM, SIGINT or SIGUSR1 ask the loop to save and stop.

A single process catches the signals itself. When `jax.distributed` runs, its own notifier of
SIGTERM must stay in place: it makes all processes agree on one step
(`reached_preemption_sync_point`); the other signals are passed on to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@contextlib.contextmanager
def watch() -> Iterator[Callable[[int], bool]]:
    """A function that says, at each step and on every host alike, whether to stop now."""
    together = jax.distributed.is_initialized()
    asked: list[int] = []

    def note(number: int, _: Any) -> None:
        if asked and number == signal.SIGINT:  # a second Ctrl-C means now
            raise KeyboardInterrupt
        asked.append(number)
        if together:
            os.kill(os.getpid(), signal.SIGTERM)

    def stop_now(step: int) -> bool:
        if not together:
            return bool(asked)
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)

    if threading.current_thread() is not threading.main_thread():  # e.g. in a notebook's worker
        yield stop_now
        return
    caught = [s for s in SIGNALS if not (together and s == signal.SIGTERM)]
    before = {number: signal.signal(number, note) for number in caught}
    try:
        yield stop_now
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
