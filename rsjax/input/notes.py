"""The JSON files of a prepare under way, read and written alike on a disk and an object store."""

from __future__ import annotations

import shutil
from typing import Any

from rsjax import sealed, storage
from rsjax.errors import ShardError

FOLDER = ".shards"  # beside the shards: the plan, a note on each finished shard, errors


def read(root: str, name: str) -> dict[str, Any] | None:
    """The content of `root/name`, or None where there is none.

    Raises:
        ShardError: it is damaged.
    """
    try:
        return sealed.loads(storage.read(f"{root}/{name}"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ShardError(
            f"{root}/{name}: {error}. Delete it, if --source and --option are what they "
            "were when it was written, and run the same command again"
        ) from None


def write(root: str, name: str, data: dict[str, Any]) -> None:
    """Writes `root/name`; whole or absent, also after a crash."""
    path = storage.stage(root) / name
    sealed.write(path, data)
    with sealed.writing(path):
        storage.publish(path, root, name)


def clean(root: str) -> None:
    """Removes the temporary files of writers that are gone."""
    folder = storage.stage(root)
    if storage.is_remote(root):
        shutil.rmtree(folder)
        return
    for place in (folder, folder / FOLDER):
        for leftover in place.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
