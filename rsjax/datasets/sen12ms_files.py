"""The files of SEN12MS: where the seasons are, which triplets there are, which scenes are apart."""

from __future__ import annotations

import functools
import hashlib
import os
import re

from rsjax import storage
from rsjax.datasets import files
from rsjax.errors import DatasetError

PAGE = "https://mediatum.ub.tum.de/1474000"

# Season -> its scenes that are for testing.
HOLD_OUT = {
    "ROIs1158_spring": (63, 146, 97, 124, 15, 17),
    "ROIs1868_summer": (43, 131, 19, 104, 72, 15, 79),
    "ROIs1970_fall": (120, 39, 144, 35, 61, 47, 30, 141),
    "ROIs2017_winter": (64, 146, 32, 107, 135),
}
DAMAGED = "ROIs1868_summer_s2_146_p202"  # its Sentinel-1 file has NaN
LISTS = {"train": "train_list.txt", "test": "test_list.txt"}
# A sample's key is the name of its Sentinel-2 file, as in the lists: season, scene, patch.
KEY = re.compile(rf"({'|'.join(HOLD_OUT)})_s2_(\d+)_p(\d+)")

_FILE = re.compile(
    rf"(?P<season>{'|'.join(HOLD_OUT)})/(?P<kind>s1|s2|lc)_(?P<scene>\d+)/"
    r"(?P=season)_(?P=kind)_(?P=scene)_p(?P<patch>\d+)\.tif"
)


class Files:
    """The files of a download.

    Args:
        source: the folder that holds the seasons and the lists.
        kinds: which of 's2', 's1' and 'lc' a sample needs.
        only_on_disk: whether to leave out samples that lack one of these.
    """

    def __init__(self, source: str, kinds: tuple[str, ...], only_on_disk: bool):
        self.source = source
        self._kinds = kinds
        self._only_on_disk = only_on_disk

    def read(self, key: str, kind: str) -> tuple[bytes, str]:
        """Content and path of a file of a sample.

        Raises:
            DatasetError: it, or all of its season, is missing.
        """
        name, season = _member(key, kind), _parts(key)[0]
        if (season, kind) not in self._seasons:
            raise DatasetError(
                f"{self.source}: neither the folder {season} nor {season}_{kind}.tar is there, "
                f"expected for {key}. Download it from {PAGE}, or use only_on_disk=True"
            )
        source = self._seasons[season, kind]
        return source.read(name), source.describe(name)

    @functools.cached_property
    def _root(self) -> files.Source:
        return files.open_source(self.source, PAGE)

    @functools.cached_property
    def _seasons(self) -> dict[tuple[str, str], files.Source]:
        """(season, kind) -> the folder or tar that has its files, as far as it is there."""
        found = {}
        for season in HOLD_OUT:
            for kind in self._kinds:
                if self._root.exists(season):
                    found[season, kind] = self._root
                    continue
                tars = (f"{self.source}/{season}_{kind}{end}" for end in (".tar", ".tar.gz"))
                if path := next(filter(storage.is_file, tars), None):
                    found[season, kind] = files.open_source(path, PAGE)
        if not found:
            raise DatasetError(
                f"{self.source}: no season, expected folders {', '.join(HOLD_OUT)}. Download the "
                f"dataset from {PAGE}"
            )
        return found

    @functools.cached_property
    def lists(self) -> dict[str, tuple[str, bytes]]:
        """'train', 'test' -> path and content of the official list, as far as it is there."""
        return {
            side: (self._root.describe(name), self._root.read(name))
            for side, name in LISTS.items()
            if self._root.exists(name)
        }

    @functools.cached_property
    def sides(self) -> dict[str, list[str]]:
        """'train', 'test' -> keys as listed; without a list, of what is on disk, by hold-out scene.

        Raises:
            DatasetError: a damaged list, a misnamed image, or a sample that lacks a file.
        """
        _ = self._seasons  # where nothing is there, that is said first
        found = _listed(self.lists)
        if self._only_on_disk:
            there = set(self._on_disk)
            found = {side: [key for key in keys if key in there] for side, keys in found.items()}
        for side in LISTS:
            if side not in found:
                found[side] = [key for key in self._on_disk if _held_out(key) == (side == "test")]
        # A season that is missing as a whole shows now, and not after hours.
        for key in {_parts(key)[0]: key for keys in found.values() for key in keys}.values():
            for kind in self._kinds:
                if (_parts(key)[0], kind) not in self._seasons:
                    self.read(key, kind)
        return found

    @functools.cached_property
    def _on_disk(self) -> list[str]:
        """The keys of all samples on disk, by season, scene and patch."""
        found: dict[str, set[tuple[str, int, int]]] = {kind: set() for kind in self._kinds}
        for source in dict.fromkeys(self._seasons.values()):
            for season in filter(source.exists, HOLD_OUT):
                for name in source.names(season):
                    if match := _FILE.fullmatch(name):
                        number = (season, int(match["scene"]), int(match["patch"]))
                        found.setdefault(match["kind"], set()).add(number)
                    elif name.endswith(".tif") and not os.path.basename(name).startswith("."):
                        raise DatasetError(
                            f"{source.describe(name)}: not named as officially, expected e.g. "
                            f"{season}/s2_1/{season}_s2_1_p30.tif; move the file away"
                        )
        needed = [found[kind] for kind in self._kinds]
        keys = [_key(*number) for number in sorted(set.union(*needed))]
        for key in keys:
            lacking = [kind for kind in self._kinds if _parts(key) not in found[kind]]
            if lacking and key != DAMAGED and not self._only_on_disk:
                raise DatasetError(
                    f"{self.source}/{_member(key, lacking[0])}: no such file, but others of its "
                    "triplet are there; complete the download, or use only_on_disk=True"
                )
        whole = {_key(*number) for number in set.intersection(*needed)} - {DAMAGED}
        return [key for key in keys if key in whole]


