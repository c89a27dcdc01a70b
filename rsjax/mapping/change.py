"""The whole way from two maps to changes: matrix, regions, tables, chart and map of changes."""

from __future__ import annotations

import datetime
import os
from typing import Any

import rasterio
from rich.console import Console

import rsjax
from rsjax.errors import ConfigError
from rsjax.landcover import Nomenclature
from rsjax.mapping import (
    area_table,
    change_chart,
    change_map,
    change_pair,
    change_table,
    landmap,
    outputs,
    pixel_area,
    regions,
    writer,
)
from rsjax.mapping.sample_files import sha256

ENDINGS = (".tif", ".tif.aux.xml", ".qml", ".png", ".csv", "_classes.csv", ".json", "_chart.png")


def compare(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    *,
    nomenclature: str = "",
    to: str = "",
    crosswalk_before: str = "",
    crosswalk_after: str = "",
    region_file: str = "",
    region_field: str = "",
    output: str | os.PathLike[str] = "change",
    console: Console | None = None,
) -> dict[str, Any]:
    """Compares two maps, prints tables and writes files that begin with `OUTPUT`.

    `OUTPUT.tif` is the map of changes, with style and preview; `OUTPUT.csv` has a row a pair of
    classes, `OUTPUT_classes.csv` one a class, `OUTPUT.json` all; `OUTPUT_chart.png` is the chart.

    Args:
        before: the earlier map: see `rsjax.mapping.landmap.read_map`.
        after: the later one, on the same grid or on one whose pixels lie on it.
        nomenclature: of both where the files do not say, or 'BEFORE,AFTER'.
        to: nomenclature into which both are translated first.
        crosswalk_before: table of codes that translates the earlier map.
        crosswalk_after: likewise of the later one.
        region_file: polygons, a vector file (see `rsjax.vectors`).
        region_field: attribute that names them.
        output: prefix of the files, or a folder: then its `change...`.
        console: where to print.

    Returns:
        What `OUTPUT.json` holds.

    Raises:
        RsjaxError: input that does not fit; nothing is written then.
    """
    prefix = _prefix(output)
    target = writer.check_output(f"{prefix}.tif", [os.fspath(before), os.fspath(after)])
    outputs.check(
        [f"{prefix}{end}" for end in ENDINGS],
        [before, after, *nomenclature.split(","), to, crosswalk_before, crosswalk_after,
         region_file],
    )  # fmt: skip
    console = console or Console()
    with rasterio.Env(GDAL_CACHEMAX=landmap.CACHE_BYTES):
        crosswalks = crosswalk_before, crosswalk_after
        pair = change_pair.read(before, after, nomenclature, to, crosswalks)
        areas = pixel_area.of_grid(pair.crs, pair.transform, pair.shape)
        shapes = regions.read(region_file, pair, region_field) if region_file else {}
        tallies = [area_table.tally(pair, areas)]
        if shapes:
            tallies += regions.tally(pair, areas, shapes)
        every = [change_table.of_tally(one) for one in tallies]
        about = {
            "before": {"file": os.path.abspath(before), "sha256": sha256(before),
                       "nomenclature": pair.before.nomenclature.name},
            "after": {"file": os.path.abspath(after), "sha256": sha256(after),
                      "nomenclature": pair.after.nomenclature.name},
            "nomenclature": pair.classes.name,
            "crosswalks": {"to": to, "before": crosswalk_before, "after": crosswalk_after},
            "rsjax": rsjax.__version__,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        chart = change_chart.png(every[0].hectares, pair.classes)
        pairs = change_table.pair_rows(every, pair.classes)
        by_class = change_table.class_rows(every, pair.classes)
        found: dict[str, Any] = {
            **about,
            "grid": {"crs": pair.crs.to_string(), "transform": list(pair.transform)[:6],
                     "shape": list(pair.shape)},
            "pixel_area": {"method": areas.method, "ellipsoid": areas.ellipsoid},
            "classes": dict(zip(map(str, pair.classes.codes), pair.classes.names, strict=True)),
            "pixels": every[0].pixels.astype(int).tolist(),
            "hectares": every[0].hectares.tolist(),
            "overall_hectares": {one.name: change_table.overall(one.hectares) for one in every},
            "pairs": pairs,
            "by_class": by_class,
            "beyond_map": {one.name: one.outside for one in tallies[1:]},
            "notes": list(pair.notes),
        }  # fmt: skip

        def tables(changes: Nomenclature, absent: dict[str, int]) -> dict[str, bytes]:
            found["pixels_without_class"] = absent
            found["change_codes"] = dict(
                zip(map(str, changes.codes), changes.names, strict=True)
            )  # fmt: skip
            stem = target.stem
            return {
                f"{stem}.csv": area_table.comma_separated(pairs).encode(),
                f"{stem}_classes.csv": area_table.comma_separated(by_class).encode(),
                f"{stem}.json": outputs.as_json(found),
                f"{stem}_chart.png": chart,
            }

        files = change_map.write(target, pair, every[0].pixels, {"kind": "change", **about}, tables)
    for part in (*(f"note: {note}" for note in pair.notes),
                 *change_table.terminal(every, pair.classes),
                 "\n".join(map(str, files))):  # fmt: skip
        console.print(part, highlight=False, markup=False, soft_wrap=isinstance(part, str))
    return found


def _prefix(output: str | os.PathLike[str]) -> str:
    """Of the files to write: a folder's `change`, or what is given, without .tif.

    Raises:
        ConfigError: no name.
    """
    text = os.fspath(output)
    if os.path.isdir(text) or text.endswith(os.sep):
        return os.path.join(text, "change")
    stem = text.removesuffix(".tif")
    if not os.path.basename(stem):
        raise ConfigError(f"--output={output}: expected a folder or the beginning of names")
    return stem
