"""The table of runs: as HTML, as Markdown and as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import math
from collections.abc import Sequence
from html import escape

from rsjax.training import page, recipes
from rsjax.training.runs import Run

HEAD = ("run", "name", "model", "parameters", "evaluated on", "seed")
COUNTS = ("_counted", "_in_reference")  # ends of names of figures that are whole numbers


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one recipe: they differ in their seed only.

    Attributes:
        label: names it among the others.
        members: positions of its runs.
        said: e.g. '3 seeds'.
    """

    label: str
    members: list[int]
    said: str


def grouped(found: Sequence[Run]) -> list[Group]:
    """Runs by recipe, in the order of their first run."""
    groups = []
    for members in recipes.groups([run.recipe for run in found]):
        labels = [found[i].label for i in members]
        seeds = {found[i].config["seed"] for i in members}
        said = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
        if len(seeds) < len(members):
            said = f"{len(members)} runs of {said}"
        label = labels[0] if len(members) == 1 else f"{_together(labels)} ({said})"
        groups.append(Group(label, members, said))
    return groups


def _together(labels: Sequence[str]) -> str:
    """One name for several: 'run_{0, 1, 2}', or the first one and how many more."""
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*labels, strict=False))
    start = "".join(letters[0] for letters in same)
    joined = f"{start}{{{', '.join(label[len(start) :] for label in labels)}}}"
    if len(start) > 3 and len(joined) < 50:
        return joined
    return f"{labels[0]} and {len(labels) - 1} more"


def figure_names(found: Sequence[Run]) -> list[str]:
    """Names of all figures: the headlines first, counts last."""
    every = dict.fromkeys([run.headline for run in found])
    every |= dict.fromkeys(name for run in found for name in run.scalars)
    return sorted(every, key=lambda name: name.endswith(COUNTS))


def _facts(run: Run) -> list[str]:
    about = run.about["evaluated_on"]
    data = f"{about['title']} {about['version']}" + (" (SIMULATED)" * bool(about["simulated"]))
    count = recipes.MISSING if run.parameters is None else f"{run.parameters:,}"
    return [run.name, str(run.about["model"]["name"]), count, data, str(run.config["seed"])]


def values_of(found: Sequence[Run], members: Sequence[int], name: str) -> list[float | None]:
    """A figure of some of the runs; None where a run does not have it."""
    return [found[i].scalars.get(name) for i in members]


def _spread(found: Sequence[Run], members: Sequence[int], name: str) -> str:
    values = values_of(found, members, name)
    if name.endswith(COUNTS) and None not in values and len(set(values)) == 1:
        return f"{values[0]:.0f}"
    return recipes.spread(values)


def _interval(run: Run, name: str) -> tuple[float, float] | None:
    """The interval of a figure, if it has one; counts have none that says anything."""
    low, high = run.intervals.get(name) or (math.nan, math.nan)
    known = not name.endswith(COUNTS) and math.isfinite(low) and math.isfinite(high)
    return (low, high) if known else None


def html(found: Sequence[Run], together: Sequence[Group], names: Sequence[str]) -> str:
    """The section of the page: one row a run, and one for the seeds of each recipe."""

    def cell(run: Run, name: str) -> str:
        if name not in run.scalars:
            return recipes.MISSING
        text = page.number(float(run.scalars[name]), name.endswith(COUNTS))
        if ends := _interval(run, name):
            text += f'<br><span class="soft">[{ends[0]:.4f},\u00a0{ends[1]:.4f}]</span>'
        return text

    rows = []
    for group in together:
        for i in group.members:
            facts = [escape(text) for text in (found[i].label, *_facts(found[i]))]
            rows.append((*facts, *(cell(found[i], name) for name in names)))
        if len(group.members) > 1:
            first = f"mean ± standard deviation over {group.said}"
            first = f'<b style="display:inline-block;text-indent:0;min-width:170px">{first}</b>'
            # Non-breaking spaces: a mean and its deviation stay on one line.
            spread = (_spread(found, group.members, name).replace(" ", "\u00a0") for name in names)
            values = (f"<b>{text}</b>" for text in spread)
            rows.append((first, *("" for _ in HEAD[1:]), *values))
    head = (*HEAD, *(escape(name.replace("_", " ")) for name in names))
    note = (
        "In brackets: the interval of the evaluation, over resampled sets of its samples. The "
        "standard deviation is that of the sample (n - 1), over runs that differ in their seed "
        "only."
    )
    return (
        "<h2>Figures</h2>\n"
        + page.table(head, rows, text=(1,), label="runs")
        + f'\n<p class="soft">{note}</p>'
    )


def markdown(
    found: Sequence[Run],
    together: Sequence[Group],
    names: Sequence[str],
    split: str,
    warnings: Sequence[str],
) -> str:
    """The table of runs, to be pasted."""
    columns = [n for n in names if not n.endswith(("_in_reference", "classes_counted"))]
    head = [*HEAD, *(name.replace("_", " ") for name in columns)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for group in together:
        for i in group.members:
            run = found[i]
            cells = [run.label, *_facts(run)]
            cells += [_plain(run, name) for name in columns]
            lines.append(_row(cells))
        if len(group.members) > 1:
            values = [_spread(found, group.members, name) for name in columns]
            first = f"mean ± standard deviation over {group.said}"
            lines.append(_row([first, *("" for _ in HEAD[1:]), *values]))
    return "\n".join([f"Split {split}.", "", *lines, *(f"\n{text}" for text in warnings)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(run: Run, name: str) -> str:
    value = run.scalars.get(name, math.nan)
    if math.isnan(value):
        return recipes.MISSING
    text = f"{value:.0f}" if name.endswith("_counted") else f"{value:.4f}"
    ends = _interval(run, name)
    return f"{text} [{ends[0]:.4f}, {ends[1]:.4f}]" if ends else text


def comma_separated(found: Sequence[Run], names: Sequence[str]) -> str:
    """One row a run: facts, every figure and the ends of its interval, in full precision."""
    bounded = [name for name in names if any(_interval(run, name) for run in found)]
    ends = [f"{name}_{end}" for name in bounded for end in ("low", "high")]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*HEAD, "step", "fingerprint", *names, *ends])
    for run in found:
        parameters = "" if run.parameters is None else run.parameters
        name, model, _, data, seed = _facts(run)
        facts = [
            run.label,
            name,
            model,
            parameters,
            data,
            seed,
            run.about.get("step", ""),
            run.data,
        ]
        values = [repr(float(run.scalars[n])) if n in run.scalars else "" for n in names]
        pairs = [_interval(run, name) or ("", "") for name in bounded]
        writer.writerow([*facts, *values, *(end for pair in pairs for end in pair)])
    return file.getvalue()
