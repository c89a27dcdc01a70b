"""LEVIR-CD: 637 pairs of aerial images of 1024 pixels with the buildings that came or went.

Page: https://justchenhao.github.io/LEVIR/. Paper: https://doi.org/10.3390/rs12101662.

The official splits are 445, 64 and 128 pairs. Images are cut into tiles of `tile_px` pixels: 256,
as most publications have it, are 7,120, 1,024 and 2,048 samples. The release that is already cut,
LEVIR-CD256, is read with `image_px=256`.
"""

from __future__ import annotations

import functools
import os
import re

import numpy as np

from rsjax import storage
from rsjax.datasets import base, files, folder_images, pairs, splits, tiling
from rsjax.datasets.files import Source
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.errors import ConfigError, DatasetError

PAGE = "https://justchenhao.github.io/LEVIR/"
FOLDERS = ("A", "B", "label")  # before, after, mask

_PAIRS = {"train": 445, "validation": 64, "test": 128}
_OURS = {theirs: ours for ours, theirs in splits.LIST_NAMES.items()}
_NAME = re.compile(r"(train|val|test)(_\d+)+")  # one number, and where in it when already cut


class LevirCD:
    """LEVIR-CD: `rgb` (2, tile_px, tile_px, 3) uint8, before and after; `mask`; `id`.

    `mask` is uint8 (tile_px, tile_px): 0 unchanged, 1 changed.

    Args:
        source: the folder with `train`, `val` and `test` (or their zips), each with A, B and
            label; or a folder or zip with A, B and label, whose files begin with the split's name.
        tile_px: side of a sample in pixels; divides `image_px`.
        image_px: side of the images on disk.

    Raises:
        ConfigError: sizes that do not fit.
        DatasetError: from `keys` and `read`; missing, damaged or misplaced files.
    """

    def __init__(self, source: str | os.PathLike[str], *, tile_px: int = 256, image_px: int = 1024):
        self.source = os.fspath(source)
        self._tiling = tiling.Tiling(tile_px)
        if not isinstance(image_px, int) or image_px < tile_px or image_px % tile_px:
            raise ConfigError(f"image_px={image_px!r}, expected a multiple of tile_px={tile_px}")
        self._size = image_px
        self._windows = {
            (window.row, window.column): window
            for window in self._tiling.windows(image_px, image_px)
        }
        # An image of another size is a part of an official one: there is no official count.
        tiles = len(self._windows) if image_px == 1024 else 0
        rgb = ("red", "green", "blue")
        self.info = DatasetInfo(
            name="levir_cd",
            version="1.0.0",
            title="LEVIR-CD, changes of buildings",
            page=PAGE,
            licence="none stated",
            citation="Chen and Shi, A Spatial-Temporal Attention-Based Method and a New Dataset "
            "for Remote Sensing Image Change Detection, Remote Sensing 2020, "
            "doi:10.3390/rs12101662",
            images={"rgb": ImageSpec("rgb", rgb, tile_px, tile_px, "uint8", "dn8", 0.5, steps=2)},
            label=None,
            nomenclature="change",
            mask=(tile_px, tile_px),
            mask_nomenclature="change",
            metadata=(),
            splits={split: number * tiles for split, number in _PAIRS.items()},
            rgb=("rgb", rgb),
            rgb_range=(0.0, 255.0),
        )
        self._decoded: tiling.Last[tuple[np.ndarray, np.ndarray]] = tiling.Last()

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The keys of a split, image by image in the order of their numbers."""
        base.check_split(self.info, split)
        return list(self._keys[split])

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        options = {"tile_px": self._tiling.tile_px, "image_px": self._size}
        return base.fingerprint(self.info, options, self._keys, {})

    def read(self, key: str) -> base.Example:
        """One tile; see the class."""
        image, *place = tiling.parse_key(key) or ("", 0, 0)
        name, window = _NAME.fullmatch(image), self._windows.get((place[0], place[1]))
        if not name or not window:
            raise base.unknown_key(self.info, self.source, key)
        source, top, _ = self._parts[_OURS[name[1]]]
        series, mask = self._decoded.get(image, lambda: self._decode(source, top, image))
        return {
            "id": key,
            "rgb": np.stack([self._tiling.cut(step, window) for step in series]),
            "mask": self._tiling.cut_mask(mask, window, once=True),
        }

    def _decode(self, source: Source, top: str, image: str) -> tuple[np.ndarray, np.ndarray]:
        """Both images (2, image_px, image_px, 3) and the mask of a pair."""
        size = (self._size, self._size)
        before, after, mask = (f"{top}{folder}/{image}.png" for folder in FOLDERS)
        series = np.empty((2, *size, 3), np.uint8)
        for step, path in enumerate((before, after)):
            found = folder_images.look(source.read(path), source.describe(path))
            if found.shape != (*size, 3) or found.dtype != "uint8":
                raise DatasetError(
                    f"{found.where}: {found.describe()}, expected {size[0]}x{size[1]} pixels, 3 "
                    "bands of uint8. Restore the file from the original download, or give the size "
                    "of images that were already cut with image_px"
                )
            series[step] = folder_images.pixels(found)
        return series, pairs.read_change(source.read(mask), source.describe(mask), size)

    @functools.cached_property
    def _parts(self) -> dict[str, tuple[Source, str, bool]]:
        """Split -> its files, the folder in them that holds A, B and label, and whether no others.

        The folder is '' or ends with '/'.
        """
        root = files.open_source(self.source, PAGE)
        if root.exists("A"):
            return dict.fromkeys(_PAIRS, (root, "", False))
        parts = {}
        for split, theirs in splits.LIST_NAMES.items():
            zipped = os.path.join(self.source, f"{theirs}.zip")
            if root.exists(f"{theirs}/A"):
                parts[split] = (root, f"{theirs}/", True)
            elif storage.is_file(zipped):
                inside = files.open_source(zipped, PAGE)
                top = f"{theirs}/" if inside.exists(f"{theirs}/A") else ""
                parts[split] = (inside, top, True)
            else:
                raise DatasetError(
                    f"{self.source}: neither {theirs}/A nor {theirs}.zip, expected train, val and "
                    f"test with A, B and label in each, or these three folders. Download the "
                    f"dataset from {PAGE}, and give the folder that it was unpacked into"
                )
        return parts

    @functools.cached_property
    def _keys(self) -> dict[str, list[str]]:
        found = {}
        for split, (source, top, alone) in self._parts.items():
            names = _names(source, top, splits.LIST_NAMES[split], alone)
            found[split] = [
                tiling.key_of(name, window) for name in names for window in self._windows.values()
            ]
        return found


def _names(source: Source, top: str, split: str, alone: bool) -> list[str]:
    """The images of a split, by number; where it is `alone` there must be no others."""
    lists = {}
    for folder in FOLDERS:
        paths = [name for name in source.names(top + folder) if name.endswith(".png")]
        for path in paths:
            name = _NAME.fullmatch(splits.stem(path))
            if not name or (alone and name[1] != split):
                whose = split if alone else "a split"
                raise DatasetError(
                    f"{source.describe(path)}: expected images of {whose} to be named "
                    f"{split}_<number>.png; move the file away"
                )
        stems = [splits.stem(path) for path in paths]
        lists[folder] = {name for name in stems if name.startswith(f"{split}_")}
    every = set().union(*lists.values())
    for folder, names in lists.items():
        if missing := sorted(every - names):
            raise DatasetError(
                f"{source.describe(f'{top}{folder}/{missing[0]}.png')}: no such file, and "
                f"{len(missing)} missing in all, expected A, B and label of the same names. "
                f"Complete the download from {PAGE}, or move what is left of the pair away"
            )
    if not every:
        raise DatasetError(
            f"{source.describe(top + 'A')}: no {split}_<number>.png, expected the official layout "
            f"of {PAGE}. Download the dataset again, and unpack it without changes"
        )
    return sorted(every, key=lambda name: [int(part) for part in name.split("_")[1:]])
