"""What fields of `scenes.json` mean together, checked without opening another file."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Any

from rsjax.datasets import files
from rsjax.errors import DatasetError

if TYPE_CHECKING:
    from rsjax.datasets.scene_list import Labels, Scene, SceneList

SPLITS = ("train", "validation", "test")
RULES = ("blocks", "scene", "vector")


def problems(scenes: SceneList, labelled: bool) -> list[str]:
    """What fields mean together; sensor, bands and units are looked up where files are."""
    found: list[str] = []

    def need(fits: bool, text: str) -> None:
        if not fits:
            found.append(text)

    need(bool(scenes.scenes), "scenes is empty, expected at least one")
    ids = [scene.id for scene in scenes.scenes]
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        found.append(f"scene id {name!r} more than once, expected each once")
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
    return found


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
