"""A look at a prepared dataset: one self-contained page and PNGs, made from the shards alone.

`gallery_scan` reads, `gallery_figures` draws, `gallery_patches` has the pictures with their labels;
here is what is said, in reading order.
"""

from __future__ import annotations

import os
import pathlib
from html import escape

import numpy as np

from rsjax import sealed
from rsjax.datasets.info import ImageSpec
from rsjax.errors import ConfigError
from rsjax.input import manifest as manifests
from rsjax.input.manifest import Manifest
from rsjax.input.source import ShardSource
from rsjax.landcover import IGNORE, Nomenclature
from rsjax.training import drawing, gallery_patches, gallery_scan, page
from rsjax.training import gallery_figures as draw

SIMULATED = "SIMULATED imagery: made by a program, it shows no real place"
HISTOGRAM_RECORDS = 256


def find(data_dir: str | os.PathLike[str], dataset: str = "") -> pathlib.Path:
    """The folder of the shards of `dataset`, or of the only dataset under `data_dir`.

    Raises:
        ConfigError: several datasets are there, and none is named.
        ShardError: none is there.
    """
    if dataset or "://" in os.fspath(data_dir):
        return manifests.find(data_dir, dataset or "NAME")
    paths = pathlib.Path(data_dir).glob(f"*/*/{manifests.FILE}")
    names = sorted({path.parent.parent.name for path in paths})
    if not names:
        raise manifests.NoShards(
            f"no prepared shards in {pathlib.Path(data_dir).absolute()}. Prepare a dataset with "
            "`python -m rsjax.prepare`, or name the folder with --data_dir"
        )
    if len(names) > 1:
        raise ConfigError(f"{data_dir} has {', '.join(names)}: choose one, --dataset={names[0]}")
    return manifests.find(data_dir, names[0])


def write(
    root: str | os.PathLike[str], output: str | os.PathLike[str], split: str = "train",
    samples: int = 24,
) -> pathlib.Path:  # fmt: skip
    """Writes `gallery.html`, and its figures as PNG, into `output`.

    Args:
        root: folder of the shards.
        output: folder, made if absent.
        split: the split whose patches and bands are shown.
        samples: patches drawn at random, besides one of each class.

    Returns:
        The path of the page.

    Raises:
        ShardError: the shards are damaged, or have no such split.
        ConfigError: the split has no record, or `samples` is below 1.
    """
    made, folder = manifests.load(root), pathlib.Path(output)
    if samples < 1:
        raise ConfigError(f"--samples={samples}: must be 1 or more")
    if not len(ShardSource(made.root, split, columns=[])):
        known = ", ".join(name for name, entry in made.splits.items() if entry["records"])
        raise ConfigError(f"{root}: split '{split}' has no record. Choose --split of {known}")
    found = gallery_scan.scan(made, split)
    sections = [
        _title(made),
        _about(made),
        gallery_patches.section(made, split, samples, found, folder),
        _balance(made, folder),
        _bands(made, split, folder),
        _places(made, found, folder),
    ]
    path = folder / "gallery.html"
    sealed.replace(path, page.document(f"{made.info.title}: gallery", sections).encode())
    return path


def _title(made: Manifest) -> str:
    info = made.info
    banner = f'<div class="banner">{SIMULATED}</div>' if made.simulated else ""
    options = ", ".join(f"{name}={value}" for name, value in made.options.items())
    sizes = "".join(
        f"<div><b>{entry['records']:,}</b>{escape(split)}</div>"
        for split, entry in made.splits.items()
    )
    return (
        f'{banner}<h1>{escape(info.title)}</h1>\n<p class="soft">{escape(info.name)} '
        f"{escape(info.version)}{escape(f', prepared with {options}' if options else '')}; "
        f'patches of each split:</p>\n<div class="big">{sizes}</div>'
    )


def _about(made: Manifest) -> str:
    info = made.info
    label = {"index": "one class a patch", "multihot": "any number of classes a patch"}
    maps = f"{info.mask[0]} × {info.mask[1]} pixels" if info.mask else ""
    facts = {
        "licence": info.licence,
        "citation": info.citation,
        "page": info.page,
        "labels": f"{label[info.label]}; {_named(made.nomenclature)}" if info.label else "none",
        "maps": f"{maps}; {_named(made.mask_nomenclature)}" if info.mask else "none",
        "statistics": made.statistics_origin,
    }
    for split, entry in made.splits.items():
        if entry["skipped"]:
            facts[f"skipped in {split}"] = f"{len(entry['skipped']):,} damaged samples"
    images = [
        (
            f'<code style="white-space:nowrap">{escape(name)}</code>',
            escape(spec.sensor),
            escape(", ".join(spec.bands)),
            _size(spec),
            f"{spec.gsd_m:g}",
            escape(spec.dtype),
            escape(draw.UNITS.get(spec.unit, spec.unit)),
            "–" if spec.nodata is None else f"{spec.nodata:g}",
        )
        for name, spec in info.images.items()
    ]
    head = ("entry", "sensor", "bands", "pixels", "metres a pixel", "type", "unit", "nodata")
    rows = [(escape(name), escape(text)) for name, text in facts.items()]
    rows.append(("fingerprint of the shards", f"<code>{made.fingerprint()}</code>"))
    return (
        f"<h2>The dataset</h2>\n{page.table(('', ''), rows, text=(1,))}\n<h3>Images</h3>\n"
        + page.table(head, images, text=(2,), label="images")
    )


