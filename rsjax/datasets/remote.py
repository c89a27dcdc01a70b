"""The files of a download that lies unpacked on an object store."""

from __future__ import annotations

from rsjax import storage
from rsjax.datasets import files


class RemoteSource(files.Source):
    """A folder of an object store; every read is one request."""

    def __init__(self, path: str, page: str = ""):
        self.path = storage.absolute(path)
        self.page = page

    def read(self, name: str) -> bytes:
        """See `Source.read`; StorageError where the store does not answer."""
        files.check_name(name, self.path)
        try:
            content = storage.read(self.describe(name), 0, files.MAX_BYTES + 1)
        except FileNotFoundError:
            raise self.missing(name) from None
        if len(content) > files.MAX_BYTES:
            files.check_size(storage.size(self.describe(name)) or 0, self.describe(name))
        return content

    def part(self, name: str, start: int, stop: int) -> bytes:
        """See `Source.part`."""
        files.check_name(name, self.path)
        try:
            return storage.read(self.describe(name), start, stop)
        except FileNotFoundError:
            raise self.missing(name) from None

    def exists(self, name: str) -> bool:
        """See `Source.exists`."""
        files.check_name(name, self.path)
        return storage.kind(self.describe(name)) != ""

    def names(self, under: str = "") -> list[str]:
        """See `Source.names`."""
        system, root = storage.filesystem(self.path)
        top = self.describe(under) if under else self.path
        with storage.reported(top):
            found = system.find(storage.filesystem(top)[1])
        return sorted(name.removeprefix(f"{root}/") for name in found)

    def folders(self, under: str = "") -> list[str]:
        """See `Source.folders`."""
        top = self.describe(under) if under else self.path
        system, inner = storage.filesystem(top)
        try:
            with storage.reported(top):
                found = system.ls(inner, detail=True)
        except FileNotFoundError:
            raise self.missing(under) from None
        folders = (one["name"].rstrip("/") for one in found if one["type"] == "directory")
        return sorted(name.rpartition("/")[2] for name in folders)

    def describe(self, name: str) -> str:
        """See `Source.describe`."""
        return f"{self.path}/{name}"
