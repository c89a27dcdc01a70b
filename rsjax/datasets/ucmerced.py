"""UC Merced Land Use: 2,100 aerial RGB images of about 256 pixels in 21 classes.

Page: http://weegee.vision.ucmerced.edu/datasets/landuse.html. Paper:
https://doi.org/10.1145/1869790.1869829.

The dataset comes without splits. `split_rule='stratified'` is ours: within each class the images
are sorted by the sha256 hex digest of their file stem (e.g. `forest12`); the first 20 % (rounded
half up) are the test set, the next 8 % the validation set, the rest the training set: 1,512, 168
and 420 images. 'lists' reads `uc_merced-train.txt`, `uc_merced-val.txt` and `uc_merced-test.txt`
(1,260, 420, 420) in the source or beside the zip; images in no list are in no split.
"""

from __future__ import annotations

import os

from rsjax.datasets import base, geotiff, scenes
from rsjax.datasets.info import DatasetInfo, ImageSpec

PAGE = "http://weegee.vision.ucmerced.edu/datasets/landuse.html"

_SIZES = {
    "stratified": {"train": 1_512, "validation": 168, "test": 420},
    "lists": {"train": 1_260, "validation": 420, "test": 420},
}


class UCMerced(scenes.Scenes):
    """UC Merced: `rgb` (height, width, 3) uint8 as on disk, `label` class index, `id`.

    Most images have 256 x 256 pixels, 44 of the 2,100 a few less or more.

    Args:
        source: the zip, the folder it was unpacked into, or the folder it lies in.
        split_rule: 'stratified' or 'lists', see the module.

    Raises:
        ConfigError: an unknown option value.
        DatasetError, NomenclatureError: from `keys` and `read`; missing, damaged or misplaced
            files.
    """

    def __init__(self, source: str | os.PathLike[str], *, split_rule: str = "stratified"):
        rgb = ("red", "green", "blue")
        super().__init__(
            source,
            DatasetInfo(
                name="ucmerced",
                version="1.0.0",
                title="UC Merced Land Use",
                page=PAGE,
                licence="public domain",
                citation="Yang and Newsam, Bag-of-visual-words and spatial extensions for land-use "
                "classification, ACM GIS 2010, doi:10.1145/1869790.1869829",
                images={"rgb": ImageSpec("rgb", rgb, 0, 0, "uint8", "dn8", 0.3)},
                label="index",
                nomenclature="ucmerced",
                mask=None,
                mask_nomenclature=None,
                metadata=(),
                splits=dict(_SIZES.get(split_rule, _SIZES["stratified"])),
                rgb=("rgb", rgb),
                rgb_range=(0.0, 255.0),
            ),
            tops=("UCMerced_LandUse/Images/", "Images/", ""),
            archives=("UCMerced_LandUse.zip",),
            pattern=r"\d\d",
            extension=".tif",
            split_rule=split_rule,
            lists={"lists": "uc_merced-{}.txt"},
        )

    def read(self, key: str) -> base.Example:
        """One image; see the class."""
        data, where, label = self._open(key)
        pixels = geotiff.read_tiff(data, where, shape=None, dtype="uint8", bands=3)
        return {"id": key, "rgb": pixels, "label": label}
