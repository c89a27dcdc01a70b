"""A map made tidy: conditional random field, majority filter, minimum mapping unit, in order."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rasterio
from rasterio.io import DatasetReader
from rasterio.windows import Window
from rich.console import Console

import rsjax
from rsjax import sealed
from rsjax.datasets.scene_area import Area
from rsjax.errors import SceneError
from rsjax.landcover.nomenclature import IGNORE
from rsjax.mapping import (
    clean_crf,
    clean_options,
    clean_source,
    clean_table,
    landmap,
    majority,
    mapping_unit,
    pixel_area,
)
from rsjax.mapping.clean_options import Options
from rsjax.mapping.clean_table import Changes
from rsjax.mapping.landmap import LandMap
from rsjax.mapping.pixel_area import PixelAreas
from rsjax.mapping.sample_files import sha256
from rsjax.mapping.writer import MapWriter, beside, check_output, open_writer

ROWS = 512  # that are written at once

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """What came of it.

    Attributes:
        files: the map first.
        changes: by class.
        notes: what the user should know.
    """

    files: tuple[pathlib.Path, ...]
    changes: Changes
    notes: tuple[str, ...]


def clean(
    map_path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: Options,
    *,
    nomenclature: str = "",
    scene: Sequence[str] = (),
    bands: Sequence[str] = (),
    units: Sequence[str] = (),
    console: Console | None = None,
) -> Cleaned:
    """Cleans a map, writes it anew and prints what has changed.

    Args:
        map_path: a map: see `rsjax.mapping.landmap.read_map`.
        output: the new map; with the probabilities of the old one, where these lie beside it, and
            the probability of each pixel's new class as confidence.
        options: what is done.
        nomenclature: the map's classes, where the file does not say.
        scene: that the map was made of, for the field: see `rsjax.mapping.scene_files`.
        bands: names of the bands of the scene's files, where these do not say.
        units: of the scene's values.
        console: where to print.

    Raises:
        RsjaxError: of many kinds: input that does not fit; nothing is written then.
    """
    least, unit = clean_options.check(options, scene)
    console = console or Console()
    with rasterio.Env(GDAL_CACHEMAX=landmap.CACHE_BYTES), contextlib.ExitStack() as stack:
        land_map = landmap.read_map(map_path, nomenclature)
        classes = land_map.nomenclature
        keep = [classes.index(name, "--keep") for name in options.keep]
        given = pathlib.Path(os.path.abspath(map_path))
        path = check_output(output, [str(given), *(str(beside(given, name)) for name in _BESIDE)])
        areas, notes = _areas(land_map, needed=unit == "ha")
        shares, why = stack.enter_context(clean_source.open_probabilities(land_map))
        if shares is None and beside(given, "probabilities").is_file():
            notes.append(f"{why}: taken for those of another map")
        kind = "none" if shares is None else "probability"
        area = Area(land_map.crs, land_map.transform, *land_map.shape)
        about = _provenance(land_map, options, scene)
        out = stack.enter_context(
            open_writer(path, area, classes, about, kind, probabilities=shares is not None)
        )
        before, after = (_scratch(out, name, land_map.shape) for name in ("was", "is"))
        for window, block in land_map.blocks():
            before[window.toslices()] = after[window.toslices()] = block
        if options.crf is not None:
            if shares is None:
                raise SceneError(
                    f"{why}; --crf needs the probabilities of the map's classes. Make the map with "
                    "python -m rsjax.predict --probabilities"
                )
            clean_crf.cut(options.crf, land_map.shape, len(classes))  # before the scene is read
            costs = clean_options.compatibility(options.compatibility, classes)
            source = stack.enter_context(
                clean_source.open_source(land_map, shares, scene, bands, units, before)
            )
            check_output(output, source.scene.files)
            if skipped := clean_crf.run(source, options.crf, costs, before, after):
                notes.append(
                    f"{skipped} pixels have a class, but no probability or no value in the scene: "
                    "the field left them as they are"
                )
        if options.majority:
            target = _scratch(out, "majority", land_map.shape)
            majority.by_blocks(after, target, options.majority, keep=keep)
            after = target
        if options.min_unit:
            measured = areas if unit == "ha" else None
            merged = mapping_unit.merge_small(
                after, after, least, measured, options.connectivity, keep
            )
            notes.append(f"{merged} regions below {options.min_unit} were merged")
        changes = _write(out, len(classes), before, after, shares, areas)
        files = out.finish()
    console.print(clean_table.table(changes, classes))
    total = max(1, int(changes.pixels.sum()))
    notes.append(f"{changes.changed} of {total} pixels ({changes.changed / total:.2%}) changed")
    console.print(*notes, *files, sep="\n", highlight=False, markup=False, soft_wrap=True)
    return Cleaned(tuple(files), changes, tuple(notes))


_BESIDE = ("confidence", "probabilities")


def _areas(land_map: LandMap, *, needed: bool) -> tuple[PixelAreas | None, list[str]]:
    """Pixel areas; where there are none and none are needed, None and a note."""
    try:
        return pixel_area.of_grid(land_map.crs, land_map.transform, land_map.shape), []
    except SceneError as error:
        if needed:
            raise
        return None, [f"hectares are not known: {error}"]


def _scratch(out: MapWriter, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Bytes on the disk; its space is taken at once, as a write to a full disk would end Python."""
    path = out.scratch / name
    with sealed.writing(out.output), open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, int(np.prod(shape, dtype=np.int64)))
    return np.memmap(path, np.uint8, "r+", shape=shape)


def _write(
    out: MapWriter,
    count: int,
    before: np.ndarray,
    after: np.ndarray,
    shares: DatasetReader | None,
    areas: PixelAreas | None,
) -> Changes:
    changes = Changes.none(count, areas is not None)
    height, width = before.shape
    for top in range(0, height, ROWS):
        old, new = (np.asarray(one[top : top + ROWS]) for one in (before, after))
        each = None if areas is None else areas.block(Window(0, top, width, len(old)))
        changes.add(old, new, each)
        missing = old == IGNORE
        answers = {"classes": np.where(missing, np.uint8(0), new)}
        if shares is not None:
            planes = clean_source.read_bytes(shares, Window(0, top, width, len(old)))
            answers["probabilities"] = np.moveaxis(planes, 0, -1)
            chosen = answers["classes"][..., None]
            answers["confidence"] = np.take_along_axis(answers["probabilities"], chosen, 2)[..., 0]
        out.write(answers, missing)
    return changes


def _provenance(land_map: LandMap, options: Options, scene: Sequence[str]) -> Mapping[str, Any]:
    """What the map says of itself, and what is done to it now; of several times a list."""
    old = clean_source.provenance(land_map)
    now = datetime.datetime.now(datetime.UTC)
    done = {
        "map": os.path.abspath(land_map.path),
        "map_sha256": sha256(land_map.path),
        "nomenclature": land_map.nomenclature.name,
        "options": dataclasses.asdict(options),
        "scene": list(scene),
        "rsjax": rsjax.__version__,
        "date": now.isoformat(timespec="seconds"),
    }
    return {**old, "clean": [*old.get("clean", []), done]}
