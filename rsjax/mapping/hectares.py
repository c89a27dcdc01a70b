"""The whole way from a map to hectares: count, regions, sample, tables, chart, files."""

from __future__ import annotations

import datetime
import os
import pathlib
from typing import Any

import numpy as np
import rasterio
from rich.console import Console

import rsjax
from rsjax import sealed
from rsjax.errors import ConfigError
from rsjax.mapping import (
    area_chart,
    area_table,
    assessment,
    landmap,
    pixel_area,
    reference,
    regions,
)
from rsjax.mapping.area_estimate import Accuracy
from rsjax.mapping.sample_files import sha256


def measure(
    map_path: str | os.PathLike[str],
    *,
    nomenclature: str = "",
    region_file: str = "",
    region_field: str = "",
    sample: str = "",
    sample_crs: str = "",
    design: str = "",
    level: float = 0.95,
    output: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Measures a map, prints tables and writes `OUTPUT.csv`, `OUTPUT.json` and `OUTPUT.png`.

    Args:
        map_path: a map: see `rsjax.mapping.landmap.read_map`.
        nomenclature: its classes, where the file does not say.
        region_file: polygons, a vector file (see `rsjax.vectors`).
        region_field: attribute that names them.
        sample: labelled reference sample: see `rsjax.mapping.reference`.
        sample_crs: coordinate system of a CSV sample, where it is not the map's.
        design: of the sample: a file, 'stratified' or 'simple'; '' looks beside the sample.
        level: of the intervals.
        output: prefix of the files; '' is the map's path without its ending and `_area`.
        console: where to print.

    Returns:
        What `OUTPUT.json` holds.

    Raises:
        RsjaxError: input that does not fit; nothing is written then.
    """
    if design and not sample:
        raise ConfigError("--design is that of a reference sample; give it with --reference=FILE")
    if not 0 < level < 1:
        raise ConfigError(f"--level={level}, expected between 0 and 1, e.g. 0.95")
    prefix = output or f"{os.path.splitext(map_path)[0]}_area"
    console = console or Console()
    with rasterio.Env(GDAL_CACHEMAX=landmap.CACHE_BYTES):
        land_map = landmap.read_map(map_path, nomenclature)
        areas = pixel_area.of_grid(land_map.crs, land_map.transform, land_map.shape)
        shapes = regions.read(region_file, land_map, region_field) if region_file else {}
        labelled = reference.read(sample, land_map, sample_crs) if sample else None
        stated = assessment.find_design(sample, design) if sample else ""
        tallies = [area_table.tally(land_map, areas)]
        checksum = sha256(map_path)
        accuracy, words = None, ""
        if labelled is not None:
            accuracy, words = assessment.assess(
                labelled, stated, land_map, tallies[0], areas, checksum, level
            )
        if shapes:
            tallies += regions.tally(land_map, areas, shapes)
    table = area_table.rows(tallies, land_map.nomenclature, accuracy)
    found: dict[str, Any] = {
        "map": {
            "file": os.fspath(map_path),
            "sha256": checksum,
            "crs": land_map.crs.to_string(),
            "shape": list(land_map.shape),
            "nomenclature": land_map.nomenclature.name,
        },
        "pixel_area": {"method": areas.method, "ellipsoid": areas.ellipsoid},
        "areas": table,
        "beyond_map": {one.name: one.outside for one in tallies[1:]},
        "sample": None if accuracy is None else _sample(sample, words, accuracy),
        "rsjax": rsjax.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    chart = area_chart.png(tallies[0], land_map.nomenclature, accuracy)
    sealed.replace(pathlib.Path(f"{prefix}.csv"), area_table.comma_separated(table).encode())
    sealed.write_json(pathlib.Path(f"{prefix}.json"), found)
    sealed.replace(pathlib.Path(f"{prefix}.png"), chart)
    for one in area_table.terminal(tallies, land_map.nomenclature, accuracy):
        console.print(one)
    if accuracy is not None:
        overall = accuracy.overall
        console.print(
            f"overall accuracy {overall.value:.4f} ({overall.low:.4f} – {overall.high:.4f}), "
            f"standard error {overall.se:.4f} ({accuracy.counts.sum()} units; {words})",
            highlight=False,
            markup=False,
        )
        if any(np.isnan(f.low).any() for f in (accuracy.area, accuracy.users, accuracy.producers)):
            console.print("±?: the sample shows no variation there, so no interval is known")
    console.print(
        f"areas on {areas.ellipsoid} ({_METHODS[areas.method]})\n"
        f"{prefix}.csv, {prefix}.json, {prefix}.png",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return found


_METHODS = {
    "equal-area": "the projection keeps areas",
    "rows": "pixels of each row in closed form",
    "lattice": "the projection's scale taken out pixel by pixel",
}


def _sample(path: str, words: str, accuracy: Accuracy) -> dict[str, Any]:
    overall = accuracy.overall
    return {
        "file": path,
        "design": words,
        "units": int(accuracy.counts.sum()),
        "level": accuracy.level,
        "overall_accuracy": {
            name: area_table.finite(float(getattr(overall, name)))
            for name in ("value", "se", "low", "high")
        },
        "units_by_map_and_reference": accuracy.counts.tolist(),
        "share_of_area_by_map_and_reference": accuracy.proportions.tolist(),
    }
