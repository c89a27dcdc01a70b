"""Reads TFRecord files by record, on a disk or an object store, with both checksums, no TensorFlow.

A record is its length (u64), the masked CRC32C of that, the content, and the masked CRC32C of the
content, all little-endian: https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

from __future__ import annotations

import functools
import os
import struct
import threading
from collections.abc import Iterator

import numpy as np

from rsjax import storage
from rsjax.datasets import ranged
from rsjax.errors import DatasetError
from rsjax.wire import masked_crc

MAX_BYTES = 256 * 2**20  # of one record; far above every one that a dataset here has

_HEAD, _TAIL = struct.Struct("<QI"), struct.Struct("<I")
_AGAIN = "download the file again"


def frame(content: bytes) -> bytes:
    """A record as it stands in a file."""
    head = len(content).to_bytes(8, "little")
    return b"".join((head, _TAIL.pack(masked_crc(head)), content, _TAIL.pack(masked_crc(content))))


class TFRecordFile:
    """The records of a file; threads and forked processes may share it.

    The places of the records are found when they are first asked for, by hopping from length to
    length: 12 bytes are read of each record.

    Args:
        path: local path or URL.
        page: the dataset's page, for messages.

    Raises:
        DatasetError: it is not there, ends inside a record, or a checksum is wrong.
        StorageError: an object store does not answer.
    """

    def __init__(self, path: str | os.PathLike[str], page: str = ""):
        self.path = os.fspath(path)
        self.page = page
        self._lock = threading.Lock()
        try:
            self._file = ranged.Ranged(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise DatasetError(
                f"{self.path}: no such file; download it"
                + (f" from {page}" if page else "")
                + ", or ask for fewer shards"
            ) from None
        except OSError as error:
            raise DatasetError(
                f"{self.path}: {error.strerror}, expected a TFRecord file; make it readable"
            ) from error

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def spans(self) -> np.ndarray:
        """First byte and length of each record's content, int64 (N, 2)."""
        with self._lock:  # one thread hops, the others wait for what it found
            return self._spans

    @functools.cached_property
    def _spans(self) -> np.ndarray:
        found: list[tuple[int, int]] = []
        at = 0
        while at < self._file.size:
            where = f"record {len(found)}"
            head = self._file.pread(_HEAD.size, at)
            if len(head) < _HEAD.size:
                raise self._refuse(where, f"the file ends at byte {self._file.size:,} in its head")
            length, crc = _HEAD.unpack(head)
            if crc != masked_crc(head[:8]):
                raise self._refuse(where, f"the checksum of its length (byte {at:,}) is wrong")
            if length > MAX_BYTES:
                raise self._refuse(where, f"{length:,} bytes, expected at most {MAX_BYTES:,}")
            start = at + _HEAD.size
            at = start + length + _TAIL.size
            if at > self._file.size:
                raise self._refuse(
                    where,
                    f"the file ends at byte {self._file.size:,}, the record at byte {at:,}",
                )
            found.append((start, length))
        return np.array(found, np.int64).reshape(-1, 2)

    def read(self, number: int) -> bytes:
        """The content of a record, counted from 0, after its checksum was compared.

        Raises:
            DatasetError: there is no such record, or its checksum is wrong.
        """
        spans = self.spans
        if not 0 <= number < len(spans):
            raise self._refuse(f"record {number}", f"not there, the file has {len(spans)}")
        start, length = spans[number].tolist()
        content = self._file.pread(length + _TAIL.size, start)
        if len(content) < length + _TAIL.size:
            raise self._refuse(
                f"record {number}", f"the file ended at byte {start + len(content):,}"
            )
        record = content[:length]
        if masked_crc(record) != _TAIL.unpack(content[length:])[0]:
            raise self._refuse(f"record {number}", "the checksum of its content is wrong")
        return record

    def __iter__(self) -> Iterator[bytes]:
        return (self.read(number) for number in range(len(self)))

    def _refuse(self, where: str, found: str) -> DatasetError:
        source = f" from {self.page}" if self.page else ""
        return DatasetError(f"{self.path}, {where}: {found}. The file is damaged; {_AGAIN}{source}")


@functools.lru_cache(maxsize=16)
def _opened(path: str, page: str, stamp: int) -> TFRecordFile:
    return TFRecordFile(path, page)


def open_file(path: str, page: str = "") -> TFRecordFile:
    """A file, kept open for the next call unless it was replaced since."""
    stamp = 0
    if not storage.is_remote(path):
        try:
            stamp = os.stat(path).st_mtime_ns
        except OSError:
            return TFRecordFile(path, page)  # says what is wrong
    return _opened(path, page, stamp)
