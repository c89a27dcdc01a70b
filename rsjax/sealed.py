"""Small files that are whole or absent, and JSON files that carry their own checksum.

JSON has no checksum: a flipped digit in a mean or a class count reads as another number. A sealed
file has the sha256 of its content as its first entry, so damage and edits by hand are noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from rsjax.errors import DiskError

SEAL = "seal_sha256"  # its key


def write(path: pathlib.Path, data: dict[str, Any]) -> None:
    """Writes a JSON object with its seal; the file is whole or absent, also after a crash."""
    replace(path, _text({SEAL: _digest(data), **data}))


def read(path: pathlib.Path) -> dict[str, Any]:
    """The object that `write` wrote, without its seal.

    Raises:
        ValueError: the content is not what was written; says so in words for a message.
        OSError: the file cannot be read.
    """
    return loads(path.read_bytes())


def loads(content: bytes) -> dict[str, Any]:
    """The object in the content of a sealed file, without its seal.

    Raises:
        ValueError: as `read`.
    """
    data = json.loads(content)
    if not isinstance(data, dict) or SEAL not in data:
        raise ValueError("it has no checksum: damaged, or written by an older rsjax")
    if data.pop(SEAL) != _digest(data):
        raise ValueError("its checksum does not fit its content: damaged, or edited by hand")
    return data


def write_json(path: pathlib.Path, data: Any) -> None:
    """Writes JSON for people to read, without a seal; whole or absent."""
    replace(path, _text(data))


def replace(path: pathlib.Path, content: bytes) -> None:
    """Writes a file under a temporary name, syncs and renames it; nothing is left on failure.

    Raises:
        DiskError: there is no space, or no permission.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def clean(*folders: pathlib.Path) -> None:
    """Removes the temporary files that killed processes left; for who holds the folder alone."""
    for folder in folders:
        for leftover in folder.glob(".*.tmp*"):
            if leftover.is_file():
                leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what a disk refuses into one message.

    Raises:
        DiskError: the file could not be written; says what is free where.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # ArrayRecord's writer raises RuntimeError
        what = getattr(error, "strerror", None) or str(error).split(";")[0]
        raise DiskError(f"{path}: could not be written ({what}){free(path)}") from error


def free(path: str | os.PathLike[str]) -> str:
    """How much space is left where `path` lies, and what to do, as the end of a message."""
    remote = "://" in os.fspath(path)  # then it is written to a local folder first
    folder = pathlib.Path(tempfile.gettempdir() if remote else path).absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    left = shutil.disk_usage(folder).free / 2**20
    return (
        f"; {left:.1f} MB are free in {folder}. Free disk space, or allow writing there, and run "
        "the same command again: it goes on"
    )


def sync(path: pathlib.Path) -> None:
    """Asks that a file, or the names in a folder, survive a power cut.

    Raises:
        OSError: of a file: it is not on the disk. Some network file systems cannot sync a folder.
    """
    with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _text(data: Any) -> bytes:
    return (json.dumps(data, indent=1) + "\n").encode()


def _digest(data: Any) -> str:
    """Of the values and their order, whatever the white space."""
    return hashlib.sha256(json.dumps(data, separators=(",", ":")).encode()).hexdigest()
