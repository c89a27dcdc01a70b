"""Planted v1.2.0: plantations of trees in series of five satellites, 120 m a side, with species.

Page: https://github.com/google-deepmind/forest_typology/tree/main/planted. Paper:
https://arxiv.org/abs/2406.18554.

Its documentation names neither features nor bands nor units; `features.json` in its folder says
what there is. The names that are expected are in `FEATURES`, the bands in `BANDS`, the units in
`UNITS`; an option replaces each, a name that is not there is refused with those that are, and
`check` compares bands and units with the data. Labels that are numbers are read in the order of
the download's `<level>.labels.txt`, and refused without one. The splits are those of the download.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator, Sequence

import numpy as np

from rsjax import landcover, storage
from rsjax.datasets import (
    base,
    planted_checks,
    planted_classes,
    planted_names,
    planted_values,
    tfds_folder,
)
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.datasets.planted_names import BANDS, FEATURES, LEVELS, SENSORS, TEXTS, UNITS
from rsjax.errors import ConfigError, DatasetError, NomenclatureError

PAGE = "https://github.com/google-deepmind/forest_typology/tree/main/planted"
BUCKET = "gs://forest_typology/planted-public"

# Subset -> records, level of its labels, number of classes.
SUBSETS = {
    "all": (2_264_747, "common_name"),
    "species": (1_348_219, "species"),
    "fmeval": (77_570, "genus"),
}
# Series -> bands to draw, and the values drawn as black and white.
_SHOWN = {
    "s2": ("B04 B03 B02", (0.0, 1500.0)),
    "l7": ("B3 B2 B1", (7000.0, 15000.0)),
    "modis": ("B1 B4 B3", (0.0, 1500.0)),
    "s1": ("VV VV VV", (-25.0, 0.0)),
    "alos": ("HH HH HH", (0.0, 15000.0)),
}
_GSD = {"s1": 10.0, "s2": 10.0, "l7": 30.0, "alos": 30.0, "modis": 120.0}
_SIDE_M = 120.0
_CHECKED = 64  # records that `check` looks at


class Planted:
    """Planted, from the folder of one of its subsets.

    An example has the series `s1`, `s2`, `l7`, `alos`, `modis` (steps, height, width, bands)
    float32, NaN where the dataset's masks say that a value is missing; `label`, the index of its
    class; and the texts `<series>_dates` (ISO dates joined by ';'), `country`, `lat`, `lon`.

    Args:
        source: the folder with `dataset_info.json`, or one above it; a path or a URL.
        subset: 'species', 'all' or 'fmeval'.
        label_level: 'species', 'genus' or 'common_name'; '': that of the subset.
        sensors: which series to read.
        shards: how many shards of each split to use, from the first; 0: all.
        features: names of features that differ from `FEATURES`, e.g. 's2=sentinel2,country=';
            nothing leaves a text out.
        bands: bands that differ from `BANDS`, e.g. 'l7=B3 B4 B5'.
        units: units that differ from `UNITS`, e.g. 's1=linear_power'.
        class_order: 'anysat' reads species that are numbers in the order of AnySat's copy of the
            dataset, for a download without `species.labels.txt`; '': such a download is refused.
        checks: whether `check` compares bands and units with the data, and `keys` the number of
            records with the official one.

    Raises:
        ConfigError: an option that cannot be.
        DatasetError: from everything else; missing, damaged or unexpected files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        subset: str = "species",
        label_level: str = "",
        sensors: str | Sequence[str] = tuple(SENSORS),
        shards: int = 0,
        features: str | Sequence[str] = (),
        bands: str | Sequence[str] = (),
        units: str | Sequence[str] = (),
        class_order: str = "",
        checks: bool = True,
    ):
        self.source = os.fspath(source)
        self._subset = base.choice("subset", subset, SUBSETS)
        level = label_level or SUBSETS[subset][1]
        self._level = base.choice("label_level", level, LEVELS)
        self._entries = base.choices("sensors", sensors, tuple(SENSORS))
        if isinstance(shards, bool) or not isinstance(shards, int) or shards < 0:
            raise ConfigError(f"shards={shards!r}, expected a number, 0 for all")
        self._shards = shards
        self._names = planted_names.replaced("features", features, FEATURES)
        self._bands = {
            k: tuple(v.split()) for k, v in planted_names.replaced("bands", bands, BANDS).items()
        }
        self._units = planted_names.replaced("units", units, UNITS)
        self._class_order = base.choice("class_order", class_order, ("", "anysat"))
        if class_order and level != "species":
            raise ConfigError(
                f"class_order={class_order!r} with level '{level}', expected '' for it: that order "
                "is known of level 'species' alone"
            )
        self._checks = checks

    @functools.cached_property
    def info(self) -> DatasetInfo:
        """The dataset's card; sizes and splits are those of the folder, if it is there."""
        folder = self._folder if self._is_there() else None
        texts = tuple(name for name in TEXTS if self._names[name])
        entry = next(name for name in _SHOWN if name in self._entries)
        red, green, blue = _SHOWN[entry][0].split()
        if not {red, green, blue} <= set(self._bands[entry]):
            red = green = blue = self._bands[entry][0]
        return DatasetInfo(
            name="planted",
            version="1.2.0",
            title=f"Planted, subset {self._subset}",
            page=PAGE,
            licence="CC-BY-4.0",
            citation="Pazos-Outón et al., Planted: a dataset for planted forest identification "
            "from multi-satellite time series, 2024, arXiv:2406.18554",
            images={name: self._spec(name, folder) for name in self._entries},
            label="index",
            nomenclature=self._nomenclature if folder else "planted_species",
            mask=None,
            mask_nomenclature=None,
            metadata=(*texts, *(f"{name}_dates" for name in self._entries)),
            splits=dict.fromkeys(folder.counts if folder else ("train", "validation", "test"), 0),
            rgb=(entry, (red, green, blue)),
            rgb_range=_SHOWN[entry][1],
        )

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return tfds_folder.simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The keys of a split, `<shard file>#<record>`, in the order of the files."""
        base.check_split(self.info, split)
        folder, (official, _) = self._folder, SUBSETS[self._subset]
        count = sum(map(sum, folder.counts.values()))
        if self._checks and not self.simulated and count != official:
            raise DatasetError(
                f"{folder.root}/dataset_info.json: {count:,} records, expected {official:,} of "
                f"subset '{self._subset}'; give that subset's folder, or set checks=False"
            )
        return folder.keys(split, self._shards)

    def read(self, key: str) -> base.Example:
        """One plantation; see the class."""
        folder = self._folder
        if not folder.knows(key):
            raise base.unknown_key(self.info, self.source, key)
        raw = folder.read(key)
        example: base.Example = {"id": key}
        for name in self._entries:
            example[name] = self._series(raw, name, key)
            example[f"{name}_dates"] = planted_values.dates(
                folder, raw, self._names[f"{name}_dates"], key, len(example[name])
            )
        names = landcover.load(self._nomenclature).names
        example["label"] = planted_values.label(
            folder, raw, self._names[self._level], key, names, self._classes or names, self._level
        )
        for name in TEXTS:
            if self._names[name]:
                example[name] = planted_values.text(folder, raw, self._names[name], key)
        return example

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        options = {
            "subset": self._subset,
            "label_level": self._level,
            "sensors": self._entries,
            "features": self._names,
            "bands": self._bands,
            "units": self._units,
            "class_order": self._class_order,
        }
        keys = {split: self.keys(split) for split in self.info.splits}
        classes = {"classes": "\n".join(self._classes).encode()}
        return base.fingerprint(self.info, options, keys, self._folder.files | classes)

    def check(self) -> None:
        """Compares bands and units with some records.

        Raises:
            DatasetError: the data contradict them; tells what was found and what to set.
        """
        if self._checks:
            planted_checks.compare(self._sample(), self._units, self.source)

    def _is_there(self) -> bool:
        places = (os.path.join(self.source, f, "dataset_info.json") for f in self._places)
        return any(storage.is_file(place) for place in places)

    @property
    def _places(self) -> tuple[str, ...]:
        inner = (self._subset, f"{self._subset}/1.2.0", f"planted/{self._subset}/1.2.0")
        return ("", "1.2.0", *inner, *(f"planted-public/{one}" for one in inner))

    @functools.cached_property
    def _folder(self) -> tfds_folder.TfdsFolder:
        page = f"{PAGE} ({BUCKET})"
        root = tfds_folder.find(self.source, self._places, page)
        folder = tfds_folder.TfdsFolder(root, page)
        if folder.config in SUBSETS and folder.config != self._subset:
            raise DatasetError(
                f"{root}/dataset_info.json: of subset '{folder.config}', expected "
                f"'{self._subset}'; set subset='{folder.config}', or give the other folder"
            )
        wanted = [self._level, *(name for name in TEXTS if self._names[name])]
        for name in self._entries:
            wanted += [name, f"{name}_mask", f"{name}_dates"]
        missing = [name for name in wanted if self._names[name] not in folder.features]
        if missing:
            there = ", ".join(f"{k} {f.dtype} {f.shape}" for k, f in folder.features.items())
            told = ", ".join(f"{name} (as '{self._names[name]}')" for name in missing)
            raise DatasetError(
                f"{root}/features.json: no feature for {told}; it has {there}. Name them with "
                f"features='{missing[0]}=...,...'"
            )
        return folder

    @functools.cached_property
    def _classes(self) -> list[str]:
        """Class names that the download itself gives, in their order; or none."""
        return self._folder.classes(self._names[self._level])

    @functools.cached_property
    def _nomenclature(self) -> str:
        folder, feature = self._folder, self._names[self._level]
        if self._classes and self._class_order:
            raise DatasetError(
                f"{folder.root}/{feature}.labels.txt: gives the order of the classes, expected no "
                f"such file with class_order={self._class_order!r}; leave that option out"
            )
        if not self._classes and self._level != "species":
            raise DatasetError(
                f"{folder.root}: no {feature}.labels.txt, and no table of level '{self._level}' is "
                f"known; download that file from {folder.page}, or set label_level='species'"
            )
        numbers = folder.features[feature].dtype != "string"
        if numbers and not self._classes and not self._class_order:
            raise DatasetError(
                f"{folder.root}: feature '{feature}' is numbers, and there is no "
                f"{feature}.labels.txt, expected it to say which class each is; download it from "
                f"{folder.page}. If you know that they are in the order of AnySat's copy, set "
                "class_order='anysat'"
            )
        try:
            return planted_classes.nomenclature(self._level, self._classes)
        except NomenclatureError as error:
            raise DatasetError(
                f"{folder.root}/{feature}.labels.txt: {error}; download it again from {folder.page}"
            ) from None

    def _spec(self, name: str, folder: tfds_folder.TfdsFolder | None) -> ImageSpec:
        steps = height = width = 0
        bands = self._bands[name]
        if folder:
            feature = folder.features[self._names[name]]
            if len(feature.shape) != 4 or feature.shape[-1] not in (0, len(bands)):
                raise DatasetError(
                    f"{folder.root}/features.json: feature '{self._names[name]}' is {feature}, "
                    f"expected (steps, height, width, {len(bands)}) for the bands "
                    f"{' '.join(bands)}; name its bands with bands='{name}=...'"
                )
            steps, height, width = feature.shape[:3]
        gsd = _SIDE_M / width if width else _GSD[name]
        sensor, unit = SENSORS[name], self._units[name]
        return ImageSpec(
            sensor, bands, height, width, "float32", unit, gsd, nodata=math.nan, steps=steps
        )

    def _series(self, raw: planted_values.Record, name: str, key: str) -> np.ndarray:
        feature, mask = self._names[name], self._names[f"{name}_mask"]
        return planted_values.series(self._folder, raw, feature, mask, key)

    def _sample(self) -> Iterator[dict[str, dict[str, np.ndarray]]]:
        """Series by band of the first records of the first split."""
        split = next(name for name in self.info.splits if self._folder.counts[name])
        for key in self._folder.keys(split, self._shards or 1)[:_CHECKED]:
            raw = self._folder.read(key)
            yield {
                name: dict(
                    zip(
                        self._bands[name],
                        np.moveaxis(self._series(raw, name, key), -1, 0),
                        strict=True,
                    )
                )
                for name in self._entries
            }
