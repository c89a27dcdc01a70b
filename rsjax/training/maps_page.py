"""The report's gallery of segmentation: rows of image, reference, prediction, errors, confidence.

Of a time series, each step is a picture of its own: before and after, where there are two.
Each row is pictures on the page; each group is also one PNG in `figures`, to be printed.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import imagecodecs
import numpy as np

from rsjax.errors import ShardError
from rsjax.landcover import Nomenclature
from rsjax.training import figures, maps, page, sheets
from rsjax.training.evaluate import Results
from rsjax.training.maps import Compared, percent

COLUMNS = ("reference", "predicted", "right or wrong", "confidence")  # after the image or images
TITLES = {
    "worst": "Worst: the lowest mIoU",
    "typical": "Typical: the mIoU nearest the median",
    "best": "Best: the highest mIoU",
}
KEYS = (  # of the map of errors and of ignored pixels
    ("right", '<span class="chip" style="background:#f0f0f0"></span>'),
    ("wrong", '<span class="chip" style="background:#191919"></span>'),
    ("ignored: no reference, counted nowhere", '<span class="chip ignored"></span>'),
)


def section(
    workdir: pathlib.Path,
    shards: pathlib.Path,
    split: str,
    results: Results,
    about: Mapping[str, Any],
    classes: Nomenclature,
) -> str:
    """The section of the report; empty if the evaluation kept no maps.

    Raises:
        ShardError: the shards hold no masks, or masks of another size than the predicted maps.
    """
    samples = results.samples
    groups = maps.choose(samples) if "shown" in samples else {}
    if not groups:
        return ""
    every = maps.miou(samples)
    at = np.concatenate(list(groups.values()))  # places among the shown
    records = samples["shown"][at]
    indices = samples["index"][records]
    source = about.get("split", split)
    masks = maps.references(shards, source, indices, about["task"].get("nomenclature", ""))
    if masks.shape[1:] != samples["maps"].shape[1:]:
        raise ShardError(
            f"{shards}: reference maps of {masks.shape[1:]} pixels, but predicted ones of "
            f"{samples['maps'].shape[1:]}: evaluate again, with data.grid_px of the reference maps"
        )
    shown = [
        Compared(mask, samples["maps"][i], samples["confidence"][i], float(every[record]))
        for mask, i, record in zip(masks, at, records, strict=True)
    ]
    images, ids, said = figures.steps(shards, source, indices)
    columns = (*step_names(len(images[0])), *COLUMNS)
    rank = {int(record): i + 1 for i, record in enumerate(np.argsort(every, kind="stable"))}
    captions = [
        caption(one, rank[int(record)], int(np.isfinite(every).sum()), classes)
        for one, record in zip(shown, records, strict=True)
    ]
    parts, start = [], 0
    for name, members in groups.items():
        span = slice(start, start + len(members))
        start += len(members)
        rows = [
            row(series, sample, one, lines, classes, columns)
            for series, sample, one, lines in zip(
                images[span], ids[span], shown[span], captions[span], strict=True
            )
        ]
        parts += [f"<h3>{TITLES[name]}</h3>", *rows]
        sheet = sheets.maps(
            f"{TITLES[name]} ({split})", images[span], ids[span], shown[span], captions[span],
            classes, columns,
        )  # fmt: skip
        figures.save(workdir, f"{split}_samples_{name}", sheet, dpi=200)
    head = ["<h2>Samples</h2>", legend(shown, classes)]
    head += _rule(every, len(samples["shown"]), shown)
    head += _differing(samples, records, shown, len(classes))
    return "\n".join([*head, f'<p class="soft">{escape(said)}</p>', *parts])


def step_names(count: int) -> tuple[str, ...]:
    """What the pictures of a sample of so many steps are called."""
    known = {1: ("image",), 2: ("before", "after")}
    return known.get(count) or tuple(f"step {number}" for number in range(1, count + 1))


def _rule(every: np.ndarray, kept: int, shown: Sequence[Compared]) -> list[str]:
    none = int(np.isnan(every).sum())
    more = f" {none:,} records without any counted pixel are left out." if none else ""
    return [
        f'<p class="soft">The mIoU of a record is the mean of the intersection over union of the '
        f"classes in its reference or its prediction; its median over the split is "
        f"{np.nanmedian(every):.4f}. {len(shown)} of the {kept} records whose maps the evaluation "
        f"kept: those with the lowest and the highest mIoU, and of the others those nearest to "
        f"the median.{more} Confidence: the probability of the predicted class, from 0 (black) to "
        "1 (white). Below each row: shares of the classes of the pixels with a reference, "
        "reference → prediction.</p>"
    ]


def _differing(
    samples: Mapping[str, np.ndarray], records: np.ndarray, shown: Sequence[Compared], count: int
) -> list[str]:
    """A warning where the maps are not those that the figures were computed of."""
    other = 0
    for one, record in zip(shown, records, strict=True):
        right = one.reference[one.counted & (one.reference == one.predicted)]
        found = np.bincount(right, minlength=count)[:count]
        other += not np.array_equal(found, samples["hits"][record])
    note = (
        f"In {other} of these records the right pixels of the maps are not those that the "
        "evaluation counted: pictures and figures differ there."
    )
    return [f'<p class="bad">{note}</p>'] if other else []


def legend(shown: Sequence[Compared], classes: Nomenclature) -> str:
    """The colours of the classes that occur in the maps, and of the map of errors."""
    there = sorted({k for one in shown for k, _, _ in maps.occurring(one)})
    entries = [page.chip(classes.colours[k]) + escape(classes.names[k]) for k in there]
    entries += [chip + text for text, chip in KEYS]
    return f'<ul class="legend">{"".join(f"<li>{entry}</li>" for entry in entries)}</ul>'


def caption(one: Compared, rank: int, count: int, classes: Nomenclature) -> list[str]:
    """Figures of the record, then its largest confusions."""
    ignored = 1 - float(one.counted.mean())
    head = (
        f"mIoU {one.miou:.3f} (rank {rank:,} of {count:,}, 1 is the lowest), "
        f"{percent(one.accuracy)} of the pixels right"
    )
    head += f", {percent(ignored)} ignored" if ignored else ""
    return [head, *(maps.confused(one, classes) or ["no confusion"])]


def row(
    series: np.ndarray,
    sample: str,
    one: Compared,
    lines: Sequence[str],
    classes: Nomenclature,
    columns: Sequence[str],
    marks: str = "",
) -> str:
    """A picture of each step and four more, and what is said of them.

    Args:
        series: of `figures.steps`, (steps, rows, columns, 3).
        sample: its id.
        one: the maps.
        lines: of `caption`; more may follow.
        classes: of the maps.
        columns: what the pictures are called.
        marks: further CSS classes.
    """
    there = maps.occurring(one)
    step = figures.every(*one.reference.shape)
    confidence = one.confidence[one.counted] / 255 if one.counted.any() else np.zeros(1)

    def largest(which: int) -> str:
        order = sorted(there, key=lambda entry: -entry[which])[:3]
        return ", ".join(f"{classes.names[e[0]]} {percent(e[which])}" for e in order if e[which])

    steps = ("",) if len(series) == 1 else [f", {name}" for name in columns[: len(series)]]
    alts = (
        f"reference map: {largest(1)}",
        f"predicted map: {largest(2)}",
        f"map of errors: {percent(1 - one.accuracy)} of the pixels wrong",
        f"map of confidence: mean {confidence.mean():.2f}, lowest {confidence.min():.2f}",
    )
    drawn = [
        maps.coloured(one.reference, classes),
        maps.coloured(one.predicted, classes),
        maps.errors(one),
        one.confidence,
    ]
    encoded = [
        bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels[::step, ::step]), level=9))
        for pixels in drawn
    ]
    images = []
    for pixels, name in zip(series, steps, strict=True):
        media, data, _ = figures.picture(pixels)
        images.append(page.image(data, media, f"colour picture of {sample}{name}"))
    images += [page.image(file, "image/png", alt) for file, alt in zip(encoded, alts, strict=True)]
    cells = "".join(
        f"<span>{title}{drawn}</span>" for title, drawn in zip(columns, images, strict=True)
    )
    shares = "".join(
        f"<li>{page.chip(classes.colours[k])}{escape(classes.names[k])} "
        f"{percent(reference)} → {percent(predicted)}</li>"
        for k, reference, predicted in there
    )
    words = "".join(f"<br>{escape(line)}" for line in lines[1:])
    return (
        f'<figure class="{f"maps {marks}".strip()}">'
        f'<div style="--columns:{len(columns)}">{cells}</div>'
        f"<figcaption><code>{escape(sample)}</code><br>"
        f'<b>{escape(lines[0])}</b>{words}\n<ul class="legend">{shares}</ul></figcaption></figure>'
    )
