"""The map of changes: a class for each pair that occurs, and one for all that did not change."""

from __future__ import annotations

import collections
import itertools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rsjax.datasets.scene_area import Area
from rsjax.landcover import IGNORE, Nomenclature
from rsjax.mapping import writer
from rsjax.mapping.change_pair import Pair

UNCHANGED, OTHER = 1, 2  # codes
MOST = 253  # pairs that have a class of their own: with the two above as many as a map may have
GREY, DARK = "#eeeeee", "#404040"
NEW_SHARE = 0.75  # of the new class's colour in that of a change; the rest is the old one's


def nomenclature(pixels: np.ndarray, classes: Nomenclature) -> tuple[Nomenclature, np.ndarray]:
    """The classes of a map of changes.

    Codes: 1 unchanged, 2 any other change, else 100 (with 100 or more classes: 256) times the
    position of the class before plus that of the class after, positions counted from 1; they are
    the same in all maps of changes between the same classes. 'Other change' is there also where no
    pixel has it, for reference samples that find what the map lacks; with more than 253 pairs the
    rarer ones are in it.

    Args:
        pixels: (C, C) of the whole map; rows: before, columns: after.
        classes: the C classes.

    Returns:
        The nomenclature, and (C, C) uint8 its class index of each pair.
    """
    count = len(classes)
    base = 100 if count < 100 else 256
    moved = pixels.copy()
    np.fill_diagonal(moved, 0)
    order = np.argsort(-moved, axis=None, kind="stable")[:MOST]
    pairs = [divmod(flat, count) for flat in sorted(order[moved.ravel()[order] > 0].tolist())]
    index = np.ones((count, count), np.uint8)
    np.fill_diagonal(index, 0)
    for place, (i, j) in enumerate(pairs, 2):
        index[i, j] = place
    made = Nomenclature(
        name=f"{classes.name}_change",
        title=f"Changes of {classes.title}",
        source=f"classes and colours: {classes.source}; a change has the new class's colour with a "
        "quarter of the old one's",
        codes=(UNCHANGED, OTHER, *(base * (i + 1) + j + 1 for i, j in pairs)),
        names=("unchanged", "other change", *_names(classes, pairs)),
        colours=(GREY, DARK, *(_mix(classes.colours[i], classes.colours[j]) for i, j in pairs)),
        parents=(None,) * (len(pairs) + 2),
    )  # fmt: skip
    return made, index


def _names(classes: Nomenclature, pairs: list[tuple[int, int]]) -> list[str]:
    """'forest to water'; where two pairs could be meant, with the codes of the classes."""
    every = itertools.permutations(classes.names, 2)
    spoken = collections.Counter(f"{old} to {new}" for old, new in every)
    names = []
    for i, j in pairs:
        name = f"{classes.names[i]} to {classes.names[j]}"
        codes = f" ({classes.codes[i]} to {classes.codes[j]})" if spoken[name] > 1 else ""
        names.append(name + codes)
    return names


def _mix(old: str, new: str) -> str:
    parts = zip(writer.rgb(old), writer.rgb(new), strict=True)
    return "#" + "".join(f"{round((1 - NEW_SHARE) * a + NEW_SHARE * b):02x}" for a, b in parts)


def write(
    output: pathlib.Path,
    pair: Pair,
    pixels: np.ndarray,
    provenance: dict[str, Any],
    more: Callable[[Nomenclature, dict[str, int]], Mapping[str, bytes]] = lambda *_: {},
) -> list[pathlib.Path]:
    """Writes the map of changes and what lies beside it: see `rsjax.mapping.writer`.

    Args:
        output: the map, a .tif.
        pair: the two maps.
        pixels: (C, C) transition matrix of all of it.
        provenance: for its tags.
        more: gives name and content of other files to be written beside it, all or none of them;
            is told the map's nomenclature, and how many pixels have no class `before`, `after` and
            in `both`.

    Returns:
        The files, the map first.

    Raises:
        RsjaxError: it cannot be written, or the maps cannot be read; nothing is left then.
    """
    made, index = nomenclature(pixels, pair.classes)
    table = np.zeros((IGNORE + 1, IGNORE + 1), np.uint8)
    table[: len(index), : len(index)] = index
    area = Area(pair.crs, pair.transform, *pair.shape)
    absent = {"before": 0, "after": 0, "both": 0}
    with writer.open_writer(output, area, made, provenance, "none", False) as out:
        for before, after in pair.strips():
            none = before == IGNORE, after == IGNORE
            out.write({"classes": table[before, after]}, none[0] | none[1])
            both = int((none[0] & none[1]).sum())
            absent["both"] += both
            absent["before"] += int(none[0].sum()) - both
            absent["after"] += int(none[1].sum()) - both
        return out.finish(more(made, absent))
