"""BigEarthNet v2 (reBEN): 549,488 Sentinel-1 and -2 patches of 1.2 km with CORINE labels and maps.

Page: https://zenodo.org/records/10891137. Paper: https://arxiv.org/abs/2407.03653.
"""

from __future__ import annotations

import functools
import os
import re

import numpy as np

from rsjax import landcover
from rsjax.datasets import archives, base, bigearthnet_metadata, files, patches
from rsjax.datasets.bigearthnet_metadata import FLAGS, SPLITS, Metadata
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import DatasetError
from rsjax.landcover import IGNORE

PAGE = "https://zenodo.org/records/10891137"

_S2, _S1, _MAPS = "BigEarthNet-S2", "BigEarthNet-S1", "Reference_Maps"
_METADATA = "metadata.parquet"
_SNOW_CLOUD = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
_SIZES = {"train": 237_871, "validation": 122_342, "test": 119_825}
_SIZES_SNOW_CLOUD = {"train": 272_544, "validation": 139_577, "test": 137_367}
_LABELS = ("bigearthnet19", "bigearthnet43")
_ID = re.compile(r"S2[A-D]_MSIL2A_\d{8}T\d{6}_N\d{4}_R\d{3}_T\w{5}_\d\d_\d\d")
_S1_NAME = re.compile(r"S1[A-D]_IW_GRDH_1SDV_\d{8}T\d{6}_\w{5}_\d{1,2}_\d{1,2}")

_STATISTICS = {
    "sentinel2_l2a": {
        "B01": (361.0768, 575.0687), "B02": (438.3721, 607.0269), "B03": (614.0557, 603.2968),
        "B04": (588.4096, 684.5688), "B05": (942.8433, 738.4327), "B06": (1769.9316, 1100.4561),
        "B07": (2049.5515, 1275.8054), "B08": (2193.2920, 1369.3717),
        "B8A": (2235.5566, 1356.5441), "B09": (2241.4553, 1316.3933),
        "B11": (1568.2268, 1070.1613), "B12": (997.7325, 813.5276),
    },
    "sentinel1": {"VV": (-12.6439, 5.1335), "VH": (-19.3526, 5.5905)},
}  # fmt: skip


