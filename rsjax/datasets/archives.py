"""Random access to the files of a .zip and of an uncompressed .tar, without unpacking.

Both keep a compact index and read by position, so that threads and forked processes share a
handle without locks, and an object store is asked for the bytes of one member. An
unsafe member refuses the whole archive.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from rsjax import storage
from rsjax.datasets import ranged
from rsjax.datasets.files import Source, check_name, check_size
from rsjax.errors import DatasetError, StorageError

MAX_RATIO = 100  # of a member larger than 1 MiB; satellite imagery stays below 10
_BLOCK = 512
_SAVE_FROM = 100_000  # members from which a tar's index is saved beside it
_ENTRY = np.dtype([("key", "<u8"), ("start", "<i8"), ("span", "<i8")])


class _Archive(Source):
    def __init__(self, path: str, page: str = ""):
        self.path = path
        self.page = page
        self._file = ranged.Ranged(path)
        self._index = self._build()

    def _build(self) -> Any:
        raise NotImplementedError

    def _refuse(self, name: str, found: str) -> DatasetError:
        return DatasetError(
            f"{self.describe(name) if name else self.path}: {found}. The archive is damaged or "
            f"was tampered with; download it again{' from ' + self.page if self.page else ''}"
        )

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path, "page": self.page}

    def __setstate__(self, state: dict[str, str]) -> None:
        type(self).__init__(self, **state)


class ZipSource(_Archive):
    """A .zip whose members are stored or deflated."""

    def _build(self) -> dict[str, tuple[int, int, int, int, int]]:
        index: dict[str, tuple[int, int, int, int, int]] = {}
        try:
            members = _directory(self.path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise self._refuse("", f"not a readable zip file ({error})") from error
        for member in members:
            name = member.filename.removeprefix("./")
            if name.endswith("/"):
                continue
            check_name(name, self.path)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise self._refuse(name, "a link or device, expected plain files only")
            if member.flag_bits & 1 or member.compress_type not in (0, 8):
                raise self._refuse(name, "encrypted or packed in an unknown way")
            check_size(member.file_size, self.describe(name))
            if member.file_size > max(2**20, MAX_RATIO * member.compress_size):
                raise self._refuse(
                    name, f"unpacks {member.compress_size} into {member.file_size} bytes"
                )
            if name in index:
                raise self._refuse(name, "is in the archive twice")
            index[name] = (
                member.header_offset,
                member.compress_size,
                member.file_size,
                member.CRC,
                member.compress_type,
            )
        return index

    def read(self, name: str) -> bytes:
        """See `Source.read`."""
        check_name(name, self.path)
        if name not in self._index:
            raise self.missing(name)
        start, packed, size, crc, method = self._index[name]
        header = self._file.pread(30, start)
        if len(header) < 30 or header[:4] != b"PK\3\4":
            raise self._refuse(name, "no file header where the directory says")
        data = self._file.pread(packed, start + 30 + sum(struct.unpack("<HH", header[26:])))
        try:
            if method:
                data = zlib.decompressobj(-15).decompress(data, size + 1)
        except zlib.error as error:
            raise self._refuse(name, f"does not unpack ({error})") from error
        if len(data) != size or zlib.crc32(data) != crc:
            raise self._refuse(name, "content does not match its checksum")
        return data

    def exists(self, name: str) -> bool:
        """See `Source.exists`."""
        name = name.rstrip("/")
        return name in self._index or any(n.startswith(f"{name}/") for n in self._index)

    def names(self, under: str = "") -> list[str]:
        """See `Source.names`."""
        return sorted(n for n in self._index if not under or n.startswith(f"{under}/"))


class TarSource(_Archive):
    """An uncompressed .tar.

    A tar has no directory, so its headers are read once, from front to back. The index (hash of
    the name, place, length: 24 bytes a member) of a large tar is saved beside it as
    `NAME.tar.index.npy`, where the folder can be written to, for other processes and later runs.
    """

    def _build(self) -> np.ndarray:
        saved = f"{self.path}.index.npy"
        stamp = (0, self._file.size, self._file.stamp)
        try:
            if storage.is_remote(saved):
                index = np.load(io.BytesIO(storage.read(saved)), allow_pickle=False)
            else:
                index = np.load(saved, mmap_mode="r", allow_pickle=False)
            if index.dtype == _ENTRY and len(index) and tuple(index[0].tolist()) == stamp:
                return np.asarray(index)[1:]
        except (OSError, ValueError):
            pass
        entries = [(_key(n), start, span) for n, start, span in self._scan() if n[-1] != "/"]
        index = np.array([stamp, *entries], _ENTRY)
        index[1:] = np.sort(index[1:], order="key")
        if (same := index["key"][2:] == index["key"][1:-1]).any():
            start = int(index["start"][1:][int(np.argmax(same))])
            raise self._refuse("", f"the member at byte {start} is in the archive twice")
        if len(index) > _SAVE_FROM:
            _save(saved, index)
        return index[1:]

    def _scan(self) -> Iterator[tuple[str, int, int]]:
        """Name, first byte and length (headers and data) of every file and folder."""
        size, pread = self._file.size, self._file.sequential()
        position = start = 0
        name, override = "", -1
        while True:
            block = pread(_BLOCK, position)
            if len(block) < _BLOCK:
                raise self._refuse("", f"ends at byte {size} without the end mark of a tar")
            if not any(block):
                return
            kind, length, plain = self._header(block, position)
            data = position + _BLOCK
            if kind in b"LKxgX":
                check_size(length, f"{self.path}: header at byte {position}")
                content = pread(length, data)
                try:
                    name, override = _extended(kind, content, name, override)
                except (ValueError, IndexError):
                    raise self._refuse("", f"no tar header at byte {position}") from None
                position = data + _padded(length)
                continue
            length = override if override >= 0 else length
            name = (name or plain).removeprefix("./")
            if kind not in b"0\x007" and kind != b"5":
                raise self._refuse(name, "a link or device, expected plain files only")
            if name not in ("", "."):
                check_name(name, self.path)
                check_size(length, self.describe(name))
                if data + length > size:
                    raise self._refuse(name, f"cut off at byte {size}")
                folder = "/" if kind == b"5" and name[-1] != "/" else ""
                yield name + folder, start, data - start + length
            position = start = data + _padded(length)
            name, override = "", -1

    def _header(self, block: bytes, position: int) -> tuple[bytes, int, str]:
        try:
            total = sum(block[:148]) + 8 * 32 + sum(block[156:])
            if total != _number(block[148:156]):
                raise ValueError("checksum")
            length = _number(block[124:136])
            name, prefix = _text(block[:100]), ""
            if block[257:263] == b"ustar\0":
                prefix = _text(block[345:500])
        except ValueError:
            raise self._refuse("", f"no tar header at byte {position}") from None
        return block[156:157], length, f"{prefix}/{name}" if prefix else name

    def read(self, name: str) -> bytes:
        """See `Source.read`."""
        check_name(name, self.path)
        where = int(np.searchsorted(self._index["key"], _key(name)))
        if where == len(self._index) or self._index["key"][where] != _key(name):
            raise self.missing(name)
        start, span = int(self._index["start"][where]), int(self._index["span"][where])
        chunk = self._file.pread(span, start)
        position, override = 0, -1
        found = ""
        while len(chunk) == span:
            kind, length, plain = self._header(chunk[position : position + _BLOCK], start)
            position += _BLOCK
            if kind not in b"LKxgX":
                length = override if override >= 0 else length
                if (found or plain).removeprefix("./") != name or position + length != span:
                    break
                return chunk[position:]
            content = chunk[position : position + length]
            found, override = _extended(kind, content, found, override)
            position += _padded(length)
        raise self._refuse(name, "changed since its index was made; delete the .index.npy file")

    def exists(self, name: str) -> bool:
        """See `Source.exists`; a folder only counts with files in it, and takes a full scan."""
        name = name.rstrip("/")
        where = int(np.searchsorted(self._index["key"], _key(name)))
        if where < len(self._index) and self._index["key"][where] == _key(name):
            return True
        return any(n.startswith(f"{name}/") for n, _, _ in self._scan())

    def names(self, under: str = "") -> list[str]:
        """See `Source.names`; reads all headers again."""
        names = (name for name, _, _ in self._scan() if name[-1] != "/")
        return sorted(n for n in names if not under or n.startswith(f"{under}/"))


def _key(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()))


def _padded(length: int) -> int:
    return -(-length // _BLOCK) * _BLOCK


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode()


def _number(field: bytes) -> int:
    """A number of a tar header: octal digits, or binary where these are too few."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    value = int(field.strip(b" \0") or b"0", 8)
    if value < 0:
        raise ValueError(field)
    return value


