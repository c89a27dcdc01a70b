"""Pixels and hectares of each class of a map, as counted; and the files that say so."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterator, Sequence, Sized
from typing import Any, Protocol

import numpy as np
import rasterio
from rasterio.windows import Window
from rich.markup import escape
from rich.table import Table

from rsjax.errors import SceneError
from rsjax.landcover import Nomenclature
from rsjax.mapping.area_estimate import Accuracy, Estimate
from rsjax.mapping.pixel_area import PixelAreas

WHOLE = "whole map"  # in place of a region's name
NO_CLASS = "(no class)"  # in place of a class's name
PRINTED = 20  # regions; all are in the files
_MANY = 300  # values; a table of rows by values would be larger than the block


class Counted(Protocol):
    """What can be counted: a `LandMap`, or two of them whose pairs of classes are its values."""

    @property
    def path(self) -> str:
        """What to call it in messages."""

    @property
    def crs(self) -> rasterio.crs.CRS:
        """Its coordinate system."""

    @property
    def transform(self) -> rasterio.Affine:
        """(col, row) of pixel corners to (x, y)."""

    @property
    def nomenclature(self) -> Sized:
        """As long as there are values."""

    def blocks(self) -> Iterator[tuple[Window, np.ndarray]]:
        """Windows and their values, from 0; larger than there are: pixels without a class."""


@dataclasses.dataclass(frozen=True)
class Tally:
    """What was counted in a map or a region of it.

    Attributes:
        name: of the region, or `WHOLE`.
        pixels: of each class, (C,) float64; pixels at a region's edge count by their share inside.
            NaN where only areas are known.
        hectares: of each class, (C,) float64.
        nodata_pixels: pixels without a class.
        nodata_hectares: their area.
        outside: share of a region's polygon that lies beyond the map, 0 to 1.
    """

    name: str
    pixels: np.ndarray
    hectares: np.ndarray
    nodata_pixels: float
    nodata_hectares: float
    outside: float = 0.0


@dataclasses.dataclass(frozen=True)
class Estimates:
    """What a reference sample says of the map, or of a region.

    Attributes:
        units: of the sample that lie in it.
        accuracy: in hectares; None where the units are too few.
        why: in that case, in words.
        joined: names of the map classes that share a stratum, as they have too few units alone.
    """

    units: int
    accuracy: Accuracy | None = None
    why: str = ""
    joined: tuple[str, ...] = ()


def tally(land_map: Counted, areas: PixelAreas) -> Tally:
    """Counts the whole map, block by block.

    Args:
        land_map: the map.
        areas: of its grid.

    Raises:
        SceneError, NomenclatureError: as `LandMap.blocks`.
    """
    count = len(land_map.nomenclature)
    pixels, hectares = np.zeros(count + 1, np.int64), np.zeros(count + 1)
    for window, classes in land_map.blocks():
        found = in_block(np.minimum(classes, count), areas.block(window), count + 1)
        pixels += found[0]
        hectares += found[1]
    if pixels[:-1].sum() == 0:
        raise SceneError(f"{land_map.path}: no pixel has a class; nothing to measure")
    return Tally(
        WHOLE, pixels[:-1].astype(float), hectares[:-1], float(pixels[-1]), float(hectares[-1])
    )


def in_block(slots: np.ndarray, of_pixel: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and hectares of each of `count` values in a block.

    Args:
        slots: (rows, columns) values, 0 to count - 1.
        of_pixel: hectares of the pixels, from `PixelAreas.block`.
        count: how many values there are.

    Returns:
        (count,) int64 and (count,) float64.
    """
    if of_pixel.shape[1] > 1 or count > _MANY:
        flat, each = slots.ravel(), np.broadcast_to(of_pixel, slots.shape).ravel()
        return np.bincount(flat, minlength=count), np.bincount(flat, each, minlength=count)
    rows = _by_row(slots, count)  # pixels of a row are equal: count rows, then weigh them
    return rows.sum(axis=0), np.broadcast_to(of_pixel[:, 0], len(rows)) @ rows


def _by_row(slots: np.ndarray, count: int) -> np.ndarray:
    """How often each of `count` values occurs in each row: int64 (rows, count)."""
    # One class fills most blocks of most maps; comparing is far quicker than counting.
    if (slots == slots[0, 0]).all():
        found = np.zeros((slots.shape[0], count), np.int64)
        found[:, slots[0, 0]] = slots.shape[1]
        return found
    index = slots + np.arange(slots.shape[0])[:, None] * count
    return np.bincount(index.ravel(), minlength=slots.shape[0] * count).reshape(-1, count)


