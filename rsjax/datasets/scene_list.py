"""`scenes.json`: which scenes, labels, patches and splits a folder of imagery has; docs/scenes.md.

The dataclasses here are the format: a field of a class is a key of the JSON object, and a field
with a default may be left out. `read` checks everything that can be seen without opening another
file, and says all that is wrong at once; `write` is its inverse.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import typing

from rsjax import sealed
from rsjax.datasets import dataclass_json, scene_list_checks
from rsjax.errors import DatasetError

FILE = "scenes.json"
NOT_STATED = "not stated"
EXAMPLE = (
    '{"sensor": "sentinel2_l2a", "scenes": [{"id": "a", "product": "S2A_MSIL2A_....SAFE"}], '
    '"labels": {"raster": ["map.tif"], "nomenclature": "worldcover"}}'
)


@dataclasses.dataclass(frozen=True)
class BandFile:
    """One raster file of a scene.

    Attributes:
        path: GeoTIFF (also a COG) or JPEG 2000, relative to the folder.
        bands: names of its bands in the order in which it stores them; '' leaves one out.
        sha256: of the file; checked before anything is read, where it is given.
    """

    path: str
    bands: tuple[str, ...]
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Labels:
    """The reference of the pixels: a raster or a vector file of classes.

    Attributes:
        nomenclature: a name in `rsjax.landcover`, or a CSV file in the folder.
        raster: files of class codes, one band each; of two that overlap the first with a label
            counts.
        vector: a file of polygons or points, instead of rasters.
        layer: of the vector file, where it has several.
        field: of the vector file, with the class's code or name.
        nodata: value of the rasters without a label, besides the nomenclature's own; null: that
            of the files' tags.
        trust_transform: what holds where labels and images have the same transform and size but
            name different coordinate systems: true, both mean the images'; false, both are right
            and the labels are reprojected; null, refused.
    """

    nomenclature: str
    raster: tuple[str, ...] = ()
    vector: str = ""
    layer: str = ""
    field: str = ""
    nodata: float | None = None
    trust_transform: bool | None = None


@dataclasses.dataclass(frozen=True)
class Scene:
    """One acquisition: files, or a folder as the agency delivers it.

    Attributes:
        id: letters, digits, `_`, `-` and `.`; begins the keys of its patches.
        date: ISO date; '' is that of the product, or unknown.
        files: its rasters.
        product: instead of files: a Sentinel-2 .SAFE folder or a Landsat Collection 2 folder.
        unit: where it differs from the list's; see docs/scenes.md.
        labels: instead of the list's.
        split: where the split rule is 'scene'.
    """

    id: str
    date: str = ""
    files: tuple[BandFile, ...] = ()
    product: str = ""
    unit: str = ""
    labels: Labels | None = None
    split: str = ""


@dataclasses.dataclass(frozen=True)
class Grid:
    """The pixels that patches are made of.

    Attributes:
        crs: 'scene', each scene's own; or `EPSG:code` of a projected system in metres.
        gsd_m: metres a pixel; null is the finest of the scenes' (with crs 'scene' only).
        patch_px: side of a patch in pixels of the grid.
        overlap_px: pixels that neighbouring patches share.
    """

    crs: str = "scene"
    gsd_m: float | None = None
    patch_px: int = 120
    overlap_px: int = 0


@dataclasses.dataclass(frozen=True)
class Split:
    """How patches come into splits.

    Attributes:
        rule: 'blocks' (square blocks of the ground, drawn at random), 'scene' (each scene names
            its split) or 'vector' (polygons name it).
        block_m: side of a block in metres; 0 is `block_patches`.
        block_patches: side of a block in patches.
        shares: of the patches in train, validation and test, with rule 'blocks'.
        seed: of the draw.
        buffer_m: training patches nearer than this to validation or test, and validation patches
            nearer to test, are left out; 0: those that overlap.
        vector: with rule 'vector', the file of polygons.
        field: its field with train, validation or test.
    """

    rule: str = "blocks"
    block_m: float = 0.0
    block_patches: int = 4
    shares: tuple[float, ...] = (0.7, 0.1, 0.2)
    seed: int = 0
    buffer_m: float = 0.0
    vector: str = ""
    field: str = "split"


@dataclasses.dataclass(frozen=True)
class SceneList:
    """The whole of `scenes.json`.

    Attributes:
        sensor: name in `rsjax.sensors`.
        scenes: the acquisitions.
        labels: of all scenes that have none of their own.
        unit: name in `rsjax.sensors.UNITS`; '' is the products' own, or the sensor's only one.
        nodata: value of missing pixels in every file; null is that of the files' tags.
        bands: those to keep, in this order within an entry; empty keeps all.
        grid: the patches' pixels.
        split: how patches come into splits.
        max_nodata: patches with a larger share of missing pixels are left out.
        min_labelled: patches with a smaller share of labelled pixels are left out, and so are
            those with none.
        title: full name.
        version: as `major.minor.patch`.
        page: where the data are described.
        licence: as the owner states it.
        citation: one line.
    """

    sensor: str
    scenes: tuple[Scene, ...]
    labels: Labels | None = None
    unit: str = ""
    nodata: float | None = None
    bands: tuple[str, ...] = ()
    grid: Grid = Grid()
    split: Split = Split()
    max_nodata: float = 0.5
    min_labelled: float = 0.0
    title: str = "Own scenes"
    version: str = "1.0.0"
    page: str = NOT_STATED
    licence: str = NOT_STATED
    citation: str = NOT_STATED


def read(content: bytes, where: str, labelled: bool = True) -> SceneList:
    """Parses and checks `scenes.json`.

    Args:
        content: of the file.
        where: its path, for messages.
        labelled: whether every scene must have labels, as for training.

    Raises:
        DatasetError: no JSON object, or everything that is wrong with it.
    """
    try:
        data = json.loads(content)
    except ValueError as error:
        raise DatasetError(f"{where}: no JSON ({error}), expected e.g. {EXAMPLE}") from None
    problems: list[str] = []
    found = dataclass_json.parse(data, SceneList, "", problems, EXAMPLE)
    if not problems:
        problems = scene_list_checks.problems(found, labelled)
    if problems:
        raise DatasetError(f"{where}: " + "; ".join(problems) + ". Correct the file")
    return typing.cast(SceneList, found)


def write(scenes: SceneList, path: str | os.PathLike[str]) -> None:
    """Writes `scenes.json`, whole or not at all; fields that have their default are left out.

    Raises:
        DatasetError: `read` would refuse it.
        DiskError: the file cannot be written.
    """
    text = json.dumps(dataclass_json.plain(scenes), indent=2, allow_nan=False) + "\n"
    read(text.encode(), os.fspath(path))
    sealed.replace(pathlib.Path(path), text.encode())
