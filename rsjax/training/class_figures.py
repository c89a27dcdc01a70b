"""Figures with one place for each class: confusion matrices, and bars with their intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import offset_copy

from rsjax.landcover import Nomenclature
from rsjax.training.figures import GRID

UNITS = (("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12))


def short(count: int) -> str:
    """A count in at most four characters, e.g. 950, 1.2k, 34M."""
    if count < 1000:
        return str(count)
    for unit, size in UNITS:
        value = count / size
        if value < 999.5:
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return f"{count:.0e}"


def confusion(matrix: np.ndarray, nomenclature: Nomenclature, shares: bool = True) -> Figure:
    """A confusion matrix, rows the reference.

    Args:
        matrix: (C, C) counts.
        nomenclature: the classes.
        shares: text and colour are the share of the row, to two decimals; otherwise text is the
            count and colour its logarithm.
    """
    count = len(nomenclature)
    cell = 0.5 if count <= 12 else 0.37 if count <= 20 else 0.34
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    top = np.log10(max(matrix.max(initial=0), 10))
    shade = share if shares else np.where(totals > 0, np.log10(np.maximum(matrix, 1)) / top, np.nan)
    figure = Figure((cell * count + 3.0, cell * count + 2.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("#e4e4e4")  # of classes that do not occur in the reference
    image = axes.imshow(shade, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    size = 8.0 if count <= 12 else 6.5
    for row, column in zip(*np.nonzero(matrix), strict=True):
        value = share[row, column]
        text = f"{value:.2f}"[1:] if value < 0.995 else "1.0"
        axes.text(column, row, text if shares else short(int(matrix[row, column])),
                  ha="center", va="center", fontsize=size,
                  color="white" if shade[row, column] > 0.55 else "black")  # fmt: skip
    _class_ticks(figure, axes, nomenclature, "x")
    _class_ticks(figure, axes, nomenclature, "y")
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#eeeeee", lw=0.5)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("reference", fontsize=9)
    if shares:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30)
        bar.set_label("share of the reference", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure


def _class_ticks(figure: Figure, axes: Axes, nomenclature: Nomenclature, which: str) -> None:
    """Names along an axis of a matrix, each with a square in the colour of its class."""
    at = np.arange(len(nomenclature))
    # Slanted names have room for two lines each.
    names = [textwrap.fill(name, 44 if which == "x" else 30) for name in nomenclature.names]
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(at, names, fontsize=7 if len(names) > 12 else 7.5)
    if which == "x":
        axes.set_xticks(at, names, rotation=45, ha="right", rotation_mode="anchor")
    for label in axis.get_ticklabels():
        label.set_parse_math(False)
    axis.set_tick_params(length=0, pad=13)
    to = axes.get_xaxis_transform() if which == "x" else axes.get_yaxis_transform()
    shift = (0, -7) if which == "x" else (-7, 0)  # points
    to = offset_copy(to, figure, *shift, units="points")
    x, y = (at, 0 * at) if which == "x" else (0 * at, at)
    axes.scatter(x, y, c=nomenclature.colours, s=34, marker="s", transform=to,
                 clip_on=False, edgecolors="#555555", linewidths=0.5)  # fmt: skip


def bars(
    panels: Mapping[str, np.ndarray],
    intervals: Mapping[str, np.ndarray],
    support: np.ndarray,
    nomenclature: Nomenclature,
    marks: Mapping[str, tuple[str, np.ndarray]] | None = None,
) -> Figure:
    """Figures of each class as bars, in the order of the nomenclature.

    Args:
        panels: title -> (C,) values in [0, 1], NaN where undefined.
        intervals: title -> (2, C) low and high, drawn as whiskers; may be empty.
        support: (C,) positions of each class in the reference, written after its name.
        nomenclature: the classes.
        marks: title -> (what it is, (C,) values), drawn as a line across the bar.
    """
    count, marks = len(nomenclature), marks or {}
    figure = Figure((9.6 if len(panels) > 1 else 8.0, 0.34 * count + 1.0), layout="constrained")
    axes_of = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    at = np.arange(count)
    for axes, (title, values) in zip(axes_of, panels.items(), strict=True):
        known = np.isfinite(values)
        axes.barh(at[known], values[known], color=np.array(nomenclature.colours)[known],
                  height=0.72, edgecolor="#555555", linewidth=0.5)  # fmt: skip
        ends = np.where(known, values, 0.0)
        if title in intervals:
            low, high = intervals[title]
            drawn = known & np.isfinite(low) & np.isfinite(high)
            for width, colour in ((2.6, "white"), (1.0, "black")):  # seen on any colour
                axes.hlines(at[drawn], low[drawn], high[drawn], color=colour, lw=width)
                for end in (low, high):
                    axes.vlines(end[drawn], at[drawn] - 0.16, at[drawn] + 0.16, color=colour,
                                lw=width)  # fmt: skip
            ends = np.where(drawn, np.maximum(ends, high), ends)
        if title in marks:
            what, places = marks[title]
            axes.scatter(places[known], at[known], marker="|", s=130, color="black", linewidths=2,
                         path_effects=[withStroke(linewidth=4, foreground="white")],
                         label=what)  # fmt: skip
            ends = np.where(known, np.maximum(ends, places), ends)
        for row in at:
            text = f"{values[row]:.3f}" if known[row] else "not defined"
            axes.text(ends[row] + 0.012, row, text, va="center", fontsize=7.5, in_layout=False,
                      color="black" if known[row] else "#555555")  # fmt: skip
        axes.set_xlim(0, 1.14)
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        axes.set_ylim(count - 0.4, -0.6)
        axes.set_title(title, fontsize=9, loc="left")
        axes.tick_params(axis="x", labelsize=7.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
    if marks:
        figure.legend(loc="outside lower right", fontsize=7.5, frameon=False)
    labels = [
        textwrap.fill(f"{name} ({short(int(n))})", 46)
        for name, n in zip(nomenclature.names, support, strict=True)
    ]
    axes_of[0].set_yticks(at, labels, fontsize=7.5)
    for label in axes_of[0].get_yticklabels():
        label.set_parse_math(False)
    return figure
