"""What the JSON of a MultiSenGE patch says: the images of its series, and its classes."""

from __future__ import annotations

import datetime
import json
import re

import numpy as np

from rsjax.datasets import tiff


def parse(content: bytes, where: str) -> dict[str, str]:
    """The JSON of a patch.

    Raises:
        DatasetError: no JSON, or a value that is missing or no text.
    """
    try:
        note = json.loads(content)
    except ValueError as error:
        raise tiff.error(where, f"no JSON ({error})", "a whole JSON file") from error
    for name in ("corresponding_s2", "corresponding_s1", "labels"):
        if not isinstance(note, dict) or not isinstance(note.get(name), str):
            raise tiff.error(where, f"no text {name!r}", "values joined by ';'")
    return dict(note)


def series(note: dict[str, str], kind: str, key: str, where: str) -> list[tuple[str, str]]:
    """(ISO date, file name) of every image of a series by date; the JSON has them in no order.

    Args:
        note: from `parse`.
        kind: 's2' or 's1'.
        key: the patch.
        where: path of the JSON.

    Raises:
        DatasetError: a name that is not of this patch, or a date that is repeated or none.
    """
    tile, _, offset = key.partition("_")
    pattern = re.compile(rf"{tile}_(\d{{8}})_{kind.upper()}_{offset}\.tif")
    found: dict[str, str] = {}
    for name in note[f"corresponding_{kind}"].split(";"):
        match = pattern.fullmatch(name.strip())
        try:
            date = match and datetime.datetime.strptime(match[1], "%Y%m%d").date().isoformat()
        except ValueError:
            date = None
        if date is None or date in found:
            expected = f"names as {tile}_20200405_{kind.upper()}_{offset}.tif, each date once"
            raise tiff.error(where, f"{name!r} in 'corresponding_{kind}'", expected)
        found[date] = name.strip()
    return sorted(found.items())


def codes(note: dict[str, str], where: str) -> np.ndarray:
    """The class codes that a patch has, int (K,).

    Raises:
        DatasetError: anything but numbers joined by ';'.
    """
    words = [word.strip() for word in note["labels"].split(";")]
    if not all(word.isdecimal() for word in words):
        raise tiff.error(where, f"labels {note['labels']!r}", "class codes joined by ';'")
    return np.array(words, int)
