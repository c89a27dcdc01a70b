"""Which patches of the scenes there are, and in which split: one look at labels and one band.

Patches are whole and lie in rows and columns from a scene's upper left corner; those without
labels, or with too little image, are left out and counted. What was found is kept in the
temporary folder until files change, for every process of prepare asks for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import shapely

from rsjax import sealed
from rsjax.datasets import blocks, leakage, vector
from rsjax.datasets.raster import DamagedError, Rasters
from rsjax.datasets.scene_area import Area
from rsjax.datasets.scene_images import SceneImages
from rsjax.datasets.scene_labels import SceneLabels
from rsjax.datasets.scene_list import SceneList
from rsjax.datasets.scene_list_checks import SPLITS
from rsjax.errors import DatasetError, DiskError
from rsjax.landcover import IGNORE

KEPT = 50  # lists of which it is remembered what was found
NO_IMAGE = "more of the image missing than max_nodata"
NO_LABELS = "fewer labelled pixels than min_labelled, or none"
NEAR = "nearer to another split than buffer_m"
OUTSIDE = "in no polygon of the split's vector file"


@dataclasses.dataclass(frozen=True)
class Opened:
    """A scene with all that reads it."""

    id: str
    date: str
    images: SceneImages
    labels: SceneLabels


@dataclasses.dataclass(frozen=True)
class Plan:
    """Split -> keys, and the report on how far splits lie apart."""

    splits: dict[str, list[str]]
    report: dict[str, Any]


def key_of(scene: str, row: int, col: int) -> str:
    """The key of a patch."""
    return f"{scene}@{row}_{col}"


def find(opened: Opened, rasters: Rasters, given: SceneList) -> tuple[list[Any], dict[str, int]]:
    """The patches of a scene that have image and labels enough, and those that do not decode.

    The latter are kept for whoever reads them to name the fault, or to skip them and count.

    Returns:
        [row, column] of each, in reading order; and reason -> patches left out for it.
    """
    area, px = opened.images.area, given.grid.patch_px
    stride = px - given.grid.overlap_px
    kept: list[Any] = []
    dropped = {NO_IMAGE: 0, NO_LABELS: 0}
    for row in range(0, area.height - px + 1, stride):
        strip = _look(opened, rasters, row, 0, px, area.width)
        for col in range(0, area.width - px + 1, stride):
            if strip is not None:
                gone, labelled = (plane[:, col : col + px] for plane in strip)
            elif (patch := _look(opened, rasters, row, col, px, px)) is not None:
                gone, labelled = patch
            else:
                kept.append([row, col])
                continue
            if gone.mean() > given.max_nodata:
                dropped[NO_IMAGE] += 1
            elif labelled.mean() < given.min_labelled or not labelled.any():
                dropped[NO_LABELS] += 1
            else:
                kept.append([row, col])
    return kept, dropped


def _look(
    opened: Opened, rasters: Rasters, row: int, col: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Where image is missing and where labels are; None where a file does not decode."""
    try:
        gone = opened.images.missing(rasters, row, col, height, width)
        found = opened.labels.read(rasters, row, col, height, width)
    except DamagedError:
        return None
    return gone, (found != IGNORE) & ~gone


def make(
    given: SceneList,
    open_scene: Callable[[int], Opened],
    rasters: Rasters,
    locate: Callable[[str], str],
    files: Sequence[str],
    where: str,
) -> Plan:
    """Finds the patches of all scenes and splits them.

    Args:
        given: `scenes.json`.
        open_scene: gives a scene by its position.
        rasters: open files.
        locate: gives the path of a file in the folder.
        files: every file that decides which patches there are.
        where: path of `scenes.json`, for messages.

    Raises:
        DatasetError, NomenclatureError: damaged input, or a split without patches.
    """
    scenes = [open_scene(i) for i in range(len(given.scenes))]
    memory = _memory(given, files)
    found = _recall(memory)
    if found is None:
        each = [find(scene, rasters, given) for scene in scenes]
        found = {"kept": [k for k, _ in each], "dropped": [d for _, d in each]}
        _keep(memory, found)
    dropped = {r: sum(d[r] for d in found["dropped"]) for r in (NO_IMAGE, NO_LABELS)}
    owner = np.repeat(np.arange(len(scenes)), [len(kept) for kept in found["kept"]])
    places = np.array([place for kept in found["kept"] for place in kept], int).reshape(-1, 2)
    if not len(places):
        raise DatasetError(
            f"{where}: no patches ({_counts(dropped)}), expected some; correct nodata, or change "
            "max_nodata, min_labelled or grid.patch_px"
        )
    px = given.grid.patch_px
    plane = plane_of(scenes)
    boxes = [
        np.array([s.images.area.bounds(row, col, px, px) for row, col in places[owner == i]])
        for i, s in enumerate(scenes)
    ]
    corners = np.concatenate(
        [
            plane.corners(s.images.area.crs, box)
            for s, box in zip(scenes, boxes, strict=True)
            if len(box)
        ]
    )
    split = _split(given, scenes, owner, boxes, corners, plane, locate)
    gone = split < 0
    dropped[OUTSIDE] = int(gone.sum())
    close = blocks.near(corners, split, given.split.buffer_m)
    for i, name in enumerate(SPLITS):
        dropped[f"{name}, {NEAR}"] = int((close & (split == i)).sum())
    keys = [
        key_of(scenes[i].id, row, col) for i, (row, col) in zip(owner, places.tolist(), strict=True)
    ]
    splits = {
        name: [keys[n] for n in np.flatnonzero((split == i) & ~close)]
        for i, name in enumerate(SPLITS)
        if name in names(given, locate)
    }
    if empty := [name for name, members in splits.items() if not members]:
        raise DatasetError(
            f"{where}: no patches in {', '.join(empty)} of {len(keys)} ({_counts(dropped)}), "
            "expected some in each split; change the shares, make blocks or buffer_m smaller, or "
            "give more scenes"
        )
    order = np.flatnonzero(~gone & ~close)
    report = leakage.report(
        corners[order], [keys[n] for n in order], [SPLITS[split[n]] for n in order], dropped
    )
    return Plan(splits, report)


