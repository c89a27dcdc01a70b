"""One job per folder on an object store, which has no locks: a marker that must be kept fresh.

Two jobs that start within the same second can both get it. They then write the same bytes under
the same names, so the second is waste and not damage.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

from rsjax import lock, storage
from rsjax.errors import RsjaxError
from rsjax.input import notes

FILE = ".lock.json"
FRESH_S = 300.0  # a marker older than this belongs to a job that is gone


@contextlib.contextmanager
def exclusive(root: str) -> Iterator[None]:
    """Holds `root`, a local folder by a lock of the kernel, a URL by a marker in it.

    Raises:
        RsjaxError: another job holds it; names its host, process and start.
    """
    if not storage.is_remote(root):
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock.exclusive(root))
            yield
        return
    _refuse_if_held(root)
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    stop = threading.Event()

    def keep_fresh() -> None:
        while not stop.wait(FRESH_S / 5):
            with contextlib.suppress(RsjaxError):  # the next beat may reach the store again
                notes.write(root, FILE, {**mine, "fresh": time.time()})

    thread = threading.Thread(target=keep_fresh, daemon=True)
    try:
        notes.write(root, FILE, {**mine, "fresh": time.time()})
        thread.start()
        yield
    finally:
        stop.set()
        if thread.ident:
            thread.join()
            storage.remove(f"{root}/{FILE}")
        notes.clean(root)


def _refuse_if_held(root: str) -> None:
    held = notes.read(root, FILE)
    if held is None or (held["host"] == socket.gethostname() and not _alive(held["pid"])):
        return
    if (age := time.time() - held["fresh"]) < FRESH_S:
        raise RsjaxError(
            f"{root}: in use by process {held['pid']} on {held['host']} since {held['since']}. "
            f"Wait for it, stop it, or use another folder. If it was killed: its marker {FILE} "
            f"counts for another {FRESH_S - age:.0f} s"
        )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
