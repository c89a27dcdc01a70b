"""OSCD (Onera Satellite Change Detection): 24 pairs of Sentinel-2 images with urban changes.

Page: https://rcdaudt.github.io/oscd/. Paper: https://doi.org/10.1109/IGARSS.2018.8518015.

The official splits are 14 training and 10 test cities. Validation is ours: all of the cities
given as `validation` (Beihai and Nantes) are taken from the training cities. Images are of 13
bands at the top of the atmosphere, resampled to 10 m and registered (the `_rect` folders), and of
another size in each city. They are cut into tiles; the last of a row or column is shifted inwards,
and where it overlaps the one before, its mask is 255: every pixel counts once. The image is
mirrored where it is smaller than a tile.
"""

from __future__ import annotations

import datetime
import functools
import os
import re
from collections.abc import Sequence

import numpy as np

from rsjax.datasets import base, files, geotiff, pairs, tiff, tiling
from rsjax.datasets.files import Source
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.errors import ConfigError, DatasetError

PAGE = "https://rcdaudt.github.io/oscd/"
IMAGES, TRAIN_LABELS, TEST_LABELS = (
    f"Onera Satellite Change Detection dataset - {part}"
    for part in ("Images", "Train Labels", "Test Labels")
)
BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12",
)  # fmt: skip
TRAIN = (
    "aguasclaras", "bercy", "bordeaux", "nantes", "paris", "rennes", "saclay_e", "abudhabi",
    "cupertino", "pisa", "beihai", "hongkong", "beirut", "mumbai",
)  # fmt: skip
TEST = (
    "brasilia", "montpellier", "norcia", "rio", "saclay_w", "valencia", "dubai", "lasvegas",
    "milano", "chongqing",
)  # fmt: skip
STEPS = ("imgs_1_rect", "imgs_2_rect")

_MEANS = (
    1565.70, 1351.33, 1257.11, 1254.93, 1388.69, 1827.67, 2050.27, 1963.46, 2182.68, 629.84,
    14.86, 1909.84, 1379.60,
)  # fmt: skip
_DEVIATIONS = (
    263.80, 394.56, 508.97, 726.41, 686.61, 730.02, 822.01, 842.59, 895.76, 314.84, 9.42, 984.92,
    844.77,
)  # fmt: skip
_DATE = re.compile(r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})(?!\d)")


