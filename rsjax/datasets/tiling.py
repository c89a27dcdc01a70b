"""Large images as tiles of one size, in order, the last of a row or column shifted inwards.

Keys are `<image>@<row>_<column>`, the offset in pixels of the tile's upper left corner. Tiles of
one image follow each other, so that the image decoded last is all that need be kept.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np

from rsjax.errors import ConfigError
from rsjax.landcover import IGNORE

_KEY = re.compile(r"(.+)@(\d{1,6})_(\d{1,6})")

T = TypeVar("T")


class Latest(Generic[T]):
    """The value computed last, by name; copies and pickles of it are empty."""

    def __init__(self) -> None:
        self._held: tuple[str, T] | None = None

    def get(self, name: str, make: Callable[[], T]) -> T:
        """The value of this name, made now unless it was the last one asked for."""
        held = self._held  # threads may replace it in between
        if held is None or held[0] != name:
            held = self._held = (name, make())
        return held[1]

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), ()


def positive(option: str, value: int) -> int:
    """`value`, if it is a whole number above 0; otherwise a ConfigError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{option}={value!r}, expected a whole number of pixels above 0")
    return value


def offsets(size: int, tile: int) -> list[int]:
    """Where tiles begin along one axis; one tile at 0 where the image is smaller than a tile."""
    last = max(size - tile, 0)
    return [*range(0, last, tile), last]


def keys(image: str, height: int, width: int, tile: int) -> list[str]:
    """The keys of an image's tiles, row by row."""
    places = itertools.product(offsets(height, tile), offsets(width, tile))
    return [f"{image}@{row}_{column}" for row, column in places]


def parse(key: str) -> tuple[str, int, int] | None:
    """Image, row and column of a key; None where it is no key."""
    found = _KEY.fullmatch(key)
    return (found[1], int(found[2]), int(found[3])) if found else None


def cut(array: np.ndarray, row: int, column: int, tile: int, fill: int = 0) -> np.ndarray:
    """A tile of an image, (..., height, width, bands) -> (..., tile, tile, bands).

    What lies beyond the image has the value `fill`.
    """
    inside = array[..., row : row + tile, column : column + tile, :]
    height, width = inside.shape[-3:-1]
    if (height, width) == (tile, tile):
        return np.ascontiguousarray(inside)
    whole = np.full((*array.shape[:-3], tile, tile, array.shape[-1]), fill, array.dtype)
    whole[..., :height, :width, :] = inside
    return whole


def cut_mask(mask: np.ndarray, row: int, column: int, tile: int) -> np.ndarray:
    """A tile of a mask, (height, width) -> (tile, tile), where every pixel counts in one tile only.

    Pixels that the tile above or to the left has, because this one was shifted inwards, and those
    beyond the image are 255 (ignore).
    """
    found = cut(mask[..., None], row, column, tile, IGNORE)[..., 0]
    found[: -row % tile] = IGNORE
    found[:, : -column % tile] = IGNORE
    return found
