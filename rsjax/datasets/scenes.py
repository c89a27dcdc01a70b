"""Datasets of one class an image, one folder a class: finding, listing and splitting the images."""

from __future__ import annotations

import functools
import os
import re

from rsjax import landcover, storage
from rsjax.datasets import base, files, splits
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import DatasetError


class Scenes:
    """The images of a download with one folder a class; base of the datasets that have such.

    Keys are `<class>/<file name without extension>`, the same for every variant of a dataset.

    Args:
        source: a folder, a zip, or a folder that holds the zip.
        info: the dataset's card.
        tops: folders that may hold the class folders, with a `/` at the end, or ''.
        archives: names of the zip in a folder.
        pattern: what stands between class name and extension, as a regular expression.
        extension: of the images, with its dot.
        split_rule: 'stratified' (see `rsjax.datasets.splits.stratified`), or a key of `lists`.
        lists: split rule -> name of its lists, with `{}` for train, val and test.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        info: DatasetInfo,
        *,
        tops: tuple[str, ...],
        archives: tuple[str, ...],
        pattern: str,
        extension: str,
        split_rule: str,
        lists: dict[str, str],
    ):
        self.source = os.fspath(source)
        self.info = info
        self._tops, self._archives = tops, archives
        self._pattern, self._extension = pattern, extension
        self._rule = base.choice("split_rule", split_rule, ("stratified", *lists))
        self._list_name = lists.get(split_rule, "")

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The keys of a split, in a fixed order."""
        base.check_split(self.info, split)
        return list(self._splits[split])

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        lists = {f"{split} list": content for split, (_, content) in self._lists.items()}
        return base.fingerprint(self.info, {"split_rule": self._rule}, self._splits, lists)

    def _open(self, key: str) -> tuple[bytes, str, int]:
        """Content, path for messages and class index of an image."""
        name = key.split("/")[0]
        if name not in landcover.load(self.info.nomenclature).names or key.count("/") != 1:
            raise base.unknown_key(self.info, self.source, key)
        path = f"{self._top}{key}{self._extension}"
        label = landcover.load(self.info.nomenclature).index(name)
        return self._files.read(path), self._files.describe(path), label

    @functools.cached_property
    def _files(self) -> files.Source:
        if storage.is_folder(self.source):
            paths = [os.path.join(self.source, archive) for archive in self._archives]
            folder = files.folder(self.source, self.info.page)
            zipped = next((path for path in paths if storage.is_file(path)), None)
            if zipped and self._find_top(folder) is None:
                return files.open_source(zipped, self.info.page)
        return files.open_source(self.source, self.info.page)

    def _find_top(self, source: files.Source) -> str | None:
        names = landcover.load(self.info.nomenclature).names
        folders = (top for top in self._tops if any(source.exists(f"{top}{n}") for n in names))
        return next(folders, None)

    @functools.cached_property
    def _top(self) -> str:
        top = self._find_top(self._files)
        if top is None:
            expected = ", ".join(f"{top}<class>/" for top in self._tops)
            raise DatasetError(
                f"{self._files.path}: no class folders, expected one of {expected}. "
                f"Download the dataset from {self.info.page}"
            )
        return top

    @functools.cached_property
    def _by_class(self) -> dict[str, list[str]]:
        """Class -> keys sorted by name; other files are left alone, misplaced images refused."""
        nomenclature = landcover.load(self.info.nomenclature)
        found: dict[str, list[str]] = {name: [] for name in nomenclature.names}
        for name in self._files.names(self._top.rstrip("/")):
            key, extension = os.path.splitext(name[len(self._top) :])
            if extension != self._extension or os.path.basename(key).startswith("."):
                continue
            where = self._files.describe(name)
            folder, _, file = key.rpartition("/")
            nomenclature.index(folder, where)
            if not re.fullmatch(folder + self._pattern, file):
                raise DatasetError(
                    f"{where}: expected images of {folder} to be named "
                    f"{folder}{self._pattern}{self._extension}; move the file away"
                )
            found[folder].append(key)
        return found

    @functools.cached_property
    def _lists(self) -> dict[str, tuple[str, bytes]]:
        """Split -> (path, content) of its list, inside the source or beside it."""
        if not self._list_name:
            return {}
        inside = self._files
        beside = files.folder(
            self.source if storage.is_folder(self.source) else os.path.dirname(self.source) or ".",
            self.info.page,
        )
        found = {}
        for split, theirs in splits.LIST_NAMES.items():
            name = self._list_name.format(theirs)
            holder = inside if inside.exists(name) else beside
            found[split] = (holder.describe(name), holder.read(name))
        return found

    @functools.cached_property
    def _splits(self) -> dict[str, list[str]]:
        keys = [key for part in self._by_class.values() for key in part]
        if not keys:
            raise DatasetError(
                f"{self._files.path}: no *{self._extension} images under {self._top}. "
                f"Download the dataset from {self.info.page}"
            )
        if self._lists:
            return splits.listed(self._lists, keys)
        return splits.stratified(self._by_class)
