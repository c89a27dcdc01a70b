"""Files by local path or by URL (`gs://`, `s3://`): the few operations that prepare needs.

Local paths never touch the network. URLs go through fsspec, to object stores only: these publish
an object whole or not at all, as a rename does on a local disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import stat
import tempfile
from collections.abc import Iterator
from typing import Any

from rsjax import sealed
from rsjax.errors import ConfigError, StorageError

# Scheme -> the extra of rsjax that installs its client; 'memory' is fsspec's own, for tests.
SCHEMES = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3", "memory": ""}


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether this is a URL and not a local path."""
    return "://" in os.fspath(path)


def absolute(path: str | os.PathLike[str]) -> str:
    """An absolute local path, or a URL without a slash at its end.

    Raises:
        ConfigError: a URL of an unknown kind, or one that chains several.
    """
    text = os.fspath(path)
    if not is_remote(text):
        return os.fspath(pathlib.Path(text).absolute())
    scheme, _, rest = text.partition("://")
    if scheme not in SCHEMES or "::" in text or not rest.strip("/"):
        known = ", ".join(f"{name}://" for name in SCHEMES if name != "memory")
        raise ConfigError(f"{text}: not a local path, nor a bucket or folder in one of {known}")
    return f"{scheme}://{rest.strip('/')}"


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the name in it.

    Raises:
        ConfigError: an unknown kind of URL, or its client is not installed.
        StorageError: the client does not start, e.g. for want of credentials.
    """
    import fsspec

    url = absolute(url)
    with reported(url):
        try:
            # Listings are not cached: other machines write beside this one.
            found: tuple[Any, str] = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            extra = SCHEMES[url.partition("://")[0]]
            raise ConfigError(f"{url}: {error}. pip install 'rsjax[{extra}]'") from None
    return found


@contextlib.contextmanager
def reported(url: str) -> Iterator[None]:
    """Turns what a client raises, each its own kind, into one line that names the URL."""
    try:
        yield
    except (ConfigError, StorageError, FileNotFoundError):
        raise
    except Exception as error:
        text = (str(error).strip().splitlines() or [""])[0]
        raise StorageError(
            f"{url}: {type(error).__name__}: {text}. Check the name, the network and your "
            "credentials, then run it again"
        ) from error


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder of this name, or objects below it."""
    if not is_remote(path):
        return os.path.isdir(path)
    return kind(os.fspath(path)) == "directory"


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file of this name."""
    if not is_remote(path):
        return os.path.isfile(path)
    return kind(os.fspath(path)) == "file"


def kind(url: str) -> str:
    """'file', 'directory', or '' where there is nothing.

    Raises:
        StorageError: the store does not answer. (fsspec's own `exists` would say no.)
    """
    files, name = filesystem(url)
    try:
        with reported(url):
            return str(files.info(name)["type"])
    except FileNotFoundError:
        return ""


def size(path: str) -> int | None:
    """Bytes of a file, or None where there is none."""
    try:
        if not is_remote(path):
            return os.stat(path).st_size
        files, name = filesystem(path)
        with reported(path):
            return int(files.info(name)["size"])
    except (FileNotFoundError, NotADirectoryError):
        return None


def read(path: str, start: int = 0, end: int | None = None) -> bytes:
    """The content of a file, or its bytes from `start` up to `end`, fewer at its end.

    Raises:
        FileNotFoundError: it is not there.
        StorageError: the store does not answer.
    """
    if not is_remote(path):
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(-1 if end is None else end - start)
    files, name = filesystem(path)
    with reported(path):
        try:
            return bytes(files.cat_file(name, start=start, end=end))
        except FileNotFoundError:
            raise
        except Exception:  # stores refuse any range of an empty object
            if start or files.info(name)["size"]:
                raise
            return b""


def names(folder: str) -> list[str]:
    """The sorted names of what lies directly in a folder; empty where there is none."""
    if not is_remote(folder):
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    files, name = filesystem(folder)
    with reported(folder):
        try:
            found = files.ls(name, detail=False)
        except FileNotFoundError:
            return []
    return sorted(one.rstrip("/").rpartition("/")[2] for one in found)


def stage(root: str) -> pathlib.Path:
    """The folder in which files for `root` are written: itself, or a local one for a URL.

    The local one has the same name in every run, so that the next removes what a killed one left.

    Raises:
        StorageError: somebody else holds that name.
    """
    if not is_remote(root):
        return pathlib.Path(root)
    digest = hashlib.sha256(f"{os.getuid()} {root}".encode()).hexdigest()[:16]
    folder = pathlib.Path(tempfile.gettempdir()) / f"rsjax-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise StorageError(f"{folder}: not a folder of yours; remove it, or set TMPDIR to another")
    return folder


def publish(file: pathlib.Path, root: str, name: str) -> None:
    """Gives a finished file of `stage(root)` its final name `root/name`; whole or not at all."""
    if not is_remote(root):
        target = pathlib.Path(root) / name
        if file != target:
            os.replace(file, target)
        sealed.sync(target.parent)
        return
    files, inner = filesystem(f"{root}/{name}")
    with reported(f"{root}/{name}"):
        try:
            files.put_file(os.fspath(file), inner)
        except FileNotFoundError as error:  # of the bucket
            raise StorageError(f"{root}/{name}: {error}; create the bucket first") from None
    file.unlink()


def remove(path: str) -> None:
    """Removes a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        if not is_remote(path):
            os.unlink(path)
            return
        files, name = filesystem(path)
        with reported(path):
            files.rm_file(name)
