"""PASTIS and PASTIS-R: 2,433 Sentinel-2 (and Sentinel-1) time series with crop types in France.

Pages: https://zenodo.org/records/5012942 and https://zenodo.org/records/5735646 (PASTIS-R, with
Sentinel-1). Papers: https://arxiv.org/abs/2107.07933, https://doi.org/10.1016/j.isprsjprs.2022.03.012.

The official protocol is a rotation of five folds: with `fold=1` training on 1, 2, 3, validation
on 4, test on 5; with `fold=2` on 2, 3, 4, then 5, then 1; and so on. A published score is that of
all five. Series have 38 to 61 dates (Sentinel-1 about 70). Instances (parcels) are not read.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence

import numpy as np

from rsjax import landcover
from rsjax.datasets import aerial_files, base, files, npy, pastis_metadata
from rsjax.datasets.files import Source
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.datasets.pastis_metadata import FOLDS, Patch
from rsjax.errors import ConfigError, DatasetError

PAGE = "https://zenodo.org/records/5735646"
SIZE = 128
S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
S1_BANDS = ("VV", "VH", "ratio")

_SATELLITES = {"s2": "S2", "s1a": "S1A", "s1d": "S1D"}
_TOPS = ("", "PASTIS-R/", "PASTIS/")
_NODATA = -10000  # in all bands, where the level 2A product of Theia has no value


class PASTIS:
    """PASTIS: `s2` (dates, 128, 128, 10) int16, `mask`, `tile`, `fold`, `s2_dates`.

    `mask` is uint8 (128, 128) of class indices, 255 for void. With PASTIS-R also `s1a` and `s1d`
    (dates, 128, 128, 3) float32: VV, VH and VV over VH in dB, of ascending and descending orbits,
    with `s1a_dates` and `s1d_dates`. Dates are ISO dates joined by ';'.

    Args:
        source: the folder with `metadata.geojson`, the folder or zip that holds it.
        sensors: some of 's2', 's1a', 's1d', as a tuple or comma-separated.
        fold: which of the five rotations, see the module.
        georeferenced: whether examples have `crs` and `transform`. The release gives outlines in
            EPSG:2154; places are derived from them (see `pastis_metadata.place`), and an outline
            that is no square on its tile's grid is refused.
        s2_dtype: of the Sentinel-2 files; no document states it, and others are refused.

    Raises:
        ConfigError: an unknown option value.
        DatasetError, NomenclatureError: from `keys` and `read`; missing, damaged or misplaced
            files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        sensors: str | Sequence[str] = ("s2",),
        fold: int = 1,
        georeferenced: bool = True,
        s2_dtype: str = "int16",
    ):
        self.source = os.fspath(source)
        self._sensors = base.choices("sensors", sensors, tuple(_SATELLITES))
        if fold not in FOLDS or isinstance(fold, bool):
            raise ConfigError(f"fold={fold!r}, expected one of {', '.join(map(str, FOLDS))}")
        self._fold = fold
        self._s2_dtype = base.choice("s2_dtype", s2_dtype, ("int16", "uint16", "float32"))
        rotated = [FOLDS[(fold - 1 + i) % len(FOLDS)] for i in range(len(FOLDS))]
        self._folds = {"train": rotated[:3], "validation": rotated[3:4], "test": rotated[4:]}
        specs = {
            "s2": ImageSpec(
                "sentinel2_l2a", S2_BANDS, SIZE, SIZE, s2_dtype, "reflectance_1e4", 10.0,
                nodata=None if s2_dtype == "uint16" else _NODATA, steps=0,
            ),
            "s1a": _radar("sentinel1_ascending"),
            "s1d": _radar("sentinel1_descending"),
        }  # fmt: skip
        optical = "s2" in self._sensors
        self.info = DatasetInfo(
            name="pastis",
            version="1.0.0",
            title="PASTIS, crop types in satellite time series",
            page=PAGE,
            licence="CC-BY-4.0",
            citation="Garnot and Landrieu, Panoptic Segmentation of Satellite Image Time Series "
            "with Convolutional Temporal Attention Networks, ICCV 2021, arXiv:2107.07933",
            images={name: specs[name] for name in self._sensors},
            label=None,
            nomenclature="pastis",
            mask=(SIZE, SIZE),
            mask_nomenclature="pastis",
            metadata=("tile", "fold", *(f"{name}_dates" for name in self._sensors)),
            splits=dict.fromkeys(self._folds, 0),  # 2,433 in all; no document counts the folds
            rgb=("s2", ("B04", "B03", "B02"))
            if optical
            else (self._sensors[0], ("VV", "VH", "VV")),
            rgb_range=(0.0, 2000.0) if optical else (-25.0, 0.0),
            georeferenced=georeferenced,
        )

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The keys of a split (ids of patches), fold by fold in the order of the metadata."""
        base.check_split(self.info, split)
        rows = self._patches.values()
        return [row.id for fold in self._folds[split] for row in rows if row.fold == fold]

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        options = {
            "sensors": list(self._sensors),
            "fold": self._fold,
            "georeferenced": self.info.georeferenced,
            "s2_dtype": self._s2_dtype,
        }
        keys = {split: self.keys(split) for split in self._folds}
        content = self._files.read(f"{self._top}metadata.geojson")
        return base.fingerprint(self.info, options, keys, {"metadata.geojson": content})

    def read(self, key: str) -> base.Example:
        """One patch; see the class."""
        if key not in self._patches:
            raise base.unknown_key(self.info, self.source, key)
        patch = self._patches[key]
        example: base.Example = {"id": key, "tile": patch.tile, "fold": str(patch.fold)}
        for name in self._sensors:
            example[name] = self._series(patch, name)
            example[f"{name}_dates"] = ";".join(patch.dates[_SATELLITES[name]])
        path = f"{self._top}ANNOTATIONS/TARGET_{key}.npy"
        where = self._files.describe(path)
        integers = ("uint8", "int8", "int16", "uint16", "int32", "int64")
        target = npy.read_npy(self._files.read(path), where, shape=(3, SIZE, SIZE), dtypes=integers)
        example["mask"] = landcover.load("pastis").encode(target[0], where)
        if self.info.georeferenced:
            crs, transform = pastis_metadata.place(patch, self._where)
            example["crs"], example["transform"] = crs, np.array(transform)
        return example

    def _series(self, patch: Patch, name: str) -> np.ndarray:
        """The series of one satellite, (dates, 128, 128, bands)."""
        satellite, spec = _SATELLITES[name], self.info.images[name]
        path = f"{self._top}DATA_{satellite}/{satellite}_{patch.id}.npy"
        where = self._files.describe(path)
        # Half precision is widened without loss.
        dtypes = (spec.dtype,) if name == "s2" else ("float32", "float16")
        values = npy.read_npy(
            self._files.read(path), where, shape=(None, len(spec.bands), SIZE, SIZE), dtypes=dtypes
        )
        if len(values) != len(patch.dates[satellite]):
            raise DatasetError(
                f"{where}: {len(values)} images, expected {len(patch.dates[satellite])}, as many "
                f"as dates-{satellite} has in {self._where}. Take both from one download"
            )
        return np.ascontiguousarray(np.moveaxis(values, 1, -1), spec.dtype)

    @functools.cached_property
    def _files(self) -> Source:
        return files.open_source(self.source, PAGE)

    @functools.cached_property
    def _top(self) -> str:
        return aerial_files.find_top(self._files, _TOPS, "metadata.geojson")

    @property
    def _where(self) -> str:
        return self._files.describe(f"{self._top}metadata.geojson")

    @functools.cached_property
    def _patches(self) -> dict[str, Patch]:
        content = self._files.read(f"{self._top}metadata.geojson")
        satellites = tuple(_SATELLITES[name] for name in self._sensors)
        return pastis_metadata.read(content, self._where, satellites)


def _radar(sensor: str) -> ImageSpec:
    # Missing values are NaN, so that a pixel with one is left out.
    return ImageSpec(sensor, S1_BANDS, SIZE, SIZE, "float32", "db", 10.0, nodata=math.nan, steps=0)
