"""Your own patches: a folder of images with `dataset.json` and `samples.csv`; see docs/folder.md.

Images are PNG, JPEG or GeoTIFF of one sensor, masks are single bands of class codes. Without
`samples.csv`, images lie in one folder a class. Classes are those of a nomenclature of rsjax, or of
a CSV file in the folder, which travels with the shards.
"""

from __future__ import annotations

import functools
import os
from typing import NoReturn

import numpy as np

from rsjax import landcover, storage
from rsjax.datasets import base, files, folder_card, folder_images, folder_samples, geotiff
from rsjax.datasets.folder_card import ENTRY, FILE, Card
from rsjax.datasets.folder_images import Image
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import DatasetError

_SAME_PLACE = 0.01  # pixels by which image and mask may lie apart: rounding of stored numbers


class Folder:
    """Own patches: `image` (height, width, bands) as stored, `id` its path in the folder.

    Also `label` (class index, or uint8 (classes,) of zeros and ones) and `mask` (height, width)
    uint8 class indices, where there are any; `crs` and `transform` where the images are GeoTIFFs
    with a coordinate system; and each further column of `samples.csv` as text.

    Args:
        source: the folder, or its URL.

    Raises:
        DatasetError, NomenclatureError: from everything but construction; names the file or line,
            what was found, what was expected and the remedy.
    """

    def __init__(self, source: str | os.PathLike[str]):
        self.source = storage.absolute(source)

    @property
    def simulated(self) -> bool:
        """Whether the folder says so with a SIMULATED.json."""
        return base.is_simulated(self.source)

    @functools.cached_property
    def info(self) -> DatasetInfo:
        """The dataset's card; looks at `dataset.json`, `samples.csv` and the first image."""
        first = next(iter(self._samples.splits.values()))[0]
        sizes = {split: len(keys) for split, keys in self._samples.splits.items()}
        image = self._look(self._samples.by_key[first].image)
        return folder_card.info(self._card, image, sizes, self._samples.metadata)

    def keys(self, split: str) -> list[str]:
        """The keys of a split, in the order of `samples.csv`."""
        base.check_split(self.info, split)
        return list(self._samples.splits[split])

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`; over `dataset.json`, the table and own classes."""
        names = [FILE] + [folder_samples.TABLE] * self._files.exists(folder_samples.TABLE)
        for one in (self._card.label_nomenclature, self._card.mask_nomenclature):
            if one and one.endswith(".csv"):
                names.append(os.path.relpath(one, self.source).replace(os.sep, "/"))
        content = {name: self._files.read(name) for name in names}
        return base.fingerprint(self.info, {}, self._samples.splits, content)

    def read(self, key: str) -> base.Example:
        """One example; see the class."""
        if key not in self._samples.by_key:
            raise base.unknown_key(self.info, self.source, key)
        sample = self._samples.by_key[key]
        image = self._look(sample.image, sample.line)
        self._check(image)
        example: base.Example = {"id": key, ENTRY: folder_images.pixels(image), **sample.metadata}
        if sample.label is not None:
            example["label"] = sample.label
        if image.header and self.info.georeferenced:
            example["crs"] = geotiff.crs(image.header)
            example["transform"] = np.array(geotiff.transform(image.header))
        if self._card.mask_nomenclature:
            mask = self._look(sample.mask, sample.line)
            _check_mask(mask, image)
            codes = folder_images.codes(mask)
            classes = landcover.load(self._card.mask_nomenclature)
            example["mask"] = classes.encode(codes, mask.where)
        return example

    @functools.cached_property
    def _files(self) -> files.Source:
        if not storage.is_folder(self.source):
            raise DatasetError(
                f"{self.source}: no such folder, expected one with {FILE} and "
                f"{folder_samples.TABLE}; unpack archives, and give the folder as source"
            )
        return files.folder(self.source)

    @functools.cached_property
    def _card(self) -> Card:
        where = self._files.describe(FILE)
        if not self._files.exists(FILE):
            raise DatasetError(
                f"{where}: no such file, expected one that describes the images. "
                f"Write it, e.g. {folder_card.EXAMPLE}"
            )
        return folder_card.read(self._files.read(FILE), where, self.source)

    @functools.cached_property
    def _samples(self) -> folder_samples.Samples:
        return folder_samples.read(self._card, self._files)

    def _look(self, name: str, line: int = 0) -> Image:
        """The header of an image; a file that is not there is named with its line."""
        where = self._files.describe(name)
        try:
            data = self._files.read(name)
        except DatasetError:
            if self._files.exists(name):
                raise
            row = f" of line {line}" if line else ""
            raise DatasetError(
                f"{where}: no such file, expected the one{row} in "
                f"{self._files.describe(folder_samples.TABLE)}. Copy it there, or delete the row"
            ) from None
        return folder_images.look(data, where)

    def _check(self, image: Image) -> None:
        """Refuses an image that is not as the first, or not as `dataset.json` says."""
        spec = self.info.images[ENTRY]
        height, width, bands = image.shape
        found = (height if spec.height else 0, width if spec.width else 0, bands, image.dtype)
        expected = (spec.height, spec.width, len(spec.bands), spec.dtype)
        if found != expected:
            size = f"{spec.height}x{spec.width} pixels, " if spec.height else ""
            _refuse(
                image.where,
                image.describe(),
                f"{size}{len(spec.bands)} bands ({', '.join(spec.bands)}) of {spec.dtype}, as "
                f"{FILE} and the first image say",
                "Convert the file, or correct the bands"
                + (", or state size='varying'" if found[2:] == expected[2:] else ""),
            )
        if image.georeferenced != self.info.georeferenced:
            words = ("no coordinate system", "a coordinate system")
            _refuse(
                image.where, words[image.georeferenced],
                f"{words[self.info.georeferenced]}, as the first image has",
                "Georeference all images or none",
            )  # fmt: skip
        tag = image.header.nodata if image.header else None
        if tag and not _same_number(tag, spec.nodata):
            _refuse(
                image.where, f"the nodata tag {tag}", f"nodata {spec.nodata}, as {FILE} says",
                'Give both the same value ("nodata" in the JSON)',
            )  # fmt: skip


def _check_mask(mask: Image, image: Image) -> None:
    """Refuses a mask of another size or place than its image."""
    if mask.shape[:2] != image.shape[:2]:
        _refuse(
            mask.where, "{}x{} pixels".format(*mask.shape[:2]),
            "{}x{}, as its image {} has".format(*image.shape[:2], image.where),
            "Resample the mask (nearest neighbour) to the grid of the image",
        )  # fmt: skip
    if not (mask.header and image.header and mask.georeferenced and image.georeferenced):
        return
    found, expected = (
        (geotiff.crs(header), geotiff.transform(header)) for header in (mask.header, image.header)
    )
    apart = max(abs(a - b) for a, b in zip(found[1], expected[1], strict=True))
    pixel = max(abs(value) for value in (expected[1][0], expected[1][1]))
    if found[0] != expected[0] or apart > _SAME_PLACE * pixel:
        _refuse(
            mask.where, f"lies at {found[0]} {found[1]}",
            f"{expected[0]} {expected[1]}, as its image {image.where}",
            "Reproject the mask to the grid of the image",
        )  # fmt: skip


def _same_number(tag: str, nodata: float | None) -> bool:
    try:
        value = float(tag)
    except ValueError:
        return False
    # Pixels that are NaN are refused when shards are written; the tag alone is harmless.
    return value != value or (nodata is not None and abs(value - nodata) <= 1e-6 * abs(value))


def _refuse(where: str, found: str, expected: str, remedy: str) -> NoReturn:
    raise DatasetError(f"{where}: {found}, expected {expected}. {remedy}")
