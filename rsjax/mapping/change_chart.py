"""Changes as a picture: the transition matrix, and what each class gained and lost."""

from __future__ import annotations

import io
import textwrap

import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsjax.landcover import Nomenclature
from rsjax.mapping import change_table

GAIN, LOSS = "#3b7dd8", "#d9822b"
ANNOTATED = 14  # classes, up to which cells have their number
MOST = 24  # classes that are drawn; of more, those that changed least are one


def png(hectares: np.ndarray, classes: Nomenclature) -> bytes:
    """The chart as a PNG file.

    Args:
        hectares: (C, C) transition matrix; rows: before, columns: after.
        classes: names.

    Returns:
        The file; classes that neither map has are left out, and of more than `MOST` those that
        gained and lost least are drawn as one.
    """
    shown, matrix, rest = _joined(hectares)
    moved = matrix - np.diag(np.diag(matrix))
    top = float(max(moved.sum(axis=0).max(), moved.sum(axis=1).max()))
    unit, scale = next(((u, s) for u, s in (("million ha", 1e6), ("thousand ha", 1e3))
                        if top >= 10 * s), ("ha", 1.0))  # fmt: skip
    names = [textwrap.shorten(classes.names[c], 28, placeholder="…") for c in shown]
    names += [f"{rest} others"] if rest else []
    side = 1.6 + 0.62 * len(names) if len(names) <= ANNOTATED else 2.0 + 0.3 * len(names)
    figure = Figure((side + 2 + 5.5, side + 0.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(side + 1.5, 5.0))
    _heat_map(figure, left, matrix / scale, names, unit)
    _bars(right, matrix / scale, names, unit)
    if rest:
        figure.suptitle(f"the {rest} classes that changed least are joined; changes from one of "
                        "these to another are not shown", fontsize=9)  # fmt: skip
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _joined(hectares: np.ndarray) -> tuple[list[int], np.ndarray, int]:
    """Classes to draw, their matrix, and how many others its last row and column have."""
    seen = change_table.seen(hectares)
    if len(seen) <= MOST:
        return seen, hectares[np.ix_(seen, seen)], 0
    changed = (hectares.sum(axis=0) + hectares.sum(axis=1) - 2 * np.diag(hectares))[seen]
    shown = sorted(np.array(seen)[np.argsort(-changed, kind="stable")[: MOST - 1]].tolist())
    rest = [c for c in seen if c not in shown]
    order = shown + rest
    starts = np.arange(MOST)  # the last sum is that of all the rest
    matrix = hectares[np.ix_(order, order)]
    return shown, np.add.reduceat(np.add.reduceat(matrix, starts, 0), starts, 1), len(rest)


def _heat_map(figure: Figure, axes: Axes, matrix: np.ndarray, names: list[str], unit: str) -> None:
    """Changes by colour, on a logarithmic scale; what stayed is grey, as it would drown them."""
    stay = np.eye(len(matrix), dtype=bool)
    changed = np.ma.masked_where(stay | (matrix <= 0), matrix)
    axes.imshow(np.where(stay, 0.87, 1.0), cmap="gray", vmin=0, vmax=1)
    strong = np.zeros(matrix.shape, bool)
    if changed.count():
        high = float(changed.max())
        low = max(float(changed.min()), high / 1e4)
        norm = colors.LogNorm(low if low < high else high / 10, high, clip=True)
        image = axes.imshow(changed, cmap="viridis_r", norm=norm)
        strong = np.ma.filled(norm(changed) > 0.5, False)
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        bar.set_label(f"changed ({unit})", fontsize=9)
        bar.ax.tick_params(labelsize=8)
    if len(matrix) <= ANNOTATED:
        for (i, j), value in np.ndenumerate(matrix):
            axes.text(j, i, _number(value) if value else "·", ha="center", va="center", fontsize=7,
                      color="white" if strong[i, j] else "black")  # fmt: skip
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(labelsize=8, length=0)
    axes.set_xlabel("after", fontsize=9)
    axes.set_ylabel("before", fontsize=9)
    axes.set_title("from class (row) to class (column); grey: unchanged", fontsize=9)


def _number(value: float) -> str:
    """Three digits, in whole numbers from 100 on."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}"


def _bars(axes: Axes, matrix: np.ndarray, names: list[str], unit: str) -> None:
    found = change_table.components(matrix)
    at = np.arange(len(names))
    axes.barh(at, found["gain"], 0.6, color=GAIN, label="gain")
    axes.barh(at, -found["loss"], 0.6, color=LOSS, label="loss")
    axes.plot(found["net"], at, "D", color="black", markersize=5, label="net")
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.set_yticks(at, names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(labelsize=8)
    axes.set_xlabel(f"area ({unit})", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
