"""The report's gallery of scenes: cards of a picture with the labels that are true or predicted."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from rsjax import tasks
from rsjax.landcover import Nomenclature
from rsjax.training import figures, page, sheets
from rsjax.training.evaluate import Results

SHOWN = 12  # samples in each group of pictures
TITLES = {
    "worst": "Worst: the largest loss",
    "typical": "Typical: the loss nearest the median",
    "best": "Best: the smallest loss",
    "random": "Drawn at random",
}
COLOURS = {"good": "#1a7a3c", "bad": "#b3261e", "soft": "#5c656e"}  # as in the page


def choose(loss: np.ndarray) -> dict[str, np.ndarray]:
    """Records of each group, by their loss (N,); a loss that is no number is the worst."""
    order = np.argsort(-loss, kind="stable")  # NaN comes last there
    order = np.roll(order, np.isnan(loss).sum())
    known = np.flatnonzero(np.isfinite(loss))
    away = np.abs(loss[known] - np.median(loss[known])) if len(known) else known
    drawn = np.random.default_rng(0).choice(len(loss), min(SHOWN, len(loss)), replace=False)
    return {
        "worst": order[:SHOWN],
        "typical": known[np.argsort(away, kind="stable")][:SHOWN],
        "best": order[::-1][:SHOWN],
        "random": np.sort(drawn),
    }


def section(
    workdir: pathlib.Path,
    shards: pathlib.Path,
    split: str,
    results: Results,
    about: Mapping[str, Any],
    classes: Nomenclature,
) -> str:
    """The section of the report; each group is also one PNG in `workdir/figures`."""
    samples = results.samples
    task = tasks.make(about["task"]["name"], {**about["task"], "class_weights": "none"},
                      len(classes))  # fmt: skip
    groups = choose(samples["loss"])
    chosen, where = np.unique(np.concatenate(list(groups.values())), return_inverse=True)
    files, ids, said = figures.pictures(shards, about.get("split", split), samples["index"][chosen])
    labels, probabilities = samples["labels"][chosen], samples["probabilities"][chosen]
    reference = labels > 0 if labels.ndim == 2 else np.arange(len(classes)) == labels[:, None]
    predicted = task.decide(probabilities)

    def lines(i: int) -> list[tuple[str, str]]:
        found = [
            _line(classes.names[k], float(probabilities[i, k]), reference[i, k], predicted[i, k])
            for k in np.argsort(-probabilities[i], kind="stable")
            if reference[i, k] or predicted[i, k]
        ]
        return found if predicted[i].any() else [*found, ("soft", "nothing predicted")]

    def card(i: int) -> str:
        media, data, width = files[i]
        items = "".join(f'<li class="{kind}">{escape(text)}</li>' for kind, text in lines(i))
        attributes = ' class="px"' if width < 136 else ""
        alt = f"colour picture of {ids[i]}"
        return (
            f'<figure class="card">{page.image(data, media, alt, attributes)}<figcaption>'
            f"<code>{escape(ids[i])}</code><br>"
            f'<span class="soft">loss {page.number(float(samples["loss"][chosen[i]]))}</span>'
            f"<ul>{items}</ul></figcaption></figure>"
        )

    def words(i: int) -> list[tuple[str, str]]:
        loss = f"loss {samples['loss'][chosen[i]]:.4f}"
        shown = [("black", ids[i]), (COLOURS["soft"], loss)]
        return shown + [(COLOURS[kind], text) for kind, text in lines(i)]

    parts, start = [], 0
    for name, members in groups.items():
        at = [int(i) for i in where[start : start + len(members)]]
        start += len(members)
        cards = "\n".join(card(i) for i in at)
        parts.append(f'<h3>{TITLES[name]}</h3>\n<div class="cards">\n{cards}\n</div>')
        pixels = [figures.pixels(files[i]) for i in at]
        sheet = sheets.cards(f"{TITLES[name]} ({split})", pixels, [words(i) for i in at])
        figures.save(workdir, f"{split}_samples_{name}", sheet, dpi=150)
    legend = (
        '<p class="soft"><span class="good">✓ predicted, and in the reference</span>; '
        '<span class="bad">✗ predicted, not in the reference</span>; '
        '<span class="bad">○ in the reference, not predicted</span>; with the probability. '
        f"{escape(said)}</p>"
    )
    return "\n".join(["<h2>Samples</h2>", legend, *parts])


def _line(name: str, probability: float, reference: bool, predicted: bool) -> tuple[str, str]:
    kind = "good" if reference and predicted else "bad"
    mark = "✓" if reference and predicted else "✗" if predicted else "○"
    return kind, f"{mark} {name} {probability:.2f}"
