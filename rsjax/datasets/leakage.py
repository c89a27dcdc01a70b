"""How far patches of different splits lie apart: what a test says of new places depends on it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from rsjax.datasets.scene_list_checks import SPLITS
from rsjax.errors import DatasetError

FILE = "leakage.json"  # beside the shards


def report(
    corners: np.ndarray,
    keys: list[str],
    split: list[str],
    dropped: dict[str, int],
    refuse: bool = True,
) -> dict[str, Any]:
    """Measures the distances between splits, from the patches themselves and not from the rule.

    Args:
        corners: (patches, 4, 2) of the patches kept, in metres of one plane.
        keys: their keys, for messages.
        split: name of the split of each.
        dropped: reason -> patches left out for it.
        refuse: whether shared ground is an error, or counted (where a dataset leaves no patch
            out for it).

    Returns:
        patches (split -> number), nearest_m ('a-b' -> metres between the nearest patches of
        splits a and b), overlaps (pairs of patches of different splits that share ground; 0 where
        they are refused), dropped.

    Raises:
        DatasetError: patches of different splits overlap; names a pair.
    """
    import shapely  # by those alone who have patches to measure

    from rsjax.datasets import blocks

    shapes, names = blocks.polygons(corners), np.array(split)
    present = [name for name in SPLITS if name in names]
    nearest: dict[str, float] = {}
    overlaps = 0
    for one, other in itertools.combinations(present, 2):
        a, b = np.flatnonzero(names == one), np.flatnonzero(names == other)
        meeting = blocks.meeting(shapes[a], shapes[b], 0.0)
        overlaps += meeting.shape[1]
        if meeting.size and refuse:
            i, j = a[meeting[0, 0]], b[meeting[1, 0]]
            raise DatasetError(
                f"{meeting.shape[1]} pairs of patches of splits '{one}' and '{other}' share "
                f"ground, expected none: e.g. {keys[i]} and {keys[j]}. Give places that "
                "overlap one split, or state split.buffer_m"
            )
        tree = shapely.STRtree(shapes[b])
        _, found = tree.query_nearest(shapes[a], return_distance=True, all_matches=False)
        # The shapes are a millionth smaller than the patches.
        nearest[f"{one}-{other}"] = round(float(found.min()), 2)
    return {
        "patches": {name: int((names == name).sum()) for name in present},
        "nearest_m": nearest,
        "overlaps": overlaps,
        "dropped": {reason: count for reason, count in dropped.items() if count},
    }


def lines(found: dict[str, Any]) -> list[str]:
    """A report in words, one line a fact."""
    said = [
        f"between {pair.replace('-', ' and ')}: {metres:,.1f} m"
        + (", no overlap" if not found["overlaps"] else "")
        for pair, metres in found["nearest_m"].items()
    ]
    if found["overlaps"]:
        said.append(f"{found['overlaps']:,} pairs of patches of different splits share ground")
    said += [f"left out, {reason}: {count} patches" for reason, count in found["dropped"].items()]
    return said


def page(found: dict[str, Any]) -> str:
    """A report as a part of the card beside the shards."""
    return "\n## How far splits lie apart\n\n" + "".join(f"- {line}\n" for line in lines(found))
