"""Transition matrices, what they say of each class, and the tables that hold it.

Sources: Pontius, Shusas and McEachern 2004, Agric. Ecosyst. Environ. 101, 251-268 (gain, loss,
persistence, swap); Pontius and Millones 2011, Int. J. Remote Sens. 32(15), 4407-4429 (quantity and
allocation); Pontius and Santacruz 2014, Int. J. Remote Sens. 35(21), 7543-7554 (exchange, shift).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from rsjax.landcover import Nomenclature
from rsjax.mapping.area_table import NO_CLASS, PRINTED, Tally, unprinted

WIDE = 10  # classes whose matrix fits a terminal


@dataclasses.dataclass(frozen=True)
class Transitions:
    """Transition matrices of a map or a region of it; rows: class before, columns: after.

    Attributes:
        name: of the region, or `area_table.WHOLE`.
        pixels: (C, C); pixels at a region's edge count by their share inside.
        hectares: (C, C).
        counted: pixels and hectares without a class, and what lies beyond the map.
    """

    name: str
    pixels: np.ndarray
    hectares: np.ndarray
    counted: Tally


def of_tally(counted: Tally) -> Transitions:
    """The matrices of a tally of pairs."""
    side = round(len(counted.pixels) ** 0.5)
    square = (side, side)
    return Transitions(
        counted.name, counted.pixels.reshape(square), counted.hectares.reshape(square), counted
    )


def components(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """What a transition matrix says of each class.

    Args:
        matrix: (C, C) sizes, in any unit; rows: before, columns: after.

    Returns:
        Arrays (C,) in the same unit: `before`, `after`, `persistence` C_jj, `gain` (column less
        persistence), `loss` (row less persistence), `net` = gain - loss; and the parts of gain +
        loss: `quantity` q_j = |gain - loss|, `exchange` e_j = 2 sum over i != j of min(C_ij, C_ji)
        and `shift`, the rest. Exchange and shift together are `swap` = 2 min(gain, loss), the
        allocation of Pontius and Millones.
    """
    stay = np.diag(matrix)
    before, after = matrix.sum(axis=1), matrix.sum(axis=0)
    moved = matrix - np.diag(stay)
    gain, loss = moved.sum(axis=0), moved.sum(axis=1)
    exchange = 2 * np.minimum(moved, moved.T).sum(axis=0)
    swap = 2 * np.minimum(gain, loss)
    return {
        "before": before, "after": after, "persistence": stay, "gain": gain, "loss": loss,
        "net": gain - loss, "swap": swap, "quantity": np.abs(gain - loss), "exchange": exchange,
        "shift": np.maximum(swap - exchange, 0.0),  # rounding may leave less than nothing
    }  # fmt: skip


def overall(matrix: np.ndarray) -> dict[str, float]:
    """The same of all classes: half the sum over them, as each change is one's loss, one's gain.

    Returns:
        `total`, `persistence`, `change`, and its parts `quantity`, `exchange` and `shift`.
    """
    found = components(matrix)
    return {
        "total": float(matrix.sum()),
        "persistence": float(found["persistence"].sum()),
        "change": float(found["gain"].sum()),
        **{name: float(found[name].sum()) / 2 for name in ("quantity", "exchange", "shift")},
    }


def pair_rows(every: Sequence[Transitions], classes: Nomenclature) -> list[dict[str, Any]]:
    """One row a region and pair of classes that occurs there, and one for what has no class."""
    rows: list[dict[str, Any]] = []
    for one in every:
        total, of_class = one.hectares.sum(), one.hectares.sum(axis=1)
        for i, j in np.argwhere(one.pixels > 0).tolist():
            size = float(one.hectares[i, j])
            rows.append({
                "region": one.name, "from_code": classes.codes[i], "from": classes.names[i],
                "to_code": classes.codes[j], "to": classes.names[j],
                "pixels": float(one.pixels[i, j]), "hectares": size,
                "share": size / float(total) if total else None,
                "share_of_from": size / float(of_class[i]) if of_class[i] else None,
            })  # fmt: skip
        rows.append({**dict.fromkeys(rows[0]), "region": one.name, "from": NO_CLASS,
                     "to": NO_CLASS, "pixels": one.counted.nodata_pixels,
                     "hectares": one.counted.nodata_hectares})  # fmt: skip
    return rows


def class_rows(every: Sequence[Transitions], classes: Nomenclature) -> list[dict[str, Any]]:
    """One row a region and class that occurs anywhere: the components, in hectares."""
    rows = []
    for one in every:
        found = components(one.hectares)
        for c in seen(every[0].pixels):
            sizes = {f"{name}_hectares": float(values[c]) for name, values in found.items()}
            row = {"region": one.name, "code": classes.codes[c], "class": classes.names[c]}
            rows.append(row | sizes)
    return rows


def seen(matrix: np.ndarray) -> list[int]:
    """Classes that occur before or after."""
    found: list[int] = np.flatnonzero(matrix.any(axis=0) | matrix.any(axis=1)).tolist()
    return found


def terminal(every: Sequence[Transitions], classes: Nomenclature) -> list[Table | str]:
    """What to print: the whole map's matrix, and for each region its classes and a summary."""
    parts: list[Table | str] = [_matrix(every[0], classes)]
    for one in every[: PRINTED + 1]:
        parts += [_classes(one, classes), _summary(one)]
    return parts + unprinted(len(every) - 1)


