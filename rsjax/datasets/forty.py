"""ForTy v1: 200,000 places of 1.28 km with four seasons of Sentinel-1 and -2, and forest types.

Page: https://github.com/google-deepmind/forest_typology. Paper: https://arxiv.org/abs/2505.01805.

Three things are not documented and so options, each with the likeliest default: the order of the
label codes, of the seasons and of the bands. `check` and `check_totals` compare them with the
data, see `rsjax.datasets.forty_checks`. The splits are the official ones, by blocks of 100 km.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rsjax.datasets import base, forty_checks, forty_features, tfds_folder
from rsjax.datasets.forty_features import (
    CLIMATE_BANDS,
    FEATURES,
    LABELS,
    PAGE,
    S2_BANDS,
    SCALARS,
    SEASONS,
    SIZES,
)
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import ConfigError

_CHECKED = (4, 24)  # first shards, and records of each, that `check` looks at


class ForTy:
    """ForTy v1, from the folder of its TFRecord files.

    An example has `s2` (4, 128, 128, 10), `s1_ascending` and `s1_descending` (4, 128, 128, 3: VV
    and VH in dB, incidence angle), `elevation` (128, 128, 3) and `climate` (4, 1, 1, 14), all
    float32, NaN where the dataset's own masks say that a value is missing; `mask` (128, 128)
    uint8, indices of nomenclature 'forty', 255 = unknown; the texts `official_id`, `lat`, `lon`
    (degrees) and, for each series, `<entry>_dates`: the names of its seasons.

    Args:
        source: the folder that holds `dataset_info.json`, or a folder above it as in the bucket;
            a path or a URL (gs://forest_typology/forty_v1/1.0.0).
        sensors: which entries to read.
        shards: how many shards of each split to use, from the first; 0: all. Several numbers are
            those of train, validation and test, where 0 leaves the split out.
        label_order: 'colour_bar' (0 unknown, 1-4 forests and vegetation, 5 built, 6 water, 7 ice,
            8 bare), or 'readme' (5 water, 6 ice, 7 bare, 8 built, 0 or 9 unknown).
        s2_bands: the order of the ten Sentinel-2 bands.
        s2_level: 'l2a' or 'l1c', at the surface or at the top of the atmosphere.
        climate_bands: the order of the fourteen variables.
        seasons: the names of the four steps.
        checks: whether `check` and `check_totals` compare these with the data.

    Raises:
        ConfigError: an option that cannot be.
        DatasetError, NomenclatureError: from `keys` and `read`; missing or damaged files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        sensors: str | Sequence[str] = tuple(FEATURES),
        shards: int | str | Sequence[int] = 0,
        label_order: str = "colour_bar",
        s2_bands: str | Sequence[str] = S2_BANDS,
        s2_level: str = "l2a",
        climate_bands: str | Sequence[str] = CLIMATE_BANDS,
        seasons: str | Sequence[str] = SEASONS,
        checks: bool = True,
    ):
        self.source = os.fspath(source)
        self._entries = base.choices("sensors", sensors, tuple(FEATURES))
        self._shards = _shards(shards)
        self._order = base.choice("label_order", label_order, forty_checks.ORDERS)
        self._s2_bands = _reordered("s2_bands", s2_bands, S2_BANDS)
        self._level = base.choice("s2_level", s2_level, ("l2a", "l1c"))
        self._climate_bands = _reordered("climate_bands", climate_bands, CLIMATE_BANDS)
        self._seasons = _reordered("seasons", seasons, SEASONS)
        self._checks = checks
        specs = forty_features.specs(
            self._entries, self._level, self._s2_bands, self._climate_bands
        )
        if "s2" in self._entries:
            rgb, rgb_range = ("s2", ("B04", "B03", "B02")), (0.0, 2000.0)
        else:  # one band in grey
            entry = self._entries[0]
            band = specs[entry].bands[0]
            rgb = (entry, (band, band, band))
            rgb_range = (-25.0, 0.0) if entry.startswith("s1") else (0.0, 3000.0)
        self.info = DatasetInfo(
            name="forty",
            version="1.0.0",
            title="ForTy v1, forest types",
            page=PAGE,
            licence="CC-BY-SA-4.0",
            citation="Jiang and Neumann, Not every tree is a forest: benchmarking forest types "
            "from satellite remote sensing, IGARSS 2025, arXiv:2505.01805",
            images=specs,
            label=None,
            nomenclature="forty",
            mask=(128, 128),
            mask_nomenclature="forty",
            metadata=("official_id", "lat", "lon", *self._dates),
            splits=dict(SIZES),
            rgb=rgb,
            rgb_range=rgb_range,
        )

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return tfds_folder.simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The keys of a split, `<shard file>#<record>`, in the order of the files."""
        base.check_split(self.info, split)
        shards = self._shards[split]
        return [] if shards is None else self._folder.keys(split, shards)

    def read(self, key: str) -> base.Example:
        """One place; see the class."""
        folder = self._folder
        if not folder.knows(key):
            raise base.unknown_key(self.info, self.source, key)
        raw = folder.read(key)
        example: base.Example = {"id": key}
        for entry in self._entries:
            values, mask, _ = FEATURES[entry]
            image = folder.tensor(raw, values, key)
            example[entry] = forty_features.masked(folder, image, raw, mask, key) if mask else image
            valid = ~np.isinf(example[entry]) if mask else np.isfinite(image)
            if not valid.all():
                raise folder.refuse(key, values, "NaN or infinity", "finite values")
        example["mask"] = forty_features.encode(
            folder, folder.tensor(raw, LABELS, key), self._order, key
        )
        official, lat, lon = (folder.tensor(raw, name, key).item() for name in SCALARS)
        example |= {"official_id": str(official), "lat": f"{lat:.6f}", "lon": f"{lon:.6f}"}
        example |= dict.fromkeys(self._dates, ";".join(self._seasons))
        return example

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        options = {
            "sensors": self._entries,
            "label_order": self._order,
            "s2_bands": self._s2_bands,
            "s2_level": self._level,
            "climate_bands": self._climate_bands,
            "seasons": self._seasons,
        }
        keys = {split: self.keys(split) for split in self.info.splits}
        return base.fingerprint(self.info, options, keys, self._folder.files)

    def check(self) -> None:
        """Compares the options that are guesses with some records of the first shards.

        Raises:
            DatasetError: the data contradict them; tells what was found and what to set.
        """
        if self._checks:
            found = forty_checks.measure(self._sample())
            forty_checks.compare(found, self._order, self._level, self.source)

    def check_totals(self, mask_counts: Mapping[str, Sequence[int]]) -> None:
        """Compares the order of the label codes with the pixels of each class in all records.

        Args:
            mask_counts: split -> pixels of each class index, the last those without a class.

        Raises:
            DatasetError: see `check`.
        """
        if self._checks and mask_counts:
            total = np.sum([np.asarray(counts) for counts in mask_counts.values()], axis=0)
            forty_checks.compare_totals(total, self._order, self.source)

    @property
    def _dates(self) -> tuple[str, ...]:
        series = (name for name in self._entries if len(FEATURES[name][2]) == 4)
        return tuple(f"{name}_dates" for name in series)

    @functools.cached_property
    def _folder(self) -> tfds_folder.TfdsFolder:
        return forty_features.open_folder(self.source)

    def _sample(self) -> Iterator[forty_checks.Record]:
        """Records of the first shards of the first split that is used, evenly spread."""
        folder = self._folder
        split = next(name for name in self.info.splits if self._shards[name] is not None)
        total = folder.chosen(split, self._shards[split] or 0)
        for index in range(min(total, _CHECKED[0])):
            count = folder.counts[split][index]
            picked = min(count, _CHECKED[1])
            for number in (np.arange(picked) * count // max(picked, 1)).tolist():
                key = f"{folder.shard(split, index)}#{number}"
                raw = folder.read(key)
                images = {}
                for entry in FEATURES:
                    values, mask, _ = FEATURES[entry]
                    images[entry] = folder.tensor(raw, values, key)
                    if mask:
                        images[entry] = forty_features.masked(folder, images[entry], raw, mask, key)
                yield forty_checks.Record(
                    codes=folder.tensor(raw, LABELS, key),
                    latitude=folder.tensor(raw, "lat", key).item(),
                    vv=np.stack([images["s1_ascending"], images["s1_descending"]])[..., 0],
                    s2=dict(zip(self._s2_bands, np.moveaxis(images["s2"], -1, 0), strict=True)),
                    climate=dict(
                        zip(self._climate_bands, images["climate"][:, 0, 0].T, strict=True)
                    ),
                    seasons=self._seasons,
                )


def _reordered(option: str, given: str | Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """All of the known values, in any order, as a tuple or comma-separated."""
    values = tuple(given.split(",")) if isinstance(given, str) else tuple(given)
    if sorted(values) != sorted(known):
        raise ConfigError(f"{option}={given!r}, expected all of {tuple(known)}, in their order")
    return values


def _shards(given: int | str | Sequence[int]) -> dict[str, int | None]:
    """Split -> first shards to use; 0: all, None: not used."""
    parts = given.split(",") if isinstance(given, str) else given
    try:
        numbers = [int(one) for one in ([parts] if isinstance(parts, int) else parts)]
    except (TypeError, ValueError):
        numbers = []
    several = len(numbers) == len(SIZES)
    if not (len(numbers) == 1 or (several and any(numbers))) or min(numbers) < 0:
        raise ConfigError(
            f"shards={given!r}, expected a number (0: all), or three, of train, validation, test"
        )
    if several:
        return {split: n or None for split, n in zip(SIZES, numbers, strict=True)}
    return dict.fromkeys(SIZES, numbers[0])
