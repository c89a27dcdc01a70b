"""Sen-2 LULC: 213,761 Sentinel-2 RGB pictures of 64 pixels from central India, mapped in 7 classes.

Page: https://data.mendeley.com/datasets/f4ky6ks248/3. Paper:
https://doi.org/10.1016/j.dib.2023.109724. The pictures (bands 4, 3, 2, of 8 bits, February and
March 2021) carry no coordinates and are cut from few scenes: figures are optimistic.
"""

from __future__ import annotations

import functools
import os

import numpy as np

from rsjax import landcover
from rsjax.datasets import aerial_files, base, files, folder_images
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.datasets.splits import LIST_NAMES
from rsjax.errors import DatasetError, NomenclatureError

PAGE = "https://data.mendeley.com/datasets/f4ky6ks248/3"

_SHAPE = (64, 64)
_BANDS = ("red", "green", "blue")
_LOOKED_AT = 200  # masks at least, to see whether codes begin at 0


class Sen2LULC:
    """Sen-2 LULC: `rgb` (64, 64, 3) uint8, `mask` (64, 64) uint8 class indices, `id`.

    Splits are the folders `train_images` and `train_masks`, `val_...` and `test_...`, searched with
    all folders in them: some copies have a folder `train` in each, some have none. Keys are
    `<train, val or test>/<file name without extension>`.

    Args:
        source: the folder or zip with these folders, at its top or one folder down.
        code0: what code 0 in a mask means, which no source says: 'ignore': not labelled; `check`
            refuses it where code 7 does not occur, as codes then seem to begin at 0. 'error': it
            must not occur.

    Raises:
        ConfigError: an unknown option value.
        DatasetError, NomenclatureError: from `keys`, `check` and `read`; missing or damaged files,
            unknown codes.
    """

    def __init__(self, source: str | os.PathLike[str], *, code0: str = "ignore"):
        self.source = os.fspath(source)
        self._code0 = base.choice("code0", code0, ("ignore", "error"))
        self._found: dict[str, dict[str, aerial_files.Pair]] = {}  # of `_samples`, listed once
        self.info = DatasetInfo(
            name="sen2lulc",
            version="3.0.0",
            title="Sen-2 LULC",
            page=PAGE,
            licence="CC-BY-4.0, as others state it; see the page",
            citation="Sen-2 LULC: Land use land cover dataset for deep learning approaches, Data "
            "in Brief 51, 2023, 109724, doi:10.1016/j.dib.2023.109724",
            images={"rgb": ImageSpec("rgb", _BANDS, *_SHAPE, "uint8", "dn8", 10.0)},
            label=None,
            nomenclature="sen2lulc",
            mask=_SHAPE,
            mask_nomenclature="sen2lulc",
            metadata=(),
            splits=dict.fromkeys(LIST_NAMES, 0),  # no official sizes are published
            rgb=("rgb", _BANDS),
            rgb_range=(0.0, 255.0),
        )

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The keys of a split, sorted by file name."""
        base.check_split(self.info, split)
        return list(self._samples(LIST_NAMES[split]))

    def read(self, key: str) -> base.Example:
        """One picture and its mask; see the class."""
        theirs = key.split("/")[0]
        pair = self._samples(theirs).get(key) if theirs in LIST_NAMES.values() else None
        if pair is None:
            raise base.unknown_key(self.info, self.source, key)
        image, mask = pair
        codes, where = self._codes(mask)
        if self._code0 == "error" and not codes.all():
            raise DatasetError(
                f"{where}: {int((codes == 0).sum())} pixels of code 0, expected codes 1 to 7. Use "
                "code0='ignore' if they are not labelled, or leave the sample out"
            )
        rgb = folder_images.look(self._files.read(image), self._files.describe(image))
        found = (rgb.kind, *rgb.shape, rgb.dtype)
        if found != ("png", *_SHAPE, len(_BANDS), "uint8"):
            raise _error(rgb.where, f"a {rgb.kind} of {rgb.describe()}",
                         "a png of 64x64 pixels, 3 bands of uint8")  # fmt: skip
        return {
            "id": key,
            "rgb": folder_images.pixels(rgb),
            "mask": landcover.load("sen2lulc").encode(codes, where),
        }

    def check(self) -> None:
        """Refuses masks whose codes seem to run from 0 to 6 instead of 1 to 7.

        Looks at training masks in random order up to the first one with code 7; where there is
        none, at 200 and on to the first one with code 0.

        Raises:
            DatasetError: code 0 occurs and code 7 does not.
        """
        if self._code0 == "error":
            return
        names = [mask for _, mask in self._samples("train").values()]
        zeros, looked = "", 0
        for i in np.random.default_rng(0).permutation(len(names)):
            if zeros and looked >= _LOOKED_AT:
                break
            try:
                codes, where = self._codes(names[i])
            except (DatasetError, NomenclatureError):  # reading the sample will name the damage
                continue
            looked += 1
            if (codes == 7).any():
                return
            zeros = zeros or ("" if codes.all() else where)
        if zeros:
            raise DatasetError(
                f"{zeros}: pixels of code 0, and code 7 in none of {looked} training masks; "
                "expected codes 1 to 7. The classes seem to be numbered from 0: "
                f"compare the masks with {PAGE}, and write them with codes 1 to 7"
            )

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        keys = {split: self.keys(split) for split in self.info.splits}
        return base.fingerprint(self.info, {"code0": self._code0}, keys, {})

    def _codes(self, name: str) -> tuple[np.ndarray, str]:
        """The codes of a mask, and its path for messages."""
        mask = folder_images.look(self._files.read(name), self._files.describe(name))
        if mask.kind != "tiff" or mask.shape[:2] != _SHAPE:
            raise _error(
                mask.where, f"a {mask.kind} of {mask.describe()}", "a tiff of 64x64 pixels, 1 band"
            )
        return folder_images.codes(mask), mask.where

    @functools.cached_property
    def _files(self) -> files.Source:
        return files.open_source(self.source, PAGE)

    @functools.cached_property
    def _top(self) -> str:
        tops = ["", *(f"{folder}/" for folder in self._files.folders())]
        return aerial_files.find_top(self._files, tops, "train_images")

    def _samples(self, theirs: str) -> dict[str, aerial_files.Pair]:
        """Key -> files, of a split by its name on disk."""
        if theirs not in self._found:
            images, masks = (f"{self._top}{theirs}_{what}" for what in ("images", "masks"))
            pairs = aerial_files.find_pairs(self._files, images, masks, (".png", ".tif", ".tiff"))
            self._found[theirs] = {f"{theirs}/{name}": pair for name, pair in pairs.items()}
        return self._found[theirs]


def _error(where: str, found: str, expected: str) -> DatasetError:
    return DatasetError(
        f"{where}: {found}, expected {expected}. "
        "Restore the file from the original download, or leave the sample out"
    )
