"""The page itself: HTML around layers as PNG; styles and script are files of their own.

Layers travel as grey PNGs of class indices (confidence: of its bytes), which the script reads back,
counts against `counts`, and colours; a browser that changes pixels on reading is noticed.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import string
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

import imagecodecs
import numpy as np

from rsjax.mapping import area_table, view_place
from rsjax.mapping.area_table import Tally
from rsjax.mapping.landmap import LandMap
from rsjax.mapping.view_scene import Picture

SCRIPTS = ("layers", "camera", "paint", "identify", "legend", "input")  # in this order
_LOSSLESS = 2**19  # pixels: larger scenes are compressed with loss
_QUALITY = 85
_OVER_SCENE = 70  # percent: opacity of the map at first, where there is a scene under it


@dataclasses.dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        land_map: the map.
        before: name of the other map, or ''.
        tally: of the map.
        tally_before: of the other map.
        layers: 'map', 'before', 'confidence': uint8 (rows, columns) as drawn, 255 without data.
        factor: pixels of the map a side for one that is drawn.
        meaning: of the confidence.
        picture: the scene.
        place: see `view_place.lattice`.
        notes: what the reader must know.
        about: provenance.
    """

    land_map: LandMap
    before: str
    tally: Tally
    tally_before: Tally | None
    layers: Mapping[str, np.ndarray]
    factor: int
    meaning: str
    picture: Picture | None
    place: dict[str, Any] | None
    notes: Sequence[str]
    about: Mapping[str, str]


