"""One job per folder: a lock that dies with its process."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator

from rsjax import sealed
from rsjax.errors import RsjaxError


@contextlib.contextmanager
def exclusive(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Holds `folder` for this process; the kernel lets go however the process ends.

    Raises:
        RsjaxError: another job holds it; names its host, process and start.
        DiskError: the folder cannot be made or written to.
    """
    path = pathlib.Path(folder) / ".lock"
    with sealed.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+")  # noqa: SIM115
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            try:
                held = json.loads(file.read())
                who = f"process {held['pid']} on {held['host']} since {held['since']}"
            except (ValueError, KeyError):
                who = "another process"
            raise RsjaxError(
                f"{path.parent}: in use by {who}. Wait for it, stop it, or use another folder"
            ) from None
        except OSError as error:
            raise RsjaxError(
                f"{path}: this file system cannot lock files ({error.strerror}). Mount it with "
                "locks (NFS: lockd or version 4; Lustre: -o flock), or use a folder on another one"
            ) from None
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since})
        with sealed.writing(path):
            file.seek(0)
            file.truncate()
            file.write(holder)
            file.flush()
        yield
