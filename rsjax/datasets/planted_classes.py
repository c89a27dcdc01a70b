"""The classes of Planted: the packaged table of species, or those that a download names itself."""

from __future__ import annotations

import colorsys
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Sequence

from rsjax import landcover

_GOLDEN = 0.618034  # of a turn: hues that follow each other lie far apart


def nomenclature(level: str, names: Sequence[str]) -> str:
    """The name of the packaged table, or the path of one that is written for a download's names.

    Args:
        level: 'species', 'genus' or 'common_name'.
        names: in the order of the download; none: it has none.

    Returns:
        What `rsjax.landcover.load` takes.
    """
    if level == "species" and (not names or set(names) == set(_species())):
        return "planted_species"
    text = table(level, names)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = pathlib.Path(tempfile.gettempdir()) / f"rsjax-{os.getuid()}-classes-{digest}"
    path = folder / f"planted_{level}.csv"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        temporary = folder / f".{os.getpid()}.tmp"  # workers write it side by side
        temporary.write_text(text)
        temporary.replace(path)
    return os.fspath(path)


def table(level: str, names: Sequence[str]) -> str:
    """A nomenclature as CSV text, with colours of our own."""
    rows = [f'{i},"{name}",{_colour(i)},,' for i, name in enumerate(names)]
    head = (
        f"# title: Planted, {len(names)} classes of level {level}\n"
        "# source: the download's own list, https://arxiv.org/abs/2406.18554; colours ours\n"
        "code,name,colour,parent,ignore\n"
    )
    return head + "\n".join(rows) + "\n"


def _species() -> tuple[str, ...]:
    return landcover.load("planted_species").names


def _colour(index: int) -> str:
    value, strength = (0.95, 0.7, 0.45)[index % 3], (0.85, 0.55)[index // 3 % 2]
    rgb = colorsys.hsv_to_rgb(index * _GOLDEN % 1, strength, value)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
