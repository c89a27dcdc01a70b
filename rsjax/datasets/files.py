"""Reads files of a download, unpacked or still in a .zip or .tar, on a disk or an object store.

Nothing outside the source is ever opened: names with `..`, absolute names, network and GDAL
names, links out of the folder, link and device members are refused before anything is read, and
so is a file larger than `MAX_BYTES`.
"""

from __future__ import annotations

import abc
import errno
import functools
import os
import re
import stat
from collections.abc import Iterator

from rsjax import storage
from rsjax.errors import DatasetError

MAX_BYTES = 256 * 2**20  # far above every file that a dataset here has

_UNSAFE = re.compile(r"^$|^/|\\|\0|://|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)")
_COMPRESSED = {".zst": "zstd -d", ".gz": "gunzip", ".tgz": "gunzip", ".xz": "xz -d"}


class Source(abc.ABC):
    """Read-only files of a download; safe for threads, for forks and to pickle.

    Attributes:
        path: the folder or archive.
        page: the dataset's page, for error messages.
    """

    path: str
    page: str

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file.

        Args:
            name: path inside the source, with `/`.

        Raises:
            DatasetError: missing, damaged, unsafe or larger than `MAX_BYTES`.
        """

    def part(self, name: str, start: int, stop: int) -> bytes:
        """The bytes of a file from `start` up to `stop`, fewer at its end; see `read`.

        A folder reads no more than these; a member of an archive is read whole.
        """
        return self.read(name)[start:stop]

    @abc.abstractmethod
    def exists(self, name: str) -> bool:
        """Whether a file or folder of this name is in the source."""

    @abc.abstractmethod
    def names(self, under: str = "") -> list[str]:
        """The sorted names of all files below a folder; slow where there are millions."""

    def folders(self, under: str = "") -> list[str]:
        """The sorted names of the folders directly inside a folder, without its own name."""
        cut = len(f"{under}/") if under else 0
        return sorted({n[cut:].split("/")[0] for n in self.names(under) if "/" in n[cut:]})

    def describe(self, name: str) -> str:
        """The full path of a file, for error messages."""
        return f"{self.path}:{name}"

    def missing(self, name: str) -> DatasetError:
        """The error for a file that is not there."""
        return DatasetError(
            f"{self.describe(name)}: no such file, expected the official layout"
            + (f" of {self.page}" if self.page else "")
            + ". Check that the download is complete and unpacked without changes"
        )


class FolderSource(Source):
    """A folder; its tree is listed only when asked for."""

    def __init__(self, path: str, page: str = ""):
        self.path = path.rstrip(os.sep) or path
        self.page = page
        self._root = os.path.realpath(path)

    def read(self, name: str) -> bytes:
        """See `Source.read`."""
        return self._read(name, None)

    def part(self, name: str, start: int, stop: int) -> bytes:
        """See `Source.part`."""
        return self._read(name, (start, stop))

    def _read(self, name: str, part: tuple[int, int] | None) -> bytes:
        check_name(name, self.path)
        folder, _, file = name.rpartition("/")
        try:
            handle = _open(f"{_inside(self._root, folder) or self._locate(folder)}{os.sep}{file}")
        except (FileNotFoundError, NotADirectoryError):
            raise self.missing(name) from None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise DatasetError(
                    f"{self.describe(name)}: {error.strerror}; make the file readable"
                ) from error
            try:
                handle = _open(self._locate(name))
            except OSError:  # a link to nothing
                raise self.missing(name) from None
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise DatasetError(
                    f"{self.describe(name)}: not a regular file, expected one; restore the file"
                )
            check_size(status.st_size, self.describe(name))
            if part:
                return os.pread(handle, max(part[1] - part[0], 0), part[0])
            content = os.read(handle, status.st_size + 1)
            while len(content) < status.st_size and (more := os.read(handle, status.st_size)):
                content += more
            return content
        except OSError as error:
            raise DatasetError(
                f"{self.describe(name)}: {error.strerror}; check the disk"
            ) from error
        finally:
            os.close(handle)

    def exists(self, name: str) -> bool:
        """See `Source.exists`."""
        return os.path.exists(self._locate(name))

    def names(self, under: str = "") -> list[str]:
        """See `Source.names`."""
        top = self._locate(under) if under else self._root
        return sorted(self._below(top, f"{under}/" if under else "", (top,)))

    def _below(self, real: str, shown: str, above: tuple[str, ...]) -> Iterator[str]:
        """The files below a folder; links are followed, but not into the folders above it."""
        try:
            with os.scandir(real) as entries:
                inside = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise DatasetError(f"{real}: {error.strerror}; make the folder readable") from error
        for entry in inside:
            name = f"{shown}{entry.name}"
            link = entry.is_symlink()
            if not (os.path.isdir(entry.path) if link else entry.is_dir()):
                yield name
                continue
            folder = self._locate(name) if link else entry.path
            if folder not in above:
                yield from self._below(folder, f"{name}/", (*above, folder))

    def folders(self, under: str = "") -> list[str]:
        """See `Source.folders`."""
        top = self._locate(under) if under else self._root
        try:
            with os.scandir(top) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except OSError:
            raise self.missing(under) from None

    def describe(self, name: str) -> str:
        """See `Source.describe`."""
        return f"{self.path}{os.sep}{name}"

    def _locate(self, name: str) -> str:
        """The real path of a file or folder, which must be inside the root."""
        check_name(name, self.path)
        if (real := _inside(self._root, name)) is None:
            raise DatasetError(
                f"{self.describe(name)}: a link that leads out of {self.path}, expected files "
                "inside it; move the files there, or give the folder that holds them as source"
            )
        return real


@functools.lru_cache(maxsize=4096)  # thousands of files share a few folders
def _inside(root: str, name: str) -> str | None:
    """The real path of `name` in `root`, or None where links lead out of it."""
    real = os.path.realpath(os.path.join(root, name))
    return real if os.path.commonpath([real, root]) == root else None


def _open(path: str) -> int:
    # A named pipe would block for ever without O_NONBLOCK.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, flags | getattr(os, "O_BINARY", 0))


def check_name(name: str, where: str) -> None:
    """Refuses names that are absolute, have `..`, or mean the network or a GDAL file system."""
    if _UNSAFE.search(name) or name.startswith("/vsi"):
        raise DatasetError(
            f"{where}: unsafe file name {name!r}, expected a relative path without '..'; "
            "download the file again from the dataset's own page"
        )


def check_size(size: int, where: str) -> None:
    """Refuses a file larger than `MAX_BYTES` before it is read."""
    if size > MAX_BYTES:
        raise DatasetError(
            f"{where}: {size:,} bytes, expected at most {MAX_BYTES:,}; not a file of this dataset, "
            "download it again from the dataset's own page"
        )


def folder(path: str | os.PathLike[str], page: str = "") -> Source:
    """The files of a folder, local or of an object store."""
    from rsjax.datasets import remote

    text = os.fspath(path)
    return remote.RemoteSource(text, page) if storage.is_remote(text) else FolderSource(text, page)


def open_source(path: str | os.PathLike[str], page: str = "") -> Source:
    """The files of a folder, a .zip or an uncompressed .tar.

    Args:
        path: local path, or a URL that `rsjax.storage` knows.
        page: the dataset's page, named when something is missing.

    Raises:
        ConfigError: a URL of another kind.
        DatasetError: nothing there, a compressed tar, another kind of file, or an archive with an
            unsafe member.
        StorageError: an object store does not answer.
    """
    from rsjax.datasets import archives

    text = os.fspath(path)
    if text.startswith("/vsi"):
        raise DatasetError(f"{text}: not a local path; download the dataset first: {page}")
    if storage.is_folder(text):
        return folder(text, page)
    suffix = os.path.splitext(text)[1].lower()
    if not storage.is_file(text):
        raise DatasetError(
            f"{text}: no such folder or archive. Download the dataset"
            + (f" from {page}" if page else "")
            + " and give the folder it was unpacked into"
        )
    if suffix in _COMPRESSED:
        raise DatasetError(
            f"{text}: compressed, and so not readable at random; decompress it first:\n"
            f"  {_COMPRESSED[suffix]} {text}"
        )
    if suffix == ".zip":
        return archives.ZipSource(text, page)
    if suffix == ".tar":
        return archives.TarSource(text, page)
    raise DatasetError(f"{text}: neither a folder nor a .zip or .tar; unpack it into a folder")


def open_part(root: str | os.PathLike[str], part: str, page: str, remedy: str = "") -> Source:
    """One top folder of a download, unpacked or as an archive; its names begin with `part/`.

    Args:
        root: the folder that holds `part/`, `part.zip` or `part.tar`.
        part: name of the folder.
        page: the dataset's page.
        remedy: how to do without this part; '' where that cannot be.

    Raises:
        DatasetError: none of them is there, or only a compressed tar.
    """
    root = os.fspath(root)
    if storage.is_folder(os.path.join(root, part)):
        return open_source(root, page)
    for ending in (".zip", ".tar", ".tar.zst", ".tar.gz"):
        if storage.is_file(path := os.path.join(root, part + ending)):
            return open_source(path, page)
    if not storage.is_folder(root):
        open_source(root, page)  # a missing folder is said to be so
    raise DatasetError(
        f"{root}: neither the folder {part} nor {part}.zip or {part}.tar is there. Download it "
        f"from {page}" + (f", or leave it out with {remedy}" if remedy else "")
    )
