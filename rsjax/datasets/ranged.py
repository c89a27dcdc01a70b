"""Reads a file by position, on a disk or an object store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from rsjax import storage

_AHEAD = 8 * 2**20  # bytes a request takes when a file is read from front to back
_VERSIONS = ("generation", "etag", "ETag", "LastModified", "created")

Reader = Callable[[int, int], bytes]


class Ranged:
    """An open file; threads and forked processes share it without locks.

    Attributes:
        size: bytes.
        stamp: another number when the file was replaced.
    """

    def __init__(self, path: str):
        self._handle = -1
        self._path = path
        if storage.is_remote(path):
            system, name = storage.filesystem(path)
            with storage.reported(path):
                found = system.info(name)
            self.size = int(found["size"])
            version = repr([str(found.get(key)) for key in _VERSIONS]).encode()
            self.stamp = int.from_bytes(hashlib.sha256(version).digest()[:7])
        else:
            self._handle = os.open(path, os.O_RDONLY)
            status = os.fstat(self._handle)
            self.size, self.stamp = status.st_size, status.st_mtime_ns

    def pread(self, count: int, start: int) -> bytes:
        """`count` bytes from `start`, fewer at the end."""
        if self._handle >= 0:
            return os.pread(self._handle, count, start)
        end = min(start + count, self.size)
        return storage.read(self._path, start, end) if start < end else b""

    def sequential(self) -> Reader:
        """`pread` for one pass from front to back: a store is asked for large pieces."""
        if self._handle >= 0:
            return self.pread
        at, piece = 0, b""

        def read(count: int, start: int) -> bytes:
            nonlocal at, piece
            if not at <= start <= start + count <= at + len(piece):
                at, piece = start, self.pread(max(count, _AHEAD), start)
            return piece[start - at : start - at + count]

        return read

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
