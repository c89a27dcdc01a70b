"""What a dataset says about itself, as Markdown: the parts of its card.

Parts say what `DatasetInfo`, nomenclatures and `rsjax.datasets.defects` say, and "not stated" where
these say nothing.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rsjax import sensors
from rsjax.datasets import defects
from rsjax.datasets.info import DatasetInfo
from rsjax.landcover import IGNORE, Nomenclature

NOT_STATED = "not stated"
_LABELS = {"index": "one class an image", "multihot": "any number of classes an image"}


def stated(value: object) -> str:
    """A text of the card; "not stated" where there is none."""
    return " ".join(str(value).split()) if value not in (None, "", ()) else NOT_STATED


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; bars and line breaks in cells are made harmless."""
    lines = [[" ".join(str(cell).split()).replace("|", r"\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(head), ["---"] * len(head), *lines])


def facts(info: DatasetInfo) -> str:
    """Version, page, licence and citation."""
    rows = [
        ("name in rsjax", f"`{info.name}`"),
        ("version", stated(info.version)),
        ("page", stated(info.page)),
        ("licence", stated(info.licence)),
        ("citation", stated(info.citation)),
        ("georeferenced", "yes, `crs` and `transform` of each" if info.georeferenced else "no"),
    ]
    return table(("", ""), rows)


def images(info: DatasetInfo) -> str:
    """What each image entry of an example holds; its label, mask and texts."""
    rows = []
    for name, spec in info.images.items():
        side = f"{spec.height} × {spec.width}" if spec.height and spec.width else "varying"
        steps = spec.steps
        rows.append(
            (
                f"`{name}`",
                f"`{spec.sensor}`: {sensors.get(spec.sensor).title}",
                ", ".join(spec.bands),
                side if steps is None else f"{steps or 'varying'} steps of {side}",
                spec.dtype,
                f"`{spec.unit}`",
                f"{spec.gsd_m:g}",
                "none" if spec.nodata is None else f"{spec.nodata:g}",
            )
        )
    head = ("entry", "sensor", "bands, in this order", "pixels", "type", "unit", "metres a pixel",
            "missing value")  # fmt: skip
    others = []
    if info.label:
        others.append(f"`label`: {_LABELS[info.label]}")
    if info.mask:
        height, width = info.mask
        others.append(f"`mask`: class indices, {height} × {width} pixels, {IGNORE} is not labelled")
    others.append("`id`")
    others += [f"`{name}`: a text" for name in info.metadata]
    further = wrap(f"Further entries: {'; '.join(others)}.")
    return f"{table(head, rows)}\n\n{further}"


def classes(
    title: str, found: Nomenclature, counts: Mapping[str, Sequence[int]] | None = None
) -> str:
    """The classes of a nomenclature, and how often each split has them.

    Args:
        title: of the section.
        found: the classes.
        counts: split -> number for each class index; further numbers are of index 255.
    """
    counts = counts or {}
    head = ("index", "code", "class", "colour", *counts)
    rows: list[tuple[object, ...]] = [
        (index, code, name, f"`{colour}`", *(f"{split[index]:,}" for split in counts.values()))
        for index, (code, name, colour) in enumerate(
            zip(found.codes, found.names, found.colours, strict=True)
        )
    ]
    ignored = ", ".join(map(str, found.ignore)) or "none"
    if counts and all(len(split) > IGNORE for split in counts.values()):
        ignoring = (f"{split[IGNORE]:,}" for split in counts.values())
        rows.append((IGNORE, ignored, "not labelled", "", *ignoring))
        last = ""
    else:
        last = f'\n\nCodes that mean "not labelled": {ignored}.'
    about = wrap(f"`{found.name}`: {stated(found.title)}. Source: {stated(found.source)}.")
    return f"## {title}: {len(found)} classes\n\n{about}\n\n{table(head, rows)}{last}"


def statistics(info: DatasetInfo, computed: Mapping[str, Any], origin: str) -> str:
    """Mean and standard deviation of each band, published and computed, in the stored unit."""
    rows: list[tuple[object, ...]] = []
    pairs = dict.fromkeys((s.sensor, band) for s in info.images.values() for band in s.bands)
    for sensor, band in pairs:
        published = info.published_statistics.get(sensor, {}).get(band)
        row: tuple[object, ...] = (sensor, band, *(published or (NOT_STATED, NOT_STATED)))
        if computed:
            own = computed.get(sensor, {}).get(band)
            keys = ("mean", "std", "min", "max", "pixels", "nodata")
            row += tuple(_number(own[key]) if own else NOT_STATED for key in keys)
        rows.append(row)
    head = ["sensor", "band", "mean, published", "deviation, published"]
    source = (
        f"Published: {stated(info.published_statistics_source)}."
        if info.published_statistics
        else f"Published: {NOT_STATED}."
    )
    if computed:
        head += ["mean", "deviation", "lowest", "highest", "pixels", "missing"]
        source += f" Computed: {origin}."
    elif not info.published_statistics:
        return f"## Statistics\n\n{source} They are computed when the dataset is prepared."
    return f"## Statistics\n\n{wrap(source)}\n\n{table(head, rows)}"


def known_defects(name: str) -> str:
    """The defects of a dataset that are known to us."""
    found = defects.of(name)
    items = "\n".join(f"- {wrap(f'{one.what} ({one.source})', '  ')}" for one in found)
    return f"## Known defects\n\n{items or 'None is known to us.'}"


def wrap(text: str, indent: str = "") -> str:
    """Text in lines of at most 100 characters; words and addresses stay whole."""
    return textwrap.fill(
        text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def samples(splits: Mapping[str, int]) -> int:
    """Samples of all splits officially; 0 where a split does not state its size."""
    return sum(splits.values()) if all(splits.values()) else 0


def task(info: DatasetInfo) -> str:
    """What the dataset is for, in words."""
    found = []
    if info.mask:
        change = info.mask_nomenclature == "change"
        found.append("change detection" if change else "segmentation")
    if info.label:
        found.append({"index": "one label", "multihot": "many labels"}[info.label])
    steps = [spec.steps for spec in info.images.values()]
    if any(count not in (None, 2) for count in steps):
        found.append("time series")
    return ", ".join(found) or NOT_STATED


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if math.isfinite(value) else str(value)
