"""What a map was made of and how: its tag, and the fingerprint that tells whether it is up to date.

The fingerprint covers what decides the pixels: the models, the options, and of the scene its files
with their sizes and times of change, and which band, unit and nodata value is taken from where. It
does not cover the version of rsjax.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

import rsjax
from rsjax.errors import SceneError
from rsjax.mapping import landmap, writer
from rsjax.mapping.ensemble import Members
from rsjax.mapping.scene import Scene

if TYPE_CHECKING:
    from rsjax.mapping.mapper import Options

FINGERPRINT = "fingerprint"
SCENE_DATES = "scene_dates"


def of_map(
    members: Members, opened: Scene, options: Options, window: int, overlap: int
) -> dict[str, Any]:
    """The provenance of a map of a scene.

    Args:
        members: the models.
        opened: the scene.
        options: as given.
        window: that was chosen.
        overlap: likewise.
    """
    now = datetime.datetime.now(datetime.UTC)
    models = [
        {
            "model": model.about["model"]["name"],
            "bundle": str(folder),
            "weights_sha256": weights,
            "temperature": model.temperature,
            "bands": list(model.inputs.bands),
        }
        for model, folder, weights in zip(
            members.models, members.folders, members.weights, strict=True
        )
    ]
    return {
        "task": members.models[0].about["task"]["name"],
        "models": models,
        "scene": [os.path.abspath(path) for path in opened.files],
        SCENE_DATES: list(opened.dates),
        "bands": list(members.inputs.bands),
        "options": {**dataclasses.asdict(options), "window": window, "overlap": overlap},
        "rsjax": rsjax.__version__,
        "date": now.isoformat(timespec="seconds"),
        FINGERPRINT: _fingerprint(members, opened, options, window, overlap),
    }


def _fingerprint(
    members: Members, opened: Scene, options: Options, window: int, overlap: int
) -> str:
    stats = [os.stat(path) for path in opened.files]
    decisive = {
        "models": members.seals,
        "options": [options.tta, options.confidence, options.probabilities, window, overlap],
        "files": [[os.path.realpath(path), stat.st_size, stat.st_mtime_ns]
                  for path, stat in zip(opened.files, stats, strict=True)],
        "entries": {name: repr(entry) for name, entry in opened.entries.items()},
    }  # fmt: skip
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The provenance of a map; empty where it has none.

    Raises:
        SceneError: no GeoTIFF.
    """
    with landmap.open_raster(path) as raster:
        tag = raster.tags().get(writer.PROVENANCE_TAG, "")
    with contextlib.suppress(ValueError):
        found = json.loads(tag)
        return found if isinstance(found, dict) else {}
    return {}


def is_current(path: pathlib.Path, provenance: dict[str, Any]) -> bool:
    """Whether a map is there, with its confidence and probabilities, as it would be made now."""
    options = provenance["options"]
    files = [path]
    files += [writer.beside(path, "confidence")] if options["confidence"] != "none" else []
    files += [writer.beside(path, "probabilities")] if options["probabilities"] else []
    if not all(file.is_file() for file in files):
        return False
    try:
        found, *others = (read(file) for file in files)
        # Files of several makings lie together where an older one was interrupted.
        whole = all(other == found for other in others)
        return whole and found.get(FINGERPRINT) == provenance[FINGERPRINT]
    except SceneError:  # damaged: it is made anew
        return False