def _extended(kind: bytes, content: bytes, name: str, size: int) -> tuple[str, int]:
    """Name and size from a GNU long name or a pax header; both unchanged where it has none."""
    if kind == b"L":
        return _text(content), size
    if kind in b"xX":
        while content:
            length = int(content.split(b" ", 1)[0])
            if length < 5:  # the shortest is "5 a=\n"
                raise ValueError(content[:16])
            key, _, value = content[:length].split(b" ", 1)[1].rstrip(b"\n").partition(b"=")
            name = value.decode() if key == b"path" else name
            size = int(value) if key == b"size" else size
            content = content[length:]
    return name, size


def _directory(path: str) -> list[zipfile.ZipInfo]:
    if not storage.is_remote(path):
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    system, name = storage.filesystem(path)
    with storage.reported(path), system.open(name, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError) as error:
            bad = error  # of the archive, not of the store
    raise zipfile.BadZipFile(str(bad))


def _save(path: str, index: np.ndarray) -> None:
    """Writes the index whole or not at all; a folder that cannot be written to is no error."""
    if storage.is_remote(path):
        content = io.BytesIO()
        np.save(content, index)
        system, name = storage.filesystem(path)
        with contextlib.suppress(StorageError, OSError), storage.reported(path):
            system.pipe_file(name, content.getvalue())
        return
    try:
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            np.save(file, index)
        os.replace(temporary, path)
    except OSError:
        return
