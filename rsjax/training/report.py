"""The report of an evaluation: one self-contained page, made from what lies on disk alone.

It reads `metrics.jsonl`, `eval/<split>.json` and `.npz`, and pictures from the shards, so it can
be written again at any time. `figures` draws, `page` is the HTML; here is what is said, in reading
order.
"""

from __future__ import annotations

import pathlib
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rsjax import sealed, tasks
from rsjax.errors import ShardError
from rsjax.input import manifest as manifests
from rsjax.input.manifest import Manifest
from rsjax.landcover import Nomenclature
from rsjax.training import figures, logging, page, reproduce
from rsjax.training.evaluate import Results, load

SHOWN = 12  # samples in each group of pictures
SIMULATED = "SIMULATED imagery: these figures say nothing about real scenes"
MEANINGS = {  # of the figures' names, or of their endings
    "loss": "mean over the samples",
    "overall_accuracy": "share of the samples whose class is right",
    "average_accuracy": "mean recall over the classes in the reference",
    "kappa": "Cohen's kappa, agreement beyond chance",
    "mAP_macro": "average precision, mean over the labels that have positives",
    "mAP_micro": "average precision of all pairs (sample, label) ranked together",
    "subset_accuracy": "share of the samples with every label right",
    "hamming_loss": "share of the pairs (sample, label) that are wrong",
    "classes_counted": "classes in the macro means",
    "classes_in_reference": "classes with at least one sample",
    "samples_counted": "samples evaluated",
    "_of_class_frequencies": "by always predicting the class frequencies of this split",
    "_macro": "mean over the classes, each with the same weight",
    "_micro": "all pairs (sample, label) counted together",
}
COLUMNS = ("support", "prevalence", "average_precision", "precision", "recall", "f1", "iou")


