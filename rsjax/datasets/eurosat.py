"""EuroSAT: 27,000 Sentinel-2 patches of 64 pixels in 10 classes, as RGB or with all 13 bands.

Page: https://zenodo.org/records/7711810. Paper: https://doi.org/10.1109/JSTARS.2019.2918242.

The dataset comes without splits. `split_rule='stratified'` is ours and the same for both variants:
within each class the images are sorted by the sha256 hex digest of their file stem (e.g.
`Forest_12`); the first 20 % (rounded half up) are the test set, the next 8 % the validation set,
the rest the training set: 19,440, 2,160 and 5,400 images. 'lists' reads `eurosat-train.txt`,
`eurosat-val.txt` and `eurosat-test.txt` (16,200, 5,400, 5,400), 'spatial' the lists
`eurosat-spatial-*.txt` (by longitude), in the source or beside the zip; images in no list are in
no split. Patches are neighbours: only the spatial lists keep test images apart from training ones.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from rsjax.datasets import base, geotiff, jpeg, scenes, tiff
from rsjax.datasets.info import DatasetInfo, ImageSpec

PAGE = "https://zenodo.org/records/7711810"

# The order in the files: B8A comes last.
ALL_BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A",
)  # fmt: skip

_SIZES = {
    "stratified": {"train": 19_440, "validation": 2_160, "test": 5_400},
    "lists": {"train": 16_200, "validation": 5_400, "test": 5_400},
    "spatial": {"train": 0, "validation": 0, "test": 0},
}
_LISTS = {"lists": "eurosat-{}.txt", "spatial": "eurosat-spatial-{}.txt"}
_MEANS = (
    1354.4055, 1118.2440, 1042.9298, 947.6262, 1199.4728, 1999.7909, 2369.2229, 2296.8261,
    732.0834, 12.1133, 1819.0103, 1118.9239, 2594.1408,
)  # fmt: skip
_DEVIATIONS = (
    245.72, 333.01, 395.09, 593.75, 566.42, 861.18, 1086.63, 1117.98, 404.92, 4.78, 1002.59,
    761.30, 1231.59,
)  # fmt: skip


class EuroSAT(scenes.Scenes):
    """EuroSAT as RGB JPEG: `rgb` (64, 64, 3) uint8, `label` class index, `id`.

    The colours are bands 4, 3, 2, stretched from 0-2750 to 1-255; they are not reflectances.

    Args:
        source: the zip, the folder it was unpacked into, or the folder it lies in.
        split_rule: 'stratified', 'lists' or 'spatial', see the module.

    Raises:
        ConfigError: an unknown option value.
        DatasetError, NomenclatureError: from `keys` and `read`; missing, damaged or misplaced
            files.
    """

    def __init__(self, source: str | os.PathLike[str], *, split_rule: str = "stratified"):
        super().__init__(
            source,
            _info(
                "eurosat",
                "EuroSAT RGB",
                split_rule,
                images={
                    "rgb": ImageSpec("rgb", ("red", "green", "blue"), 64, 64, "uint8", "dn8", 10.0)
                },
                rgb=("rgb", ("red", "green", "blue")),
                rgb_range=(0.0, 255.0),
            ),
            tops=("2750/", "EuroSAT_RGB/", "EuroSAT/2750/", ""),
            archives=("EuroSAT.zip", "EuroSAT_RGB.zip"),
            pattern=r"_\d+",
            extension=".jpg",
            split_rule=split_rule,
            lists=_LISTS,
        )

    def read(self, key: str) -> base.Example:
        """One image; see the class."""
        data, where, label = self._open(key)
        return {"id": key, "rgb": jpeg.read_jpeg(data, where, shape=(64, 64)), "label": label}


class EuroSATAllBands(scenes.Scenes):
    """EuroSAT with 13 bands at the top of the atmosphere; arguments and errors as `EuroSAT`.

    An example has `s2` (64, 64, 13) uint16 in the order of the files (B8A last), `label` class
    index, `id`, `crs`, `transform`.
    """

    def __init__(self, source: str | os.PathLike[str], *, split_rule: str = "stratified"):
        super().__init__(
            source,
            _info(
                "eurosat_allbands",
                "EuroSAT with all bands",
                split_rule,
                images={
                    "s2": ImageSpec(
                        "sentinel2_l1c", ALL_BANDS, 64, 64, "uint16", "reflectance_1e4", 10.0
                    )
                },
                rgb=("s2", ("B04", "B03", "B02")),
                rgb_range=(0.0, 2750.0),
                published_statistics={
                    "sentinel2_l1c": dict(
                        zip(ALL_BANDS, zip(_MEANS, _DEVIATIONS, strict=True), strict=True)
                    )
                },
                published_statistics_source="https://github.com/torchgeo/torchgeo, "
                "datamodules/eurosat.py, training set of the lists",
                georeferenced=True,
            ),
            tops=(
                "ds/images/remote_sensing/otherDatasets/sentinel_2/tif/",
                "tif/",
                "EuroSATallBands/",
                "EuroSAT_MS/",
                "",
            ),
            archives=("EuroSATallBands.zip", "EuroSAT_MS.zip"),
            pattern=r"_\d+",
            extension=".tif",
            split_rule=split_rule,
            lists=_LISTS,
        )

    def read(self, key: str) -> base.Example:
        """One image; see the class."""
        data, where, label = self._open(key)
        header = tiff.parse(data, where)
        return {
            "id": key,
            "s2": tiff.pixels(header, shape=(64, 64), dtype="uint16", bands=len(ALL_BANDS)),
            "label": label,
            "crs": geotiff.crs(header),
            "transform": np.array(geotiff.transform(header)),
        }


def _info(name: str, title: str, split_rule: str, **fields: Any) -> DatasetInfo:
    return DatasetInfo(
        name=name,
        version="1.0.0",
        title=title,
        page=PAGE,
        licence="MIT",
        citation="Helber et al., EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use "
        "and Land Cover Classification, IEEE JSTARS 2019, doi:10.1109/JSTARS.2019.2918242",
        label="index",
        nomenclature="eurosat",
        mask=None,
        mask_nomenclature=None,
        metadata=(),
        splits=dict(_SIZES.get(split_rule, _SIZES["stratified"])),
        **fields,
    )
