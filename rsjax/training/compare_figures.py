"""Figures of several runs: one marker and one line style for each recipe, readable without colour.

A recipe is drawn as one: its mean over the seeds, with a line from its lowest to its highest.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rsjax.training import figures

GRID = "#dddddd"
COLOURS = ("#0b5fa5", "#c2571a", "#1a7a3c", "#7a3c8f", "#111111", "#a8861c", "#b3265e", "#4f8f9f")
MARKERS = ("o", "^", "s", "D", "v", "X", "P", "*")
LINES: tuple[Any, ...] = (
    "-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (9, 3)), (0, (4, 1, 1, 1)),
)  # fmt: skip
MOST = len(MARKERS)  # recipes that can be told apart


def headline(
    name: str,
    values: Sequence[tuple[str, float, tuple[float, float] | None]],
    recipe: Sequence[int],
) -> Figure:
    """One figure of each run, with its interval where there is one.

    Args:
        name: of the figure.
        values: (label, value, interval) of each run.
        recipe: number of the recipe of each run.
    """
    figure = Figure((9.5, 0.34 * len(values) + 1.0), layout="constrained")
    axes = figure.add_subplot()
    ends = []
    for row, (_, value, interval) in enumerate(values):
        colour, marker = COLOURS[recipe[row] % MOST], MARKERS[recipe[row] % MOST]
        low, high = interval or (math.nan, math.nan)
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [row, row], color=colour, lw=1.6, marker="|", ms=9)
            ends += [low, high]
        axes.plot([value], [row], ms=8, ls="", color=colour, marker=marker)
        ends.append(value)
        text = f"{value:.4f}" if math.isfinite(value) else "not defined"
        axes.text(1.01, row, text, va="center", fontsize=8, transform=axes.get_yaxis_transform())
    _limits(axes, ends)
    _rows(axes, [label for label, _, _ in values])
    axes.set_xlabel(name, fontsize=9, parse_math=False)
    return figure


def classes(
    name: str,
    names: Sequence[str],
    values: Mapping[str, np.ndarray],
    support: Sequence[float] | None,
) -> Figure:
    """Dots of each class, one a recipe; the line joins the lowest and the highest of its seeds.

    Args:
        name: of the figure.
        names: of the classes.
        values: recipe -> (runs, C).
        support: samples or pixels of each class in the reference, if it is known and one.
    """
    figure = Figure((9.5, 0.2 * len(names) * max(2, len(values)) ** 0.5 + 1.2),
                    layout="constrained")  # fmt: skip
    axes = figure.add_subplot()
    offsets = 0.16 * (np.arange(len(values)) - (len(values) - 1) / 2)
    offsets *= min(1.0, 0.56 / max(np.ptp(offsets), 0.01))  # each class keeps to its row
    for number, (label, table) in enumerate(values.items()):
        at = np.arange(len(names)) + offsets[number]
        colour = COLOURS[number % MOST]
        undefined = np.isnan(table).any(axis=0)
        mean = np.where(undefined, np.nan, table.mean(axis=0))
        if len(table) > 1:
            low, high = np.where(undefined, np.nan, [table.min(axis=0), table.max(axis=0)])
            axes.hlines(at, low, high, color=colour, lw=1.4)
        axes.plot(mean, at, ls="", marker=MARKERS[number % MOST], ms=5.5, color=colour, label=label)
    labels = [textwrap.shorten(label, 48, placeholder=" …") for label in names]
    note = ""
    if support is not None:
        note = "; in brackets how many are in the reference"
        labels = [f"{label} ({n:,.0f})" for label, n in zip(labels, support, strict=True)]
    _rows(axes, labels)
    for edge in np.arange(len(names) - 1) + 0.5:
        axes.axhline(edge, color=GRID, lw=0.5)
    axes.set_xlabel(name.replace("_", " ") + f" of each class{note}", fontsize=9)
    _legend(axes)
    return figure


def curves(
    rows: Mapping[str, Sequence[Sequence[dict[str, Any]]]], headline: str
) -> Figure | None:  # fmt: skip
    """Curves of training over the steps: loss, validation loss, validation headline.

    Args:
        rows: recipe -> rows of `metrics.jsonl` of each of its runs.
        headline: the figure that chose the models.
    """
    panels = {
        "train loss": "train/loss",
        "validation loss": "validation/loss",
        f"validation {headline}": f"validation/{headline}",
    }
    every = [run for recipe in rows.values() for run in recipe]
    panels = {t: n for t, n in panels.items() if any(len(figures.series(r, n)[0]) for r in every)}
    if not panels:
        return None
    figure = Figure((3.6 * len(panels) + 0.4, 3.4), layout="constrained")
    for column, (title, name) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), column + 1)
        for number, (label, recipe) in enumerate(rows.items()):
            for seed, run in enumerate(recipe):
                steps, values = figures.series(run, name)
                axes.plot(steps, values, color=COLOURS[number % MOST], ls=LINES[number % MOST],
                          lw=1.4, marker="." if len(steps) == 1 else None,
                          label=label if seed == 0 else "_")  # fmt: skip
        axes.set_title(title, fontsize=9, parse_math=False)
        axes.set_xlabel("step", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(color=GRID, lw=0.6)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False,
                  handlelength=4)  # fmt: skip
    return figure


def _limits(axes: Axes, values: Sequence[float]) -> None:
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    pad = 0.08 * (max(known) - min(known)) or 0.05
    axes.set_xlim(min(known) - pad, max(known) + pad)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(np.arange(len(names)), list(names), fontsize=8)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _legend(axes: Axes) -> None:
    legend = axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8,
                         frameon=False)  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