def plane_of(scenes: Sequence[Opened]) -> blocks.Plane:
    """The plane in which patches of all scenes are split and measured."""
    return blocks.Plane([(s.images.area.crs, s.images.area.extent) for s in scenes])


def block_of(
    given: SceneList, plane: blocks.Plane, first: Area, area: Area, row: int, col: int
) -> str:
    """The block of the ground that a patch lies in, as text.

    Args:
        given: `scenes.json`.
        plane: of all scenes.
        first: grid of the first scene, whose pixels measure the blocks.
        area: grid of the patch's scene.
        row: of the patch's first pixel.
        col: likewise.
    """
    px = given.grid.patch_px
    corners = plane.corners(area.crs, np.array([area.bounds(row, col, px, px)]))
    across, down = blocks.of_patches(plane, corners, side_m(given, plane, first))[0].tolist()
    return f"{across}_{down}"


def names(given: SceneList, locate: Callable[[str], str]) -> list[str]:
    """The splits that the list has, in their usual order."""
    rule = given.split
    if rule.rule == "blocks":
        return [name for name, share in zip(SPLITS, rule.shares, strict=True) if share > 0]
    if rule.rule == "scene":
        return [name for name in SPLITS if any(s.split == name for s in given.scenes)]
    found = set(_polygons(given, locate).values.tolist())
    return [name for name in SPLITS if name in found]


def _split(
    given: SceneList,
    scenes: list[Opened],
    owner: np.ndarray,
    boxes: list[np.ndarray],
    corners: np.ndarray,
    plane: blocks.Plane,
    locate: Callable[[str], str],
) -> np.ndarray:
    """Index into `SPLITS` of each patch, -1 where it has none."""
    rule = given.split
    if rule.rule == "scene":
        return np.array([SPLITS.index(scene.split) for scene in given.scenes])[owner]
    if rule.rule == "blocks":
        return blocks.draw(
            blocks.of_patches(plane, corners, side_m(given, plane, scenes[0].images.area)),
            rule.shares,
            rule.seed,
        )
    features = _polygons(given, locate)
    codes = np.array([SPLITS.index(value) for value in features.values.tolist()])
    out = []
    for scene, box in zip(scenes, boxes, strict=True):
        if not len(box):
            continue
        tree = shapely.STRtree(features.projected(scene.images.area.crs))
        centres = shapely.points((box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2)
        patch, polygon = tree.query(centres, predicate="within")
        split = np.full(len(box), -1)
        for p, code in zip(patch, codes[polygon], strict=True):
            if split[p] not in (-1, code):
                raise DatasetError(
                    f"{features.where}: polygons of '{SPLITS[code]}' and '{SPLITS[split[p]]}' "
                    f"overlap in scene {scene.id!r}, expected each place in one; correct them"
                )
            split[p] = code
        out.append(split)
    return np.concatenate(out)


def side_m(given: SceneList, plane: blocks.Plane, area: Area) -> float:
    """Side of a block in metres."""
    if given.split.block_m:
        return given.split.block_m
    stride = given.grid.patch_px - given.grid.overlap_px
    corners = plane.corners(area.crs, np.array([area.bounds(0, 0, stride, stride)]))[0]
    return float(given.split.block_patches * np.linalg.norm(corners[2] - corners[1]))


def _polygons(given: SceneList, locate: Callable[[str], str]) -> vector.Features:
    found = vector.read(locate(given.split.vector), "", given.split.field)
    if unknown := sorted({str(v) for v in found.values.tolist() if v not in SPLITS}):
        raise DatasetError(
            f"{found.where}: {', '.join(unknown)} in field {given.split.field!r}, expected "
            f"{', '.join(SPLITS)}; correct the field"
        )
    return found


def _counts(dropped: dict[str, int]) -> str:
    return "; ".join(f"{count} left out: {why}" for why, count in dropped.items() if count) or "-"


def _memory(given: SceneList, files: Sequence[str]) -> pathlib.Path:
    """Where what was found is kept: a name that changes with the list and with every file."""
    seen = [(file, (s := os.stat(file)).st_size, s.st_mtime_ns) for file in sorted(set(files))]
    head = [3, dataclasses.asdict(given), seen]  # the first counts changes of `find`
    digest = hashlib.sha256(json.dumps(head).encode()).hexdigest()
    user = os.getuid() if hasattr(os, "getuid") else 0
    return pathlib.Path(tempfile.gettempdir()) / f"rsjax-scenes-{user}" / f"{digest}.json"


def _recall(memory: pathlib.Path) -> dict[str, Any] | None:
    try:
        if hasattr(os, "getuid") and memory.stat().st_uid != os.getuid():
            return None
        return sealed.read(memory)
    except (OSError, ValueError):
        return None


def _keep(memory: pathlib.Path, found: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, DiskError):  # it is only slower without
        memory.parent.mkdir(mode=0o700, exist_ok=True)
        sealed.write(memory, found)
        for old in sorted(memory.parent.glob("*.json"), key=os.path.getmtime)[:-KEPT]:
            old.unlink(missing_ok=True)
