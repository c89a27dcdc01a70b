"""`scenes.json`: which scenes, labels, patches and splits a folder of imagery has; docs/scenes.md.

The dataclasses here are the format: a field of a class is a key of the JSON object, and a field
with a default may be left out. `read` checks everything that can be seen without opening another
file, and says all that is wrong at once; `write` is its inverse.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import json
import math
import os
import pathlib
import re
import types
import typing
from typing import Any

from rsjax import sealed
from rsjax.datasets import files
from rsjax.errors import DatasetError

FILE = "scenes.json"
SPLITS = ("train", "validation", "test")
RULES = ("blocks", "scene", "vector")
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
    found = _object(data, SceneList, "", problems)
    if not problems:
        problems = _check(found, labelled)
    if problems:
        raise DatasetError(f"{where}: " + "; ".join(problems) + ". Correct the file")
    return typing.cast(SceneList, found)


def write(scenes: SceneList, path: str | os.PathLike[str]) -> None:
    """Writes `scenes.json`, whole or not at all; fields that have their default are left out.

    Raises:
        DatasetError: `read` would refuse it.
        DiskError: the file cannot be written.
    """
    text = json.dumps(_plain(scenes), indent=2, allow_nan=False) + "\n"
    read(text.encode(), os.fspath(path))
    sealed.replace(pathlib.Path(path), text.encode())


def _plain(value: Any) -> Any:
    """A dataclass as JSON types, without what has its default."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        pairs = ((f, getattr(value, f.name)) for f in fields)
        return {f.name: _plain(v) for f, v in pairs if v != f.default}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _object(data: Any, kind: Any, at: str, problems: list[str]) -> Any:
    """A dataclass from a JSON object; notes what does not fit and then returns None."""
    if not isinstance(data, dict):
        problems.append(f"{at or 'the file'} is {data!r:.60}, expected an object")
        return None
    kinds = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    before, given = len(problems), {}
    for name, value in data.items():
        here = f"{at}.{name}" if at else name
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            problems.append(f"unknown field {here}; {hint}known: {', '.join(fields)}")
            continue
        given[name] = _value(value, kinds[name], here, problems)
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in data:
            problems.append(f"no field {at + '.' if at else ''}{name}, expected e.g. {EXAMPLE}")
    return kind(**given) if len(problems) == before else None


