"""BigEarthNet v1 (BigEarthNet-MM): 590,326 Sentinel-1 and -2 patches with 43 CORINE classes.

Page: https://zenodo.org/records/12687186. Papers: https://doi.org/10.1109/IGARSS.2019.8900532 and
https://doi.org/10.1109/MGRS.2021.3089174. Scores on its splits are optimistic: they cut the same
scenes (https://arxiv.org/abs/2407.03653).
"""

from __future__ import annotations

import functools
import json
import os
import re
from typing import Any

import numpy as np

from rsjax import landcover, storage
from rsjax.datasets import base, files, patches
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import DatasetError
from rsjax.landcover import IGNORE

PAGE = "https://zenodo.org/records/12687186"

_SIZES = {"train": 269_695, "validation": 123_723, "test": 125_866}
_LISTS = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
_LABELS = ("bigearthnet43", "bigearthnet19")
_NAME = re.compile(r"S2[A-D]_MSIL2A_\d{8}T\d{5,6}_\d{1,2}_\d{1,2}")
_S1_NAME = re.compile(r"S1[A-D]_IW_GRDH_1SDV_\d{8}T\d{6}_\w{5}_\d{1,2}_\d{1,2}")
_TIMES = ("acquisition_date", "acquisition_time")  # the archive and its description disagree

_STATISTICS = {
    "sentinel2_l2a": {
        "B01": (340.77, 554.81), "B02": (429.94, 572.42), "B03": (614.22, 582.88),
        "B04": (590.24, 675.89), "B05": (950.68, 729.90), "B06": (1792.46, 1096.01),
        "B07": (2075.47, 1273.45), "B08": (2218.95, 1365.46), "B8A": (2266.46, 1356.14),
        "B09": (2246.06, 1302.33), "B11": (1594.43, 1079.19), "B12": (1009.33, 818.87),
    },
    "sentinel1": {"VV": (-12.62, 5.116), "VH": (-19.29, 5.464)},
}  # fmt: skip


