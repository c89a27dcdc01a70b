"""EPFL roofs: 305 aerial images of 250 pixels at 0.25 m around Geneva, buildings as masks.

Page: https://github.com/riccardocadei/photovoltaic-detection. Official splits: 244 training, 30
validation and 31 test images, as three zips to be unpacked into one folder.
"""

from __future__ import annotations

import functools
import os

import numpy as np

from rsjax.datasets import aerial, aerial_files, base, files, folder_images
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import DatasetError

PAGE = "https://github.com/riccardocadei/photovoltaic-detection"

_SIDE_PX = 250
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_IMAGES = {"train": 244, "validation": 30, "test": 31}
_COLOURS = {aerial_files.BLACK: 0, aerial_files.WHITE: 1}


class EPFLRoofs:
    """EPFL roofs: `rgb` (250, 250, 3) uint8, `mask` (250, 250) 0 or 1 (building), `id`.

    The folder has `train`, `val` and `test`, each with RGB images in `images` and masks of the
    same name in `labels` (`_label` at the end of it is taken, too), white on black in three bands.
    A key is folder and name, e.g. `val/DOP25_LV03_1301_11_2015_1_15_497500.0_119062.5`.

    Args:
        source: the folder, or a zip of all three.

    Raises:
        DatasetError: from `keys` and `read`; missing, damaged or inconsistent files.
    """

    def __init__(self, source: str | os.PathLike[str]):
        self.source = os.fspath(source)
        self.info = DatasetInfo(
            name="epfl_roofs",
            version="1.0.0",
            title="EPFL roofs",
            page=PAGE,
            licence="none stated",
            citation="Images and building masks of the EPFL project on photovoltaic detection, "
            "https://github.com/riccardocadei/photovoltaic-detection",
            images={"rgb": aerial.rgb_spec(_SIDE_PX, 0.25)},
            label=None,
            nomenclature="buildings",
            mask=(_SIDE_PX, _SIDE_PX),
            mask_nomenclature="buildings",
            metadata=(),
            splits=dict(_IMAGES),
            rgb=("rgb", aerial.RGB),
            rgb_range=(0.0, 255.0),
        )

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The images of a split, sorted by name."""
        base.check_split(self.info, split)
        return [f"{_FOLDERS[split]}/{name}" for name in self._pairs[split]]

    def read(self, key: str) -> base.Example:
        """One image; see the class."""
        folder, _, name = key.partition("/")
        split = next((split for split, theirs in _FOLDERS.items() if theirs == folder), "")
        pair = self._pairs[split].get(name) if split else None
        if pair is None:
            raise base.unknown_key(self.info, self.source, key)
        mask = aerial_files.binary_mask(
            self._png(pair.mask), self._files.describe(pair.mask), _COLOURS
        )
        return {"id": key, "rgb": self._png(pair.image), "mask": mask}

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        keys = {split: self.keys(split) for split in self.info.splits}
        return base.fingerprint(self.info, {}, keys, {})

    def _png(self, path: str) -> np.ndarray:
        """The pixels of an RGB PNG of the official size."""
        where = self._files.describe(path)
        image = folder_images.look(self._files.read(path), where)
        expected = (_SIDE_PX, _SIDE_PX, 3)
        if image.kind != "png" or image.shape != expected or image.dtype != "uint8":
            raise DatasetError(
                f"{where}: {image.kind} of {image.describe()}, expected png of 250x250 pixels, 3 "
                "bands of uint8. Restore the file from the original download, or leave the image "
                "out"
            )
        return folder_images.pixels(image)

    @functools.cached_property
    def _files(self) -> files.Source:
        return files.open_source(self.source, PAGE)

    @functools.cached_property
    def _pairs(self) -> dict[str, dict[str, aerial_files.Pair]]:
        """Split -> name -> files."""
        top = aerial_files.find_top(self._files, ("", "epfl_buildings/"), "train/images")
        return {
            split: aerial_files.find_pairs(
                self._files,
                f"{top}{folder}/images",
                f"{top}{folder}/labels",
                (".png",),
                "_label",
            )
            for split, folder in _FOLDERS.items()
        }
