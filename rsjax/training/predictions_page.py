"""The page of a model's predictions: records by their score, and a filter of classes and mistakes.

Rows and cards are those of the report. The filter is CSS alone (`:has`), so that the page has no
script; a browser without it (before 2023) shows every record.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from rsjax import tasks
from rsjax.errors import ShardError
from rsjax.input.manifest import Manifest
from rsjax.input.source import ShardSource
from rsjax.landcover import Nomenclature
from rsjax.training import figures, maps, maps_page, page, samples_page, sheets
from rsjax.training.evaluate import Results
from rsjax.training.maps import Compared

ENOUGH = 0.5  # share of the pixels, or IoU of a class, from which a map counts as right
STATES = ("right", "wrong")
PER_SHEET = {"maps": 6, "cards": 12}  # records of a PNG
CSS = """
.filter { display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: center; margin: 12px 0;
  padding: 10px 14px; border: 1px solid var(--line); border-radius: 4px; background: #f5f6f7 }
.filter label { margin-right: 12px } .filter select { font: inherit; max-width: 100% }
.found { display: flex; flex-direction: column; counter-reset: shown }
.found .record { counter-increment: shown }
.found .count { order: -1; margin: 0 0 14px; font-size: 13px; color: var(--soft) }
.found .count::before { content: counter(shown) }
"""


def section(
    folder: pathlib.Path,
    name: str,
    picked: str,
    made: Manifest,
    split: str,
    results: Results,
    about: Mapping[str, Any],
    chosen: np.ndarray,
    classes: Nomenclature,
) -> str:
    """The chosen records, the worst first; also as PNGs `figures/NAME_1.png`, ... in `folder`.

    Args:
        folder: of the page.
        name: of the page and of the PNGs.
        picked: which records these are, in words.
        made: the shards.
        split: the split, or several joined by '+'.
        results: of the evaluation; of a segmentation with the maps of `chosen`, in its order.
        about: what the evaluation says of itself.
        chosen: (M,) positions among the samples.
        classes: of the task.

    Raises:
        ShardError: maps of another size than the predicted ones, or of no record.
    """
    if not len(chosen):
        raise ShardError(f"{made.root}: split '{split}' has no record with a label or a map")
    samples = results.samples
    segmentation = about["task"]["name"] == "segmentation"
    drawing = figures.steps if segmentation else figures.pictures
    drawn, ids, said = drawing(made.root, split, samples["index"][chosen])
    facts = _facts(made, split, samples["index"][chosen])
    draw = _maps if segmentation else _cards
    records, scopes, legend, pages = draw(
        made, split, results, about, chosen, classes, drawn, ids, facts
    )
    saved = set()
    for number, sheet in enumerate(pages(f"{picked.capitalize()} ({split})"), 1):
        figures.save(folder, f"{name}_{number}", sheet, dpi=200 if segmentation else 150)
        saved.add(f"{name}_{number}.png")
    for path in (folder / "figures").iterdir():  # sheets of this page when it had more records
        if re.fullmatch(rf"{re.escape(name)}_\d+\.png", path.name) and path.name not in saved:
            path.unlink()
    score = "mIoU" if segmentation else "loss"
    rule = (
        f"Right: {ENOUGH:.0%} or more of the pixels with a reference are right; once a class is "
        f"chosen: its intersection over union in the record is {ENOUGH:g} or more. Confidence: the "
        "probability of the predicted class, from 0 (black) to 1 (white)."
        if segmentation
        else "Right: every label of the record is; once a class is chosen: that label is."
        if about["task"]["name"] == "multilabel"
        else "Right: the predicted class is that of the reference."
    )
    whole = f"{len(samples['loss']):,} records of {escape(split)}"
    box = "" if segmentation else ' class="cards"'
    return "\n".join(
        [
            f"<style>{CSS}{_rules(scopes)}</style>",
            f"<h2>{len(chosen)} of {whole}: {picked}</h2>",
            f'<p class="soft">Sorted by {score}, the worst first. {rule} A class is chosen where '
            f"it is in the reference or predicted. {escape(said)}</p>",
            legend,
            f'<div class="predictions">{_filter(scopes, classes)}',
            f'<div class="found"><div{box}>',
            *records,
            f'</div><p class="count"> of {len(chosen)} records shown</p></div></div>',
        ]
    )


def _facts(made: Manifest, split: str, records: np.ndarray) -> list[str]:
    """The metadata columns of each record, in one line; empty where the shards have none."""
    source = ShardSource(made.root, split, columns=[])
    columns = [[f"{name} {v}" for v in source.texts(records, name)] for name in made.info.metadata]
    return ["; ".join(row) for row in zip(*columns, strict=True)] or [""] * len(records)


def _marks(right: bool, of_classes: Mapping[int, bool]) -> str:
    """CSS classes of a record: what it is as a whole, and for each class that occurs in it."""
    found = {"any": right, **{f"c{k}": yes for k, yes in of_classes.items()}}
    return " ".join(["record", *(f"{scope}-{STATES[not yes]}" for scope, yes in found.items())])


Drawn = tuple[list[str], list[int], str, Any]  # HTML, classes that occur, legend, PNG sheets


def _maps(
    made: Manifest, split: str, results: Results, about: Mapping[str, Any], chosen: np.ndarray,
    classes: Nomenclature, images: Sequence[Any], ids: Sequence[str], facts: Sequence[str],
) -> Drawn:  # fmt: skip
    samples = results.samples
    every = maps.miou(samples)
    masks = maps.references(
        made.root, split, samples["index"][chosen], about["task"].get("nomenclature", "")
    )
    if masks.shape[1:] != samples["maps"].shape[1:]:
        raise ShardError(
            f"{made.root}: reference maps of {masks.shape[1:]} pixels, but predicted ones of "
            f"{samples['maps'].shape[1:]}: the model was trained with another data.grid_px"
        )
    shown = [
        Compared(mask, predicted, confidence, float(every[record]))
        for mask, predicted, confidence, record in zip(
            masks, samples["maps"], samples["confidence"], chosen, strict=True
        )
    ]
    rank = {int(record): i + 1 for i, record in enumerate(np.argsort(every, kind="stable"))}
    known = int(np.isfinite(every).sum())
    lines = [
        [*maps_page.caption(one, rank[int(record)], known, classes), *filter(None, [fact])]
        for one, record, fact in zip(shown, chosen, facts, strict=True)
    ]
    agreeing = [_agreeing(one) for one in shown]
    columns = (*maps_page.step_names(len(images[0])), *maps_page.COLUMNS)
    rows = [
        maps_page.row(
            series, sample, one, said, classes, columns, _marks(one.accuracy >= ENOUGH, right)
        )
        for series, sample, one, said, right in zip(
            images, ids, shown, lines, agreeing, strict=True
        )
    ]

    def pages(title: str) -> Iterable[Any]:
        for part in _parts(len(shown), PER_SHEET["maps"]):
            yield sheets.maps(
                title, images[part], ids[part], shown[part], lines[part], classes, columns
            )

    return (
        rows,
        sorted({k for one in agreeing for k in one}),
        maps_page.legend(shown, classes),
        (pages),
    )


def _agreeing(one: Compared) -> dict[int, bool]:
    """For each class of a record whether its IoU is at least `ENOUGH`."""
    there = one.counted
    found = {}
    for k, _, _ in maps.occurring(one):
        reference, predicted = (one.reference == k)[there], (one.predicted == k)[there]
        found[k] = bool((reference & predicted).sum() >= ENOUGH * (reference | predicted).sum())
    return found


def _cards(
    made: Manifest, split: str, results: Results, about: Mapping[str, Any], chosen: np.ndarray,
    classes: Nomenclature, files: Sequence[Any], ids: Sequence[str], facts: Sequence[str],
) -> Drawn:  # fmt: skip
    samples = results.samples
    task = tasks.make(about["task"]["name"], {**about["task"], "class_weights": "none"},
                      len(classes))  # fmt: skip
    probabilities = samples["probabilities"][chosen]
    reference = samples_page.truth(samples["labels"][chosen], len(classes))
    predicted = task.decide(probabilities)
    said = [
        samples_page.lines(classes, *row)
        for row in zip(probabilities, reference, predicted, strict=True)
    ]
    loss = [float(value) for value in samples["loss"][chosen]]
    right = [
        {k: bool(one[k] == other[k]) for k in np.flatnonzero(one | other).tolist()}
        for one, other in zip(reference, predicted, strict=True)
    ]
    cards = [
        samples_page.card(
            file, sample, f"loss {page.number(value)}{f'<br>{escape(fact)}' if fact else ''}",
            lines, classes, _marks(all(agreeing.values()), agreeing),
        )
        for file, sample, value, fact, lines, agreeing in zip(
            files, ids, loss, facts, said, right, strict=True
        )
    ]  # fmt: skip

    def pages(title: str) -> Iterable[Any]:
        for part in _parts(len(cards), PER_SHEET["cards"]):
            pixels = [figures.pixels(file) for file in files[part]]
            texts = [
                samples_page.words(sample, "\n".join(filter(None, (f"loss {value:.4f}", fact))), of)
                for sample, value, fact, of in zip(
                    ids[part], loss[part], facts[part], said[part], strict=True
                )
            ]
            yield sheets.cards(title, pixels, texts)

    there = sorted({k for one in right for k in one})
    entries = (f"<li>{page.chip(classes.colours[k])}{escape(classes.names[k])}</li>" for k in there)
    legend = f'<ul class="legend">{"".join(entries)}</ul><p class="soft">{samples_page.KEY}</p>'
    return cards, there, legend, pages


def _parts(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _rules(scopes: Sequence[int]) -> str:
    """CSS that hides the records that the filter leaves out."""
    lines = []
    for scope in ("any", *(f"c{k}" for k in scopes)):
        head = f'.predictions:has(option[value="{scope}"]:checked)'
        other = ", ".join(f".{scope}-{state}" for state in STATES)
        lines.append(f"{head} .record:not({other}) {{ display: none }}")
        lines += [
            f'{head}:has(input[value="{state}"]:checked) .record:not(.{scope}-{state}) '
            "{ display: none }"
            for state in STATES
        ]
    return "\n".join(lines) + "\n"


def _filter(scopes: Sequence[int], classes: Nomenclature) -> str:
    choices = "".join(
        f'<label><input type="radio" name="state" value="{value}"{checked}> {value}</label>'
        for value, checked in (("all", " checked"), *((state, "") for state in STATES))
    )
    options = "".join(
        f'<option value="c{k}">{escape(classes.names[k])}</option>' for k in scopes
    )  # autocomplete: a page that is opened again shows everything
    return (
        f'<form class="filter" autocomplete="off"><span>{choices}</span><label>class '
        f'<select><option value="any" selected>every class</option>{options}</select></label>'
        "</form>"
    )
