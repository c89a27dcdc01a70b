"""A polite end: SIGTERM, SIGINT or SIGUSR1 ask the loop to save and stop.

A single process catches the signal itself. When `jax.distributed` runs, its own notifier must
stay in place: it makes all hosts agree on one step (`reached_preemption_sync_point`).
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@contextlib.contextmanager
def watch() -> Iterator[Callable[[int], bool]]:
    """A function that says, at each step and on every host alike, whether to stop now."""
    if jax.distributed.is_initialized():
        from jax.experimental import multihost_utils

        yield multihost_utils.reached_preemption_sync_point
        return
    asked: list[int] = []

    def note(number: int, _: Any) -> None:
        if asked and number == signal.SIGINT:  # a second Ctrl-C means now
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():  # e.g. in a notebook's worker
        yield lambda _: False
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield lambda _: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
