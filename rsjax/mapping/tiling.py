"""How a scene is covered with windows of one size, and how what they give is blended.

Along each axis windows start every `window - overlap` pixels; the last one is shifted inwards, so
that all but the smallest scenes are seen through real pixels only. What is left over (a scene that
is smaller than a window, or a last window that must start at a whole pixel of a coarser band) is
mirrored at the scene's edge. Every window has the same shape, so a model is compiled once.

Weights fall off over the overlap as a Hann (raised cosine) window and are normalised along each
axis, so that those of all windows sum to one at every pixel; two axes are the product of one each.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rsjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Axis:
    """Windows along rows or columns.

    Attributes:
        size: pixels of the scene.
        window: pixels of a window.
        starts: first pixel of each window; below 0 or such that a window ends beyond `size` where
            the scene is to be mirrored.
        weights: float32 (windows, window): share of each window in each of its pixels.
    """

    size: int
    window: int
    starts: tuple[int, ...]
    weights: np.ndarray

    @property
    def end(self) -> int:
        """One past the last pixel of the last window."""
        return self.starts[-1] + self.window


def blended(size: int, window: int, overlap: int, step: int = 1) -> Axis:
    """Windows that cover every pixel, with weights that sum to one at each.

    Args:
        size: pixels of the scene, 1 or more.
        window: pixels of a window.
        overlap: pixels that neighbours share at least; 0: they meet.
        step: starts are multiples of it, so that they are whole pixels of coarser bands.

    Raises:
        ConfigError: sizes that cannot work.
    """
    _check(window, overlap, step)
    stride = window - overlap
    last = step * max(0, math.ceil((size - window) / step))
    starts = (*range(0, last, stride), last)
    x = np.arange(window) + 0.5
    taper = np.ones(window)
    if overlap:
        taper = np.sin(np.pi / 2 * np.minimum(1, np.minimum(x, window - x) / overlap)) ** 2
    total = np.zeros(last + window)
    for start in starts:
        total[start : start + window] += taper
    weights = np.stack([taper / total[start : start + window] for start in starts])
    return Axis(size, window, starts, weights.astype(np.float32))


def cells(size: int, window: int, overlap: int, step: int = 1) -> Axis:
    """Windows around cells of `window - overlap` pixels each, for one answer a window.

    A window reaches beyond its cell by half the overlap on either side; beyond the scene it is
    mirrored. The last cell may reach beyond the scene.

    Args:
        size: pixels of the scene, 1 or more.
        window: pixels of a window.
        overlap: pixels that neighbours share.
        step: see `blended`.

    Raises:
        ConfigError: sizes that cannot work.
    """
    _check(window, overlap, step)
    stride = window - overlap
    first = -(overlap // 2 // step) * step
    starts = tuple(first + stride * i for i in range(math.ceil(size / stride)))
    return Axis(size, window, starts, np.ones((len(starts), window), np.float32))


def rounded(width: int, step: int) -> int:
    """A width that is not less, of few: eight to each doubling, so at most an eighth more.

    Args:
        width: pixels, a multiple of `step`.
        step: of which the result is a multiple too.
    """
    unit = step * max(1, (1 << max(0, width.bit_length() - 4)) // step)
    return -(-width // unit) * unit


def mirrored(start: int, stop: int, size: int) -> np.ndarray:
    """Pixels of the scene that stand for start .. stop - 1: int64, each in [0, size).

    Beyond an edge pixels come back in reverse order, the one at the edge first, as often as needed
    (numpy's 'symmetric'), so that this works for a scene of a single pixel.
    """
    at = np.arange(start, stop) % (2 * size)
    return np.asarray(np.where(at < size, at, 2 * size - 1 - at))


def _check(window: int, overlap: int, step: int) -> None:
    if window < 1 or window % step:
        raise ConfigError(
            f"window={window}, expected a multiple of {step} above 0"
            + (f": a pixel of the coarsest band has {step} of the map's" if step > 1 else "")
        )
    if not 0 <= overlap < window or (window - overlap) % step:
        raise ConfigError(
            f"overlap={overlap}, expected 0 to below the window of {window} pixels"
            + (f", in multiples of {step}" if step > 1 else "")
        )