def document(page: Page) -> str:
    """The page as HTML."""
    files = resources.files("rsjax.mapping") / "view_static"
    script = "\n".join((files / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    parts = {
        "title": escape(_short(page.land_map.path)),
        "css": (files / "page.css").read_text("utf-8"),
        "script": script,
        "data": json.dumps(_data(page), separators=(",", ":")).replace("<", "\\u003c"),
        "images": _images(page),
        "summary": escape(summary(page)),
        "notes": "".join(f'<p class="note">{escape(note)}.</p>' for note in page.notes),
        "modes": _modes(page),
        "opacity": str(100 if page.picture is None else _OVER_SCENE),
        "legend": _legend(page),
        "about": "".join(
            f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in page.about.items()
        ),
    }
    return string.Template((files / "page.html").read_text("utf-8")).substitute(parts)


def summary(page: Page) -> str:
    """The map in words, for who does not see it."""
    rows, cols = page.land_map.shape
    covered = page.tally.hectares.sum()
    order = np.argsort(-page.tally.hectares, kind="stable")
    names = page.land_map.nomenclature.names
    shares = [
        f"{names[c]} {page.tally.hectares[c] / covered:.1%}" for c in order if page.tally.pixels[c]
    ]
    rest = f" and {len(shares) - 5} more" if len(shares) > 5 else ""
    return (
        f"{rows:,} × {cols:,} pixels, {covered:,.1f} ha with a class: "
        f"{', '.join(shares[:5])}{rest}."
    )


def _data(page: Page) -> dict[str, Any]:
    """What the script needs to know."""
    land_map, classes = page.land_map, page.land_map.nomenclature
    counts = {name: np.bincount(one.ravel(), minlength=256) for name, one in page.layers.items()}
    return {
        "rows": land_map.shape[0],
        "cols": land_map.shape[1],
        "factor": page.factor,
        "transform": list(land_map.transform)[:6],
        "wgs84": view_place.is_wgs84(land_map.crs),
        "place": page.place,
        "meaning": page.meaning,
        "titles": {
            "map": _short(land_map.path),
            "before": page.before and f"before: {_short(page.before)}",
            "scene": "scene",
        },
        "scene": None if page.picture is None else {"box": page.picture.box},
        "counts": {
            name: {str(v): int(found[v]) for v in np.flatnonzero(found)}
            for name, found in counts.items()
        },
        "classes": [
            {"name": name, "code": code, "colour": colour}
            for name, code, colour in zip(
                classes.names, classes.codes, classes.colours, strict=True
            )
        ],
    }


def _short(path: str) -> str:
    """A file's name without its folder."""
    return os.path.basename(path)


def _images(page: Page) -> str:
    """Layers and scene as images that the script reads; nobody sees them as they are."""
    found = [
        (name, "png", imagecodecs.png_encode(np.ascontiguousarray(layer), level=9))
        for name, layer in page.layers.items()
    ]
    if page.picture is not None:
        rgba = np.ascontiguousarray(page.picture.rgba)
        lossless = rgba[..., 0].size <= _LOSSLESS
        level = None if lossless else _QUALITY
        found.append(
            ("scene", "webp", imagecodecs.webp_encode(rgba, level=level, lossless=lossless))
        )
    return "\n".join(
        f'<img id="layer-{name}" alt="" hidden src="data:image/{kind};base64,'
        f'{base64.b64encode(bytes(data)).decode()}">'
        for name, kind, data in found
    )


def _modes(page: Page) -> str:
    """What can be compared with the map."""
    ways = {"over": "map over scene" if page.picture else "map"}
    if page.before:
        ways["before"] = "before | map"
    if page.picture:
        ways["scene"] = "scene | map"
    if len(ways) == 1:
        return ""
    return (
        '<fieldset class="modes"><legend class="unseen">Show</legend>'
        + "".join(
            f'<label><input type="radio" name="mode" value="{value}"'
            f"{' checked' if value == 'over' else ''}> {words}</label>"
            for value, words in ways.items()
        )
        + "</fieldset>"
    )


def _legend(page: Page) -> str:
    """Rows of classes that occur, the largest first; then pixels without a class."""
    tally, other = page.tally, page.tally_before
    classes = page.land_map.nomenclature
    pixels = tally.pixels + (0 if other is None else other.pixels)
    rows = []
    for c in np.argsort(-tally.hectares, kind="stable").tolist():
        if not pixels[c]:
            continue
        name, colour = escape(classes.names[c]), classes.colours[c]
        rows.append(
            f'<tr data-class="{c}"><td><input type="checkbox" checked '
            f'aria-label="show {name}"></td><th scope="row"><button type="button" class="name" '
            f'aria-pressed="false"><span class="chip" style="background:{colour};'
            f'color:{_ink(colour)}">{classes.codes[c]}</span><span>{name}</span></button></th>'
            f"{_cell(tally, other, c, share=True)}{_cell(tally, other, c, share=False)}</tr>"
        )
    absent = [name for name, n in zip(classes.names, pixels, strict=True) if not n]
    none = f'<p class="soft">Without any pixel: {escape(", ".join(absent))}.</p>' if absent else ""
    if tally.nodata_pixels or (other is not None and other.nodata_pixels):
        was = "" if other is None else f"<small>{other.nodata_hectares:,.1f}</small>"
        rows.append(
            '<tr class="soft"><td></td><th scope="row"><span class="chip none"></span>'
            f"{area_table.NO_CLASS}</th><td></td><td>{tally.nodata_hectares:,.1f}{was}</td></tr>"
        )
    was = "" if other is None else "<small>before</small>"
    return (
        f'<table id="legend"><thead><tr><th scope="col"><span class="unseen">shown</span></th>'
        f'<th scope="col">class</th><th scope="col">share{was}</th>'
        f'<th scope="col">hectares{was}</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>{none}"
    )


def _cell(tally: Tally, other: Tally | None, c: int, share: bool) -> str:
    """A share or an area, with the other map's below it."""
    texts = []
    for one in (tally, other):
        if one is not None:
            covered = one.hectares.sum()
            value = one.hectares[c]
            texts.append(f"{value / covered:.2%}" if share else f"{value:,.1f}")
    was = f"<small>{texts[1]}</small>" if len(texts) > 1 else ""
    return f"<td>{texts[0]}{was}</td>"


def _ink(colour: str) -> str:
    """Black or white, whichever reads better on a colour (WCAG 2.1, relative luminance)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return "#000" if np.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.179 else "#fff"
