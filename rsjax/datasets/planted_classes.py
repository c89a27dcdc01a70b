"""The classes of Planted: the packaged table of species, or those that a download names itself."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from rsjax import landcover

_GOLDEN = 0.618034  # of a turn: hues that follow each other lie far apart


def nomenclature(level: str, names: Sequence[str]) -> str:
    """The name of the packaged table, or of one with a download's names and colours of our own.

    Args:
        level: 'species', 'genus' or 'common_name'.
        names: in the order of the download; none: it has none.

    Returns:
        What `rsjax.landcover.load` takes in this process.

    Raises:
        NomenclatureError: a name that is there twice, or too many.
    """
    if level == "species" and (not names or sorted(names) == sorted(_species())):
        return "planted_species"
    return landcover.register(
        landcover.Nomenclature(
            name=f"planted_{level}",
            title=f"Planted, {len(names)} classes of level {level}",
            source="the download's own list, https://arxiv.org/abs/2406.18554; colours ours",
            codes=tuple(range(len(names))),
            names=tuple(names),
            colours=tuple(map(_colour, range(len(names)))),
            parents=(None,) * len(names),
        )
    )


def _species() -> tuple[str, ...]:
    return landcover.load("planted_species").names


def _colour(index: int) -> str:
    value, strength = (0.95, 0.7, 0.45)[index % 3], (0.85, 0.55)[index // 3 % 2]
    rgb = colorsys.hsv_to_rgb(index * _GOLDEN % 1, strength, value)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
