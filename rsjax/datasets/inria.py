"""Inria Aerial Image Labeling: buildings of five cities, 180 images of 5000 pixels at 0.3 m.

Page: https://project.inria.fr/aerialimagelabeling/. Paper:
https://doi.org/10.1109/IGARSS.2017.8127684.

Validation is what the authors propose: images 1 to 5 of each city; training the other 155. The
labels of the 180 test images (of other cities) are withheld, so there is no split `test`.
"""

from __future__ import annotations

import os
import re

from rsjax.datasets import aerial, aerial_files, tiff, tiling
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import DatasetError

PAGE = "https://project.inria.fr/aerialimagelabeling/"
CITIES = ("austin", "chicago", "kitsap", "tyrol-w", "vienna")

_SIDE_PX = 5000
_IMAGES = {"train": 155, "validation": 25}
_VALIDATION = range(1, 6)
_NAME = re.compile(rf"({'|'.join(CITIES)})([1-9]|[12]\d|3[0-6])")


class Inria(aerial.Tiled):
    """Inria Aerial Image Labeling in tiles, see `aerial.Tiled`; from `AerialImageDataset`.

    An example also has `city`; the mask is 0 or 1 (building).

    Args:
        source: the folder `AerialImageDataset`, or the one it lies in.
        georeferenced: whether each image must say where it lies, and each example gets `crs` and
            `transform`.
        tile_px, overlap_px, edges: see `rsjax.datasets.tiling`.

    Raises:
        ConfigError: an unknown option value.
        DatasetError: from `keys` and `read`; missing, damaged or inconsistent files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        georeferenced: bool = True,
        tile_px: int = 512,
        overlap_px: int = 0,
        edges: str = "shift",
    ):
        self._georeferenced = georeferenced
        tiles = tiling.Tiling(tile_px, overlap_px, edges)
        each = tiles.count(_SIDE_PX, _SIDE_PX)
        super().__init__(
            source,
            DatasetInfo(
                name="inria",
                version="1.0.0",
                title="Inria Aerial Image Labeling",
                page=PAGE,
                licence="none stated",
                citation="Maggiori et al., Can Semantic Labeling Methods Generalize to Any City? "
                "The Inria Aerial Image Labeling Benchmark, IGARSS 2017, "
                "doi:10.1109/IGARSS.2017.8127684",
                images={"rgb": aerial.rgb_spec(tile_px, 0.3)},
                label=None,
                nomenclature="buildings",
                mask=(tile_px, tile_px),
                mask_nomenclature="buildings",
                metadata=("city",),
                splits={split: count * each for split, count in _IMAGES.items()},
                rgb=("rgb", aerial.RGB),
                rgb_range=(0.0, 255.0),
                georeferenced=georeferenced,
            ),
            tops=("", "AerialImageDataset/"),
            probe="train/images",
            tiles=tiles,
            options={"georeferenced": georeferenced},
        )

    def _list(self, split: str) -> dict[str, aerial_files.Pair]:
        train = f"{self._top}train/"
        pairs = aerial_files.find_pairs(self._files, f"{train}images", f"{train}gt", (".tif",))
        chosen = {}
        for name, pair in pairs.items():
            match = _NAME.fullmatch(name)
            if not match:
                raise DatasetError(
                    f"{self._files.describe(pair.image)}: not an image of the training cities, "
                    f"expected {', '.join(CITIES)} with a number from 1 to 36; move it away"
                )
            if (int(match[2]) in _VALIDATION) == (split == "validation"):
                chosen[match[1], int(match[2])] = (name, pair)
        if not chosen:
            numbers = "1 to 5" if split == "validation" else "6 to 36"
            raise DatasetError(
                f"{self._files.describe(f'{train}images')}: no images with numbers from {numbers}, "
                f"expected those of split '{split}'. Complete the download from {PAGE}"
            )
        return dict(chosen[place] for place in sorted(chosen))

    def _decode(self, name: str, pair: aerial_files.Pair) -> aerial.Decoded:
        image, header = aerial_files.read_rgb(self._files, pair.image)
        where = self._files.describe(pair.mask)
        mask_header = tiff.parse(self._files.read(pair.mask), where)
        aerial_files.check_same_place(header, mask_header)
        stored = tiff.pixels(mask_header, shape=None, dtype="uint8", bands=1)
        place = None
        if self._georeferenced:
            place = aerial_files.place_of(header, "or use --option=georeferenced=false")
        mask = aerial_files.binary_mask(stored, where, {(0,): 0, (255,): 1})
        return aerial.Decoded(image, mask, {"city": name.rstrip("0123456789")}, place)