@functools.cache
def for_validation(scene: str) -> bool:
    """Whether a training scene, e.g. 'ROIs1158_spring_63', is for validation."""
    return int(hashlib.sha256(scene.encode()).hexdigest(), 16) % 10 == 0


def scene_of(key: str) -> str:
    """`ROIs1158_spring_s2_63_p30` -> `ROIs1158_spring_63`."""
    return key.rpartition("_")[0].replace("_s2", "")


def _listed(lists: dict[str, tuple[str, bytes]]) -> dict[str, list[str]]:
    """'train', 'test' -> keys in the order of its list.

    Raises:
        DatasetError: a line that is no Sentinel-2 file name, is repeated, or whose scene belongs
            to the other side.
    """
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for side, (where, content) in lists.items():
        found[side] = []
        for number, line in enumerate(content.decode("ascii", "replace").splitlines(), 1):
            if not (name := line.strip()):
                continue
            key = name.removesuffix(".tif")
            if not KEY.fullmatch(key) or key in seen or _held_out(key) != (side == "test"):
                raise DatasetError(
                    f"{where}:{number}: {name!r}, expected names as ROIs1868_summer_s2_146_p11.tif "
                    f"of {'the' if side == 'test' else 'none of the'} official hold-out scenes, "
                    "each once; download the list again"
                )
            seen.add(key)
            found[side].append(key)
    return found


def _held_out(key: str) -> bool:
    season, scene, _ = _parts(key)
    return scene in HOLD_OUT[season]


def _parts(key: str) -> tuple[str, int, int]:
    """Season, scene and patch of a key."""
    season, _, rest = key.partition("_s2_")
    scene, _, patch = rest.partition("_p")
    return season, int(scene), int(patch)


def _key(season: str, scene: int, patch: int) -> str:
    return f"{season}_s2_{scene}_p{patch}"


def _member(key: str, kind: str) -> str:
    """Path of a file of a sample."""
    season, scene, patch = _parts(key)
    return f"{season}/{kind}_{scene}/{season}_{kind}_{scene}_p{patch}.tif"
