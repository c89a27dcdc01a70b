"""The report's gallery of scenes: cards of a picture with the labels that are true or predicted."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
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
KEY = (
    '<span class="good">✓ predicted, and in the reference</span>; '
    '<span class="bad">✗ predicted, not in the reference</span>; '
    '<span class="bad">○ in the reference, not predicted</span>; with the probability.'
)
Line = tuple[str, str, int | None]  # good, bad or soft; text; class
COLOURS = {"good": "#1a7a3c", "bad": "#b3261e", "soft": "#5c656e"}  # as in the page


def choose(loss: np.ndarray, count: int = SHOWN) -> dict[str, np.ndarray]:
    """Records of each group, by their loss (N,); a loss that is no number is the worst."""
    order = np.argsort(-loss, kind="stable")  # NaN comes last there
    order = np.roll(order, np.isnan(loss).sum())
    known = np.flatnonzero(np.isfinite(loss))
    away = np.abs(loss[known] - np.median(loss[known])) if len(known) else known
    drawn = np.random.default_rng(0).choice(len(loss), min(count, len(loss)), replace=False)
    return {
        "worst": order[:count],
        "typical": known[np.argsort(away, kind="stable")][:count],
        "best": order[::-1][:count],
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
    reference = truth(labels, len(classes))
    predicted = task.decide(probabilities)
    said_of = [
        lines(classes, probabilities[i], reference[i], predicted[i]) for i in range(len(chosen))
    ]
    losses = [float(samples["loss"][i]) for i in chosen]

    parts, start = [], 0
    for name, members in groups.items():
        at = [int(i) for i in where[start : start + len(members)]]
        start += len(members)
        cards = "\n".join(
            card(files[i], ids[i], f"loss {page.number(losses[i])}", said_of[i], classes)
            for i in at
        )
        parts.append(f'<h3>{TITLES[name]}</h3>\n<div class="cards">\n{cards}\n</div>')
        pixels = [figures.pixels(files[i]) for i in at]
        texts = [words(ids[i], f"loss {losses[i]:.4f}", said_of[i]) for i in at]
        sheet = sheets.cards(f"{TITLES[name]} ({split})", pixels, texts)
        figures.save(workdir, f"{split}_samples_{name}", sheet, dpi=150)
    return "\n".join(["<h2>Samples</h2>", f'<p class="soft">{KEY} {escape(said)}</p>', *parts])


def truth(labels: np.ndarray, count: int) -> np.ndarray:
    """Which of `count` classes apply (N, K) bool, from class indices (N,) or labels (N, K)."""
    return labels > 0 if labels.ndim == 2 else np.arange(count) == labels[:, None]


def lines(
    classes: Nomenclature, probabilities: np.ndarray, reference: np.ndarray, predicted: np.ndarray
) -> list[Line]:
    """The labels that are true or predicted, most probable first; all arrays are (K,)."""
    found: list[Line] = []
    for k in np.argsort(-probabilities, kind="stable").tolist():
        if reference[k] or predicted[k]:
            kind = "good" if reference[k] and predicted[k] else "bad"
            mark = "✓" if kind == "good" else "✗" if predicted[k] else "○"
            found.append((kind, f"{mark} {classes.names[k]} {probabilities[k]:.2f}", k))
    return found if predicted.any() else [*found, ("soft", "nothing predicted", None)]


def card(
    file: tuple[str, bytes, int],
    sample: str,
    facts: str,
    said: Sequence[Line],
    classes: Nomenclature,
    marks: str = "",
) -> str:
    """A picture and what is said of it.

    Args:
        file: of `figures.pictures`.
        sample: its id.
        facts: HTML of the lines below the id.
        said: of `lines`.
        classes: whose colours stand before the labels.
        marks: further CSS classes.
    """
    media, data, width = file
    items = "".join(
        f'<li class="{kind}">{"" if k is None else page.chip(classes.colours[k])}'
        f"{escape(text)}</li>"
        for kind, text, k in said
    )
    picture = page.image(data, media, f"colour picture of {sample}",
                         ' class="px"' if width < 136 else "")  # fmt: skip
    return (
        f'<figure class="{f"card {marks}".strip()}">{picture}<figcaption>'
        f"<code>{escape(sample)}</code><br>"
        f'<span class="soft">{facts}</span><ul>{items}</ul></figcaption></figure>'
    )


def words(sample: str, facts: str, said: Sequence[Line]) -> list[tuple[str, str]]:
    """The same for `sheets.cards`: (colour, text) of each line."""
    head = [("black", sample), *((COLOURS["soft"], line) for line in facts.split("\n"))]
    return head + [(COLOURS[kind], text) for kind, text, _ in said]
