"""Cuts images that are larger than a training sample into square windows.

Windows start every `tile_px - overlap_px` pixels from the upper left corner, row by row. At the
right and lower edge `edges='shift'` moves the last window inwards, so that every pixel is a real
one and all are covered; `edges='pad'` lets it reach beyond the image. Where a window reaches
beyond the image (also with 'shift', where the image is smaller than a tile), the image is mirrored
at its edge and the labels are 255.

A key is `<image>@<row>_<column>`: the image and the offset of the window in pixels. Keys of one
image follow each other, so that the last decoded image is the only one to be kept.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from rsjax.datasets import base
from rsjax.errors import ConfigError
from rsjax.landcover import IGNORE

T = TypeVar("T")

EDGES = ("shift", "pad")
_MIN_PX, _MAX_PX = 32, 4096  # models take 32 pixels and more; samples beyond 48 MB help nobody
_KEY = re.compile(r"(.+)@(\d+)_(\d+)")


class Window(NamedTuple):
    """A window: its first row and column, and how much of it earlier windows have shown.

    Attributes:
        row: first row in the image.
        column: first column in the image.
        seen_rows: rows of the window, from its top, that an earlier one covers.
        seen_columns: columns of the window, from its left, that an earlier one covers.
    """

    row: int
    column: int
    seen_rows: int
    seen_columns: int


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How images are cut; see the module.

    Attributes:
        tile_px: side of a window in pixels.
        overlap_px: pixels that neighbouring windows share at least.
        edges: 'shift' or 'pad'.

    Raises:
        ConfigError: a value that cannot work.
    """

    tile_px: int
    overlap_px: int = 0
    edges: str = "shift"

    def __post_init__(self) -> None:
        base.choice("edges", self.edges, EDGES)
        if not (isinstance(self.tile_px, int) and _MIN_PX <= self.tile_px <= _MAX_PX):
            raise ConfigError(
                f"tile_px={self.tile_px!r}, expected whole pixels from {_MIN_PX} to {_MAX_PX}"
            )
        if not (isinstance(self.overlap_px, int) and 0 <= self.overlap_px <= self.tile_px // 2):
            raise ConfigError(
                f"overlap_px={self.overlap_px!r}, expected whole pixels from 0 to half of "
                f"tile_px={self.tile_px}"
            )

    @property
    def options(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return dataclasses.asdict(self)

    def starts(self, side: int) -> list[int]:
        """First pixels of the windows along a side of the image."""
        step = self.tile_px - self.overlap_px
        count = max(-(-(side - self.overlap_px) // step), 1)
        last = max(side - self.tile_px, 0) if self.edges == "shift" else side
        return [min(i * step, last) for i in range(count)]

    def windows(self, height: int, width: int) -> list[Window]:
        """The windows of an image, row by row."""
        rows, columns = self._seen(height), self._seen(width)
        return [Window(row, column, up, left) for row, up in rows for column, left in columns]

    def count(self, height: int, width: int) -> int:
        """The number of windows of an image."""
        return len(self.starts(height)) * len(self.starts(width))

    def _seen(self, side: int) -> list[tuple[int, int]]:
        starts = self.starts(side)
        ends = [0, *(start + self.tile_px for start in starts)]
        return [(start, max(end - start, 0)) for start, end in zip(starts, ends, strict=False)]

    def cut(self, image: np.ndarray, window: Window) -> np.ndarray:
        """A copy of a window, mirrored where it reaches beyond the image.

        Args:
            image: (height, width) or (height, width, bands).
            window: one of `windows`.

        Returns:
            (tile_px, tile_px) or (tile_px, tile_px, bands).
        """
        part = self._inside(image, window)
        if part.shape[:2] == (self.tile_px, self.tile_px):
            return part.copy()
        rows, columns = (
            _mirrored(np.arange(start, start + self.tile_px), side)
            for start, side in zip((window.row, window.column), image.shape[:2], strict=True)
        )
        return image[np.ix_(rows, columns)]

    def cut_mask(self, mask: np.ndarray, window: Window, once: bool) -> np.ndarray:
        """A copy of a window of class indices, 255 where it reaches beyond the image.

        Args:
            mask: (height, width).
            window: one of `windows`.
            once: whether pixels that an earlier window has become 255, too, so that over all
                windows of an image each of its labels comes once.
        """
        part = self._inside(mask, window)
        cut = np.full((self.tile_px, self.tile_px), IGNORE, np.uint8)
        cut[: part.shape[0], : part.shape[1]] = part
        if once:
            cut[: window.seen_rows] = IGNORE
            cut[:, : window.seen_columns] = IGNORE
        return cut

    def _inside(self, image: np.ndarray, window: Window) -> np.ndarray:
        """The part of a window that is in the image, not copied."""
        (row, column), side = window[:2], self.tile_px
        return image[row : row + side, column : column + side]


def _mirrored(positions: np.ndarray, side: int) -> np.ndarray:
    """Positions along a side of the image; those beyond its end run back, and forth again."""
    positions = positions % (2 * side)
    return np.where(positions < side, positions, 2 * side - 1 - positions)


def key_of(image: str, window: Window) -> str:
    """The key of a window of an image."""
    return f"{image}@{window.row}_{window.column}"


def parse_key(key: str) -> tuple[str, int, int] | None:
    """Image, row and column of a key; None where it is none."""
    found = _KEY.fullmatch(key)
    return (found[1], int(found[2]), int(found[3])) if found else None


class Last(Generic[T]):
    """Keeps the last value made, for threads that mostly want the same one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[str, T] | None = None

    def __reduce__(self) -> tuple[type[Last[T]], tuple[()]]:
        return Last, ()  # a copy in another process begins empty

    def get(self, key: str, make: Callable[[], T]) -> T:
        """The value of this key: the one kept, or a new one, which only one thread makes."""
        kept = self._kept  # read once: another thread may replace it at any time
        if kept and kept[0] == key:
            return kept[1]
        with self._lock:
            if self._kept and self._kept[0] == key:
                return self._kept[1]
            self._kept = None  # never two large images at a time
            value = make()
            self._kept = (key, value)
            return value
