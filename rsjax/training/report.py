"""The report of an evaluation: one self-contained page, made from what lies on disk alone.

It reads `metrics.jsonl`, `eval/<split>.json` and `.npz`, and pictures from the shards, so it can
be written again at any time. `figures` and its like draw, `page` is the HTML, `classes_page` and
its like are sections; here is their order.
"""

from __future__ import annotations

import math
import pathlib
from html import escape
from typing import Any

from rsjax import sealed
from rsjax.errors import ShardError
from rsjax.input import manifest as manifests
from rsjax.input.manifest import Manifest
from rsjax.landcover import Nomenclature
from rsjax.training import (
    classes_page,
    figures,
    held_out,
    logging,
    maps_page,
    numbers_page,
    page,
    reproduce,
    samples_page,
)
from rsjax.training.evaluate import Results, load

SIMULATED = "SIMULATED imagery: these figures say nothing about real scenes"


def write(
    workdir: pathlib.Path, split: str, shards: pathlib.Path, file: str = "report.html"
) -> pathlib.Path:
    """Writes the page into `workdir`, and its figures as PNG in `workdir/figures`.

    Args:
        workdir: has `eval/<split>.json` and `.npz`, and `metrics.jsonl` if it was trained here.
        split: name of the evaluation: the split, and how it was special.
        shards: folder of the shards that it was evaluated on.
        file: name of the page.

    Returns:
        The path of the page.

    Raises:
        ShardError: the shards are not those that the figures were computed on.
    """
    results, about = load(workdir / "eval", split)
    made = manifests.load(shards)
    expected = about["evaluated_on"]["fingerprint"]
    if expected != made.fingerprint():
        raise ShardError(
            f"{shards}: the shards have the fingerprint {made.fingerprint()}, but "
            f"{workdir / 'eval' / split}.json was computed on {expected}. Give those shards, or "
            "evaluate again with --config.mode=eval"
        )
    rows = logging.read(workdir)
    name = about["config"]["name"] or workdir.name
    # Of the task; older evaluations do not say, and have the classes of the label.
    told = about.get("nomenclature")
    classes = Nomenclature.from_json(told) if told else made.nomenclature
    gallery = maps_page if about["task"]["name"] == "segmentation" else samples_page
    sections = [
        title(name, split, results, about, made),
        numbers_page.scalars(results, about),
        _curves(workdir, rows, about),
        classes_page.section(workdir, split, results, about, classes),
        numbers_page.reliability(workdir, split, results, about),
        numbers_page.groups(workdir, split, results, about),
        gallery.section(workdir, shards, split, results, about, classes),
        reproduce.section(about.get("split", split), rows, about, made),
    ]
    path = workdir / file
    sealed.replace(path, page.document(f"{name}: {split}", sections).encode())
    return path


def title(name: str, split: str, results: Results, about: dict[str, Any], made: Manifest) -> str:
    """The head of the page: the run, what it was evaluated on, and its headline figure."""
    headline, scalars = about["headline"], results.scalars
    banner = f'<div class="banner">{SIMULATED}</div>' if made.simulated else ""
    if about["trained_on"]["simulated"] and not made.simulated:
        banner = '<div class="banner">The model was trained on SIMULATED imagery</div>'
    low, high = results.intervals.get(headline, (math.nan, math.nan))
    spread = f" [{low:.3f}, {high:.3f}]" if math.isfinite(low) and math.isfinite(high) else ""
    big = [
        (scalars[headline], f"{headline} on {split}{spread}"),
        (scalars[f"{headline}_of_class_frequencies"], "by always predicting the class frequencies"),
    ]
    chosen = about.get("validation", {}).get(headline)
    if chosen is not None:
        big.append(
            (chosen, f"on the validation split at step {about['step']}, the best of the run")
        )
    how = about.get("evaluation", {})
    told = f", mean of {how['models']} models" if how.get("models", 1) > 1 else ""
    told += ", mean over the symmetries of the square" if how.get("tta") == "d4" else ""
    note = held_out.said(how.get("seen", []), about.get("split", split))
    note = f'\n<p class="bad">{escape(note)}</p>' if note else ""
    boxes = "".join(f"<div><b>{page.number(v)}</b>{escape(text)}</div>" for v, text in big)
    return (
        f'{banner}<h1>{escape(name)}</h1>\n<p class="soft">{escape(made.info.title)} '
        f"{escape(made.info.version)}, split {escape(about.get('split', split))}, "
        f"{len(results.samples['loss']):,} samples; model {escape(about['model']['name'])}, task "
        f"{escape(about['task']['name'])}{told}</p>{note}\n"
        f'<div class="big">{boxes}</div>'
    )


def _curves(workdir: pathlib.Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    headline = about["headline"]
    chosen = about.get("validation", {}).get(headline)
    matches = (  # the rows may be of another run than the bundle
        row["step"] == about["step"] and row.get(f"validation/{headline}") == chosen for row in rows
    )
    best = (about["step"], chosen) if chosen is not None and any(matches) else None
    figure = figures.curves(rows, headline, best)
    if figure is None:
        return ""
    caption = f"The model is that of step {about['step']}"
    caption += (
        ", marked by a star; all other figures on this page are of it."
        if best
        else "; no validation figure chose it."
        if chosen is None
        else f", of another run than these curves (validation {headline} {chosen:.4f})."
    )
    alt = f"loss, {headline}, learning rate and speed over the steps of training"
    data = figures.save(workdir, "curves", figure)
    return "<h2>Training</h2>\n" + page.figure(data, alt, caption)
