"""SEN12MS: 180,662 triplets of Sentinel-1, Sentinel-2 (L1C) and MODIS land cover, 256 px at 10 m.

Page: https://mediatum.ub.tum.de/1474000. Paper: https://doi.org/10.5194/isprs-annals-IV-2-W7-153-2019.

The land cover is of 500 m and only repeated at 10 m: blocky, and often wrong at a single pixel.

Splits: `train_list.txt` and `test_list.txt` (162,555 and 18,106), each where it is there. In place
of a missing list: what is on disk, the 26 official hold-out scenes for testing, the others for
training, without the triplet whose radar is damaged, ROIs1868_summer_s1_146_p202, which the lists
leave out as well. There is no official validation set. `validation='scenes'`, ours, takes whole
scenes from training, about one in ten: those where the sha256 of e.g. `ROIs1158_spring_63`, as a
number, is a multiple of 10.
"""

from __future__ import annotations

import functools
import os

import numpy as np

from rsjax import landcover
from rsjax.datasets import base, geotiff, patches, tiff
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.datasets.sen12ms_files import KEY, LISTS, PAGE, Files, for_validation, scene_of
from rsjax.errors import ConfigError, DatasetError

# In the order of the files: B8A is the ninth.
S2_BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12",
)  # fmt: skip
SHARE_PERCENT = 10  # of a scene's pixels, from which `scene_label='shares'` gives it a class

# labels -> (nomenclature of the codes on disk, band of the land cover file).
_LABELS = {
    "igbp": ("igbp", 0),
    "dfc2020": ("igbp", 0),
    "lccs1": ("lccs1", 1),
    "lccs2": ("lccs2", 2),
    "lccs3": ("lccs3", 3),
}
# Kind of file -> (bands, dtype).
_KINDS = {"s2": (13, "uint16"), "s1": (2, "float32"), "lc": (4, "uint16")}
_SPECS = {
    "s2": ImageSpec(
        "sentinel2_l1c", S2_BANDS, 256, 256, "uint16", "reflectance_1e4", 10.0, nodata=0.0
    ),
    "s1": ImageSpec("sentinel1", ("VV", "VH"), 256, 256, "float32", "db", 10.0, nodata=0.0),
}
_DRAWING = {
    "s2": (("s2", ("B04", "B03", "B02")), (0.0, 3000.0)),
    "s1": (("s1", ("VV", "VH", "VV")), (-25.0, 0.0)),
}

Place = tuple[str, geotiff.Transform]  # coordinate system and grid of an image