def _matrix(one: Transitions, classes: Nomenclature) -> Table:
    """The matrix in hectares; of many classes the largest changes in its place."""
    shown = seen(one.pixels)
    if len(shown) <= WIDE:
        table = Table(title="hectares: rows before, columns after", title_justify="left")
        table.add_column("")
        for c in shown:
            table.add_column(escape(classes.names[c]), justify="right")
        for i in shown:
            table.add_row(escape(classes.names[i]), *(f"{v:,.1f}" for v in one.hectares[i, shown]))
        return table
    table = Table(title="largest changes; all are in the files", title_justify="left")
    for name in ("before", "after", "hectares"):
        table.add_column(name, justify="right" if name == "hectares" else "left")
    moved = one.hectares - np.diag(np.diag(one.hectares))
    for flat in np.argsort(-moved, axis=None, kind="stable")[:20].tolist():
        i, j = divmod(flat, len(classes))
        if moved[i, j] > 0:
            table.add_row(escape(classes.names[i]), escape(classes.names[j]), f"{moved[i, j]:,.1f}")
    return table


def _classes(one: Transitions, classes: Nomenclature) -> Table:
    beyond = one.counted.outside
    title = escape(one.name) + (f" ({beyond:.1%} of it is beyond the map)" if beyond else "")
    table = Table(title=f"{title}: hectares", title_justify="left")
    columns = ("before", "after", "persistence", "gain", "loss", "net", "exchange", "shift")
    table.add_column("class")
    for name in columns:
        table.add_column(name, justify="right")
    found = components(one.hectares)
    for c in seen(one.pixels):
        cells = (f"{found[name][c]:{'+' if name == 'net' else ''},.1f}" for name in columns)
        table.add_row(escape(classes.names[c]), *cells)
    return table


def _summary(one: Transitions) -> str:
    found = overall(one.hectares)
    if not found["total"]:
        return f"{one.name}: no pixel has a class in both maps"
    parts = ", ".join(f"{name} {found[name] / found['total']:.2%}"
                      for name in ("quantity", "exchange", "shift"))  # fmt: skip
    return (
        f"{one.name}: {found['change']:,.1f} of {found['total']:,.1f} ha changed "
        f"({found['change'] / found['total']:.2%}: {parts}); "
        f"{one.counted.nodata_hectares:,.1f} ha have no class in one map or both"
    )
