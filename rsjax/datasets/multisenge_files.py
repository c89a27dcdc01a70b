"""The files of MultiSenGE: the folders of its parts, and the patches that its JSONs name."""

from __future__ import annotations

import functools

from rsjax.datasets import files, multisenge_places
from rsjax.errors import DatasetError

PAGE = "https://zenodo.org/records/6375466"
# Part of the download -> folders that may hold it.
FOLDERS = {
    "labels": ("labels", "label", "Labels", "json"),
    "s2": ("s2", "S2", "sentinel2", "Sentinel-2", "s2_patches"),
    "s1": ("s1", "S1", "sentinel1", "Sentinel-1", "s1_patches"),
    "gr": ("ground_reference", "Ground_reference", "ground_references", "gr", "GR"),
}
_CONTENT = {
    "labels": "JSON files",
    "gr": "reference maps",
    "s2": "Sentinel-2 images (or sensors='s1')",
    "s1": "Sentinel-1 images (or sensors='s2')",
}


class Files:
    """The folder that the archives were unpacked into.

    Args:
        source: the folder.
        sensors: which of 's2' and 's1' are needed.
    """

    def __init__(self, source: str, sensors: tuple[str, ...]):
        self.source, self.sensors = source, sensors

    @functools.cached_property
    def root(self) -> files.Source:
        """The download."""
        return files.open_source(self.source, PAGE)

    @functools.cached_property
    def folders(self) -> dict[str, str]:
        """Part of the download -> its folder.

        Raises:
            DatasetError: a part that is needed is not there.
        """
        found = {}
        for part in ("labels", "gr", *self.sensors):
            there = [name for name in FOLDERS[part] if self.root.exists(name)]
            if not there:
                raise DatasetError(
                    f"{self.source}: no folder {FOLDERS[part][0]} (nor "
                    f"{', '.join(FOLDERS[part][1:])}), expected for the "
                    f"{_CONTENT[part]}. Download it from {PAGE} and unpack it there"
                )
            found[part] = there[0]
        return found

    def where(self, part: str, name: str) -> str:
        """The path of a file of one part, for messages."""
        return self.root.describe(f"{self.folders[part]}/{name}")

    def open(self, part: str, name: str) -> tuple[bytes, str]:
        """Content and path of a file of one part."""
        return self.root.read(f"{self.folders[part]}/{name}"), self.where(part, name)

    @functools.cached_property
    def keys(self) -> list[str]:
        """All patches, sorted; each has a JSON."""
        folder = self.folders["labels"]
        found = []
        for name in self.root.names(folder):
            file = name.rpartition("/")[2]
            if not file.endswith(".json") or file.startswith("."):
                continue
            key = file.removesuffix(".json")
            if name != f"{folder}/{file}" or multisenge_places.place(key) is None:
                raise DatasetError(
                    f"{self.root.describe(name)}: not named as officially, expected e.g. "
                    f"{folder}/31TFN_5654_0.json; move the file away"
                )
            found.append(key)
        if not found:
            raise DatasetError(
                f"{self.root.describe(folder)}: no *.json, expected one a patch. Download "
                f"labels.tgz from {PAGE}"
            )
        return found
