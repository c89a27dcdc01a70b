"""SpaceNet 2: buildings of four cities in WorldView-3 images of 0.3 m, 10,592 chips of 200 m.

Page: https://spacenet.ai/spacenet-buildings-dataset-v2/. Paper: https://arxiv.org/abs/1807.01232.

Only the official training chips have footprints; they alone are read, and split by one of three
rules. 'blocks': blocks of 2 km in each city, see `rsjax.datasets.split_rules`. 'stratified': within
each city by the sha256 of the chip's name, see `rsjax.datasets.splits.stratified`; neighbouring
chips look alike, so its scores flatter. 'areas': Vegas and Shanghai to train, Paris to validate,
Khartoum to test. Footprints are drawn as masks; the challenge's own score counts whole buildings.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsjax.datasets import base, files, footprints, geotiff, leakage, split_rules, splits, tiff
from rsjax.datasets.files import Source
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.errors import ConfigError, DatasetError
from rsjax.landcover import IGNORE

PAGE = "https://spacenet.ai/spacenet-buildings-dataset-v2/"
# Area -> (name in paths, official number of training chips, latitude for distances).
AREAS = {
    "Vegas": ("AOI_2_Vegas", 3_850, 36.2),
    "Paris": ("AOI_3_Paris", 1_148, 49.0),
    "Shanghai": ("AOI_4_Shanghai", 4_582, 31.4),
    "Khartoum": ("AOI_5_Khartoum", 1_012, 15.6),
}
_EIGHT = ("Coastal", "Blue", "Green", "Yellow", "Red", "RedEdge", "NIR1", "NIR2")
# Product -> (bands in the order of the files, pixels a side, metres a pixel).
PRODUCTS = {
    "PAN": (("PAN",), 650, 0.31),
    "MUL": (_EIGHT, 163, 1.24),
    "MUL-PanSharpen": (_EIGHT, 650, 0.31),
    "RGB-PanSharpen": (("Red", "Green", "Blue"), 650, 0.31),
}
LABELS = "geojson/buildings"

_TOPS = ("", "train/", "SN2_buildings/train/")
_SPLIT_OF = {"Vegas": "train", "Shanghai": "train", "Paris": "validation", "Khartoum": "test"}
_NUMBER = re.compile(r"_img(\d+)\.[a-z]+$")
_BLOCK_M, _DEGREE_M = 2000.0, 111_320.0


class SpaceNet2:
    """SpaceNet 2: `image` (650, 650, bands) uint16, `mask`, `area`, `crs`, `transform`, `id`.

    `mask` is uint8 of the image's size: 0 background, 1 building, 255 beyond the satellite's
    image (0 in all bands).

    Args:
        source: the folder with `AOI_2_Vegas_Train` and so on, also below `SN2_buildings/train`.
        product: folder of the images: 'PAN', 'MUL' (163 pixels), 'MUL-PanSharpen' (8 bands) or
            'RGB-PanSharpen'.
        areas: some of 'Vegas', 'Paris', 'Shanghai', 'Khartoum', as a tuple or comma-separated.
        split_rule: 'blocks', 'stratified' or 'areas' (which needs all four), see the module.
        chip_px: side of the images; 0: that of the product. Images of another size are refused.

    Raises:
        ConfigError: an unknown option value.
        DatasetError: from `keys` and `read`; missing, damaged or misplaced files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        product: str = "MUL-PanSharpen",
        areas: str | Sequence[str] = tuple(AREAS),
        split_rule: str = "blocks",
        chip_px: int = 0,
    ):
        self.source = os.fspath(source)
        self._product = base.choice("product", product, PRODUCTS)
        self._areas = base.choices("areas", areas, tuple(AREAS))
        self._rule = base.choice("split_rule", split_rule, ("blocks", "stratified", "areas"))
        if split_rule == "areas" and len(self._areas) < len(AREAS):
            raise ConfigError(
                f"areas={areas!r}, expected all of {', '.join(AREAS)} with split_rule='areas'"
            )
        if not isinstance(chip_px, int) or chip_px < 0:
            raise ConfigError(f"chip_px={chip_px!r}, expected pixels, or 0 for the product's own")
        bands, side, gsd = PRODUCTS[product]
        side = chip_px or side
        colours = bands if len(bands) == 3 else ("Red", "Green", "Blue")
        self.info = DatasetInfo(
            name="spacenet2",
            version="1.0.0",
            title=f"SpaceNet 2, buildings ({product})",
            page=PAGE,
            licence="CC-BY-SA-4.0",
            citation="Van Etten et al., SpaceNet: A Remote Sensing Dataset and Challenge Series, "
            "arXiv:1807.01232",
            images={
                "image": ImageSpec("worldview3", bands, side, side, "uint16", "dn16", gsd, nodata=0)
            },
            label=None,
            nomenclature="buildings",
            mask=(side, side),
            mask_nomenclature="buildings",
            metadata=("area",),
            splits=_sizes(split_rule, self._areas),
            rgb=("image", ("PAN", "PAN", "PAN") if product == "PAN" else colours),
            rgb_range=(0.0, 1000.0),
            georeferenced=True,
        )

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The keys of a split, `<area>/img<number>`, area by area in the order of the numbers."""
        base.check_split(self.info, split)
        return list(self._splits[split])

    def report(self) -> dict[str, Any]:
        """How far splits lie apart, see `rsjax.datasets.leakage`; chips that overlap are counted.

        Chips of neighbouring blocks touch each other: 'blocks' leaves none out.
        """
        split = {key: name for name, keys in self._splits.items() for key in keys}
        corners = self._corners
        names = [split[key] for key in corners]
        return leakage.report(
            np.array(list(corners.values())), list(corners), names, {}, refuse=False
        )

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`; over all footprints, which are small, and no image."""
        options = {
            "product": self._product,
            "split_rule": self._rule,
            "px": self.info.images["image"].width,
        }
        digest = hashlib.sha256()
        for key, (_, label) in self._chips.items():
            found = hashlib.sha256(self._files.read(label)).hexdigest()
            digest.update(f"{key} {found}\n".encode())
        return base.fingerprint(self.info, options, self._splits, {"footprints": digest.digest()})

    def read(self, key: str) -> base.Example:
        """One chip; see the class."""
        if key not in self._chips:
            raise base.unknown_key(self.info, self.source, key)
        image, label = self._chips[key]
        spec = self.info.images["image"]
        shape = (spec.height, spec.width)
        header = tiff.parse(self._files.read(image), self._files.describe(image))
        pixels = tiff.pixels(header, shape=shape, dtype=spec.dtype, bands=len(spec.bands))
        pixels = pixels.reshape(*shape, len(spec.bands))
        crs, transform = geotiff.crs(header), geotiff.transform(header)
        where = self._files.describe(label)
        polygons = footprints.read(self._files.read(label), where)
        mask = footprints.draw(polygons, where, shape=shape, crs=crs, transform=transform)
        mask[(pixels == 0).all(axis=-1)] = IGNORE
        return {
            "id": key,
            "image": pixels,
            "mask": mask,
            "area": key.split("/")[0],
            "crs": crs,
            "transform": np.array(transform),
        }

    @functools.cached_property
    def _files(self) -> Source:
        return files.open_source(self.source, PAGE)

    @functools.cached_property
    def _chips(self) -> dict[str, tuple[str, str]]:
        """Key -> paths of image and footprints, in the order of area and number."""
        found = {}
        for area in self._areas:
            name = f"{AREAS[area][0]}_Train"
            top = next((t for t in _TOPS if self._files.exists(f"{t}{name}")), None)
            if top is None:
                raise DatasetError(
                    f"{self._files.path}: no folder {name}, expected it there or below "
                    f"SN2_buildings/train. Download it from {PAGE} and unpack it, or leave the "
                    f"area out with areas={','.join(a for a in self._areas if a != area)!r}"
                )
            images = self._numbered(f"{top}{name}/{self._product}", ".tif")
            labels = self._numbered(f"{top}{name}/{LABELS}", ".geojson")
            if odd := sorted(images.keys() ^ labels.keys()):
                number = odd[0]
                there = images.get(number) or labels[number]
                other = "footprints" if number in images else "image"
                raise DatasetError(
                    f"{self._files.describe(there)}: no {other} of img{number}, and {len(odd)} "
                    f"such in all, expected one of each. Complete the download from {PAGE}, or "
                    "move the file away"
                )
            for number in sorted(images):
                found[f"{area}/img{number}"] = (images[number], labels[number])
        return found

    def _numbered(self, folder: str, extension: str) -> dict[int, str]:
        """Number of a chip -> its file in a folder; prefixes differ between releases."""
        found: dict[int, str] = {}
        for path in self._files.names(folder):
            if not path.endswith(extension):
                continue
            number = _NUMBER.search(path)
            if not number or int(number[1]) in found:
                raise DatasetError(
                    f"{self._files.describe(path)}: expected names that end in _img<number>"
                    f"{extension}, each number once; move the file away"
                )
            found[int(number[1])] = path
        if not found:
            raise self._files.missing(f"{folder}/*_img<number>{extension}")
        return found

    @functools.cached_property
    def _splits(self) -> dict[str, list[str]]:
        chips = list(self._chips)
        area = {key: key.split("/")[0] for key in chips}
        if self._rule == "stratified":
            return splits.stratified({a: [k for k in chips if area[k] == a] for a in self._areas})
        if self._rule == "areas":
            split = {key: _SPLIT_OF[area[key]] for key in chips}
        else:
            x, y = np.mean(list(self._corners.values()), axis=1).T.tolist()
            split = split_rules.blocks(chips, x, y, _BLOCK_M, zones=[area[key] for key in chips])
        return {name: [key for key in chips if split[key] == name] for name in self.info.splits}

    @functools.cached_property
    def _corners(self) -> dict[str, np.ndarray]:
        """Key -> corners (4, 2) in metres from Greenwich and the equator; reads tags alone.

        Degrees of longitude are as long in all of an area, so places in two are far apart, but
        not to the metre.
        """
        found = {}
        for key, (path, _) in self._chips.items():
            part = functools.partial(self._files.part, path)
            header = tiff.parse_tags(part, self._files.describe(path))
            a, b, c, d, e, f = geotiff.transform(header)
            columns = np.array([0, header.width, header.width, 0])
            rows = np.array([0, 0, header.height, header.height])
            shrink = math.cos(math.radians(AREAS[key.split("/")[0]][2]))
            x, y = c + a * columns + b * rows, f + d * columns + e * rows
            found[key] = np.stack([x * _DEGREE_M * shrink, y * _DEGREE_M], axis=-1)
        return found


def _sizes(rule: str, areas: tuple[str, ...]) -> dict[str, int]:
    """Official sizes of the splits, as far as the rule and the numbers of chips tell them."""
    sizes = {"train": 0, "validation": 0, "test": 0}
    if rule == "areas":
        for area, split in _SPLIT_OF.items():
            sizes[split] += AREAS[area][1]
    if rule == "stratified":
        for area in areas:
            parts = splits.stratified({area: [str(i) for i in range(AREAS[area][1])]})
            for split, keys in parts.items():
                sizes[split] += len(keys)
    return sizes
