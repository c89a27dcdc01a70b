"""The report's galleries as figures of one sheet each, with words and legend, to be printed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from rsjax.landcover import Nomenclature
from rsjax.training import maps as compared
from rsjax.training.maps import Compared

WIDTH = 8.0  # inches: A4 with margins
MAPS, GAP, LINE = 5.65, 0.1, 0.115  # inches: of a row of maps, between maps, of a line of text
LETTERS = 40  # of a line beside the maps
LIGHT, DARK = "#f0f0f0", "#191919"


def maps(
    title: str,
    pictures: Sequence[np.ndarray],
    ids: Sequence[str],
    rows: Sequence[Compared],
    captions: Sequence[Sequence[str]],
    classes: Nomenclature,
    columns: Sequence[str],
) -> Figure:
    """Rows of image or images, reference, prediction, errors and confidence.

    Args:
        title: of the sheet.
        pictures: (T, h, w, 3) uint8 of each record, of as many steps in each.
        ids: of each record.
        rows: the maps of each record.
        captions: lines of each record, below its id.
        classes: of the maps.
        columns: their titles.
    """
    there = sorted({k for one in rows for k, _, _ in compared.occurring(one)})
    handles = [_patch(classes.names[k], classes.colours[k]) for k in there]
    handles += [_patch("right", LIGHT), _patch("wrong", DARK)]
    handles.append(Patch(facecolor="#c8c8c8", edgecolor="#6e6e6e", hatch="/////", label="ignored"))
    legend = 0.165 * -(-len(handles) // 2) + 0.15
    texts = [
        [("normal", part) for part in textwrap.wrap(sample, LETTERS - 10)]  # ids are of capitals
        + [("bold", part) for part in textwrap.wrap(lines[0], LETTERS - 5)]
        + [("normal", part) for text in lines[1:] for part in textwrap.wrap(text, LETTERS)]
        for sample, lines in zip(ids, captions, strict=True)
    ]
    side = MAPS / len(columns) - GAP / 2
    pictured = [side * one.reference.shape[0] / one.reference.shape[1] for one in rows]
    blocks = [
        max(high, LINE * len(lines)) + GAP for high, lines in zip(pictured, texts, strict=True)
    ]
    height = sum(blocks) + legend + 0.6
    figure, axes = _sheet(title, height)
    top = height - 0.5
    lefts = [GAP + column * (side + GAP / 2) for column in range(len(columns) + 1)]
    for left, name in zip(lefts, columns, strict=False):
        axes.text(left, top + 0.04, name, fontsize=8 if len(columns) < 6 else 6.5)
    for series, one, lines, high, block in zip(
        pictures, rows, texts, pictured, blocks, strict=True
    ):
        drawn = (
            *series,
            compared.coloured(one.reference, classes),
            compared.coloured(one.predicted, classes),
            compared.errors(one),
            np.repeat(one.confidence[..., None], 3, axis=-1),
        )
        for left, pixels in zip(lefts, drawn, strict=False):
            _draw(axes, pixels, left, top, high, side)
        for number, (weight, text) in enumerate(lines):
            axes.text(lefts[-1], top - LINE * (number + 0.5), text, fontsize=6.5, va="center",
                      weight=weight, parse_math=False)  # fmt: skip
        top -= block
    shown = figure.legend(
        handles=handles, loc="lower left", ncols=2, fontsize=7, frameon=False, handlelength=1.2,
        bbox_to_anchor=(0.0, 0.0), columnspacing=1.5, labelspacing=0.35,
    )  # fmt: skip
    for entry in shown.get_texts():
        entry.set_parse_math(False)
    return figure


def cards(
    title: str, pictures: Sequence[np.ndarray], texts: Sequence[Sequence[tuple[str, str]]]
) -> Figure:
    """Pictures with words beside them, in two columns.

    Args:
        title: of the sheet.
        pictures: (h, w, 3) uint8 of each sample.
        texts: lines of each sample as (colour, text).
    """
    columns, side, line = 2, 1.3, 0.135
    wrapped = [
        [
            (colour, part)
            for number, (colour, text) in enumerate(lines)
            for part in textwrap.wrap(text, 44 if number else 34)  # ids are of capitals
        ]
        for lines in texts
    ]
    tall = [max(side, line * len(lines)) + 0.12 for lines in wrapped]
    heights = [max(tall[i : i + columns]) for i in range(0, len(tall), columns)]
    height = sum(heights) + 0.4
    figure, axes = _sheet(title, height)
    for number, (picture, lines) in enumerate(zip(pictures, wrapped, strict=True)):
        row, column = divmod(number, columns)
        left, top = GAP + column * WIDTH / columns, height - 0.4 - sum(heights[:row])
        _draw(axes, picture, left, top, side * picture.shape[0] / picture.shape[1], side)
        for at, (colour, text) in enumerate(lines):
            axes.text(left + side + GAP, top - 0.08 - line * at, text, fontsize=7, va="center",
                      color=colour, parse_math=False)  # fmt: skip
    return figure


def _sheet(title: str, height: float) -> tuple[Figure, Axes]:
    """A figure whose one pair of axes counts in inches from its lower left corner."""
    figure = Figure((WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, height)
    axes.autoscale(False)
    axes.text(GAP, height - 0.2, title, fontsize=10, weight="bold", va="center", parse_math=False)
    return figure, axes


def _draw(
    axes: Axes, pixels: np.ndarray, left: float, top: float, high: float, wide: float
) -> None:
    place = (left, left + wide, top - high, top)
    axes.imshow(pixels, interpolation="nearest", extent=place, aspect="auto")
    axes.add_patch(
        Rectangle((left, top - high), wide, high, fill=False, edgecolor="#777777", lw=0.5)
    )


def _patch(name: str, colour: str) -> Patch:
    return Patch(facecolor=colour, edgecolor="#555555", lw=0.5, label=textwrap.shorten(name, 70))
