"""The gallery's pictures: patches with their labels in words, and their maps beside them."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence
from html import escape

import imagecodecs
import numpy as np

from rsjax import sealed
from rsjax.input import records
from rsjax.input.manifest import Manifest
from rsjax.input.source import ShardSource
from rsjax.landcover import IGNORE, Nomenclature
from rsjax.training import figures, gallery_scan, maps, page
from rsjax.training import gallery_figures as draw

LISTED = 6  # classes of a map that are named beside it


def section(
    made: Manifest, split: str, samples: int, found: gallery_scan.Found, folder: pathlib.Path
) -> str:
    """Patches drawn at random with a fixed seed, and one of each class.

    Writes `patches.png`, all of the former on one sheet, into `folder`.
    """
    count = made.splits[split]["records"]
    drawn = np.sort(np.random.default_rng(0).choice(count, min(samples, count), replace=False))
    chosen = np.unique([*drawn.tolist(), *found.examples.values()])
    files, ids, said = figures.pictures(made.root, split, chosen)
    source = ShardSource(made.root, split, columns=["mask"] if made.info.mask else [])
    masks = source.read(chosen)["mask"] if made.info.mask else None
    width = 320 if masks is None else 460
    place = {index: i for i, index in enumerate(chosen.tolist())}

    def card(index: int, title: str = "") -> str:
        i = place[index]
        mask = None if masks is None else masks[i]
        return _card(made, files[i], ids[i], source.entries(index), mask, title)

    rows = [place[i] for i in drawn.tolist()]
    captions = [_caption(made, source.entries(int(chosen[i])), ids[i]) for i in rows]
    own = None if masks is None else masks[rows]
    _write_sheet(folder, made, [files[i] for i in rows], captions, own)
    parts = [f"<h2>Patches of {escape(split)}</h2>", f'<p class="soft">{escape(said)}</p>']
    if masks is not None and made.mask_nomenclature:
        parts.append(_legend(made.mask_nomenclature, np.unique(masks)))
    parts += [f"<h3>{len(drawn)} drawn at random</h3>", _grid(map(card, drawn.tolist()), width)]
    classes = gallery_scan.classes_of(made)
    if classes:
        of = "label" if made.info.label else "class of the maps"
        parts.append(f"<h3>One for each {of}</h3>")
        cards = (card(i, classes.names[c]) for c, i in sorted(found.examples.items()))
        parts.append(_grid(cards, width))
        absent = [name for c, name in enumerate(classes.names) if c not in found.examples]
        if absent:
            parts.append(
                f"<p>None of the {found.read[split]:,} records of {escape(split)} that were read "
                f"has: {escape('; '.join(absent))}.</p>"
            )
    return "\n".join(parts)


def _grid(cards: Iterable[str], width: int) -> str:
    style = f"grid-template-columns:repeat(auto-fill,minmax(min({width}px,100%),1fr))"
    return f'<div class="cards" style="{style}">\n' + "\n".join(cards) + "\n</div>"


def _card(
    made: Manifest,
    file: tuple[str, bytes, int],
    name: str,
    entries: records.Entries,
    mask: np.ndarray | None,
    title: str,
) -> str:
    """One patch: picture, map, labels."""
    media, data, width = file
    attributes = ' class="px"' if width < 136 else ""
    images = page.image(data, media, name, attributes)
    lines = [f"<b>{escape(title)}</b><br>"] if title else []
    lines.append(f"<code>{escape(name)}</code>")
    about = "; ".join(f"{key} {records.text(entries, key)}" for key in made.info.metadata)
    lines.append(f'<div class="soft">{escape(about)}</div>' if about else "")
    labels = _labels(made, entries)
    if labels is not None:
        named = [_named(made.nomenclature, c) for c in labels] or ["<i>no label</i>"]
        lines.append(_list(named))
    if mask is not None and made.mask_nomenclature:
        coloured = np.ascontiguousarray(maps.coloured(mask, made.mask_nomenclature))
        shown = bytes(imagecodecs.png_encode(coloured, level=9))
        images += page.image(shown, "image/png", f"map of {name}", ' class="px"')
        lines.append(
            f'<span class="soft">map:</span>{_list(_shares(mask, made.mask_nomenclature))}'
        )
    flex = "display:flex;flex-wrap:wrap"
    return (
        f'<figure class="card" style="{flex};align-items:flex-start">'
        f'<div style="{flex};align-items:flex-start;gap:6px;max-width:282px">{images}</div>'
        f'<figcaption style="flex:1 1 150px">{"".join(lines)}</figcaption></figure>'
    )


def _caption(made: Manifest, entries: records.Entries, name: str) -> str:
    """A patch's labels in words; its id where the dataset has no labels."""
    labels = _labels(made, entries)
    if labels is None:
        return name
    return ", ".join(made.nomenclature.names[c] for c in labels) or "no label"


def _labels(made: Manifest, entries: records.Entries) -> list[int] | None:
    """Classes of a record's label; None where the dataset has no labels."""
    if made.info.label is None:
        return None
    if made.info.label == "index":
        return [int(entries["label"][0])]
    hot = records.tensor(entries, "label", "uint8", (len(made.nomenclature),))
    return np.flatnonzero(hot).tolist()


def _named(classes: Nomenclature, index: int) -> str:
    if index == IGNORE:
        return f"{HATCHED}{draw.UNLABELLED}"
    return page.chip(classes.colours[index]) + escape(classes.names[index])


HATCHED = '<span class="chip ignored"></span>'


def _shares(mask: np.ndarray, classes: Nomenclature) -> list[str]:
    """The largest classes of a map with their share of its pixels."""
    counts = np.bincount(mask.ravel(), minlength=IGNORE + 1)
    order = [c for c in np.argsort(-counts, kind="stable").tolist() if counts[c]]
    lines = [f"{_named(classes, c)} {_percent(counts[c] / mask.size)}" for c in order[:LISTED]]
    rest = order[LISTED:]
    if rest:
        lines.append(f"{len(rest)} more, {_percent(counts[rest].sum() / mask.size)}")
    return lines


def _percent(share: float) -> str:
    return "below 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def _legend(classes: Nomenclature, present: np.ndarray) -> str:
    """The classes that occur in the maps on the page."""
    style = "list-style:none;margin:6px 0 14px;padding:0;display:flex;flex-wrap:wrap;gap:2px 18px"
    items = "".join(f"<li>{_named(classes, c)}</li>" for c in present.tolist())
    return (
        f'<p class="soft">Classes of the maps on this page, {escape(classes.title)}:</p>'
        f'<ul style="{style};font-size:13px">{items}</ul>'
    )


def _write_sheet(
    folder: pathlib.Path,
    made: Manifest,
    files: Sequence[tuple[str, bytes, int]],
    captions: Sequence[str],
    masks: np.ndarray | None,
) -> None:
    pictures = []
    for i, (media, data, _) in enumerate(files):
        decode = imagecodecs.png_decode if media == "image/png" else imagecodecs.jpeg8_decode
        drawn = None
        if masks is not None and made.mask_nomenclature:
            drawn = maps.coloured(masks[i], made.mask_nomenclature)
        pictures.append((np.asarray(decode(data)), drawn, captions[i]))
    figure = draw.stamp(draw.sheet(pictures), made.simulated)
    sealed.replace(folder / "patches.png", figures.png(figure))
