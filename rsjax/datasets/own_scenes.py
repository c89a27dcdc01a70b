"""Your own scenes: georeferenced images and a layer of labels, cut into patches; docs/scenes.md.

A folder with `scenes.json` names images (GeoTIFF, COG, JPEG 2000, whole Sentinel-2 or Landsat
products), labels (a raster or a vector file), the grid of the patches and how they are split by
place. Patches are read window by window; labels are brought to the grid of the images.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any

import numpy as np

from rsjax import storage
from rsjax.datasets import (
    base,
    folder_card,
    raster,
    scene_folder,
    scene_plan,
)
from rsjax.datasets.info import DatasetInfo
from rsjax.datasets.scene_list import FILE
from rsjax.landcover import IGNORE

_KEY = re.compile(r"(.+)@(\d+)_(\d+)")


class OwnScenes:
    """Patches of scenes: `mask` uint8 (patch_px, patch_px), and an image entry for each pixel size.

    `image` where all bands have one size, otherwise `image_10m`, `image_20m`, ... Also `crs` and
    `transform` of the mask's pixels, and as text `scene`, `date` and `block` (of the ground,
    whatever the split rule; column and row from the first scene's corner). Keys are
    `<scene>@<row>_<column>`, in pixels of the scene's grid. A label under a missing pixel of the
    finest entry is 255.

    Args:
        source: the folder that holds `scenes.json`.

    Raises:
        DatasetError, NomenclatureError, SensorError: from everything but construction; names the
            file, what was found, what was expected and the remedy.
    """

    def __init__(self, source: str | os.PathLike[str]):
        self.source = storage.absolute(source)
        self._folder = scene_folder.SceneFolder(self.source)

    @property
    def simulated(self) -> bool:
        """Whether the folder says so with a SIMULATED.json."""
        return base.is_simulated(self.source)

    @functools.cached_property
    def info(self) -> DatasetInfo:
        """The dataset's card; reads `scenes.json` and the headers of the first scene's files."""
        given, specs = self._folder.given, self._folder.scene(0).images.specs
        first = next(iter(specs))
        card = folder_card.Card(given.sensor, specs[first].bands, 1.0, specs[first].unit)
        px = given.grid.patch_px
        return DatasetInfo(
            name="scenes",
            version=given.version,
            title=given.title,
            page=given.page,
            licence=given.licence,
            citation=given.citation,
            images=specs,
            label=None,
            nomenclature=self._folder.classes[1],
            mask=(px, px),
            mask_nomenclature=self._folder.classes[1],
            metadata=("scene", "date", "block"),
            splits=dict.fromkeys(scene_plan.names(given, self._folder.locate), 0),
            rgb=(first, folder_card.drawn_bands(card)),
            rgb_range=folder_card.drawn_range(card),
            georeferenced=True,
        )

    def keys(self, split: str) -> list[str]:
        """The keys of a split: scene by scene, in reading order."""
        base.check_split(self.info, split)
        return list(self._folder.plan.splits[split])

    def report(self) -> dict[str, Any]:
        """How far splits lie apart, and what was left out; see `rsjax.datasets.leakage`."""
        return self._folder.plan.report

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`; over `scenes.json`, labels, metadata, image files.

        Labels, classes and the metadata of products count by their content. So do images whose
        checksum `scenes.json` states, which is compared; others by size and time of change.
        """
        stated: dict[str, str] = {}
        for scene in self._folder.given.scenes:
            for file in scene.files:
                if file.sha256:
                    stated[self._folder.locate(file.path)] = file.sha256
        for path, expected in stated.items():
            raster.check_sha256(path, expected)
        images = {
            self._folder.name(path): stated.get(path)
            or [(s := os.stat(path)).st_size, s.st_mtime_ns]
            for path in self._folder.image_files()
        }
        labels = {
            self._folder.name(path): raster.sha256(path) for path in self._folder.label_files()
        }
        read = [name for product in self._folder.products.values() for name in product.metadata]
        content = {name: self._folder.files.read(name) for name in (FILE, *read)}
        # Paths of nomenclatures are this machine's; what they hold is among the labels.
        card = self.info.to_json() | {"nomenclature": "", "mask_nomenclature": ""}
        options = {
            "images": images,
            "labels": labels,
            "card": card,
            "report": self._folder.plan.report,
        }
        return base.fingerprint(self.info, options, self._folder.plan.splits, content)

    def read(self, key: str) -> base.Example:
        """One example; see the class."""
        match = _KEY.fullmatch(key)
        known = {scene.id: i for i, scene in enumerate(self._folder.given.scenes)}
        if not match or match[1] not in known:
            raise base.unknown_key(self.info, self.source, key)
        opened = self._folder.scene(known[match[1]])
        row, col, px = int(match[2]), int(match[3]), self._folder.given.grid.patch_px
        area = opened.images.area
        stride = px - self._folder.given.grid.overlap_px
        if key != scene_plan.key_of(opened.id, row, col):  # as 00 for 0
            raise base.unknown_key(self.info, self.source, key)
        if row % stride or col % stride or row + px > area.height or col + px > area.width:
            raise base.unknown_key(self.info, self.source, key)
        example: base.Example = {"id": key, **opened.images.read(self._folder.rasters, row, col)}
        mask = opened.labels.read(self._folder.rasters, row, col, px, px)
        gone = opened.images.gone(example)
        step = px // len(gone)
        mask[np.repeat(np.repeat(gone, step, 0), step, 1)] = IGNORE
        a, _, c, _, e, f = tuple(area.transform)[:6]
        example["mask"] = mask
        example["crs"] = raster.crs_name(area.crs)
        example["transform"] = np.array([a, 0.0, c + a * col, 0.0, e, f + e * row])
        example["scene"], example["date"] = opened.id, opened.date
        first = self._folder.scene(0).images.area
        given = self._folder.given
        example["block"] = scene_plan.block_of(given, self._folder.plane, first, area, row, col)
        return example
