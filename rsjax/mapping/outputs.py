"""Files that a command writes: none of them one that it reads, and all of them or none."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from rsjax import sealed
from rsjax.errors import ConfigError


def check(
    outputs: Iterable[str | os.PathLike[str]], inputs: Iterable[str | os.PathLike[str]]
) -> None:
    """Refuses to write over what is read, by any path that leads to it, and over folders.

    Args:
        outputs: files to be written.
        inputs: files that are read; '' and names that are no files, as of nomenclatures, may be
            among them.

    Raises:
        ConfigError: says which.
    """
    read = {os.path.realpath(path): path for path in inputs if path and os.path.isfile(path)}
    for output in outputs:
        if (taken := read.get(os.path.realpath(output))) is not None:
            raise ConfigError(
                f"{output} would be written over {taken}, which is read; choose another --output"
            )
        if os.path.isdir(output):
            raise ConfigError(f"{output} is a folder; move it away, or choose another --output")


def write(files: Mapping[pathlib.Path, bytes]) -> None:
    """Writes files of one folder: all of them under temporary names first, then renamed.

    Raises:
        DiskError: there is no space, or no permission; nothing is left then.
    """
    folder = next(iter(files)).parent
    with sealed.writing(next(iter(files))):
        folder.mkdir(parents=True, exist_ok=True)
        made = pathlib.Path(tempfile.mkdtemp(prefix=".rsjax.", suffix=".tmp", dir=folder))
        try:
            for path, content in files.items():
                (made / path.name).write_bytes(content)
                sealed.sync(made / path.name)
            for path in files:
                os.replace(made / path.name, path)
            sealed.sync(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def as_json(data: Any) -> bytes:
    """JSON for people to read."""
    return (json.dumps(data, indent=1) + "\n").encode()
