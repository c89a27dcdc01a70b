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

from rsjax import landcover, sensors, storage
from rsjax.datasets import (
    base,
    blocks,
    files,
    folder_card,
    products,
    raster,
    scene_images,
    scene_labels,
    scene_list,
    scene_plan,
    vector,
)
from rsjax.datasets.info import DatasetInfo
from rsjax.datasets.products import Product
from rsjax.datasets.scene_list import FILE, Labels, Scene, SceneList
from rsjax.errors import DatasetError
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
        self._rasters = raster.Rasters()
        self._opened: dict[int, scene_plan.Opened] = {}
        self._features: dict[Labels, vector.Features] = {}

    @property
    def simulated(self) -> bool:
        """Whether the folder says so with a SIMULATED.json."""
        return base.is_simulated(self.source)

    @functools.cached_property
    def info(self) -> DatasetInfo:
        """The dataset's card; reads `scenes.json` and the headers of the first scene's files."""
        given, specs = self._list, self._scene(0).images.specs
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
            nomenclature=self._classes[1],
            mask=(px, px),
            mask_nomenclature=self._classes[1],
            metadata=("scene", "date", "block"),
            splits=dict.fromkeys(scene_plan.names(given, self._locate), 0),
            rgb=(first, folder_card.drawn_bands(card)),
            rgb_range=folder_card.drawn_range(card),
            georeferenced=True,
        )

    def keys(self, split: str) -> list[str]:
        """The keys of a split: scene by scene, in reading order."""
        base.check_split(self.info, split)
        return list(self._plan.splits[split])

    def report(self) -> dict[str, Any]:
        """How far splits lie apart, and what was left out; see `rsjax.datasets.leakage`."""
        return self._plan.report

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`; over `scenes.json`, vector files, sizes of rasters.

        Compares the checksums that `scenes.json` states.
        """
        for scene in self._list.scenes:
            for file in scene.files:
                if file.sha256:
                    raster.check_sha256(self._locate(file.path), file.sha256)
        sizes = {os.path.relpath(f, self.source): os.path.getsize(f) for f in self._all_files()}
        content = {FILE: self._files.read(FILE)}
        if (name := self._classes[1]).endswith(".csv"):
            content["classes"] = self._files.read(os.path.relpath(name, self.source))
        vectors = [raster.sha256(path) for path in self._vector_files()]
        options = {"sizes": sizes, "vectors": vectors, "report": self._plan.report}
        return base.fingerprint(self.info, options, self._plan.splits, content)

    def read(self, key: str) -> base.Example:
        """One example; see the class."""
        match = _KEY.fullmatch(key)
        known = {scene.id: i for i, scene in enumerate(self._list.scenes)}
        if not match or match[1] not in known:
            raise base.unknown_key(self.info, self.source, key)
        opened = self._scene(known[match[1]])
        row, col, px = int(match[2]), int(match[3]), self._list.grid.patch_px
        area = opened.images.area
        stride = px - self._list.grid.overlap_px
        if row % stride or col % stride or row + px > area.height or col + px > area.width:
            raise base.unknown_key(self.info, self.source, key)
        example: base.Example = {"id": key, **opened.images.read(self._rasters, row, col)}
        mask = opened.labels.read(self._rasters, row, col, px, px)
        name, spec = next(iter(self.info.images.items()))
        gone = scene_images.missing(example[name], spec)
        step = px // spec.height
        mask[np.repeat(np.repeat(gone, step, 0), step, 1)] = IGNORE
        a, _, c, _, e, f = tuple(area.transform)[:6]
        example["mask"] = mask
        example["crs"] = raster.crs_name(area.crs)
        example["transform"] = np.array([a, 0.0, c + a * col, 0.0, e, f + e * row])
        example["scene"], example["date"] = opened.id, opened.date
        first = self._scene(0).images.area
        given = self._list
        example["block"] = scene_plan.block_of(given, self._plane, first, area, row, col)
        return example

    @functools.cached_property
    def _files(self) -> files.Source:
        if storage.is_remote(self.source) or not os.path.isdir(self.source):
            raise DatasetError(
                f"{self.source}: no such local folder, expected one with {FILE}; copy scenes to "
                "a disk, and give the folder as source"
            )
        return files.folder(self.source)

    @functools.cached_property
    def _list(self) -> SceneList:
        where = self._files.describe(FILE)
        if not self._files.exists(FILE):
            raise DatasetError(
                f"{where}: no such file, expected one that lists scenes and labels. Write it, "
                f"e.g. {scene_list.EXAMPLE}"
            )
        return scene_list.read(self._files.read(FILE), where)

    @functools.cached_property
    def _plan(self) -> scene_plan.Plan:
        where = self._files.describe(FILE)
        return scene_plan.make(
            self._list, self._scene, self._rasters, self._locate, self._all_files(), where
        )

    @functools.cached_property
    def _plane(self) -> blocks.Plane:
        return scene_plan.plane_of([self._scene(i) for i in range(len(self._list.scenes))])

    def _locate(self, name: str) -> str:
        return raster.locate(self._files.path, name)

    @functools.cached_property
    def _classes(self) -> tuple[landcover.Nomenclature, str]:
        """The nomenclature that all labels have, and what names it."""
        given = [scene.labels or self._list.labels for scene in self._list.scenes]
        known = sorted({labels.nomenclature for labels in given if labels})
        if len(known) > 1:
            raise DatasetError(
                f"{self._files.describe(FILE)}: labels of nomenclatures {', '.join(known)}, "
                "expected one; translate the labels to one of them"
            )
        return scene_labels.load(next(labels for labels in given if labels), self._locate)

    @functools.cached_property
    def _products(self) -> dict[str, Product]:
        return {
            scene.product: products.find(self._files, scene.product, self._list.bands)
            for scene in self._list.scenes
            if scene.product
        }

    @functools.cached_property
    def _unit(self) -> str:
        """The unit of the entries."""
        if self._list.unit:
            return self._list.unit
        units = {self._stored_unit(scene) for scene in self._list.scenes}
        if len(units) == 1:
            return units.pop()
        raise DatasetError(
            f"{self._files.describe(FILE)}: scenes in the units {', '.join(sorted(units))}, "
            "expected one; state unit, to which all are brought"
        )

    def _stored_unit(self, scene: Scene) -> str:
        """The unit of a scene's files."""
        found = self._products[scene.product].unit if scene.product else ""
        if found and scene.unit and scene.unit != found:
            raise DatasetError(
                f"{self._files.describe(scene.product)}: its metadata say {found}, expected "
                f"{scene.unit} as {FILE} does; leave the scene's unit out"
            )
        known = sensors.get(self._list.sensor).units
        unit = found or scene.unit or self._list.unit or (known[0] if len(known) == 1 else "")
        if unit not in known:
            raise DatasetError(
                f"{self._files.describe(FILE)}: scene {scene.id!r}: unit={unit!r}, expected one "
                f"of {', '.join(known)}; state it"
            )
        return unit

    def _scene(self, index: int) -> scene_plan.Opened:
        """A scene by its position, its headers read once."""
        if index not in self._opened:
            self._opened[index] = self._open(self._list.scenes[index])
        return self._opened[index]

    def _open(self, scene: Scene) -> scene_plan.Opened:
        given, where = self._list, f"{self._files.describe(FILE)}: scene {scene.id!r}"
        product = self._products[scene.product] if scene.product else None
        if product and product.sensor != given.sensor:
            raise DatasetError(
                f"{where}: a product of {product.sensor}, expected {given.sensor}; correct the "
                "sensor, or leave the scene out"
            )
        listed = product.files if product else scene.files
        nodata = products.NODATA if product and given.nodata is None else given.nodata
        images = scene_images.open_scene(
            where,
            [(self._locate(file.path), file) for file in listed],
            given.grid,
            given.sensor,
            self._unit,
            self._stored_unit(scene),
            nodata,
            given.bands,
        )
        if 0 in self._opened and images.specs != self._opened[0].images.specs:
            raise DatasetError(
                f"{where}: {scene_images.describe(images.specs)}; expected, as the first scene, "
                f"{scene_images.describe(self._opened[0].images.specs)}. Name the bands that all "
                "have under bands, or state grid.gsd_m, grid.crs or nodata"
            )
        labels = scene.labels or given.labels
        assert labels is not None  # `scene_list.read` saw to it
        reference = scene_labels.SceneLabels(
            where, labels, self._locate, images.area, self._classes[0], self._vector(labels)
        )
        date = scene.date or (product.date if product else "")
        return scene_plan.Opened(scene.id, date, images, reference)

    def _vector(self, labels: Labels) -> vector.Features | None:
        if labels.vector and labels not in self._features:
            path = self._locate(labels.vector)
            self._features[labels] = vector.read(path, labels.layer, labels.field)
        return self._features.get(labels)

    def _all_files(self) -> list[str]:
        """The paths of the files, besides the list, that decide which patches there are."""
        found = []
        for scene in self._list.scenes:
            listed = self._products[scene.product].files if scene.product else scene.files
            found += [file.path for file in listed]
            labels = scene.labels or self._list.labels
            found += labels.raster if labels else ()
        csv = [self._classes[1]] if self._classes[1].endswith(".csv") else []
        paths = [self._locate(name) for name in dict.fromkeys(found)]
        return paths + self._vector_files() + csv

    def _vector_files(self) -> list[str]:
        """The paths of vector files; a Shapefile has its values and its place in others."""
        given = [scene.labels or self._list.labels for scene in self._list.scenes]
        names = [labels.vector for labels in given if labels and labels.vector]
        names += [self._list.split.vector] if self._list.split.rule == "vector" else []
        found = []
        for path in map(self._locate, dict.fromkeys(names)):
            stem, ending = os.path.splitext(path)
            beside = (".shx", ".dbf", ".prj") if ending.lower() == ".shp" else ()
            found += [path, *(p for p in map(stem.__add__, beside) if os.path.isfile(p))]
        return found
