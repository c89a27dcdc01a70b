"""The JSON files of a prepare under way, read and written alike on a disk and an object store."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from rsjax import storage
from rsjax.errors import ShardError
from rsjax.input import manifest as manifests

FOLDER = ".shards"  # beside the shards: the plan, a note on each finished shard, errors


def read(root: str, name: str) -> dict[str, Any] | None:
    """The content of `root/name`, or None where there is none.

    Raises:
        ShardError: it is damaged.
    """
    try:
        found = json.loads(storage.read(f"{root}/{name}"))
        if not isinstance(found, dict):
            raise ValueError("not an object")
        return found
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ShardError(
            f"{root}/{name}: damaged ({error}). Delete it, if --source and --option are what they "
            "were when it was written, and run the same command again"
        ) from None


def write(root: str, name: str, data: dict[str, Any]) -> None:
    """Writes `root/name`; whole or absent, also after a crash."""
    path = storage.stage(root) / name
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        manifests.write_json(path, data)
        storage.publish(path, root, name)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what a full or failing disk makes writers raise into one message.

    Raises:
        ShardError: names the file and the space that is left.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # ArrayRecord's writer raises RuntimeError
        folder = pathlib.Path(path).absolute()
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        free = shutil.disk_usage(folder).free / 2**20
        reason = str(error).split(";")[0]
        raise ShardError(
            f"{path}: could not be written ({reason}); {free:,.1f} MB are free in {folder}. Free "
            "disk space, or use another --data_dir, and run it again: finished shards are kept"
        ) from error


def clean(root: str) -> None:
    """Removes the temporary files of writers that are gone."""
    folder = storage.stage(root)
    if storage.is_remote(root):
        shutil.rmtree(folder)
        return
    for place in (folder, folder / FOLDER):
        for leftover in place.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
