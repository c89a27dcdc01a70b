"""The whole way from a map to a sample to be labelled: count, size, allocate, draw, write."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rsjax.errors import ConfigError
from rsjax.landcover import Nomenclature
from rsjax.mapping import area_table, landmap, pixel_area, sample_design, sample_files

USERS = 0.8  # conjectured user's accuracy of classes that nothing is said of


def sample(
    map_path: str | os.PathLike[str],
    *,
    nomenclature: str = "",
    units: int = 0,
    target_se: float = 0.0,
    users_accuracy: Sequence[str] = (),
    target_class: str = "",
    omission: float = 0.01,
    allocation: str = "compromise",
    min_units: int = sample_design.RARE,
    seed: int = 0,
    output: str = "",
    console: Console | None = None,
) -> list[pathlib.Path]:
    """Draws a stratified sample of a map's pixels and writes points and design.

    Args:
        map_path: a map: see `rsjax.mapping.landmap.read_map`.
        nomenclature: its classes, where the file does not say.
        units: how many to draw; 0 finds it from `target_se`.
        target_se: of overall accuracy, or of the share of `target_class` in the area.
        users_accuracy: conjectures, 'class=0.9' each.
        target_class: whose area counts; '' is overall accuracy.
        omission: conjectured share of `target_class` within the other classes' strata.
        allocation: one of `sample_design.ALLOCATIONS`.
        min_units: of each rare class in the compromise.
        seed: of the draw.
        output: prefix of the files; '' is the map's path without its ending and `_sample`.
        console: where to print.

    Returns:
        The files.

    Raises:
        ConfigError: neither or both of `units` and `target_se`, or files that exist.
        RsjaxError: a map or target that does not fit.
    """
    if (units > 0) == (target_se > 0):
        raise ConfigError("give either --units=N or --target_se=SE, e.g. --target_se=0.01")
    if not 0 <= omission <= 1:
        raise ConfigError(f"--omission={omission}, expected a share from 0 to 1, e.g. 0.01")
    prefix = output or f"{os.path.splitext(map_path)[0]}_sample"
    # Labels that took weeks must not be lost to a second run.
    for ending in (".gpkg", ".csv", sample_files.ENDING):
        if pathlib.Path(f"{prefix}{ending}").exists():
            raise ConfigError(f"{prefix}{ending} exists; move it away, or give another --output")
    with rasterio.Env(GDAL_CACHEMAX=landmap.CACHE_BYTES):
        land_map = landmap.read_map(map_path, nomenclature)
        classes = land_map.nomenclature
        users = _conjectures(users_accuracy, classes)
        aim = classes.index(target_class, "--target_class") if target_class else None
        areas = pixel_area.of_grid(land_map.crs, land_map.transform, land_map.shape)
        counted = area_table.tally(land_map, areas)
        present = np.flatnonzero(counted.pixels)
        pixels = counted.pixels[present].astype(np.int64)
        shares = users[present]
        if aim is not None:
            shares = np.where(present == aim, users[aim], omission)
        weights = counted.hectares[present] / counted.hectares.sum()
        every = np.zeros(len(classes), np.int64)
        if units:
            every[present] = sample_design.allocate(units, pixels, allocation, min_units)
        else:
            every[present] = sample_design.size_and_allocate(
                weights, shares, target_se, pixels, allocation, min_units
            )
        drawn = sample_design.draw(land_map, counted.pixels, every, seed)
        assumed: dict[str, Any] = {
            "units": int(every.sum()),
            "target_se": target_se or None,
            "target": f"area of {target_class}" if target_class else "overall accuracy",
            "conjectured_share": {
                classes.names[c]: float(shares[i]) for i, c in enumerate(present)
            },
            "allocation": allocation,
            "min_units": min_units if allocation == "compromise" else None,
        }
        files = sample_files.write(prefix, land_map, counted, drawn, seed, assumed)
    expected = sample_design.expected_se(weights, shares, every[present], pixels)
    console = console or Console()
    console.print(_table(classes, counted, every, shares, present))
    console.print(
        f"{every.sum()} units; expected standard error of {assumed['target']} with these "
        f"conjectures: {expected:.4f}" + (" of the area" if target_class else ""),
        highlight=False,
        markup=False,
    )
    console.print("\n".join(map(str, files)), highlight=False, markup=False, soft_wrap=True)
    return files


def _conjectures(given: Sequence[str], classes: Nomenclature) -> np.ndarray:
    """User's accuracies from 'class=0.9' pairs."""
    users = np.full(len(classes), USERS)
    for pair in given:
        name, equals, text = pair.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not equals or not 0 <= value <= 1:
            raise ConfigError(f"--users_accuracy={pair}: write CLASS=ACCURACY, e.g. forest=0.9")
        users[classes.index(name, "--users_accuracy")] = value
    return users


def _table(
    classes: Nomenclature,
    counted: area_table.Tally,
    units: np.ndarray,
    shares: np.ndarray,
    present: np.ndarray,
) -> Table:
    table = Table(title="sample units", title_justify="left")
    for name in ("stratum", "pixels", "ha", "conjectured", "units"):
        table.add_column(name, justify="left" if name == "stratum" else "right")
    for i, c in enumerate(present.tolist()):
        table.add_row(
            escape(classes.names[c]),
            f"{counted.pixels[c]:,.0f}",
            f"{counted.hectares[c]:,.1f}",
            f"{shares[i]:.3g}",
            str(units[c]),
        )
    return table