class BigEarthNetV1:
    """BigEarthNet v1, from the folder that holds `BigEarthNet-v1.0` and `BigEarthNet-S1-v1.0`.

    Splits are the official `train.csv`, `val.csv` and `test.csv` (lines `S2 name,S1 name`) of the
    source; they leave out patches with seasonal snow, cloud or shadow and those without any of
    the 19 classes. Where none of the three is there, there is one split, `all`, with every patch
    folder in alphabetical order; pairs then come from the JSON of each Sentinel-1 patch.

    An example has the images of `rsjax.datasets.bigearthnet` without mask; `label` multi-hot
    uint8, all zero where a patch has no class of `labels`; `id` (the Sentinel-2 name),
    `acquisition_time`, `s1_name`, `crs`, `transform`.

    Args:
        source: the folder.
        sensors: which of 's2' and 's1' to read.
        labels: 'bigearthnet43' as in the JSON files, or 'bigearthnet19'.
        s2_dir: name of the folder of Sentinel-2 patches.
        s1_dir: name of the folder of Sentinel-1 patches.

    Raises:
        ConfigError: an unknown option value.
        DatasetError: from `keys` and `read`; missing, damaged or inconsistent files.
    """

    official_splits = _SIZES  # where the source has the lists

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        sensors: str | tuple[str, ...] = ("s2", "s1"),
        labels: str = "bigearthnet43",
        s2_dir: str = "BigEarthNet-v1.0",
        s1_dir: str = "BigEarthNet-S1-v1.0",
    ):
        self.source = os.fspath(source)
        self._sensors = base.choices("sensors", sensors, patches.SENSORS)
        self._labels = base.choice("labels", labels, _LABELS)
        self._s2_dir, self._s1_dir = s2_dir, s1_dir
        has_lists = any(storage.is_file(os.path.join(self.source, n)) for n in _LISTS.values())
        self.info = DatasetInfo(
            name="bigearthnet_v1",
            version="1.0.0",
            title="BigEarthNet v1.0 (BigEarthNet-MM)",
            page=PAGE,
            licence="CDLA-Permissive-1.0",
            citation="Sumbul et al., BigEarthNet-MM: A Large Scale Multi-Modal Multi-Label "
            "Benchmark Archive for Remote Sensing Image Classification and Retrieval, IEEE GRSM "
            "2021, doi:10.1109/MGRS.2021.3089174",
            images=patches.image_specs(self._sensors, s2_nodata=None),
            label="multihot",
            nomenclature=labels,
            mask=None,
            mask_nomenclature=None,
            metadata=("acquisition_time", *(("s1_name",) if "s1" in self._sensors else ())),
            splits=dict(_SIZES) if has_lists else {"all": 0},
            **patches.drawing(self._sensors),
            published_statistics={
                spec.sensor: _STATISTICS[spec.sensor]
                for spec in patches.image_specs(self._sensors, None).values()
            },
            published_statistics_source="https://github.com/kai-tub/bigearthnet_common",
            georeferenced=True,
        )

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The Sentinel-2 patch names of a split, in the order of its list."""
        base.check_split(self.info, split)
        if "s2" in self._sensors:
            _ = self._s2
        if "s1" in self._sensors:
            _ = self._s1
        if split != "all":
            return list(self._pairs_of(split))
        return self._s2.folders(self._s2_dir) if "s2" in self._sensors else sorted(self._pairs)

    def read(self, key: str) -> base.Example:
        """One patch; see the class."""
        if not _NAME.fullmatch(key):
            raise base.unknown_key(self.info, self.source, key)
        example: base.Example = {"id": key}
        grid, note, s1_name = None, None, ""
        if "s2" in self._sensors:
            stem = f"{self._s2_dir}/{key}/{key}"
            images, grid = patches.read_s2(self._s2, stem, grid)
            example.update(images)
            note = self._note(self._s2, stem, grid)
        if "s1" in self._sensors:
            s1_name = self._partner(key)
            stem = f"{self._s1_dir}/{s1_name}/{s1_name}"
            example["s1"], grid = patches.read_s1(self._s1, stem, grid)
            other = self._note(self._s1, stem, grid, pair=key)
            note = note or other
        assert grid is not None
        assert note is not None
        example["label"] = self._label(note)
        example["acquisition_time"] = str(next(note[name] for name in _TIMES if name in note))
        if s1_name:
            example["s1_name"] = s1_name
        example["crs"] = grid.crs
        example["transform"] = grid.transform
        return example

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        options = {"sensors": self._sensors, "labels": self._labels}
        keys = {split: self.keys(split) for split in self.info.splits}
        root = files.open_source(self.source, PAGE)
        lists = {_LISTS[s]: root.read(_LISTS[s]) for s in self.info.splits if s in _LISTS}
        return base.fingerprint(self.info, options, keys, lists)

    def _note(
        self, source: files.Source, stem: str, grid: patches.Grid, pair: str = ""
    ) -> dict[str, Any]:
        """The JSON of a patch, once it says the same as the files beside it."""
        name = f"{stem}_labels_metadata.json"
        where = source.describe(name)
        try:
            note = json.loads(source.read(name))
            corner = (note["coordinates"]["ulx"], note["coordinates"]["uly"])
            labels = note["labels"]
            partner = note["corresponding_s2_patch"] if pair else ""
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{where}: not the JSON of a patch ({type(error).__name__}: {error}); restore it "
                "from the original download, or leave the sample out"
            ) from error
        found = (corner, partner, isinstance(labels, list), any(t in note for t in _TIMES))
        expected = ((grid.x, grid.y), pair, True, True)
        if found != expected:
            raise DatasetError(
                f"{where}: upper left corner, partner, has labels, has time: {found}, expected "
                f"{expected}; restore it from the original download, or leave the sample out"
            )
        note["where"] = where
        return note

    def _label(self, note: dict[str, Any]) -> np.ndarray:
        original = landcover.load("bigearthnet43")
        label = original.multihot(note["labels"], note["where"])
        if self._labels == original.name:
            return label
        found = patches.crosswalk(original.name, self._labels)[np.flatnonzero(label)]
        label = np.zeros(len(landcover.load(self._labels)), np.uint8)
        label[found[found != IGNORE]] = 1
        return label

    def _partner(self, key: str) -> str:
        """The Sentinel-1 patch of a Sentinel-2 patch."""
        name = self._pairs.get(key)
        if name is None:
            raise DatasetError(
                f"{self.source}: no Sentinel-1 patch belongs to {key!r} in the split lists or in "
                f"{self._s1_dir}; complete the download, or use sensors=('s2',)"
            )
        if not _S1_NAME.fullmatch(name):
            raise DatasetError(f"{self.source}: {name!r}, partner of {key!r}, is no official name")
        return name

    @functools.cached_property
    def _pairs(self) -> dict[str, str]:
        """Sentinel-2 name -> Sentinel-1 name."""
        if "all" not in self.info.splits:
            return {k: v for split in _LISTS for k, v in self._pairs_of(split).items()}
        pairs: dict[str, str] = {}
        for name in self._s1.folders(self._s1_dir):
            path = f"{self._s1_dir}/{name}/{name}_labels_metadata.json"
            try:
                key = json.loads(self._s1.read(path))["corresponding_s2_patch"]
            except (ValueError, KeyError, TypeError) as error:
                raise DatasetError(
                    f"{self._s1.describe(path)}: not the JSON of a Sentinel-1 patch "
                    f"({type(error).__name__}: {error}); restore it from the original download"
                ) from error
            if key in pairs:
                raise DatasetError(f"{self.source}: {name} and {pairs[key]} both belong to {key}")
            pairs[key] = name
        return pairs

    def _pairs_of(self, split: str) -> dict[str, str]:
        root = files.open_source(self.source, PAGE)
        where = root.describe(_LISTS[split])
        lines = root.read(_LISTS[split]).decode(errors="replace").splitlines()
        pairs: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            key, _, partner = (part.strip() for part in line.partition(","))
            if not partner or key in pairs:
                raise DatasetError(
                    f"{where}:{number}: {line!r}, expected 'S2 name,S1 name', each patch once; "
                    "download the list again"
                )
            pairs[key] = partner
        return pairs

    @functools.cached_property
    def _s2(self) -> files.Source:
        return files.open_part(self.source, self._s2_dir, PAGE, "sensors=('s1',)")

    @functools.cached_property
    def _s1(self) -> files.Source:
        return files.open_part(self.source, self._s1_dir, PAGE, "sensors=('s2',)")