def rows(
    tallies: Sequence[Tally], nomenclature: Nomenclature, estimates: Sequence[Estimates] = ()
) -> list[dict[str, Any]]:
    """One row a class and region, and one for pixels without a class; figures in full precision.

    Args:
        tallies: the whole map first.
        nomenclature: of the map.
        estimates: of each tally, in hectares; empty without a reference sample.

    Returns:
        Rows of equal keys; None where a figure does not exist.
    """
    found = []
    for i, one in enumerate(tallies):
        covered = float(one.hectares.sum())
        for c, (code, name) in enumerate(zip(nomenclature.codes, nomenclature.names, strict=True)):
            share = float(one.hectares[c]) / covered if covered else None
            row = {"region": one.name, "code": code, "class": name,
                   "pixels": finite(one.pixels[c]), "hectares": float(one.hectares[c]),
                   "share": share}  # fmt: skip
            if estimates:
                row["sample_units"] = estimates[i].units
                for what in ("area", "users", "producers"):
                    row |= _figures(estimates[i].accuracy, what, c)
            found.append(row)
        found.append({**dict.fromkeys(found[-1]), "region": one.name, "class": NO_CLASS,
                      "pixels": one.nodata_pixels, "hectares": one.nodata_hectares})  # fmt: skip
    return found


def _figures(accuracy: Accuracy | None, what: str, c: int) -> dict[str, float | None]:
    """The columns of an estimate: value, standard error, ends of the interval."""
    prefix = "adjusted_hectares" if what == "area" else f"{what}_accuracy"
    names = (prefix, f"{prefix}_se", f"{prefix}_low", f"{prefix}_high")
    if accuracy is None:
        return dict.fromkeys(names)
    figure = getattr(accuracy, what)
    values = (figure.value[c], figure.se[c], figure.low[c], figure.high[c])
    return {name: finite(value) for name, value in zip(names, values, strict=True)}


def finite(value: float) -> float | None:
    """A number for JSON: None in place of NaN."""
    return float(value) if math.isfinite(value) else None


def comma_separated(table: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV in full precision; what does not exist is empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return file.getvalue()


def terminal(
    tallies: Sequence[Tally], nomenclature: Nomenclature, estimates: Sequence[Estimates] = ()
) -> list[Table | str]:
    """What to print: areas of each region, and the confusion matrix of a sample."""
    none = [Estimates(0)] * len(tallies)
    shown = list(zip(tallies, estimates or none, strict=True))[: PRINTED + 1]
    parts: list[Table | str] = [_areas(one, nomenclature, its) for one, its in shown]
    whole = estimates[0].accuracy if estimates else None
    return parts + unprinted(len(tallies) - 1) + ([_matrix(nomenclature, whole)] if whole else [])


def unprinted(regions: int) -> list[str]:
    """What to say of regions beyond those that are printed."""
    left = regions - PRINTED
    return [f"{left} more regions of {regions} are in the files"] if left > 0 else []


def _areas(one: Tally, nomenclature: Nomenclature, its: Estimates) -> Table:
    accuracy = its.accuracy
    title = escape(one.name) + (
        f" ({one.outside:.1%} of it is beyond the map)" if one.outside else ""
    )
    title += f"; no estimates: {escape(its.why)}" if its.why else ""
    title += f"; joined in one stratum: {escape(', '.join(its.joined))}" if its.joined else ""
    table = Table(title=title, title_justify="left", show_footer=True)
    covered = float(one.hectares.sum())
    table.add_column("class", "all classes")
    table.add_column("pixels", _count(float(one.pixels.sum())), justify="right")
    table.add_column("mapped ha", f"{covered:,.1f}", justify="right")
    table.add_column("share", justify="right")
    if accuracy is not None:
        table.add_column(f"adjusted ha ({100 * accuracy.level:g} % interval)", justify="right")
        table.add_column("user's", justify="right")
        table.add_column("producer's", justify="right")
    for c, name in enumerate(nomenclature.names):
        if one.pixels[c] == 0 and (accuracy is None or not accuracy.counts[:, c].any()):
            continue  # in the files it has its row
        share = one.hectares[c] / covered if covered else math.nan
        cells = [escape(name), _count(one.pixels[c]), f"{one.hectares[c]:,.1f}", f"{share:.2%}"]
        if accuracy is not None:
            cells += [
                _interval(accuracy.area, c, ",.1f"),
                *(_interval(figure, c, ".3f") for figure in (accuracy.users, accuracy.producers)),
            ]
        table.add_row(*cells)
    if one.nodata_pixels:
        table.add_row(NO_CLASS, _count(one.nodata_pixels), f"{one.nodata_hectares:,.1f}")
    return table


def _count(pixels: float) -> str:
    if math.isnan(pixels):
        return "-"
    return f"{pixels:,.0f}" if float(pixels).is_integer() else f"{pixels:,.1f}"


def _interval(figure: Estimate, c: int, form: str) -> str:
    if math.isnan(figure.value[c]):
        return "-"
    half = (
        "±?" if math.isnan(figure.low[c]) else f"{figure.low[c]:{form}} – {figure.high[c]:{form}}"
    )
    return f"{figure.value[c]:{form}} ({half})"


def _matrix(nomenclature: Nomenclature, accuracy: Accuracy) -> Table:
    """Sample units by map class and reference class; classes of neither are left out."""
    seen = np.flatnonzero(accuracy.counts.any(axis=0) | accuracy.counts.any(axis=1))
    table = Table(title="sample units: rows map, columns reference", title_justify="left")
    table.add_column("")
    for c in seen:
        table.add_column(escape(nomenclature.names[c]), justify="right")
    for c in seen:
        table.add_row(escape(nomenclature.names[c]), *(str(n) for n in accuracy.counts[c, seen]))
    return table
