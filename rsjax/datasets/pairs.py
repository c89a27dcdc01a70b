"""What change detection datasets share: masks of two values in a picture."""

from __future__ import annotations

import numpy as np

from rsjax.datasets import folder_images
from rsjax.errors import DatasetError


def read_change(
    data: bytes, where: str, shape: tuple[int, int], values: tuple[int, int] = (0, 255)
) -> np.ndarray:
    """A mask of changes, uint8 (height, width): 0 unchanged, 1 changed.

    Args:
        data: the whole PNG or TIFF: one band, or grey written as 3 or 4 bands that are the same.
        where: its path, for messages.
        shape: the (height, width) it must have.
        values: those that mean unchanged and changed.

    Raises:
        DatasetError: damaged, of another size or dtype, in colours, or with a third value.
    """
    image = folder_images.look(data, where)
    if image.shape[:2] != shape or image.dtype != "uint8":
        raise DatasetError(
            f"{where}: {image.describe()}, expected {shape[0]}x{shape[1]} pixels of uint8, as its "
            "images. Restore the file from the original download, or leave the sample out"
        )
    found = folder_images.pixels(image) if image.shape[2] > 1 else folder_images.codes(image)
    if found.ndim == 3:
        bands = found.shape[2]
        grey = found[..., : bands if bands % 2 else bands - 1]
        opaque = bands % 2 or (found[..., -1] == 255).all()
        if not opaque or (grey != grey[..., :1]).any():
            raise DatasetError(
                f"{where}: {bands} bands that differ or are transparent, expected grey: "
                f"{values[0]} unchanged, {values[1]} changed. Restore the file from the original "
                "download"
            )
        found = grey[..., 0]
    wrong = (found != values[0]) & (found != values[1])
    if wrong.any():
        row, column = (int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
        raise DatasetError(
            f"{where}: value {found[row, column]} at (row, col) ({row}, {column}) and "
            f"{int(wrong.sum())} such pixels in all, expected {values[0]} (unchanged) and "
            f"{values[1]} (changed) alone. Restore the file from the original download: a mask "
            "that was resampled or saved as JPEG has values in between"
        )
    return np.asarray(found == values[1]).astype(np.uint8)
