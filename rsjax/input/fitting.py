"""Images of varying size, and series of varying length, brought to one shape on the host."""

from __future__ import annotations

import numpy as np

NONE = (0, 0, 0)


def wanted(shape: tuple[int, ...], fit: tuple[int, int, int]) -> tuple[int, ...]:
    """The shape that images of an entry are brought to; a size stays 0 where nothing says it.

    Args:
        shape: of the entry, (height, width, bands) or with steps before; 0 where it varies.
        fit: (steps, rows, columns) for sizes that vary, 0 where none is given.
    """
    sides, bands = shape[:-1], shape[-1]
    given = fit[-len(sides) :]
    return (*(have or want for have, want in zip(sides, given, strict=True)), bands)


def fit(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An image or a series brought to `shape`.

    (H, W, C) is cropped, or padded by reflection, about its centre. Of (T, H, W, C) as many steps
    as asked for are taken, evenly spread, some repeatedly where it has fewer.
    """
    if image.ndim == 4 and len(image) != shape[0]:
        image = image[np.linspace(0, len(image) - 1, shape[0]).round().astype(int)]
    for axis in (image.ndim - 3, image.ndim - 2):
        have, want = image.shape[axis], shape[axis]
        if have > want:
            start = (have - want) // 2
            image = np.take(image, range(start, start + want), axis)
        elif have < want:
            before = (want - have) // 2
            widths = [(0, 0)] * image.ndim
            widths[axis] = (before, want - have - before)
            image = np.pad(image, widths, "reflect")
    return image