def _size(spec: ImageSpec) -> str:
    sides = f"{spec.height} × {spec.width}" if spec.height and spec.width else "of varying size"
    return sides if spec.steps is None else f"{spec.steps or 'varying'} steps, {sides}"


def _named(classes: Nomenclature | None) -> str:
    return f"{len(classes)} classes, {classes.title}" if classes else "no classes"


def _balance(made: Manifest, folder: pathlib.Path) -> str:
    """Class counts of labels and of pixels, as bars and as a table."""
    splits = {name: entry for name, entry in made.splits.items() if entry["records"]}
    parts = ["<h2>Class balance</h2>"]
    if made.info.label:
        counts = {name: np.array(entry["class_counts"]) for name, entry in splits.items()}
        totals = {name: entry["records"] for name, entry in splits.items()}
        several = " A patch may have several labels." if made.info.label == "multihot" else ""
        caption = f"Patches with each label, and their share of the split's patches.{several}"
        parts.append(_bars(made, made.nomenclature, counts, totals, "patches", caption, folder))
    if made.info.mask and made.mask_nomenclature:
        counts = {name: np.array(entry["mask_counts"]) for name, entry in splits.items()}
        totals = {name: int(values.sum()) for name, values in counts.items()}
        caption = "Pixels of each class in the maps, and their share of all pixels."
        parts.append(_bars(made, made.mask_nomenclature, counts, totals, "pixels", caption, folder))
    if len(parts) == 1:
        parts.append("<p>These shards hold neither labels nor maps.</p>")
    return "\n".join(parts)


def _bars(
    made: Manifest,
    classes: Nomenclature,
    counts: dict[str, np.ndarray],
    totals: dict[str, int],
    what: str,
    caption: str,
    folder: pathlib.Path,
) -> str:
    names, colours = list(classes.names), list(classes.colours)
    columns = {split: values[: len(classes)] for split, values in counts.items()}
    if what == "pixels" and any(values[IGNORE] for values in counts.values()):
        names, colours = [*names, draw.UNLABELLED], [*colours, draw.GREY]
        columns = {s: np.append(v, counts[s][IGNORE]) for s, v in columns.items()}
    figure = draw.balance(columns, names, colours, what, totals)
    draw.stamp(figure, made.simulated)
    rows = [
        (
            page.chip(colour) + escape(name),
            *(page.number(float(column[i]), count=True) for column in columns.values()),
        )
        for i, (name, colour) in enumerate(zip(names, colours, strict=True))
    ]
    table = page.table(("class", *map(escape, columns)), rows, label=f"{what} of each class")
    return (
        drawing.put(folder, f"balance_{what}", figure, f"class balance in {what}", caption)
        + f"\n<details><summary>The same as a table</summary>{table}</details>"
    )


def _bands(made: Manifest, split: str, folder: pathlib.Path) -> str:
    values, missing, read = gallery_scan.band_values(made, split, HISTOGRAM_RECORDS)
    figure = draw.histograms(values, made.info.images, made.statistics, missing)
    draw.stamp(figure, made.simulated)
    lines = "Line: the mean of the manifest; dotted: one standard deviation to both sides."
    caption = (
        f"Up to {gallery_scan.PIXELS:,} valid pixels of each of {read:,} records of {split} drawn "
        "at random, between their percentiles 0.1 and 99.9. "
        f"{lines if made.statistics else 'The manifest has no statistics.'} Pixels that are nodata,"
        " or not finite, are left out; their share is stated above each panel."
    )
    return "<h2>Bands</h2>\n" + drawing.put(folder, "bands", figure, "band histograms", caption)


def _places(made: Manifest, found: gallery_scan.Found, folder: pathlib.Path) -> str:
    title = "<h2>Where the patches lie</h2>\n"
    if not found.centres:
        return f"{title}<p>This dataset is not georeferenced: its patches have no coordinates.</p>"
    total = sum(entry["records"] for entry in made.splits.values())
    read = sum(map(len, found.centres.values()))
    some = f"All {read:,} patches"
    if read < total:
        some = f"{read:,} of {total:,} patches, drawn at random"
    caption = f"{some}: their centres in degrees (EPSG:4326), by split."
    figure = draw.stamp(draw.places(found.centres), made.simulated)
    return title + drawing.put(folder, "places", figure, "places of the patches", caption)