class OSCD:
    """OSCD: `s2` (2, tile_px, tile_px, 13) uint16, before and after; `mask`; `city`; `s2_dates`.

    `mask` is uint8 (tile_px, tile_px): 0 unchanged, 1 changed, 255 beyond the image or in an
    earlier tile. `s2_dates` are the two days, as ISO dates joined by ';'. Pixels that registration
    left without value are 0 in all bands.

    Args:
        source: the folder with the three folders (or zips) of the download.
        tile_px: side of a sample in pixels, 96 as in the authors' and many later publications.
        validation: training cities that are the validation split, as a tuple or comma-separated.
        labels: 'png' reads `cm.png` (0 and 255), 'tif' `<city>-cm.tif` (1 and 2); where both are
            there, they must agree.

    Raises:
        ConfigError: an unknown option value.
        DatasetError: from `keys` and `read`; missing, damaged or misplaced files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        tile_px: int = 96,
        validation: str | Sequence[str] = ("beihai", "nantes"),
        labels: str = "png",
    ):
        self.source = os.fspath(source)
        self._tiling = tiling.Tiling(tile_px)
        self._labels = base.choice("labels", labels, ("png", "tif"))
        held = base.choices("validation", validation, TRAIN)
        if len(held) == len(TRAIN):
            raise ConfigError(f"validation={validation!r}, expected to leave cities to train on")
        train = tuple(city for city in TRAIN if city not in held)
        self._cities = {"train": train, "validation": held, "test": TEST}
        self.info = DatasetInfo(
            name="oscd",
            version="1.0.0",
            title="OSCD, urban changes in Sentinel-2 images",
            page=PAGE,
            licence="CC-BY-4.0",
            citation="Daudt et al., Urban Change Detection for Multispectral Earth Observation "
            "Using Convolutional Neural Networks, IGARSS 2018, doi:10.1109/IGARSS.2018.8518015",
            images={
                "s2": ImageSpec(
                    "sentinel2_l1c", BANDS, tile_px, tile_px, "uint16", "reflectance_1e4", 10.0,
                    nodata=0, steps=2,
                )
            },
            label=None,
            nomenclature="change",
            mask=(tile_px, tile_px),
            mask_nomenclature="change",
            metadata=("city", "s2_dates"),
            splits=dict.fromkeys(self._cities, 0),  # tiles of sizes that no list states
            rgb=("s2", ("B04", "B03", "B02")),
            rgb_range=(0.0, 3000.0),
            published_statistics={
                "sentinel2_l1c": dict(
                    zip(BANDS, zip(_MEANS, _DEVIATIONS, strict=True), strict=True)
                )
            },
            published_statistics_source="https://github.com/torchgeo/torchgeo, "
            "datamodules/oscd.py, training cities",
        )  # fmt: skip
        self._decoded: tiling.Last[tuple[np.ndarray, np.ndarray, str]] = tiling.Last()

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The keys of a split, city by city in the official order."""
        base.check_split(self.info, split)
        return [key for city in self._cities[split] for key in self._windows[city]]

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        options = {"tile_px": self._tiling.tile_px, "labels": self._labels}
        keys = {split: self.keys(split) for split in self._cities}
        return base.fingerprint(self.info, options, keys, {})

    def read(self, key: str) -> base.Example:
        """One tile; see the class."""
        city = key.split("@")[0]
        window = self._windows.get(city, {}).get(key)
        if not window:
            raise base.unknown_key(self.info, self.source, key)
        series, mask, dates = self._decoded.get(city, lambda: self._decode(city))
        return {
            "id": key,
            "s2": np.stack([self._tiling.cut(step, window) for step in series]),
            "mask": self._tiling.cut_mask(mask, window, once=True),
            "city": city,
            "s2_dates": dates,
        }

    def _decode(self, city: str) -> tuple[np.ndarray, np.ndarray, str]:
        """A city's images uint16 (2, height, width, 13), mask uint8 (height, width) and dates."""
        source = self._images
        paths = [[f"{IMAGES}/{city}/{step}/{band}.tif" for band in BANDS] for step in STEPS]
        shape = self._sizes[city]
        series = np.empty((len(STEPS), *shape, len(BANDS)), np.uint16)
        for step, row in enumerate(paths):
            for band, path in enumerate(row):
                series[step, ..., band] = geotiff.read_tiff(
                    source.read(path), source.describe(path), shape=shape, dtype="uint16", bands=1
                )
        dates = f"{IMAGES}/{city}/dates.txt"
        return series, self._mask(city), _dates(source.read(dates), source.describe(dates))

    def _mask(self, city: str) -> np.ndarray:
        """The changes of a city, from either file; where both are there, they must agree."""
        part = TEST_LABELS if city in TEST else TRAIN_LABELS
        source, folder = self._labelled[part], f"{part}/{city}/cm"
        kinds = {"png": ("cm.png", (0, 255)), "tif": (f"{city}-cm.tif", (1, 2))}
        found = {}
        for kind, (name, values) in kinds.items():
            path = f"{folder}/{name}"
            if kind == self._labels or source.exists(path):
                data, where = source.read(path), source.describe(path)
                found[kind] = pairs.read_change(data, where, self._sizes[city], values)
        if len(found) > 1 and (found["png"] != found["tif"]).any():
            raise DatasetError(
                f"{source.describe(folder)}: {int((found['png'] != found['tif']).sum())} pixels "
                f"differ between cm.png and {city}-cm.tif, expected the same changes. Restore both "
                "from the original download, or move the wrong one away and choose the other "
                "with labels='png' or 'tif'"
            )
        return found[self._labels]

    @functools.cached_property
    def _windows(self) -> dict[str, dict[str, tiling.Window]]:
        """City -> key -> window."""
        return {
            city: {tiling.key_of(city, window): window for window in self._tiling.windows(*size)}
            for city, size in self._sizes.items()
        }

    @functools.cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        """(height, width) of each city, as its first band has it."""
        found = {}
        for city in TRAIN + TEST:
            name = f"{IMAGES}/{city}/{STEPS[0]}/{BANDS[0]}.tif"
            part = functools.partial(self._images.part, name)
            found[city] = tiff.size(part, self._images.describe(name))
        return found

    @functools.cached_property
    def _images(self) -> Source:
        source = files.open_part(self.source, IMAGES, PAGE)
        for name, cities in (("train.txt", TRAIN), ("test.txt", TEST)):
            path = f"{IMAGES}/{name}"
            if not source.exists(path):
                continue
            listed = re.findall(r"\w+", source.read(path).decode("utf-8", "replace"))
            if sorted(listed) != sorted(cities):
                raise DatasetError(
                    f"{source.describe(path)}: {', '.join(listed)}, expected {', '.join(cities)}. "
                    f"This is another release than that of {PAGE}"
                )
        return source

    @functools.cached_property
    def _labelled(self) -> dict[str, Source]:
        return {
            part: files.open_part(self.source, part, PAGE) for part in (TRAIN_LABELS, TEST_LABELS)
        }


def _dates(content: bytes, where: str) -> str:
    """The two days of `dates.txt`, whatever stands around them, as ISO dates joined by ';'."""
    text = content.decode("utf-8", "replace")
    try:
        found = [datetime.date(*map(int, day)) for day in _DATE.findall(text)]
    except ValueError as error:
        raise DatasetError(f"{where}: {text!r} ({error}), expected two dates YYYYMMDD") from None
    if len(found) != len(STEPS) or found[0] > found[1]:
        raise DatasetError(
            f"{where}: {text!r}, expected two dates YYYYMMDD, the earlier first. Restore the file "
            "from the original download"
        )
    return ";".join(map(str, found))
