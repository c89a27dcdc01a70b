"""What all datasets share: the contract as a type, option checks, fingerprints."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from rsjax import storage
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import ConfigError, DatasetError

SIMULATED = "SIMULATED.json"  # at the root of a simulated download

Example = dict[str, Any]


class Dataset(Protocol):
    """The contract, see `rsjax.datasets`."""

    info: DatasetInfo

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""

    def keys(self, split: str) -> list[str]:
        """The keys of a split, in a fixed order."""

    def read(self, key: str) -> Example:
        """One example."""

    def fingerprint(self) -> str:
        """sha256 of what decides which examples there are.

        Reads metadata; pixels only of files whose content nothing else tells, e.g. those of
        `scenes` with a stated checksum. `rsjax.prepare` calls it once.
        """


def choice(option: str, value: str, known: Iterable[str]) -> str:
    """`value`, if it is one of the known ones; otherwise a ConfigError that lists them."""
    known = tuple(known)
    if value not in known:
        raise ConfigError(f"{option}={value!r}, expected one of {', '.join(map(repr, known))}")
    return value


def choices(option: str, values: str | Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Some of the known values, as a tuple or comma-separated; returned in the known order."""
    given = tuple(values.split(",")) if isinstance(values, str) else tuple(values)
    if not given or len(set(given)) < len(given):
        raise ConfigError(f"{option}={values!r}, expected some of {known}, each once")
    for value in given:
        choice(option, value, known)
    return tuple(value for value in known if value in given)


def check_split(info: DatasetInfo, split: str) -> None:
    """Refuses a split that the dataset does not have."""
    if split not in info.splits:
        known = ", ".join(info.splits)
        raise DatasetError(f"dataset '{info.name}' has no split {split!r}; it has {known}")


def unknown_key(info: DatasetInfo, source: str, key: str) -> DatasetError:
    """The error for a key that the dataset does not have."""
    return DatasetError(
        f"{source}: dataset '{info.name}' has no sample {key!r}; "
        "take keys from keys(split), with the same options"
    )


def is_simulated(source: str) -> bool:
    """Whether a folder, or the folder that an archive lies in, is a simulated download."""
    folder = source if storage.is_folder(source) else os.path.dirname(source)
    return storage.is_file(os.path.join(folder, SIMULATED))


def fingerprint(
    info: DatasetInfo,
    options: Mapping[str, Any],
    keys: Mapping[str, Sequence[str]],
    files: Mapping[str, bytes],
) -> str:
    """sha256 over name, version, options, the ordered keys of each split and metadata files.

    Args:
        info: gives name and version.
        options: the dataset's options, of plain JSON types.
        keys: split -> keys.
        files: name -> content of the files that decide labels and splits.
    """
    head = [info.name, info.version, dict(sorted(options.items()))]
    digest = hashlib.sha256(json.dumps(head).encode())
    for name, content in sorted(files.items()):
        digest.update(f"\n\n{name} {hashlib.sha256(content).hexdigest()}".encode())
    for split, names in sorted(keys.items()):
        digest.update(f"\n\n{split} {len(names)}\n".encode())
        digest.update("\n".join(names).encode())
    return digest.hexdigest()
