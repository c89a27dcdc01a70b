"""A folder with `scenes.json`: its list, its files, and its scenes, each opened once."""

from __future__ import annotations

import functools
import os

from rsjax import landcover, sensors, storage
from rsjax.datasets import (
    blocks,
    files,
    products,
    raster,
    scene_headers,
    scene_labels,
    scene_list,
    scene_plan,
    vector,
)
from rsjax.datasets.products import Product
from rsjax.datasets.scene_list import FILE, Labels, Scene, SceneList
from rsjax.errors import DatasetError


class SceneFolder:
    """What `scenes.json` names, read when it is asked for.

    Args:
        source: the folder.

    Raises:
        DatasetError, NomenclatureError, SensorError: from everything but construction.
    """

    def __init__(self, source: str):
        self.source = source
        self.rasters = raster.Rasters()
        self._opened: dict[int, scene_plan.Opened] = {}
        self._features: dict[Labels, vector.Features] = {}

    @functools.cached_property
    def files(self) -> files.Source:
        """The files of the folder."""
        if storage.is_remote(self.source) or not os.path.isdir(self.source):
            raise DatasetError(
                f"{self.source}: no such local folder, expected one with {FILE}; copy scenes to "
                "a disk, and give the folder as source"
            )
        return files.folder(self.source)

    @functools.cached_property
    def given(self) -> SceneList:
        """What `scenes.json` says."""
        where = self.files.describe(FILE)
        if not self.files.exists(FILE):
            raise DatasetError(
                f"{where}: no such file, expected one that lists scenes and labels. Write it, "
                f"e.g. {scene_list.EXAMPLE}"
            )
        return scene_list.read(self.files.read(FILE), where)

    @functools.cached_property
    def plan(self) -> scene_plan.Plan:
        """Which patches there are, and in which split."""
        where = self.files.describe(FILE)
        return scene_plan.make(
            self.given,
            self.scene,
            self.rasters,
            self.locate,
            self.image_files() + self.label_files(),
            where,
        )

    @functools.cached_property
    def plane(self) -> blocks.Plane:
        """The plane in which blocks of the ground are counted."""
        return scene_plan.plane_of([self.scene(i) for i in range(len(self.given.scenes))])

    def locate(self, name: str) -> str:
        """The path of a file that the list names."""
        return raster.locate(self.files.path, name)

    def name(self, path: str) -> str:
        """The inverse of `_locate`."""
        return os.path.relpath(path, self.source)

    @functools.cached_property
    def classes(self) -> tuple[landcover.Nomenclature, str]:
        """The nomenclature that all labels have, and what names it."""
        given = [scene.labels or self.given.labels for scene in self.given.scenes]
        known = sorted({labels.nomenclature for labels in given if labels})
        if len(known) > 1:
            raise DatasetError(
                f"{self.files.describe(FILE)}: labels of nomenclatures {', '.join(known)}, "
                "expected one; translate the labels to one of them"
            )
        return scene_labels.load(next(labels for labels in given if labels), self.locate)

    @functools.cached_property
    def products(self) -> dict[str, Product]:
        """Folder of a product -> what its metadata say."""
        return {
            scene.product: products.find(self.files, scene.product, self.given.bands)
            for scene in self.given.scenes
            if scene.product
        }

    @functools.cached_property
    def _unit(self) -> str:
        """The unit of the entries."""
        if self.given.unit:
            return self.given.unit
        units = {self._stored_unit(scene) for scene in self.given.scenes}
        if len(units) == 1:
            return units.pop()
        raise DatasetError(
            f"{self.files.describe(FILE)}: scenes in the units {', '.join(sorted(units))}, "
            "expected one; state unit, to which all are brought"
        )

    def _stored_unit(self, scene: Scene) -> str:
        """The unit of a scene's files."""
        found = self.products[scene.product].unit if scene.product else ""
        if found and scene.unit and scene.unit != found:
            raise DatasetError(
                f"{self.files.describe(scene.product)}: its metadata say {found}, expected "
                f"{scene.unit} as {FILE} does; leave the scene's unit out"
            )
        known = sensors.get(self.given.sensor).units
        unit = found or scene.unit or self.given.unit or (known[0] if len(known) == 1 else "")
        if unit not in known:
            raise DatasetError(
                f"{self.files.describe(FILE)}: scene {scene.id!r}: unit={unit!r}, expected one "
                f"of {', '.join(known)}; state it"
            )
        return unit

    def scene(self, index: int) -> scene_plan.Opened:
        """A scene by its position, its headers read once."""
        if index not in self._opened:
            self._opened[index] = self._open(self.given.scenes[index])
        return self._opened[index]

    def _open(self, scene: Scene) -> scene_plan.Opened:
        given, where = self.given, f"{self.files.describe(FILE)}: scene {scene.id!r}"
        product = self.products[scene.product] if scene.product else None
        if product and product.sensor != given.sensor:
            raise DatasetError(
                f"{where}: a product of {product.sensor}, expected {given.sensor}; correct the "
                "sensor, or leave the scene out"
            )
        listed = product.files if product else scene.files
        nodata = products.NODATA if product and given.nodata is None else given.nodata
        images = scene_headers.open_scene(
            where,
            [(self.locate(file.path), file) for file in listed],
            given.grid,
            given.sensor,
            self._unit,
            self._stored_unit(scene),
            nodata,
            given.bands,
        )
        if 0 in self._opened and images.specs != self._opened[0].images.specs:
            raise DatasetError(
                f"{where}: {scene_headers.describe(images.specs)}; expected, as the first scene, "
                f"{scene_headers.describe(self._opened[0].images.specs)}. Name the bands that all "
                "have under bands, or state grid.gsd_m, grid.crs or nodata"
            )
        labels = scene.labels or given.labels
        assert labels is not None  # `scene_list.read` saw to it
        reference = scene_labels.SceneLabels(
            where, labels, self.locate, images.area, self.classes[0], self._vector(labels)
        )
        date = scene.date or (product.date if product else "")
        return scene_plan.Opened(scene.id, date, images, reference)

    def _vector(self, labels: Labels) -> vector.Features | None:
        if labels.vector and labels not in self._features:
            path = self.locate(labels.vector)
            self._features[labels] = vector.read(path, labels.layer, labels.field)
        return self._features.get(labels)

    def image_files(self) -> list[str]:
        """The paths of image files."""
        found = []
        for scene in self.given.scenes:
            listed = self.products[scene.product].files if scene.product else scene.files
            found += [file.path for file in listed]
        return [self.locate(name) for name in dict.fromkeys(found)]

    def label_files(self) -> list[str]:
        """The paths of the files that decide classes and splits, besides the list."""
        given = [scene.labels or self.given.labels for scene in self.given.scenes]
        names = [name for labels in given if labels for name in labels.raster]
        csv = [self.classes[1]] if self.classes[1].endswith(".csv") else []
        rasters = [self.locate(name) for name in dict.fromkeys(names)]
        return rasters + self._vector_files() + csv

    def _vector_files(self) -> list[str]:
        """The paths of vector files; a Shapefile has its values and its place in others."""
        given = [scene.labels or self.given.labels for scene in self.given.scenes]
        names = [labels.vector for labels in given if labels and labels.vector]
        names += [self.given.split.vector] if self.given.split.rule == "vector" else []
        found = []
        for path in map(self.locate, dict.fromkeys(names)):
            stem, ending = os.path.splitext(path)
            beside = (".shx", ".dbf", ".prj") if ending.lower() == ".shp" else ()
            found += [path, *(p for p in map(stem.__add__, beside) if os.path.isfile(p))]
        return found
