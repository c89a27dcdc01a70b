"""The files of STAC items: downloaded once, checked against what the items state, listed.

A file gets its name when it is whole and its size and checksum are right; a download that was cut
goes on where it stopped, if the server says that the file is still the same. Checksums are
multihashes, https://github.com/stac-extensions/file.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from rsjax import sealed, storage
from rsjax.datasets.ranged import Ranged
from rsjax.datasets.stac_bands import Asset
from rsjax.errors import DatasetError, StorageError

FILE = "stac_files.json"  # beside scenes.json: which files there are, whence, with checksums
PIECE = 2**22  # bytes
TIMEOUT_S = 60.0

# Prefix of a multihash (function and length) -> hashlib's name.
_HASHES = {
    "1114": "sha1", "1220": "sha256", "1340": "sha512", "2030": "sha384", "d50110": "md5",
    "1620": "sha3_256", "1440": "sha3_512",
}  # fmt: skip


def is_remote(href: str) -> bool:
    """Whether a file lies on a server or an object store."""
    return "://" in href


def listed(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Path -> what is known of a file, of all that an earlier run listed.

    Raises:
        DatasetError: the list is damaged.
    """
    path = folder / FILE
    try:
        return dict(sealed.read(path)["files"])
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError) as error:
        raise DatasetError(f"{path}: {error}. Delete it and run the command again") from None


def save(folder: pathlib.Path, files: dict[str, dict[str, Any]]) -> None:
    """Writes the list, sealed; whole or absent."""
    sealed.write(folder / FILE, {"files": dict(sorted(files.items()))})


def note(folder: pathlib.Path, name: str, asset: Asset) -> dict[str, Any]:
    """What the list says of a file that is there, after it was checked.

    Raises:
        DatasetError: its size or checksum is not the stated one.
    """
    return {
        "item": asset.item,
        "asset": asset.key,
        "href": plain(asset.href),
        "bytes": (folder / name).stat().st_size,
        "sha256": check(folder / name, asset),
        "checksum": asset.checksum,
    }


def check(path: pathlib.Path, asset: Asset) -> str:
    """The sha256 of a file whose size and checksum are those that the item states.

    Raises:
        DatasetError: they are not, or the checksum is of an unknown kind.
    """
    where = f"{path} ({asset.item}, {asset.key})"
    if asset.size is not None and (found := path.stat().st_size) != asset.size:
        raise DatasetError(f"{where}: {found} bytes, expected {asset.size}. Get the file again")
    names, stated = ["sha256"], ""
    if asset.checksum:
        prefix = next((p for p in _HASHES if asset.checksum.startswith(p)), None)
        if prefix is None:
            known = ", ".join(_HASHES.values())
            raise DatasetError(
                f"{where}: file:checksum {asset.checksum:.12}... is no multihash of {known}; "
                "correct the item, or delete its file:checksum"
            )
        names.append(_HASHES[prefix])
        stated = asset.checksum.removeprefix(prefix)
    found_sums = [hashlib.new(name) for name in names]
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            for one in found_sums:
                one.update(piece)
    if stated and found_sums[-1].hexdigest() != stated:
        raise DatasetError(
            f"{where}: {names[-1]} {found_sums[-1].hexdigest()}, expected {stated}. Get the file "
            "again"
        )
    return found_sums[0].hexdigest()


def download(asset: Asset, path: pathlib.Path) -> None:
    """Gets a remote file; goes on where an earlier try stopped.

    Raises:
        StorageError: the server does not answer, or ends too early.
        DatasetError: what it sent is not what the item states; nothing is kept.
        DiskError: there is no space.
    """
    part = path.with_name(f".{path.name}.part")
    state = path.with_name(f".{path.name}.part.json")
    with sealed.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    version = _version(state, asset)
    start = part.stat().st_size if version and part.is_file() else 0
    with _reported(asset, part):
        start, total, version, pieces = _open(asset.href, start, version)
        if asset.size is not None and total is not None and total != asset.size:
            part.unlink(missing_ok=True)
            raise DatasetError(
                f"{plain(asset.href)}: {total} bytes, but STAC item {asset.item} states "
                f"{asset.size}; it was replaced since. Get the item again"
            )
        if not start:  # first, so that no other file's beginning ever goes with this version
            part.unlink(missing_ok=True)
        sealed.replace(state, json.dumps([plain(asset.href), version]).encode())
        with sealed.writing(path):
            file = open(part, "r+b" if start else "wb")  # noqa: SIM115
        with file:
            file.seek(start)
            for piece in pieces:
                with sealed.writing(path):
                    file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
    if total is not None and size < total:
        raise StorageError(f"{plain(asset.href)}: ended after {size} of {total} bytes. {_AGAIN}")
    try:
        check(part, asset)
    except DatasetError:
        part.unlink()
        state.unlink()
        raise
    os.replace(part, path)
    sealed.sync(path.parent)
    state.unlink()


def verify(folder: pathlib.Path) -> Iterator[tuple[str, int]]:
    """Rereads every listed file.

    Yields:
        (path, bytes) of each sound file, as it is done.

    Raises:
        DatasetError: there is no list, or a file is missing or not as it was.
    """
    files = listed(folder)
    if not files:
        raise DatasetError(f"{folder / FILE}: not there or empty; run `python -m rsjax.stac` first")
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            raise DatasetError(f"{path}: missing. Run `python -m rsjax.stac` again")
        asset = Asset(entry["item"], entry["asset"], entry["href"], (), entry["bytes"],
                      f"1220{entry['sha256']}", None)  # fmt: skip
        check(path, asset)
        yield name, entry["bytes"]


_AGAIN = "Check the network and run the same command again: it goes on"


@contextlib.contextmanager
def _reported(asset: Asset, part: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        private = " The store wants signed addresses or an account." * (error.code in (401, 403))
        raise StorageError(
            f"{plain(asset.href)}: HTTP {error.code} {error.reason}.{private} {_AGAIN}"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        kept = part.stat().st_size if part.is_file() else 0
        raise StorageError(
            f"{plain(asset.href)}: {error or type(error).__name__}; {kept} bytes are kept. {_AGAIN}"
        ) from error


def _version(state: pathlib.Path, asset: Asset) -> str:
    """What the server called the file of which there is a part; '' where that is not known."""
    try:
        href, version = json.loads(state.read_bytes())
    except (OSError, ValueError):
        return ""
    return str(version) if href == plain(asset.href) else ""


def _open(href: str, start: int, version: str) -> tuple[int, int | None, str, Iterator[bytes]]:
    """Where the server begins, the size of the file, its version, and what follows."""
    if not href.startswith(("http://", "https://")):
        stored = Ranged(storage.absolute(href))
        start = start if version == str(stored.stamp) else 0
        ranges = range(start, stored.size, PIECE)
        return start, stored.size, str(stored.stamp), (stored.pread(PIECE, at) for at in ranges)
    headers = {"User-Agent": "rsjax", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(href, headers=headers), timeout=TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing follows: the part is whole, or of another file
            error.close()
            return _open(href, 0, "")
        raise
    begins = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    start = start if answer.status == 206 and begins else 0
    length = answer.headers.get("Content-Length")
    tag = answer.headers.get("ETag", "")
    version = answer.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
    return start, start + int(length) if length else None, version, _pieces(answer)


def _pieces(answer: Any) -> Iterator[bytes]:
    with answer:
        while piece := answer.read(PIECE):
            yield piece


def plain(href: str) -> str:
    """An address without what may be a secret."""
    return href.partition("?")[0]