def _value(value: Any, kind: Any, at: str, problems: list[str]) -> Any:
    """One value of a type: text, number, truth, object, list of one of them, or null."""
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        kind = next(one for one in typing.get_args(kind) if one is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        if isinstance(value, list):
            item = typing.get_args(kind)[0]
            return tuple(_value(v, item, f"{at}[{i}]", problems) for i, v in enumerate(value))
    elif dataclasses.is_dataclass(kind):
        return _object(value, kind, at, problems)
    elif kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    words = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false"}
    problems.append(f"{at}={value!r:.60}, expected {words.get(kind, 'a list')}")
    return None


def _check(scenes: SceneList, labelled: bool) -> list[str]:
    """What fields mean together; sensor, bands and units are looked up where files are."""
    problems = []

    def need(fits: bool, text: str) -> None:
        if not fits:
            problems.append(text)

    need(bool(scenes.scenes), "scenes is empty, expected at least one")
    ids = [scene.id for scene in scenes.scenes]
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        problems.append(f"scene id {name!r} more than once, expected each once")
    need(
        bool(re.fullmatch(r"\d+\.\d+\.\d+", scenes.version)),
        f"version={scenes.version!r}, expected major.minor.patch",
    )
    for name in ("max_nodata", "min_labelled"):
        share = getattr(scenes, name)
        need(0 <= share <= 1, f"{name}={share}, expected 0 to 1")
    for scene in scenes.scenes:
        _check_scene(scene, scenes, need)
        has = scene.labels or scenes.labels or not labelled
        need(bool(has), f"scene {scene.id!r}: no labels, here or for all scenes")
    if scenes.labels:
        _check_labels(scenes.labels, "labels", need)
    grid, split = scenes.grid, scenes.split
    need(
        grid.crs == "scene" or bool(re.fullmatch(r"EPSG:\d+", grid.crs)),
        f"grid.crs={grid.crs!r}, expected 'scene' or e.g. 'EPSG:32633'",
    )
    need(grid.gsd_m is None or grid.gsd_m > 0, f"grid.gsd_m={grid.gsd_m}, expected above 0")
    need(
        grid.crs == "scene" or grid.gsd_m is not None,
        f"grid.crs={grid.crs!r} without grid.gsd_m, expected metres a pixel",
    )
    need(1 <= grid.patch_px <= 8192, f"grid.patch_px={grid.patch_px}, expected 1 to 8192")
    need(
        0 <= grid.overlap_px < max(grid.patch_px, 1),
        f"grid.overlap_px={grid.overlap_px}, expected 0 to below patch_px",
    )
    need(split.rule in RULES, f"split.rule={split.rule!r}, expected one of {', '.join(RULES)}")
    need(split.block_m >= 0, f"split.block_m={split.block_m}, expected 0 or more")
    need(split.block_patches >= 1, f"split.block_patches={split.block_patches}, expected 1 or more")
    need(split.buffer_m >= 0, f"split.buffer_m={split.buffer_m}, expected 0 or more")
    need(split.seed >= 0, f"split.seed={split.seed}, expected 0 or more")
    need(
        len(split.shares) == 3 and min(split.shares) >= 0 and abs(sum(split.shares) - 1) < 1e-6,
        f"split.shares={list(split.shares)}, expected three that add up to 1",
    )
    if split.rule == "vector":
        _check_path(split.vector, "split.vector", need)
    return problems


def _check_scene(scene: Scene, scenes: SceneList, need: Any) -> None:
    at = f"scene {scene.id!r}"
    need(bool(re.fullmatch(r"[\w.-]+", scene.id)), f"{at}: expected an id of letters, digits, _-.")
    if scene.date:
        try:
            datetime.date.fromisoformat(scene.date)
        except ValueError:
            need(False, f"{at}: date={scene.date!r}, expected e.g. '2020-06-01'")
    need(bool(scene.files) != bool(scene.product), f"{at}: expected either files or product")
    if scene.product:
        _check_path(scene.product, f"{at}: product", need)
    bands = [band for file in scene.files for band in file.bands if band]
    for band in sorted({band for band in bands if bands.count(band) > 1}):
        need(False, f"{at}: band {band} more than once, expected each once")
    for file in scene.files:
        _check_path(file.path, f"{at}: path", need)
        need(any(file.bands), f"{at}: {file.path} without bands, expected their names in order")
        need(
            bool(re.fullmatch("([0-9a-f]{64})?", file.sha256)),
            f"{at}: {file.path}: sha256={file.sha256!r}, expected 64 digits of 0-9a-f",
        )
    if scenes.split.rule == "scene":
        need(scene.split in SPLITS, f"{at}: split={scene.split!r}, expected {', '.join(SPLITS)}")
    else:
        need(not scene.split, f"{at}: split={scene.split!r} needs split.rule 'scene'")
    if scene.labels:
        _check_labels(scene.labels, f"{at}: labels", need)


def _check_labels(labels: Labels, at: str, need: Any) -> None:
    need(bool(labels.raster) != bool(labels.vector), f"{at}: expected either raster or vector")
    need(bool(labels.nomenclature), f"{at}: nomenclature is empty, expected a name or a CSV file")
    for path in (*labels.raster, *([labels.vector] if labels.vector else [])):
        _check_path(path, at, need)
    if labels.nomenclature.endswith(".csv"):
        _check_path(labels.nomenclature, f"{at}.nomenclature", need)
    if labels.vector:
        need(bool(labels.field), f"{at}: no field, expected that with the class of each feature")


def _check_path(path: str, at: str, need: Any) -> None:
    try:
        files.check_name(path, at)
    except DatasetError:
        need(False, f"{at} {path!r}, expected a path inside the folder, with / and without '..'")
