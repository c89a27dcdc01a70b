"""Figures of a whole set as drawings: how far its probabilities are right, and its groups."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from rsjax.training.figures import ACCENT, GRID, SECOND


def reliability(table: Mapping[str, Sequence[Any]], across: str, along: str, unit: str) -> Figure:
    """How often predictions of each confidence are right, and how many there are.

    Source: Niculescu-Mizil and Caruana 2005, Predicting Good Probabilities with Supervised
    Learning.

    Args:
        table: of bins: `lower` and `upper` bounds, mean `confidence` and share right `accuracy`
            (None or NaN: an empty bin), `count`.
        across: what the confidence is.
        along: what the accuracy is.
        unit: what was counted.
    """
    lower, upper, confidence, accuracy, count = (
        np.array(table[name], float)
        for name in ("lower", "upper", "confidence", "accuracy", "count")
    )
    filled = (count > 0) & np.isfinite(confidence) & np.isfinite(accuracy)
    figure = Figure((5.6, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="#555555", lw=1, ls="--", label="perfectly calibrated")
    above.vlines(confidence[filled], confidence[filled], accuracy[filled], color=SECOND, lw=1.4,
                 label="gap")  # fmt: skip
    above.plot(confidence[filled], accuracy[filled], color=ACCENT, marker="o", ms=4.5, lw=1.2,
               label="this model")  # fmt: skip
    above.set_xlim(0, 1)
    above.set_ylim(0, 1.02)
    above.set_ylabel(along, fontsize=8.5)
    above.legend(fontsize=7.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    below.bar(lower[filled], count[filled], width=(upper - lower)[filled], align="edge",
              color="#9db8d2", edgecolor="#555555", lw=0.5)  # fmt: skip
    if filled.any():
        below.set_yscale("log")
        below.set_ylim(0.5, 3 * count.max())
    below.set_ylabel(f"{unit} (log.)", fontsize=8.5)
    below.set_xlabel(across, fontsize=8.5)
    for axes in (above, below):
        axes.grid(color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=7.5)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def groups(values: Mapping[str, float], whole: float, title: str) -> Figure:
    """One figure of each group as a dot, sorted, with a line at that of the whole set.

    Args:
        values: of each group; its name is the label.
        whole: of the whole set.
        title: name of the figure.
    """
    order = sorted((name for name in values if np.isfinite(values[name])), key=values.__getitem__)
    figure = Figure((7.6, 0.24 * len(order) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    at = np.arange(len(order))
    shown = np.array([values[name] for name in order], float)
    axes.axvline(whole, color=SECOND, lw=1.2, ls="--", label=f"whole split {whole:.3f}")
    axes.hlines(at, np.minimum(shown, whole), np.maximum(shown, whole), color="#9aa3ab", lw=1)
    axes.plot(shown, at, color=ACCENT, marker="o", ms=5, ls="")
    for row, value in enumerate(shown):
        left = value < whole
        axes.annotate(f"{value:.3f}", (value, row), (-6 if left else 6, 0), fontsize=7.5,
                      textcoords="offset points", va="center", ha="right" if left else "left",
                      path_effects=[withStroke(linewidth=2.5, foreground="white")])  # fmt: skip
    axes.set_yticks(at, [textwrap.shorten(name, 50) for name in order], fontsize=7.5)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.margins(x=0.12)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel(title, fontsize=8.5)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    return figure
