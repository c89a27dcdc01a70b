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
from rsjax import landcover
from rsjax.errors import ConfigError
from rsjax.landcover import Nomenclature
from rsjax.mapping import (
    area_chart,
    area_matrix,
    area_regions,
    area_table,
    assessment,
    landmap,
    outputs,
    pixel_area,
    reference,
    regions,
)
from rsjax.mapping.area_estimate import Accuracy
from rsjax.mapping.area_matrix import Matrix
from rsjax.mapping.area_table import Estimates, Tally
from rsjax.mapping.sample_files import ENDING, sha256

ENDINGS = (".csv", ".json", ".png")


def measure(
    map_path: str | os.PathLike[str] = "",
    *,
    nomenclature: str = "",
    region_file: str = "",
    region_field: str = "",
    sample: str = "",
    sample_crs: str = "",
    matrix: str = "",
    design: str = "",
    level: float = 0.95,
    output: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Measures a map, prints tables and writes `OUTPUT.csv`, `OUTPUT.json` and `OUTPUT.png`.

    Args:
        map_path: a map: see `rsjax.mapping.landmap.read_map`; '' only with a matrix that states
            the mapped areas.
        nomenclature: its classes, where the file does not say.
        region_file: polygons, a vector file (see `rsjax.vectors`).
        region_field: attribute that names them.
        sample: labelled reference sample: see `rsjax.mapping.reference`.
        sample_crs: coordinate system of a CSV sample, where it is not the map's.
        matrix: confusion matrix in place of a sample: see `rsjax.mapping.area_matrix`.
        design: of the sample: a file, 'stratified' or 'simple'; '' looks beside the sample. Of a
            matrix: one of the two, where its file does not say.
        level: of the intervals.
        output: prefix of the files; '' is the map's (or matrix's) path without its ending and
            `_area`.
        console: where to print.

    Returns:
        What `OUTPUT.json` holds.

    Raises:
        RsjaxError: input that does not fit; nothing is written then.
    """
    if design and not sample and not matrix:
        raise ConfigError("--design is that of a reference sample; give it with --reference=FILE")
    if sample and matrix:
        raise ConfigError("--reference and --matrix are two samples; give one of them")
    if not 0 < level < 1:
        raise ConfigError(f"--level={level}, expected between 0 and 1, e.g. 0.95")
    prefix = output or f"{os.path.splitext(map_path or matrix)[0]}_area"
    if not os.path.basename(prefix):
        raise ConfigError(f"--output={output}: expected the beginning of names, e.g. {output}areas")
    beside = pathlib.Path(sample).with_suffix(ENDING) if sample else ""
    outputs.check(
        [f"{prefix}{end}" for end in ENDINGS],
        [map_path, nomenclature, region_file, sample, matrix, design, beside],
    )
    console = console or Console()
    if not map_path:
        if region_file:
            raise ConfigError("--regions are measured in a map; give it with --map=FILE")
        known = landcover.load(nomenclature) if nomenclature else None
        alone = area_matrix.read(matrix, known, design)
        counted = area_matrix.tally(alone)
        return _finish(
            {"map": None, "pixel_area": None, "beyond_map": {}}, [counted], alone.classes,
            [_of_matrix(alone, counted, level)], matrix, alone.words, prefix, console,
        )  # fmt: skip
    with rasterio.Env(GDAL_CACHEMAX=landmap.CACHE_BYTES):
        land_map = landmap.read_map(map_path, nomenclature)
        classes = land_map.nomenclature
        areas = pixel_area.of_grid(land_map.crs, land_map.transform, land_map.shape)
        shapes = regions.read(region_file, land_map, region_field) if region_file else {}
        labelled = reference.read(sample, land_map, sample_crs) if sample else None
        stated = assessment.find_design(sample, design) if sample else ""
        given = area_matrix.read(matrix, classes, design) if matrix else None
        tallies = [area_table.tally(land_map, areas)]
        checksum = sha256(map_path)
        estimates: list[Estimates] = []
        said, units = "", None
        if labelled is not None:
            units = assessment.units(labelled, stated, land_map, tallies[0], areas, checksum)
            whole = units.accuracy(len(classes), level)
            estimates, said = [Estimates(len(units.stratum), whole)], units.design
        elif given is not None:
            estimates, said = [_of_matrix(given, tallies[0], level)], given.words
        if shapes:
            tallies += regions.tally(land_map, areas, shapes)
        if units is not None:
            shares = area_regions.shares(land_map, shapes, units)
            estimates += [area_regions.estimate(units, share, one, classes.names, level)
                          for share, one in zip(shares, tallies[1:], strict=True)]  # fmt: skip
        elif given is not None:
            estimates += [Estimates(0, why="a matrix does not say where its units lie")
                          for _ in shapes]  # fmt: skip
    found = {
        "map": {
            "file": os.fspath(map_path),
            "sha256": checksum,
            "crs": land_map.crs.to_string(),
            "shape": list(land_map.shape),
            "nomenclature": classes.name,
        },
        "pixel_area": {"method": areas.method, "ellipsoid": areas.ellipsoid},
        "beyond_map": {one.name: one.outside for one in tallies[1:]},
    }
    return _finish(found, tallies, classes, estimates, sample or matrix, said, prefix, console)


def _of_matrix(given: Matrix, counted: Tally, level: float) -> Estimates:
    return Estimates(int(given.counts.sum()), area_matrix.accuracy(given, counted, level))


def _finish(
    found: dict[str, Any],
    tallies: list[Tally],
    classes: Nomenclature,
    estimates: list[Estimates],
    sample: str,
    said: str,
    prefix: str,
    console: Console,
) -> dict[str, Any]:
    """Completes what was found, writes the files and prints the tables."""
    accuracy = estimates[0].accuracy if estimates else None
    found |= {
        "areas": area_table.rows(tallies, classes, estimates),
        "sample": None if accuracy is None else _sample(sample, said, accuracy),
        "sample_by_region": {
            one.name: {"units": its.units, "no_estimates": its.why, "joined": list(its.joined),
                       "overall_accuracy": its.accuracy and _overall(its.accuracy)}
            for one, its in zip(tallies[1:], estimates[1:], strict=bool(estimates))
        },
        "rsjax": rsjax.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }  # fmt: skip
    chart = area_chart.png(tallies[0], classes, accuracy)
    table = area_table.comma_separated(found["areas"]).encode()
    contents = (table, outputs.as_json(found), chart)
    files = [pathlib.Path(f"{prefix}{end}") for end in ENDINGS]
    outputs.write(dict(zip(files, contents, strict=True)))
    for one in area_table.terminal(tallies, classes, estimates):
        console.print(one)
    if accuracy is not None:
        overall = accuracy.overall
        console.print(
            f"overall accuracy {overall.value:.4f} ({overall.low:.4f} – {overall.high:.4f}), "
            f"standard error {overall.se:.4f} ({accuracy.counts.sum()} units; {said})",
            highlight=False,
            markup=False,
        )
        if any(np.isnan(f.low).any() for f in (accuracy.area, accuracy.users, accuracy.producers)):
            console.print("±?: the sample shows no variation there, so no interval is known")
    if how := found["pixel_area"]:
        console.print(
            f"areas on {how['ellipsoid']} ({_METHODS[how['method']]})",
            highlight=False,
            markup=False,
        )
    console.print(", ".join(map(str, files)), highlight=False, markup=False, soft_wrap=True)
    return found


_METHODS = {
    "equal-area": "the projection keeps areas",
    "rows": "pixels of each row in closed form",
    "lattice": "the projection's scale taken out pixel by pixel",
}


def _sample(path: str, words: str, accuracy: Accuracy) -> dict[str, Any]:
    return {
        "file": path,
        "design": words,
        "units": int(accuracy.counts.sum()),
        "level": accuracy.level,
        "overall_accuracy": _overall(accuracy),
        "units_by_map_and_reference": accuracy.counts.tolist(),
        "share_of_area_by_map_and_reference": accuracy.proportions.tolist(),
    }


def _overall(accuracy: Accuracy) -> dict[str, float | None]:
    names = ("value", "se", "low", "high")
    return {name: area_table.finite(float(getattr(accuracy.overall, name))) for name in names}
