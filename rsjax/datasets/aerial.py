"""Aerial images with a mask each, cut into tiles as they are read; `aerial_files` finds them."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rsjax.datasets import aerial_files, base, files, geotiff, tiff, tiling
from rsjax.datasets.aerial_files import Pair
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.errors import DatasetError

RGB = ("red", "green", "blue")
Windows = dict[tuple[int, int], tiling.Window]


class Decoded(NamedTuple):
    """An image (height, width, 3) uint8 with its mask (height, width) of class indices.

    `texts` are further entries of its examples, `place` coordinate system and transform.
    """

    image: np.ndarray
    mask: np.ndarray
    texts: Mapping[str, str]
    place: tuple[str, geotiff.Transform] | None = None


class Tiled:
    """A dataset of large images; the base of those whose images are cut when they are read.

    An example has `rgb` (tile_px, tile_px, 3) uint8, `mask` (tile_px, tile_px) uint8 and `id`.
    In the training split a label may come in several windows; in the others it comes once, in
    the first window that has it, so that figures are those of whole images.

    Args:
        source: a folder or an archive.
        info: the dataset's card.
        tops: folders of the source that the layout may begin in, with `/` at the end, or ''.
        probe: file or folder that tells which of them it is.
        tiles: how the images are cut.
        options: further options, for the fingerprint.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        info: DatasetInfo,
        *,
        tops: Sequence[str],
        probe: str,
        tiles: tiling.Tiling,
        options: Mapping[str, Any] | None = None,
    ):
        self.source = os.fspath(source)
        self.info = info
        self._tops, self._probe = tops, probe
        self._tiles = tiles
        self._options = {**tiles.options, **(options or {})}
        self._keys: dict[str, list[str]] = {}
        self._last: tiling.Last[tuple[Decoded, Windows]] = tiling.Last()

    def _list(self, split: str) -> dict[str, Pair]:
        """Image name -> files, in a fixed order."""
        raise NotImplementedError

    def _decode(self, name: str, pair: Pair) -> Decoded:
        """One whole image."""
        raise NotImplementedError

    def _lists(self) -> dict[str, bytes]:
        """Name -> content of the files that decide the splits."""
        return {}

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The tiles of a split, image by image; reads the header of each image."""
        base.check_split(self.info, split)
        if split not in self._keys:
            keys = []
            for name, pair in self._pairs[split].items():
                part = functools.partial(self._files.part, pair.image)
                height, width = tiff.size(part, self._files.describe(pair.image))
                keys += [tiling.key_of(name, w) for w in self._tiles.windows(height, width)]
            self._keys[split] = keys
        return list(self._keys[split])

    def read(self, key: str) -> base.Example:
        """One tile; see the class."""
        found = tiling.parse_key(key)
        split = self._split_of.get(found[0]) if found else None
        if found is None or split is None:
            raise base.unknown_key(self.info, self.source, key)
        name, row, column = found
        whole, windows = self._last.get(name, lambda: self._checked(name, self._pairs[split][name]))
        window = windows.get((row, column))
        if window is None:
            raise base.unknown_key(self.info, self.source, key)
        example: base.Example = {
            "id": key,
            "rgb": self._tiles.cut(whole.image, window),
            "mask": self._tiles.cut_mask(whole.mask, window, once=split != "train"),
            **whole.texts,
        }
        if whole.place:
            crs, (a, b, c, d, e, f) = whole.place
            x = a * window.column + b * window.row + c
            y = d * window.column + e * window.row + f
            example["crs"], example["transform"] = crs, np.array([a, b, x, d, e, y])
        return example

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        keys = {split: self.keys(split) for split in self.info.splits}
        return base.fingerprint(self.info, self._options, keys, self._lists())

    def _checked(self, name: str, pair: Pair) -> tuple[Decoded, Windows]:
        """One whole image, and its windows by their offsets."""
        whole = self._decode(name, pair)
        if whole.image.shape[:2] != whole.mask.shape:
            raise DatasetError(
                f"{self._files.describe(pair.mask)}: {whole.mask.shape} (height, width), expected "
                f"{whole.image.shape[:2]} as {pair.image}. Restore both from the original "
                "download, or leave the image out"
            )
        windows = self._tiles.windows(*whole.mask.shape)
        return whole, {(window.row, window.column): window for window in windows}

    @functools.cached_property
    def _files(self) -> files.Source:
        return files.open_source(self.source, self.info.page)

    @functools.cached_property
    def _top(self) -> str:
        return aerial_files.find_top(self._files, self._tops, self._probe)

    @functools.cached_property
    def _pairs(self) -> dict[str, dict[str, Pair]]:
        """Split -> image name -> files."""
        pairs = {split: self._list(split) for split in self.info.splits}
        seen: dict[str, str] = {}
        for split, names in pairs.items():
            for name, pair in names.items():
                if name in seen:
                    raise DatasetError(
                        f"{self._files.describe(pair.image)}: image {name!r} is both in split "
                        f"'{seen[name]}' and in '{split}', expected each in one; restore the "
                        "original layout"
                    )
                seen[name] = split
        return pairs

    @functools.cached_property
    def _split_of(self) -> dict[str, str]:
        return {name: split for split, names in self._pairs.items() for name in names}


def rgb_spec(side_px: int, gsd_m: float) -> ImageSpec:
    """The image entry of an aerial dataset."""
    return ImageSpec("rgb", RGB, side_px, side_px, "uint8", "dn8", gsd_m)
