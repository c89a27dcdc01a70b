"""Runs side by side: a page, a Markdown table and a CSV file, from the files of their workdirs.

`runs` reads, `recipes` says which runs differ in their seed only, `compare_table` has the table,
`compare_figures` draws.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from rsjax import sealed
from rsjax.training import compare_figures as draw
from rsjax.training import compare_table, drawing, page, recipes, runs
from rsjax.training.compare_table import Group
from rsjax.training.runs import Run

SIMULATED = "SIMULATED imagery: these figures say nothing about real scenes"


def write(
    workdirs: Sequence[str | os.PathLike[str]], split: str, output: str | os.PathLike[str]
) -> tuple[pathlib.Path, str]:
    """Writes the page, `NAME.csv` beside it, and the figures as PNG into `NAME_figures`.

    Args:
        workdirs: of runs that were evaluated on `split`.
        split: the split.
        output: the page, e.g. compare.html.

    Returns:
        The path of the page, and the table of runs as Markdown.

    Raises:
        ConfigError: no workdir, or one twice.
        RsjaxError: a workdir has no evaluation of the split, or it is damaged.
    """
    found = runs.read(workdirs, split)
    together = compare_table.grouped(found)
    warnings = runs.mismatches(found)
    path = pathlib.Path(output)
    folder = path.with_name(f"{path.stem}_figures")
    names = compare_table.figure_names(found)
    simulated = any(run.about["evaluated_on"]["simulated"] for run in found)
    title = f"{len(found)} run{'s' * (len(found) > 1)} on {split}"
    sections = [
        f'<div class="banner">{SIMULATED}</div>' if simulated else "",
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="bad"><b>{escape(text)}</b></p>' for text in warnings),
        compare_table.html(found, together, names),
        _configs(found),
        _headline(found, together, folder, warnings),
        _classes(found, together, folder, warnings),
        _curves(found, together, folder),
    ]
    sealed.replace(path, page.document(title, sections).encode())
    sealed.replace(path.with_suffix(".csv"), compare_table.comma_separated(found, names).encode())
    return path, compare_table.markdown(found, together, names, split, warnings)


def _configs(found: Sequence[Run]) -> str:
    differing = recipes.differences([run.config for run in found])
    title = "<h2>What differs in the configs</h2>\n"
    if not differing:
        return f"{title}<p>Nothing but where the runs took place.</p>"
    rows = [
        (
            f'<code style="white-space:nowrap">{escape(key)}</code>',
            *(escape(_short(value)) for value in values),
        )
        for key, values in differing.items()
    ]
    head = ("field", *(escape(run.label) for run in found))
    table = page.table(head, rows, text=range(1, len(head)), label="differences")
    return f"{title}{table}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return textwrap.shorten(text, 120, placeholder=" …") or "''"


def _headline(
    found: Sequence[Run],
    together: Sequence[Group],
    folder: pathlib.Path,
    warnings: Sequence[str],
) -> str:
    name = found[0].headline
    if warnings or any(run.headline != name for run in found):
        return ""
    order = [(number, i) for number, group in enumerate(together) for i in group.members]
    values = []
    for _, i in order:
        ends = found[i].intervals.get(name)
        pair = (float(ends[0]), float(ends[1])) if ends else None
        values.append((found[i].label, float(found[i].scalars.get(name, math.nan)), pair))
    figure = draw.headline(name, values, [number for number, _ in order])
    caption = "One row a run; runs of one recipe have the same marker."
    if any(pair for _, _, pair in values):
        caption += " Lines: the intervals of the evaluations."
    return "<h2>The figure that chose the models</h2>\n" + drawing.put(
        folder, "headline", figure, f"{name} of each run", caption
    )


def _shown(found: Sequence[Run], together: Sequence[Group]) -> tuple[list[Group], str]:
    """The recipes that a figure can tell apart, and a sentence about the others."""
    if len(together) <= draw.MOST:
        return list(together), ""

    def rank(group: Group) -> float:
        mean, _ = recipes.mean_and_deviation(
            compare_table.values_of(found, group.members, found[0].headline)
        )
        return -mean if math.isfinite(mean) else math.inf

    best = sorted(together, key=rank)[: draw.MOST]
    shown = [group for group in together if group in best]
    return shown, f" Of {len(together)} recipes the {draw.MOST} with the best headline are drawn."


def _classes(
    found: Sequence[Run],
    together: Sequence[Group],
    folder: pathlib.Path,
    warnings: Sequence[str],
) -> str:
    title = "<h2>Class by class</h2>\n"
    if warnings:
        return f"{title}<p>Not drawn: {escape(warnings[0])}</p>"
    name = runs.figure_of_classes(found)
    names = next((run.classes for run in found if run.classes), None)
    if not name:
        return f"{title}<p>Not drawn: the runs have no figure of each class in common.</p>"
    count = len(found[0].per_class[name])
    names = names or tuple(f"class {i}" for i in range(count))
    shown, note = _shown(found, together)
    values = {
        group.label: np.array([found[i].per_class[name] for i in group.members], float)
        for group in shown
    }
    figure = draw.classes(name, names, values, found[0].per_class.get("support"))
    caption = f"Markers: {name.replace('_', ' ')}, one marker a recipe."
    if any(len(group.members) > 1 for group in shown):
        caption += " Over seeds the mean; lines from the lowest to the highest."
    head = ("class", *(escape(group.label) for group in shown))
    rows = [
        (escape(label), *(recipes.spread(table[:, c].tolist()) for table in values.values()))
        for c, label in enumerate(names)
    ]
    table = page.table(head, rows, label=f"{name} of each class")
    return (
        title
        + drawing.put(folder, "classes", figure, f"{name} of each class", caption + note)
        + f"\n<details><summary>The same as a table</summary>{table}</details>"
    )


def _curves(found: Sequence[Run], together: Sequence[Group], folder: pathlib.Path) -> str:
    title = "<h2>Training</h2>\n"
    shown, note = _shown(found, together)
    rows = {group.label: [found[i].rows for i in group.members] for group in shown}
    headlines = list(dict.fromkeys(run.headline for run in found))
    figure = draw.curves(rows, headlines[0])
    if figure is None:
        return f"{title}<p>No metrics.jsonl lies in these workdirs.</p>"
    caption = "One line a run; one style of line a recipe."
    if len(headlines) > 1:
        caption += f" Of the figures that chose the models only {headlines[0]} is drawn."
    without = [run.label for run in found if not run.rows]
    caption += f" Without metrics.jsonl: {', '.join(without)}." if without else ""
    return title + drawing.put(folder, "curves", figure, "curves of training", caption + note)