def write(
    workdir: pathlib.Path, split: str, shards: pathlib.Path, file: str = "report.html"
) -> pathlib.Path:
    """Writes the page into `workdir`, and its figures as PNG in `workdir/figures`.

    Args:
        workdir: has `eval/<split>.json` and `.npz`, and `metrics.jsonl` if it was trained here.
        split: the split that was evaluated.
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
    sections = [
        _title(name, split, results, about, made),
        _scalars(results),
        _curves(workdir, rows, about),
        _per_class(workdir, split, results, made.nomenclature),
        _samples(shards, split, results, about, made.nomenclature),
        reproduce.section(split, rows, about, made),
    ]
    path = workdir / file
    sealed.replace(path, page.document(f"{name}: {split}", sections).encode())
    return path


def _title(name: str, split: str, results: Results, about: dict[str, Any], made: Manifest) -> str:
    headline, scalars = about["headline"], results.scalars
    banner = f'<div class="banner">{SIMULATED}</div>' if made.simulated else ""
    if about["trained_on"]["simulated"] and not made.simulated:
        banner = '<div class="banner">The model was trained on SIMULATED imagery</div>'
    big = [
        (scalars[headline], f"{headline} on {split}"),
        (scalars[f"{headline}_of_class_frequencies"], "by always predicting the class frequencies"),
    ]
    chosen = about.get("validation", {}).get(headline)
    if chosen is not None:
        big.append(
            (chosen, f"on the validation split at step {about['step']}, the best of the run")
        )
    boxes = "".join(f"<div><b>{page.number(v)}</b>{escape(text)}</div>" for v, text in big)
    return (
        f'{banner}<h1>{escape(name)}</h1>\n<p class="soft">{escape(made.info.title)} '
        f"{escape(made.info.version)}, split {escape(split)}, {len(results.samples['loss']):,} "
        f"samples; model {escape(about['model']['name'])}, task "
        f"{escape(about['task']['name'])}</p>\n"
        f'<div class="big">{boxes}</div>'
    )


def _scalars(results: Results) -> str:
    def meaning(name: str) -> str:
        endings = (text for end, text in MEANINGS.items() if end[0] == "_" and name.endswith(end))
        return MEANINGS.get(name) or next(endings, "")

    rows = [
        (escape(name), page.number(value, name.startswith(("classes_", "samples_"))), meaning(name))
        for name, value in results.scalars.items()
    ]
    return "<h2>Figures of the whole split</h2>\n" + page.table(
        ("figure", "value", "what it is"), rows, text=(2,)
    )


def _figure(workdir: pathlib.Path, name: str, figure: Figure, alt: str, caption: str) -> str:
    data = figures.png(figure)
    sealed.replace(workdir / "figures" / f"{name}.png", data)
    return (
        f"<figure>{page.image(data, 'image/png', alt)}\n"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
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
    return "<h2>Training</h2>\n" + _figure(workdir, "curves", figure, "curves of training", caption)


def _per_class(
    workdir: pathlib.Path, split: str, results: Results, classes: Nomenclature
) -> str:  # fmt: skip
    columns, count = dict(results.per_class), len(results.samples["loss"])
    if results.matrix is not None:
        kind, name, caption = "class", "confusion_matrix", (
            "Rows are the reference, columns the prediction. Colour: share of the row. Numbers: "
            "samples; an empty cell has none, a grey row no sample in the reference."
        )  # fmt: skip
        figure = figures.confusion(results.matrix, classes)
    else:
        kind, name, caption = "label", "average_precision", "Labels in order of average precision."
        columns["prevalence"] = columns["support"] / count
        values = columns["average_precision"]
        figure = figures.average_precision(values, columns["prevalence"], classes)
        missing = [n for n, v in zip(classes.names, values, strict=True) if np.isnan(v)]
        caption += f" Without positives in this split: {', '.join(missing)}." if missing else ""
    names = [c for c in COLUMNS if c in columns] + [c for c in columns if c not in COLUMNS]
    shown = {"f1": "F1", "iou": "IoU"}
    body = [
        (
            page.chip(colour) + escape(label),
            *(page.number(float(columns[c][i]), c == "support") for c in names),
        )
        for i, (label, colour) in enumerate(zip(classes.names, classes.colours, strict=True))
    ]
    head = (kind, *(escape(shown.get(c, c.replace("_", " "))) for c in names))
    note = "Support: samples in the reference. –: not defined, and left out of the macro means."
    alt = name.replace("_", " ")
    return (
        f"<h2>By {kind}</h2>\n"
        + _figure(workdir, f"{split}_{name}", figure, alt, caption)
        + f'<p class="soft">{note}</p>\n'
        + page.table(head, body)
    )


def _samples(
    shards: pathlib.Path, split: str, results: Results, about: dict[str, Any], classes: Nomenclature
) -> str:
    samples, count = results.samples, len(results.samples["loss"])
    task = tasks.make(about["task"]["name"], {**about["task"], "class_weights": "none"},
                      len(classes))  # fmt: skip
    order = np.argsort(-samples["loss"], kind="stable")  # NaN comes last there, and is worst
    order = np.roll(order, np.isnan(samples["loss"]).sum())
    drawn = np.random.default_rng(0).choice(count, min(SHOWN, count), replace=False)
    groups = {
        "Worst: the largest loss": order[:SHOWN],
        "Best: the smallest loss": order[::-1][:SHOWN],
        "Drawn at random": np.sort(drawn),
    }
    chosen, where = np.unique(np.concatenate(list(groups.values())), return_inverse=True)
    files, ids, said = figures.pictures(shards, split, samples["index"][chosen])
    labels, probabilities = samples["labels"][chosen], samples["probabilities"][chosen]
    reference = labels > 0 if labels.ndim == 2 else np.arange(len(classes)) == labels[:, None]
    predicted = task.decide(probabilities)

    def card(i: int) -> str:
        media, data, width = files[i]
        lines = [
            _line(classes.names[k], float(probabilities[i, k]), reference[i, k], predicted[i, k])
            for k in np.argsort(-probabilities[i], kind="stable")
            if reference[i, k] or predicted[i, k]
        ]
        lines += [] if predicted[i].any() else ['<li class="soft">nothing predicted</li>']
        attributes = ' class="px"' if width < 136 else ""
        return (
            f'<figure class="card">{page.image(data, media, ids[i], attributes)}<figcaption>'
            f"<code>{escape(ids[i])}</code><br>"
            f'<span class="soft">loss {page.number(float(samples["loss"][chosen[i]]))}</span>'
            f"<ul>{''.join(lines)}</ul></figcaption></figure>"
        )

    parts, start = [], 0
    for title, members in groups.items():
        cards = "\n".join(card(int(i)) for i in where[start : start + len(members)])
        start += len(members)
        parts.append(f'<h3>{title}</h3>\n<div class="cards">\n{cards}\n</div>')
    legend = (
        '<p class="soft"><span class="good">✓ predicted, and in the reference</span>; '
        '<span class="bad">✗ predicted, not in the reference</span>; '
        '<span class="bad">○ in the reference, not predicted</span>; with the probability. '
        f"{escape(said)}</p>"
    )
    return "\n".join(["<h2>Samples</h2>", legend, *parts])


def _line(name: str, probability: float, reference: bool, predicted: bool) -> str:
    colour = "good" if reference and predicted else "bad"
    mark = "✓" if reference and predicted else "✗" if predicted else "○"
    return f'<li class="{colour}">{mark} {escape(name)} {probability:.2f}</li>'
