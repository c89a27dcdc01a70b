"""The report's figures of the whole set and of its groups: tables that say what each figure is."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from rsjax.training import figures, page, set_figures
from rsjax.training.evaluate import Results

MEANINGS = {  # of the figures' names, or of their endings; {unit}: samples or pixels
    "loss": "mean over the {unit} that count, without class weights",
    "overall_accuracy": "share of the {unit} whose class is right",
    "average_accuracy": "mean recall over the classes in the reference",
    "kappa": "Cohen's kappa, agreement beyond chance",
    "mAP_macro": "average precision, mean over the labels that have positives",
    "mAP_micro": "average precision of all pairs (sample, label) ranked together",
    "subset_accuracy": "share of the samples with every label right",
    "hamming_loss": "share of the pairs (sample, label) that are wrong",
    "classes_counted": "classes in the macro means",
    "classes_in_reference": "classes with at least one of the {unit}",
    "samples_counted": "{unit} evaluated",
    "iou_macro": "mIoU: intersection over union of all {unit} together, mean over the classes",
    "iou_frequency_weighted": "intersection over union, mean over the classes weighted by their "
    "share of the reference",
    "boundary_f1_per_image_macro": "F1 of the boundaries between classes, matched within the "
    "tolerance: mean over the classes of an image, then over the images counted",
    "boundary_f1_by_class_macro": "F1 of the boundaries between classes, matched within the "
    "tolerance: mean over the images of a class, then over the classes",
    "boundary_iou_pooled_macro": "intersection over union of the pixels near boundaries, all "
    "images together, mean over the classes",
    "boundary_images_counted": "images with at least one boundary to match",
    "boundary_classes_counted": "classes with at least one boundary",
    "expected_calibration_error": "mean difference of confidence and share right over bins of "
    "confidence, weighted by their {unit}",
    "maximum_calibration_error": "the largest such difference of a bin",
    "confidence_mean": "mean probability of the predicted class",
    "temperature": "divisor of the logits that fits confidence to accuracy (fitted on the "
    "validation split); 1: none",
    "nll_before": "negative log-likelihood without the temperature",
    "nll_after": "negative log-likelihood with the temperature",
    "_of_class_frequencies": "by always predicting the class frequencies of this split",
    "_frequency_weighted": "mean over the classes weighted by their share of the reference",
    "_per_image_macro": "mean over the classes of an image, then over the images",
    "_pooled_macro": "all images counted together, mean over the classes",
    "_macro": "mean over the classes, each with the same weight",
    "_micro": "all pairs (sample, label) counted together",
}
COUNTS = ("classes_", "samples_", "boundary_images", "boundary_classes")  # how counts begin
OTHERS = (  # beside the headline in the tables of groups, the first four that there are
    "overall_accuracy", "average_accuracy", "mAP_micro", "f1_macro", "f1_micro", "kappa",
    "iou_frequency_weighted", "boundary_f1_per_image_macro", "subset_accuracy", "loss",
)  # fmt: skip
LONG = 40  # groups from which a table is folded away and only the ends are drawn


def unit_of(about: Mapping[str, Any]) -> str:
    """What the task counts: samples or pixels."""
    return "pixels" if about["task"]["name"] == "segmentation" else "samples"


def scalars(results: Results, about: Mapping[str, Any]) -> str:
    """The section of the figures of the whole split, with their intervals."""

    def meaning(name: str) -> str:
        endings = (text for end, text in MEANINGS.items() if end[0] == "_" and name.endswith(end))
        return (MEANINGS.get(name) or next(endings, "")).format(unit=unit_of(about))

    rows = [
        (
            escape(name).replace("_", "_<wbr>"),
            page.ranged(value, results.intervals.get(name), name.startswith(COUNTS)),
            meaning(name),
        )
        for name, value in results.scalars.items()
    ]
    parts = ["<h2>Figures of the whole split</h2>"]
    if results.intervals:
        parts.append(f'<p class="soft">{escape(covering(about))}</p>')
    if any(name.startswith("boundary_") for name in results.scalars):
        parts.append(f'<p class="soft">{escape(tolerance(about["task"]))}</p>')
    head = ("figure", "value", "what it is")
    return "\n".join([*parts, page.table(head, rows, (2,), "figures of the whole split")])


def tolerance(task: Mapping[str, Any]) -> str:
    """How far apart boundaries still agree."""
    units = {"diagonal": "of the image's diagonal", "px": "pixels", "m": "m on the ground"}
    value, scale = task.get("boundary_tolerance", 0.0075), task.get("boundary_unit", "diagonal")
    return f"Tolerance of the boundaries: {value:g} {units[scale]}."


def covering(about: Mapping[str, Any]) -> str:
    """What the intervals say, and what they do not."""
    how = about["config"].get("eval", {})
    blocks, count = how.get("blocks"), how.get("bootstrap")
    drawn = f"all samples of one {blocks} together" if blocks else "single samples"
    sets = f"{count:,} sets" if count else "sets"
    level = f"{100 * how['level']:.4g} %" if "level" in how else "bootstrap"
    return (
        f"In brackets: {level} intervals, from {sets} drawn again from this split with replacement "
        f"(bootstrap, percentiles), {drawn}. They say how far a figure depends on the samples "
        "evaluated; not how far on the training run, nor on the region or the reference."
    )


def reliability(
    workdir: pathlib.Path, split: str, results: Results, about: Mapping[str, Any]
) -> str:
    """The section of the reliability plot; empty if it was not measured."""
    table = results.reliability
    if not table or not sum(table["count"]):
        return ""
    labels = about["task"]["name"] == "multilabel"
    what = "pairs (sample, label)" if labels else unit_of(about)
    across = "probability of the label" if labels else "confidence: probability of the class"
    along = "share of the labels that apply" if labels else f"share of the {what} that are right"
    figure = set_figures.reliability(table, across, along, "pairs" if labels else what)
    caption = (
        f"Above: {along}, against the {across}, mean of each bin; on the dashed line the "
        f"probabilities can be taken at their word. Below: {what} in each bin."
    )
    error = results.scalars.get("expected_calibration_error", float("nan"))
    caption += f" Expected calibration error {error:.4f}." if np.isfinite(error) else ""
    heat = results.scalars.get("temperature", about.get("temperature"))
    caption += f" Temperature {heat:.3f}." if heat is not None else ""
    alt = f"{along} against the {across}: " + ", ".join(
        f"{a:.2f} at {c:.2f}"
        for c, a, n in zip(table["confidence"], table["accuracy"], table["count"], strict=True)
        if n
    )
    data = figures.save(workdir, f"{split}_reliability", figure)
    return "<h2>Reliability of the probabilities</h2>\n" + page.figure(data, alt, caption)


def groups(workdir: pathlib.Path, split: str, results: Results, about: Mapping[str, Any]) -> str:
    """The section of the groups: for each column a table and, beyond two groups, a dot plot."""
    headline, parts = about["headline"], []
    for column, found in results.groups.items():
        there = {name for figures in found.values() for name in figures}
        names = [headline, *[n for n in OTHERS if n in there and n != headline][:4]]
        rows = [
            (
                escape(value or "(empty)"),
                page.number(float(figures_of.get("samples", float("nan"))), count=True),
                *(page.number(_known(figures_of.get(name))) for name in names),
            )
            for value, figures_of in sorted(found.items())
        ]
        head = (escape(column), "samples", *(escape(name).replace("_", "_<wbr>") for name in names))
        table = page.table(head, rows, label=f"figures by {column}")
        parts.append(f"<h3>By {escape(column)}</h3>")
        if len(found) > 2:
            values = {
                f"{value or '(empty)'} ({int(f.get('samples', 0)):,})": _known(f.get(headline))
                for value, f in found.items()
            }
            parts.append(_dots(workdir, split, column, values, results.scalars[headline], headline))
        summary = f"<summary>All {len(found):,} groups</summary>"
        parts.append(f"<details>{summary}{table}</details>" if len(found) > LONG else table)
    return "\n".join(["<h2>By group</h2>", *parts]) if parts else ""


def _known(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _dots(
    workdir: pathlib.Path,
    split: str,
    column: str,
    values: dict[str, float],
    whole: float,
    headline: str,
) -> str:
    order = sorted((n for n in values if np.isfinite(values[n])), key=values.__getitem__)
    if not order:
        return ""
    drawn = order if len(order) <= LONG else order[: LONG // 2] + order[-LONG // 2 :]
    figure = set_figures.groups({name: values[name] for name in drawn}, whole, headline)
    name = re.sub(r"\W+", "_", column).strip("_")  # a pattern is no file name
    data = figures.save(workdir, f"{split}_by_{name}", figure)
    caption = f"{headline} of each {column} (samples); the dashed line is the whole split."
    if len(drawn) < len(order):
        caption += f" Only the {LONG // 2} lowest and the {LONG // 2} highest of {len(order):,}."
    if len(order) < len(values):
        caption += f" Not defined in {len(values) - len(order):,} groups."
    alt = f"{headline} by {column}: {order[0]} {values[order[0]]:.3f} is the lowest, " + (
        f"{order[-1]} {values[order[-1]]:.3f} the highest, the whole split {whole:.3f}"
    )
    return page.figure(data, alt, caption)
