"""Massachusetts Buildings: 151 aerial images of 1500 pixels at 1 m around Boston.

Page: https://www.cs.toronto.edu/~vmnih/data/. Source: Mnih, Machine Learning for Aerial Image
Labeling, PhD thesis, University of Toronto 2013. Its roads are another dataset, of 1,171 images.
"""

from __future__ import annotations

import os

from rsjax.datasets import aerial, aerial_files, tiff, tiling
from rsjax.datasets.info import DatasetInfo

PAGE = "https://www.cs.toronto.edu/~vmnih/data/"

_SIDE_PX = 1500
_FOLDERS = {"train": "train", "validation": "valid", "test": "test"}
_IMAGES = {"train": 137, "validation": 4, "test": 10}
# A building is red; white is taken, too, for there are copies whose masks are grey, in one band or
# in three.
_COLOURS = {aerial_files.BLACK: 0, aerial_files.RED: 1, aerial_files.WHITE: 1}
_GREYS: dict[aerial_files.Colour, int] = {(0,): 0, (255,): 1}


class MassachusettsBuildings(aerial.Tiled):
    """Massachusetts Buildings in tiles, see `aerial.Tiled`; official splits.

    The folder has `train`, `valid` and `test`, each with the images in `sat` and masks of the
    same name in `map`, where buildings are (255, 0, 0), or white, and all else black. Files say
    nothing of where they lie.

    Args:
        source: the folder, or the one that `mass_buildings` lies in.
        tile_px, overlap_px, edges: see `rsjax.datasets.tiling`.

    Raises:
        ConfigError: an unknown option value.
        DatasetError: from `keys` and `read`; missing, damaged or inconsistent files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        tile_px: int = 512,
        overlap_px: int = 0,
        edges: str = "shift",
    ):
        tiles = tiling.Tiling(tile_px, overlap_px, edges)
        each = tiles.count(_SIDE_PX, _SIDE_PX)
        super().__init__(
            source,
            DatasetInfo(
                name="massachusetts_buildings",
                version="1.0.0",
                title="Massachusetts Buildings",
                page=PAGE,
                licence="none stated",
                citation="Mnih, Machine Learning for Aerial Image Labeling, PhD thesis, University "
                "of Toronto 2013",
                images={"rgb": aerial.rgb_spec(tile_px, 1.0)},
                label=None,
                nomenclature="buildings",
                mask=(tile_px, tile_px),
                mask_nomenclature="buildings",
                metadata=(),
                splits={split: count * each for split, count in _IMAGES.items()},
                rgb=("rgb", aerial.RGB),
                rgb_range=(0.0, 255.0),
            ),
            tops=("", "mass_buildings/"),
            probe="train/sat",
            tiles=tiles,
        )

    def _list(self, split: str) -> dict[str, aerial_files.Pair]:
        top = f"{self._top}{_FOLDERS[split]}/"
        return aerial_files.find_pairs(self._files, f"{top}sat", f"{top}map", (".tiff", ".tif"))

    def _decode(self, name: str, pair: aerial_files.Pair) -> aerial.Decoded:
        image, _ = aerial_files.read_rgb(self._files, pair.image)
        header = tiff.parse(self._files.read(pair.mask), self._files.describe(pair.mask))
        bands, colours = (1, _GREYS) if header.bands == 1 else (3, _COLOURS)
        stored = tiff.pixels(header, shape=None, dtype="uint8", bands=bands)
        return aerial.Decoded(image, aerial_files.binary_mask(stored, header.where, colours), {})
