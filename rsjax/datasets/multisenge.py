"""MultiSenGE: 8,157 patches of the Grand-Est (France) in 2020, series of Sentinel-2 and Sentinel-1.

Page: https://zenodo.org/records/6375466. Paper:
https://doi.org/10.5194/isprs-annals-V-3-2022-635-2022.

No documentation at hand says in which order the files hold their bands, nor the type and unit of
some values. Each is an option with a default, and the data are checked against it: a wrong one is
an error and never a silently wrong band.

There are no official splits. Ours are whole blocks of 20 km, by the patch's centre in one
projection for both UTM zones: of 100 blocks 70 for training, 10 for validation, 20 for testing, see
`rsjax.datasets.multisenge_places`. Patches of overlapping tiles that share ground with one of
another split are in the split 'border': no ground is in two of the three, and no patch is lost.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

from rsjax import landcover
from rsjax.datasets import (
    base,
    geotiff,
    leakage,
    multisenge_files,
    multisenge_notes,
    multisenge_places,
    tiff,
)
from rsjax.datasets import multisenge_checks as checks
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.datasets.multisenge_files import PAGE
from rsjax.errors import DatasetError, NomenclatureError

BAND_ORDERS = {
    "resolution": ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12"),
    "wavelength": ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
}
_NODATA = {"uint16": 0.0, "int16": -10000.0}  # -10000 is that of Theia's own products
_JUDGED = 5  # patches with forest, from whose majority the order of the bands is judged


class MultiSenGE:
    """MultiSenGE, from the folder that its archives were unpacked into.

    An example has `s2` (dates, 256, 256, 10), 2 to 23 dates in order, and on demand `s1` (dates,
    256, 256, 2) float32, VV before VH, 89 to 181 dates; their dates as `s2_dates`, `s1_dates`
    ('2020-04-05;2020-05-20'); `mask` (256, 256) uint8 class indices, 255 = not labelled; `label`
    multi-hot uint8; `id`, `tile`, `block`, `crs`, `transform`.

    Args:
        source: the folder; it has `labels`, `ground_reference`, `s2` and `s1` (other names:
            `multisenge_files.FOLDERS`).
        sensors: which of 's2' and 's1' to read.
        band_order: 'resolution' (B08 fourth) or 'wavelength' (B08 seventh). Checked before the
            first sample: in summer forest must reflect more from red over the red edge to B08.
        s2_dtype: 'uint16', or 'int16' with -10000 for no data.
        s1_unit: 'db' or 'linear_power'. Checked with every image.
        labels: 'json', the classes that a patch's JSON lists, which must be those of its map; or
            'map', those of its map.

    Raises:
        ConfigError: an unknown option value.
        DatasetError, NomenclatureError: from `keys` and `read`; missing, damaged or inconsistent
            files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        sensors: str | tuple[str, ...] = ("s2",),
        band_order: str = "resolution",
        s2_dtype: str = "uint16",
        s1_unit: str = "db",
        labels: str = "json",
    ):
        self.source = os.fspath(source)
        self._sensors = base.choices("sensors", sensors, ("s2", "s1"))
        self._files = multisenge_files.Files(self.source, self._sensors)
        self._order = base.choice("band_order", band_order, BAND_ORDERS)
        self._dtype = base.choice("s2_dtype", s2_dtype, _NODATA)
        self._unit = base.choice("s1_unit", s1_unit, ("db", "linear_power"))
        self._labels = base.choice("labels", labels, ("json", "map"))
        specs = {
            "s2": ImageSpec(
                *("sentinel2_l2a", BAND_ORDERS[band_order], 256, 256, s2_dtype),
                *("reflectance_1e4", 10.0, _NODATA[s2_dtype], 0),
            ),
            "s1": ImageSpec(
                *("sentinel1", ("VV", "VH"), 256, 256, "float32", s1_unit, 10.0, 0.0, 0),
            ),
        }
        self.info = DatasetInfo(
            name="multisenge",
            version="1.0.0",
            title="MultiSenGE",
            page=PAGE,
            licence="CC-BY-4.0, as others state it; see the page",
            citation="Wenger et al., MultiSenGE: A Multimodal and Multitemporal Benchmark Dataset "
            "for Land Use/Land Cover Remote Sensing Applications, ISPRS Annals V-3-2022, "
            "doi:10.5194/isprs-annals-V-3-2022-635-2022",
            images={kind: specs[kind] for kind in self._sensors},
            label="multihot",
            nomenclature="multisenge",
            mask=(256, 256),
            mask_nomenclature="multisenge",
            metadata=("tile", "block", *(f"{kind}_dates" for kind in self._sensors)),
            splits=dict.fromkeys(multisenge_places.SPLITS, 0),
            rgb=("s2", ("B04", "B03", "B02"))
            if "s2" in self._sensors
            else ("s1", ("VV", "VH", "VV")),
            rgb_range=(0.0, 2000.0)
            if "s2" in self._sensors
            else {"db": (-25.0, 0.0), "linear_power": (0.0, 0.3)}[s1_unit],
            georeferenced=True,
        )

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The patches of a split, e.g. '31TFN_5654_0', sorted."""
        base.check_split(self.info, split)
        _ = [self._files.folders[part] for part in ("gr", *self._sensors)]
        if "s2" in self._sensors:
            _ = self._judged
        return list(self._splits[split])

    def read(self, key: str) -> base.Example:
        """One patch; see the class."""
        note = self._note(key)
        example: base.Example = {"id": key}
        mask, transform = self._map(key)
        for kind in self._sensors:
            series = multisenge_notes.series(
                note, kind, key, self._files.where("labels", f"{key}.json")
            )
            spec = self.info.images[kind]
            example[kind] = stack = np.empty((len(series), *spec.shape[1:]), spec.dtype)
            for i, (_, name) in enumerate(series):
                stack[i] = self._image(key, kind, name)
            example[f"{kind}_dates"] = ";".join(date for date, _ in series)
        example["mask"] = mask
        example["label"] = self._label(note, mask, key)
        example["tile"] = key.split("_")[0]
        example["block"] = multisenge_places.blocks([key])[0]
        place = multisenge_places.place(key)
        assert place is not None
        example["crs"], example["transform"] = place.crs, np.array(transform)
        return example

    def report(self) -> dict[str, Any]:
        """How far the three splits lie apart; see `rsjax.datasets.leakage`."""
        names = {key: split for split, keys in self._splits.items() for key in keys}
        border = self._splits["border"]
        keys = [key for key in names if names[key] != "border"]
        corners = multisenge_places.corners(keys)
        dropped = {"in split 'border', for they share ground with another split": len(border)}
        return leakage.report(corners, keys, [names[key] for key in keys], dropped)

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        options = {
            "sensors": self._sensors,
            "band_order": self._order,
            "s2_dtype": self._dtype,
            "s1_unit": self._unit,
            "labels": self._labels,
        }
        keys = {split: self.keys(split) for split in self.info.splits}
        return base.fingerprint(self.info, options, keys, {})

    @functools.cached_property
    def _splits(self) -> dict[str, list[str]]:
        return multisenge_places.split(self._files.keys)

    def _note(self, key: str) -> dict[str, str]:
        """A patch's JSON."""
        if multisenge_places.place(key) is None:
            raise base.unknown_key(self.info, self.source, key)
        return multisenge_notes.parse(*self._files.open("labels", f"{key}.json"))

    def _image(self, key: str, kind: str, name: str) -> np.ndarray:
        """One image of a series, where its patch's name says that it lies."""
        data, where = self._files.open(kind, name)
        header = tiff.parse(data, where)
        spec = self.info.images[kind]
        pixels = tiff.pixels(header, shape=(256, 256), dtype=spec.dtype, bands=len(spec.bands))
        checks.place(header, key)
        if kind == "s1":
            checks.unit(pixels, self._unit, where)
        return pixels

    def _map(self, key: str) -> tuple[np.ndarray, geotiff.Transform]:
        """The mask of a patch and where it lies."""
        tile, _, offset = key.partition("_")
        data, where = self._files.open("gr", f"{tile}_GR_{offset}.tif")
        header = tiff.parse(data, where)
        if np.dtype(header.dtype).kind not in "iu":
            raise tiff.error(where, f"pixels of {header.dtype}", "class codes, which are integers")
        codes = tiff.pixels(header, shape=(256, 256), dtype=header.dtype, bands=1)
        return landcover.load("multisenge").encode(codes, where), checks.place(header, key)

    def _label(self, note: dict[str, str], mask: np.ndarray, key: str) -> np.ndarray:
        classes = landcover.load("multisenge")
        found = np.zeros(len(classes), np.uint8)
        found[np.unique(mask[mask != landcover.IGNORE])] = 1
        if self._labels == "json":
            where = self._files.where("labels", f"{key}.json")
            listed = np.zeros_like(found)
            indices = classes.encode(multisenge_notes.codes(note, where), where)
            listed[indices[indices != landcover.IGNORE]] = 1
            if (listed != found).any():
                there = ";".join(str(classes.codes[i]) for i in np.flatnonzero(found))
                raise DatasetError(
                    f"{where}: labels {note['labels']!r}, expected {there!r} as in the ground "
                    "reference. Restore both from the original download, or use labels='map'"
                )
        return found

    @functools.cached_property
    def _judged(self) -> int:
        """How many patches the order of the bands was judged from; 0 where none has forest.

        Raises:
            DatasetError: the greater part of them contradicts it.
        """
        verdicts: list[tuple[bool, str]] = []
        step = max(len(self._files.keys) // 40, 1)
        for key in self._files.keys[::step]:
            try:  # a damaged patch has no say; reading it will name the damage
                verdicts += self._judge(key)
            except (DatasetError, NomenclatureError):
                continue
            if len(verdicts) == _JUDGED:
                break
        wrong = [shown for fine, shown in verdicts if not fine]
        if 2 * len(wrong) > len(verdicts):
            raise DatasetError(
                f"{self.source}: in {len(wrong)} of {len(verdicts)} patches forest reflects "
                f"{wrong[0]}, expected to rise from B04 over B05 and B06 to B08: not the bands of "
                f"band_order={self._order!r}; use another of {', '.join(BAND_ORDERS)}"
            )
        return len(verdicts)

    def _judge(self, key: str) -> list[tuple[bool, str]]:
        """Whether forest looks like it in the clear image closest to summer; [] without any."""
        note = self._note(key)
        where = self._files.where("labels", f"{key}.json")
        if checks.FOREST not in multisenge_notes.codes(note, where):
            return []
        forest = self._map(key)[0] == landcover.load("multisenge").codes.index(checks.FOREST)
        if forest.sum() < checks.FOREST_PIXELS:
            return []
        series = multisenge_notes.series(note, "s2", key, where)
        for date, name in sorted(series, key=lambda one: checks.from_summer(one[0]))[:4]:
            medians = np.median(self._image(key, "s2", name)[forest], axis=0)
            seen = dict(zip(BAND_ORDERS[self._order], medians.tolist(), strict=True))
            if seen["B02"] < checks.CLEAR:
                shown = ", ".join(f"{band} {value:.0f}" for band, value in seen.items())
                return [(checks.is_forest(seen), f"{shown} ({key}, {date})")]
        return []