class SEN12MS:
    """SEN12MS, from the folder that holds the four seasons and the lists.

    A season is the folder `ROIs1158_spring` or uncompressed tars (`ROIs1158_spring_s1.tar`, ...).
    An example has `s2` (256, 256, 13) uint16, `s1` (256, 256, 2) float32 in dB; `mask` (256, 256)
    uint8 class indices, 255 = unclassified; `label`; `id`, `season`, `scene`, `crs`, `transform`.
    Pixels that are 0 in all four bands of the land cover lie outside it and are 255, too.

    Args:
        source: the folder.
        sensors: which of 's2' and 's1' to read.
        labels: 'igbp' (17 classes), 'dfc2020' (these simplified to 10), or 'lccs1', 'lccs2',
            'lccs3' (land cover, land use, surface hydrology of the FAO).
        savanna: 'class', or 'ignore': with 'dfc2020', as that contest trained, savanna is 255.
        scene_label: 'majority': the commonest class of the mask as index, of equals the first;
            'shares': all classes with at least 10 % of the scene, multi-hot; 'none'.
        validation: 'scenes' or 'none', see the module.
        only_on_disk: whether to leave out what is not on disk, for partial downloads.

    Raises:
        ConfigError: an unknown option value, or two that exclude each other.
        DatasetError, NomenclatureError: from `keys` and `read`; missing, damaged or inconsistent
            files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        sensors: str | tuple[str, ...] = ("s2", "s1"),
        labels: str = "igbp",
        savanna: str = "class",
        scene_label: str = "majority",
        validation: str = "scenes",
        only_on_disk: bool = False,
    ):
        self.source = os.fspath(source)
        self._sensors = base.choices("sensors", sensors, ("s2", "s1"))
        self._labels = base.choice("labels", labels, _LABELS)
        self._savanna = base.choice("savanna", savanna, ("class", "ignore"))
        self._scene_label = base.choice("scene_label", scene_label, ("majority", "shares", "none"))
        self._validation = base.choice("validation", validation, ("scenes", "none"))
        self._only_on_disk = only_on_disk
        self._files = Files(self.source, (*self._sensors, "lc"), only_on_disk)
        if savanna == "ignore" and (labels != "dfc2020" or scene_label == "majority"):
            raise ConfigError(
                f"savanna='ignore' with labels={labels!r}, scene_label={scene_label!r}, expected "
                "labels='dfc2020' and scene_label='shares' or 'none': a scene of savanna alone "
                "would have no class"
            )
        rgb, rgb_range = _DRAWING[self._sensors[0]]
        self.info = DatasetInfo(
            name="sen12ms",
            version="1.0.0",
            title="SEN12MS",
            page=PAGE,
            licence="CC-BY-4.0",
            citation="Schmitt et al., SEN12MS - A Curated Dataset of Georeferenced Multi-Spectral "
            "Sentinel-1/2 Imagery for Deep Learning and Data Fusion, ISPRS Annals IV-2/W7, 2019, "
            "doi:10.5194/isprs-annals-IV-2-W7-153-2019",
            images={kind: _SPECS[kind] for kind in self._sensors},
            label={"majority": "index", "shares": "multihot", "none": None}[scene_label],
            nomenclature=labels,
            mask=(256, 256),
            mask_nomenclature=labels,
            metadata=("season", "scene"),
            splits={"train": 162_555, "test": 18_106}
            if validation == "none"
            else {"train": 0, "validation": 0, "test": 18_106},
            rgb=rgb,
            rgb_range=rgb_range,
            georeferenced=True,
        )

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The Sentinel-2 file names of a split without `.tif`: as listed, or by their numbers."""
        base.check_split(self.info, split)
        return list(self._splits[split])

    def read(self, key: str) -> base.Example:
        """One triplet; see the class."""
        if not KEY.fullmatch(key):
            raise base.unknown_key(self.info, self.source, key)
        example: base.Example = {"id": key}
        place: Place | None = None
        for kind in self._sensors:
            example[kind], place, _ = self._read(key, kind, place)
        codes, place, where = self._read(key, "lc", place)
        example["mask"] = mask = self._mask(codes, where)
        if self._scene_label != "none":
            example["label"] = self._label(mask, where)
        example["scene"] = scene_of(key)
        example["season"] = example["scene"].split("_")[1]
        example["crs"], example["transform"] = place[0], np.array(place[1])
        return example

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        options = {
            "sensors": self._sensors,
            "labels": self._labels,
            "savanna": self._savanna,
            "scene_label": self._scene_label,
            "validation": self._validation,
            "only_on_disk": self._only_on_disk,
        }
        keys = {split: self.keys(split) for split in self.info.splits}
        lists = {LISTS[side]: content for side, (_, content) in self._files.lists.items()}
        return base.fingerprint(self.info, options, keys, lists)

    def _read(self, key: str, kind: str, place: Place | None) -> tuple[np.ndarray, Place, str]:
        """Pixels, place and path of one file, which must lie at `place` if there is one."""
        bands, dtype = _KINDS[kind]
        data, where = self._files.read(key, kind)
        header = tiff.parse(data, where)
        pixels = tiff.pixels(header, shape=(256, 256), dtype=dtype, bands=bands)
        if kind == "s1" and not np.isfinite(pixels).all():
            count = int((~np.isfinite(pixels)).sum())
            raise tiff.error(where, f"{count} values that are NaN or infinite", "decibels")
        found = geotiff.crs(header), geotiff.transform(header)
        if place and (found[0] != place[0] or _apart(found[1], place[1])):
            raise tiff.error(where, f"lies at {found}", f"{place} as the rest of its triplet")
        return pixels, place or found, where

    def _mask(self, codes: np.ndarray, where: str) -> np.ndarray:
        raw, band = _LABELS[self._labels]
        wanted = np.where(codes.any(axis=-1), codes[..., band], np.uint16(landcover.IGNORE))
        mask = landcover.load(raw).encode(wanted, where)
        return _crosswalk(raw, self._labels, self._savanna)[mask]

    def _label(self, mask: np.ndarray, where: str) -> int | np.ndarray:
        classes = len(landcover.load(self._labels))
        counts = np.bincount(mask.ravel(), minlength=classes)[:classes]
        if self._scene_label == "shares":
            return (100 * counts >= SHARE_PERCENT * mask.size).astype(np.uint8)
        if not counts.any():
            raise DatasetError(
                f"{where}: no pixel has a class of '{self._labels}', expected some for "
                "scene_label='majority'; leave the sample out, or use scene_label='none'"
            )
        return int(counts.argmax())

    @functools.cached_property
    def _splits(self) -> dict[str, list[str]]:
        sides = self._files.sides
        if self._validation == "none":
            return sides
        chosen = {key: for_validation(scene_of(key)) for key in sides["train"]}
        return {
            "train": [key for key in sides["train"] if not chosen[key]],
            "validation": [key for key in sides["train"] if chosen[key]],
            "test": sides["test"],
        }


def _apart(one: geotiff.Transform, other: geotiff.Transform) -> bool:
    """Whether two images of 256 pixels lie more than a pixel apart at some corner."""
    half = abs(one[0]) / 2
    limits = (half / 256, half / 256, half, half / 256, half / 256, half)
    return any(abs(a - b) > limit for a, b, limit in zip(one, other, limits, strict=True))


@functools.cache
def _crosswalk(source: str, target: str, savanna: str) -> np.ndarray:
    if source == target:
        return patches.crosswalk(source, target)
    overrides = {8: None, 9: None} if savanna == "ignore" else None
    return landcover.load(source).crosswalk(landcover.load(target), overrides)
