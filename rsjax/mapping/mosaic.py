"""Maps on one grid to one map: of several that show a pixel, one is chosen; by rows of blocks.

The maps have one coordinate system, pixels of one size on each other's corners, and one
nomenclature. Nothing is resampled. Memory is some rows of the mosaic, whatever its height and the
number of maps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import rasterio

import rsjax
from rsjax.datasets.scene_area import Area
from rsjax.errors import ConfigError, SceneError
from rsjax.landcover.nomenclature import IGNORE
from rsjax.mapping import landmap, provenance, writer
from rsjax.mapping.mosaic_sources import Source, open_sources

RULES = ("confidence", "date", "first", "last")
ROWS = 512  # of the mosaic at once, at most
PIXELS = 2**24  # likewise


@dataclasses.dataclass(frozen=True)
class Made:
    """What came of it.

    Attributes:
        files: the mosaic first.
        warnings: what the user should know.
    """

    files: tuple[pathlib.Path, ...]
    warnings: tuple[str, ...]


def write_mosaic(
    maps: Sequence[str],
    output: str | os.PathLike[str],
    by: str = "first",
    nomenclature: str = "",
    sparse: bool = False,
) -> Made:
    """Writes one map of several.

    Args:
        maps: GeoTIFFs of class codes, or folders of them.
        output: the mosaic, e.g. `mosaic.tif`; replaced as a whole where it is.
        by: which map a pixel is taken from, of those that have a class there: 'first' or 'last' in
            the order given; 'date', the latest acquisition; 'confidence', the highest, for which
            each map has its `map_confidence.tif` beside it. Of equals the first one given.
        nomenclature: of maps that do not say it, see `landmap.read_map`.
        sparse: whether it may be large and mostly empty, see `open_sources`.

    Raises:
        ConfigError: an unknown rule, or an output that is one of the maps.
        SceneError: maps that do not fit each other, or have no confidence where it decides.
        NomenclatureError: a code that the nomenclature does not know.
        DiskError: the mosaic cannot be written.
    """
    if by not in RULES:
        raise ConfigError(f"--by={by}: choose one of {', '.join(RULES)}")
    sources, area = open_sources(maps, nomenclature, sparse)
    files = [file for one in sources for file in (one.land.path, one.confidence) if file]
    path = writer.check_output(output, files)
    confidence, warnings = _confidence(sources, by)
    order, more = _order(sources, by)
    about = _provenance(order, by)
    classes = sources[0].land.nomenclature
    with (
        rasterio.Env(GDAL_CACHEMAX=landmap.CACHE_BYTES),
        writer.open_writer(path, area, classes, about, confidence, False) as out,
    ):
        for found, best in strips(order, area, by, confidence != "none"):
            missing = found == IGNORE
            out.write({"classes": np.where(missing, 0, found), "confidence": best}, missing)
        made = out.finish()
    return Made(tuple(made), (*warnings, *more))


def strips(
    order: Sequence[Source], area: Area, by: str, confidence: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The mosaic from top to bottom.

    Args:
        order: the maps, those that go first first.
        area: of the mosaic.
        by: 'confidence', or any other: the first that has a class.
        confidence: whether those of the maps are read.

    Yields:
        Class indices of some rows, 255 where no map has one; and the confidence of the chosen map
        there as stored, 0 where there is none; uint8.

    Raises:
        SceneError, NomenclatureError: pixels that cannot be.
    """
    height = max(1, min(ROWS, PIXELS // area.width))
    starts = range(0, area.height, height)
    with contextlib.ExitStack() as stack:
        readers = [
            stack.enter_context(contextlib.closing(one.read(starts, height, confidence)))
            for one in order
        ]
        for start in starts:
            shape = min(height, area.height - start), area.width
            chosen, best = np.full(shape, IGNORE, np.uint8), np.zeros(shape, np.uint8)
            for one, reader in zip(order, readers, strict=True):
                window = one.part(start, height)
                if window is None:
                    continue
                found, sure = next(reader)
                if one.part(start + height, height) is None:
                    reader.close()  # so that only files of these rows are open
                top = one.row + window.row_off - start
                rows, cols = slice(top, top + len(found)), slice(one.col, one.col + found.shape[1])
                before, known = chosen[rows, cols], best[rows, cols]
                take = before == IGNORE
                if by == "confidence":
                    take |= sure > known
                take &= found != IGNORE
                before[take] = found[take]
                known[take] = sure[take]
            yield chosen, best


def _confidence(sources: Sequence[Source], by: str) -> tuple[str, list[str]]:
    """What the mosaic's confidence means; 'none' where maps have none or different ones."""
    meanings = {one.meaning for one in sources}
    if len(meanings) == 1 and meanings != {""}:
        return meanings.pop(), []
    lack = [one.land.path for one in sources if not one.meaning]
    what = f"{lack[0]} has no confidence beside it" if lack else (
        f"their confidences are of the kinds {', '.join(sorted(meanings))}"
    )  # fmt: skip
    if by == "confidence":
        raise SceneError(
            f"--by=confidence: {what}, expected one kind of confidence of all maps. Make them with "
            "the same --confidence, or choose --by=date, first or last"
        )
    return "none", [] if len(lack) == len(sources) else [f"no confidence is written, as {what}"]


def _order(sources: list[Source], by: str) -> tuple[list[Source], list[str]]:
    """The maps, those that go first first."""
    if by == "last":
        return sources[::-1], []
    if by != "date":
        return sources, []
    unknown = [one.land.path for one in sources if not one.date]
    if unknown:
        return sources[::-1], [
            f"{unknown[0]}{' and others' if len(unknown) > 1 else ''}: the date of the scene is "
            "not known, so all maps were taken in the order given, as if the last were the latest"
        ]
    return sorted(sources, key=lambda one: one.date, reverse=True), []


def _provenance(order: Sequence[Source], by: str) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "task": "mosaic",
        "by": by,
        "sources": [{"map": os.path.abspath(s.land.path), "provenance": s.about} for s in order],
        provenance.SCENE_DATES: sorted({day for one in order for day in one.dates}),
        "rsjax": rsjax.__version__,
        "date": now.isoformat(timespec="seconds"),
    }