class BigEarthNet:
    """BigEarthNet v2, from the folder that holds what its page offers.

    The folder has `metadata.parquet` and, unpacked or as uncompressed tars, `BigEarthNet-S2`,
    `BigEarthNet-S1` and `Reference_Maps`. An example has `s2_10m` (120, 120, 4), `s2_20m`
    (60, 60, 6), `s2_60m` (20, 20, 2), all uint16; `s1` (120, 120, 2) float32 in dB, VV before VH;
    `mask` (120, 120) uint8, CORINE level 3 class indices with 255 = not labelled; `label`
    multi-hot uint8; `id`, `country`, `s1_name`, `crs` and `transform` of the 10 m grid.

    Args:
        source: the folder.
        sensors: which of 's2' and 's1' to read.
        maps: whether to read the reference maps.
        labels: 'bigearthnet19' from the metadata, or 'bigearthnet43': the distinct classes of the
            reference map, which must be on disk.
        snow_cloud: whether to add the patches with seasonal snow, cloud or shadow, which the
            official splits leave out; adds two text entries, 'true' or 'false'.
        only_on_disk: whether to leave out patches without a folder (of the first of `sensors`),
            for partial downloads.

    Raises:
        ConfigError: an unknown option value.
        DatasetError: from `keys` and `read`; missing, damaged or inconsistent files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        sensors: str | tuple[str, ...] = ("s2", "s1"),
        maps: bool = True,
        labels: str = "bigearthnet19",
        snow_cloud: bool = False,
        only_on_disk: bool = False,
    ):
        self.source = os.fspath(source)
        self._sensors = base.choices("sensors", sensors, patches.SENSORS)
        self._maps = maps
        self._labels = base.choice("labels", labels, _LABELS)
        self._snow_cloud = snow_cloud
        self._only_on_disk = only_on_disk
        self.info = DatasetInfo(
            name="bigearthnet",
            version="2.0.0",
            title="BigEarthNet v2.0 (reBEN)",
            page=PAGE,
            licence="CDLA-Permissive-1.0",
            citation="Clasen et al., reBEN: Refined BigEarthNet Dataset for Remote Sensing Image "
            "Analysis, 2024, arXiv:2407.03653",
            images=patches.image_specs(self._sensors, s2_nodata=0.0),
            label="multihot",
            nomenclature=labels,
            mask=(120, 120) if maps else None,
            mask_nomenclature="corine_l3" if maps else None,
            metadata=("country", "s1_name", *(FLAGS if snow_cloud else ())),
            splits=dict(_SIZES_SNOW_CLOUD if snow_cloud else _SIZES),
            **patches.drawing(self._sensors),
            published_statistics={
                spec.sensor: _STATISTICS[spec.sensor]
                for spec in patches.image_specs(self._sensors, None).values()
            },
            published_statistics_source="official training split without interpolation, "
            "https://github.com/lhackel-tub/ConfigILM",
            georeferenced=True,
        )

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The patch names of a split, in the order of the metadata."""
        base.check_split(self.info, split)
        self._check_parts()
        table = self._metadata
        chosen = table.split == SPLITS.index(split)
        names = [name.decode() for name in table.ids[chosen]]
        if not self._only_on_disk:
            return names
        if "s2" in self._sensors:
            return [name for name in names if name in self._on_disk]
        partners = table.s1_names[chosen].tolist()
        return [n for n, s1 in zip(names, partners, strict=True) if s1.decode() in self._on_disk]

    def read(self, key: str) -> base.Example:
        """One patch; see the class."""
        table = self._metadata
        row = table.row(key)
        if row is None:
            raise base.unknown_key(self.info, self.source, key)
        s1_name = table.s1_names[row].decode()
        if not _ID.fullmatch(key) or not _S1_NAME.fullmatch(s1_name):
            raise DatasetError(
                f"{os.path.join(self.source, _METADATA)}: patch {key!r} with s1_name {s1_name!r} "
                "is not named as officially; use the official metadata"
            )
        example: base.Example = {"id": key}
        grid = None
        if "s2" in self._sensors:
            images, grid = patches.read_s2(self._s2, _stem(_S2, key, 2), grid)
            example.update(images)
        if "s1" in self._sensors:
            example["s1"], grid = patches.read_s1(self._s1, _stem(_S1, s1_name, 3), grid)
        mask = None
        if self._needs_maps:
            mask, grid = self._read_map(key, grid)
        assert grid is not None
        if self._maps:
            example["mask"] = mask
        example["label"] = self._label(row, mask)
        example["country"] = table.countries[table.country[row]]
        example["s1_name"] = s1_name
        if self._snow_cloud:
            flags = zip(FLAGS, table.flags[row].tolist(), strict=True)
            example.update((name, "true" if flag else "false") for name, flag in flags)
        example["crs"] = grid.crs
        example["transform"] = grid.transform
        return example

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        options = {
            "sensors": self._sensors,
            "maps": self._maps,
            "labels": self._labels,
            "snow_cloud": self._snow_cloud,
            "only_on_disk": self._only_on_disk,
        }
        keys = {split: self.keys(split) for split in self.info.splits}
        content = {os.path.basename(k): v for k, v in self._metadata_files().items()}
        return base.fingerprint(self.info, options, keys, content)

    @property
    def _needs_maps(self) -> bool:
        return self._maps or self._labels == "bigearthnet43"

    def _label(self, row: int, mask: np.ndarray | None) -> np.ndarray:
        nomenclature = landcover.load(self._labels)
        label = np.zeros(len(nomenclature), np.uint8)
        if self._labels == "bigearthnet19":
            label[self._metadata.classes(row)] = 1
        else:
            assert mask is not None
            found = patches.crosswalk("corine_l3", self._labels)[np.unique(mask)]
            label[found[found != IGNORE]] = 1
        return label

    def _read_map(self, key: str, grid: patches.Grid | None) -> tuple[np.ndarray, patches.Grid]:
        path = f"{_stem(_MAPS, key, 2)}_reference_map.tif"
        codes, grid = patches.read_stack(self._map_source, [path], 120, "uint16", 10.0, grid)
        where = self._map_source.describe(path)
        return landcover.load("corine_l3").encode(codes[..., 0], where), grid

    def _check_parts(self) -> None:
        """Opens everything asked for, so that what is missing shows before the first sample."""
        if "s2" in self._sensors:
            _ = self._s2
        if "s1" in self._sensors:
            _ = self._s1
        if self._needs_maps:
            _ = self._map_source

    @functools.cached_property
    def _s2(self) -> files.Source:
        return files.open_part(self.source, _S2, PAGE, "sensors=('s1',)")

    @functools.cached_property
    def _s1(self) -> files.Source:
        return files.open_part(self.source, _S1, PAGE, "sensors=('s2',)")

    @functools.cached_property
    def _map_source(self) -> files.Source:
        return files.open_part(self.source, _MAPS, PAGE, "maps=False, labels='bigearthnet19'")

    @functools.cached_property
    def _metadata(self) -> Metadata:
        nomenclature = landcover.load("bigearthnet19")
        return bigearthnet_metadata.load(self._metadata_files(), nomenclature)

    def _metadata_files(self) -> dict[str, bytes]:
        root = files.open_source(self.source, PAGE)
        names = [_METADATA, *([_SNOW_CLOUD] if self._snow_cloud else [])]
        return {root.describe(name): root.read(name) for name in names}

    @functools.cached_property
    def _on_disk(self) -> set[str]:
        part, source = (_S2, self._s2) if "s2" in self._sensors else (_S1, self._s1)
        if not isinstance(source, archives.TarSource):  # a tar is listed in one go
            products = source.folders(part)
            return {name for p in products for name in source.folders(f"{part}/{p}")}
        return {name.split("/")[2] for name in source.names(part) if name.count("/") == 3}


def _stem(part: str, name: str, tokens: int) -> str:
    """Path of a patch's files without their ending; its product is the name less some tokens."""
    return f"{part}/{name.rsplit('_', tokens)[0]}/{name}/{name}"
