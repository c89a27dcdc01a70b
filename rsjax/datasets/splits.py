"""Splits of datasets that come without: a fixed stratified rule, and published lists."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence

from rsjax.errors import DatasetError

TEST_PERCENT = 20
VALIDATION_PERCENT = 8

# Names of the split lists that others published, by our split names.
LIST_NAMES = {"train": "train", "validation": "val", "test": "test"}


def stem(key: str) -> str:
    """File name without folder and extension."""
    return posixpath.splitext(posixpath.basename(key))[0]


def stratified(by_class: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The fixed stratified rule, the same in every process and for every variant of a dataset.

    Within each class the keys are sorted by the sha256 hex digest of their stem: the first 20 %
    are the test set, the next 8 % the validation set, the rest the training set; both shares are
    rounded half up.

    Args:
        by_class: class -> keys, in the order in which they shall stay.

    Returns:
        split -> keys: class by class, each in the given order.
    """
    splits: dict[str, list[str]] = {name: [] for name in LIST_NAMES}
    for keys in by_class.values():
        order = sorted(keys, key=lambda key: hashlib.sha256(stem(key).encode()).hexdigest())
        test = (TEST_PERCENT * len(keys) + 50) // 100
        validation = (VALIDATION_PERCENT * len(keys) + 50) // 100
        part = dict.fromkeys(order[:test], "test")
        part |= dict.fromkeys(order[test : test + validation], "validation")
        for key in keys:
            splits[part.get(key, "train")].append(key)
    return splits


def listed(lists: Mapping[str, tuple[str, bytes]], keys: Iterable[str]) -> dict[str, list[str]]:
    """Splits by published lists: one file name a line, of any extension.

    Args:
        lists: split -> (path of the list for messages, its content).
        keys: all keys of the dataset.

    Returns:
        split -> keys in the order of the list. Keys in no list are in no split.

    Raises:
        DatasetError: a name that is listed twice, or that the dataset does not have.
    """
    by_stem = {stem(key): key for key in keys}
    seen: dict[str, str] = {}
    splits: dict[str, list[str]] = {}
    for split, (where, content) in lists.items():
        splits[split] = []
        for number, line in enumerate(_lines(content, where), 1):
            name = stem(line.strip())
            if not name:
                continue
            if name in seen:
                raise DatasetError(
                    f"{where}:{number}: {name!r} is also in {seen[name]}, expected each sample "
                    "once; download the list again"
                )
            if name not in by_stem:
                raise DatasetError(
                    f"{where}:{number}: {name!r} is not among the {len(by_stem)} images found; "
                    "complete the download, or use split_rule='stratified'"
                )
            seen[name] = where
            splits[split].append(by_stem[name])
    return splits


def _lines(content: bytes, where: str) -> list[str]:
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        raise DatasetError(f"{where}: not a text file; download the list again") from None
