"""The report's figures of each class: bars, table and confusion matrices."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from rsjax.landcover import Nomenclature
from rsjax.training import class_figures, figures, page
from rsjax.training.evaluate import Results
from rsjax.training.numbers_page import unit_of

COLUMNS = ("support", "prevalence", "average_precision", "precision", "recall", "f1", "iou")
NAMES = {  # as people write them
    "f1": "F1",
    "iou": "IoU",
    "boundary_f1": "boundary F1",
    "boundary_iou": "boundary IoU",
}
BARS = {  # figures of each class that are drawn
    "classification": ("f1",),
    "multilabel": ("average_precision", "f1"),
    "segmentation": ("iou",),
}


def section(
    workdir: pathlib.Path,
    split: str,
    results: Results,
    about: Mapping[str, Any],
    classes: Nomenclature,
) -> str:
    """The section of the report."""
    columns, unit = dict(results.per_class), unit_of(about)
    kind = "class"
    if about["task"]["name"] == "multilabel":
        kind = "label"
        columns["prevalence"] = columns["support"] / len(results.samples["loss"])
    spread = {name: np.asarray(ends, float) for name, ends in results.per_class_intervals.items()}
    drawn = [name for name in BARS[about["task"]["name"]] if name in columns]
    parts = [f"<h2>By {kind}</h2>"]
    if drawn:
        parts.append(_bars(workdir, split, drawn, columns, spread, kind, unit, classes))
    parts.append(
        f'<p class="soft">Support: {unit} in the reference. –: not defined, and left out of the '
        "macro means.</p>"
    )
    parts.append(_table(columns, spread, kind, classes))
    if results.matrix is not None:
        parts += _confusion(workdir, split, results.matrix, unit, classes)
    return "\n".join(parts)


def _name(figure: str) -> str:
    return NAMES.get(figure, figure.replace("_", " "))


def _bars(
    workdir: pathlib.Path,
    split: str,
    drawn: list[str],
    columns: Mapping[str, np.ndarray],
    spread: Mapping[str, np.ndarray],
    kind: str,
    unit: str,
    classes: Nomenclature,
) -> str:
    marks = {}
    if "average_precision" in drawn:
        what = "prevalence: average precision of a constant score"
        marks = {_name("average_precision"): (what, columns["prevalence"])}
    figure = class_figures.bars(
        {_name(name): columns[name] for name in drawn},
        {_name(name): spread[name] for name in drawn if name in spread},
        columns["support"],
        classes,
        marks,
    )
    names = " and ".join(_name(name) for name in drawn)
    caption = (
        f"{names} of each {kind}; after its name its {unit} in the reference (k thousands, M "
        "millions)."
    )
    if any(name in spread for name in drawn):
        caption += " Whiskers: the intervals that the table has in brackets."
    missing = [n for n, v in zip(classes.names, columns[drawn[0]], strict=True) if np.isnan(v)]
    caption += f" {_name(drawn[0])} is not defined for: {', '.join(missing)}." if missing else ""
    data = figures.save(workdir, f"{split}_per_class", figure)
    return page.figure(data, f"{names} of each {kind} as bars; the table has the values", caption)


def _table(
    columns: Mapping[str, np.ndarray],
    spread: Mapping[str, np.ndarray],
    kind: str,
    classes: Nomenclature,
) -> str:
    names = [c for c in COLUMNS if c in columns] + [c for c in columns if c not in COLUMNS]

    def cell(name: str, i: int) -> str:
        ends = spread[name][:, i].tolist() if name in spread else None
        return page.ranged(float(columns[name][i]), ends, name in ("support", "images"))

    body = [
        (page.chip(colour) + escape(label), *(cell(name, i) for name in names))
        for i, (label, colour) in enumerate(zip(classes.names, classes.colours, strict=True))
    ]
    head = (kind, *(escape(_name(name)) for name in names))
    return page.table(head, body, label=f"figures of each {kind}")


def _confusion(
    workdir: pathlib.Path, split: str, matrix: np.ndarray, unit: str, classes: Nomenclature
) -> list[str]:
    """The matrix twice: as shares of the rows, and as counts."""
    wrong = np.where(np.eye(len(classes), dtype=bool), 0, matrix)
    row, column = divmod(int(wrong.argmax()), len(classes))
    most = (
        f"most often, {wrong[row, column]:,} {unit}, {classes.names[row]} is taken for "
        f"{classes.names[column]}"
        if wrong[row, column]
        else "nothing is confused"
    )
    shares = page.figure(
        figures.save(
            workdir, f"{split}_confusion_matrix", class_figures.confusion(matrix, classes)
        ),
        f"confusion matrix as shares of the rows; {most}",
        "Rows are the reference, columns the prediction; a grey row has no reference. Colour and "
        "text: share of the row; .00 is less than half a per cent, an empty cell is none.",
    )
    counts = page.figure(
        figures.save(
            workdir, f"{split}_confusion_counts", class_figures.confusion(matrix, classes, False)
        ),
        f"confusion matrix as counts of {unit}; {most}",
        f"The same as counts of {unit}, rounded (k thousands, M millions); eval/{split}.json has "
        "the exact ones. Colour: logarithm of the count.",
    )
    return [
        "<h3>Confusion matrix: shares</h3>",
        shares,
        "<h3>Confusion matrix: counts</h3>",
        counts,
    ]
