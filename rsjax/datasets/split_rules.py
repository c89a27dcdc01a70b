"""Splits by place, for datasets that come without: whole blocks of the ground in one split each.

Neighbouring patches look alike, so a random split tests on what was trained on; see Roberts et al.
2017, https://doi.org/10.1111/ecog.02881. A rule by class is `rsjax.datasets.splits.stratified`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from rsjax.datasets import splits
from rsjax.errors import ConfigError, DatasetError

# The shares of the stratified rule, so that the two differ by place alone.
SHARES = {
    "train": (100 - splits.TEST_PERCENT - splits.VALIDATION_PERCENT) / 100,
    "validation": splits.VALIDATION_PERCENT / 100,
    "test": splits.TEST_PERCENT / 100,
}

_ROUNDING = 1e-6  # of a block; as in `rsjax.datasets.blocks`

B = TypeVar("B", bound=tuple[str | int, ...])  # what names a block, e.g. zone, column, row
S = TypeVar("S")  # what names a split


def draw(counts: Mapping[B, int], shares: Mapping[S, float], seed: int) -> dict[B, S]:
    """A split for each block of samples.

    Blocks are taken in the order of the sha256 hex digest of '<seed> <block>', the parts of a
    block's name with spaces between; each goes to the split that then lacks most samples of its
    share, and the last ones to splits that would stay empty. So no split gets more than its share
    by as much as its last block, and every split gets a block. The order of the blocks given, and
    the versions of Python and NumPy, do not matter.

    Args:
        counts: block -> number of its samples; at least as many blocks as splits.
        shares: split -> share of the samples, above 0.
        seed: another seed gives another split.

    Returns:
        block -> split.
    """
    lacks = {split: share * sum(counts.values()) for split, share in shares.items()}
    chosen: dict[B, S] = {}
    empty = list(shares)
    order = sorted(counts, key=lambda block: _digest(seed, block))
    for number, block in enumerate(order):
        may = empty if len(order) - number == len(empty) else list(shares)
        split = max(may, key=lambda name: lacks[name])  # of equals the first
        chosen[block] = split
        lacks[split] -= counts[block]
        empty = [name for name in empty if name != split]
    return chosen


def _digest(seed: int, block: tuple[str | int, ...]) -> str:
    return hashlib.sha256(" ".join(map(str, (seed, *block))).encode()).hexdigest()


def blocks(
    ids: Sequence[str],
    x: Sequence[float],
    y: Sequence[float],
    block: float,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    zones: Sequence[str] | None = None,
) -> dict[str, str]:
    """The split of each sample: samples of one block are never in two splits.

    The ground is cut into squares by whole multiples of `block`, which `draw` gives to the splits
    by their zone, column and row. A point on the line between two squares is in the second,
    whatever its last digits. The order of the samples does not matter.

    Args:
        ids: one of a kind for each sample.
        x: of a point of each sample, e.g. the patch's centre, in the unit of `block`.
        y: likewise.
        block: side of a block, e.g. in metres; many times the distance of neighbouring samples.
        shares: split -> share of the samples, above 0, together 1.
        seed: see `draw`.
        zones: of each sample the coordinate system that x and y are in, where they are not in one:
            blocks of two zones are two blocks.

    Returns:
        id -> split, in the order of `ids`.

    Raises:
        ConfigError: a block or shares that cannot be.
        DatasetError: an id given twice, coordinates that are missing or not finite, or fewer
            blocks than splits.
    """
    _check(ids, x, y, block, shares, zones)
    place: dict[str, tuple[str, int, int]] = {}
    counts: dict[tuple[str, int, int], int] = {}
    for key, across, up, zone in zip(ids, x, y, zones or [""] * len(ids), strict=True):
        col, row = (math.floor(value / block + _ROUNDING) for value in (across, up))
        place[key] = (zone, col, row)
        counts[place[key]] = counts.get(place[key], 0) + 1
    if len(counts) < len(shares):
        raise DatasetError(
            f"{len(ids)} samples lie in {len(counts)} blocks of {block:g}, expected at least one "
            f"for each of {', '.join(shares)}; choose smaller blocks, or another split rule"
        )
    chosen = draw(counts, shares, seed)
    return {key: chosen[one] for key, one in place.items()}


def _check(
    ids: Sequence[str],
    x: Sequence[float],
    y: Sequence[float],
    block: float,
    shares: Mapping[str, float],
    zones: Sequence[str] | None,
) -> None:
    if not (block > 0 and math.isfinite(block)):
        raise ConfigError(f"block={block!r}, expected a length above 0")
    if not shares or min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1):
        raise ConfigError(f"shares={dict(shares)}, expected numbers above 0 that sum to 1")
    given = {"x": x, "y": y} | ({"zones": zones} if zones is not None else {})
    for name, values in given.items():
        if len(values) != len(ids):
            raise DatasetError(f"{len(values)} {name} for {len(ids)} samples, expected one each")
    seen: set[str] = set()
    for key, across, up in zip(ids, x, y, strict=True):
        if key in seen:
            raise DatasetError(f"sample {key!r} is there twice, expected each once")
        if not (math.isfinite(across) and math.isfinite(up)):
            raise DatasetError(
                f"sample {key!r} lies at {across}, {up}, expected numbers; restore its "
                "coordinates, or use another split rule"
            )
        seen.add(key)
