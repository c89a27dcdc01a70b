"""What change detection datasets share: masks of 0 and 255 in a picture."""

from __future__ import annotations

import numpy as np

from rsjax.datasets import folder_images
from rsjax.errors import DatasetError


def read_change(data: bytes, where: str, shape: tuple[int, int]) -> np.ndarray:
    """A mask of changes, uint8 (height, width): 0 unchanged, 1 changed.

    Args:
        data: the whole PNG or TIFF: one band, or grey written as 3 or 4 bands that are the same.
        where: its path, for messages.
        shape: the (height, width) it must have.

    Raises:
        DatasetError: damaged, of another size or dtype, in colours, or with a value other than 0
            and 255.
    """
    image = folder_images.look(data, where)
    if image.shape[:2] != shape or image.dtype != "uint8":
        raise DatasetError(
            f"{where}: {image.describe()}, expected {shape[0]}x{shape[1]} pixels of uint8, as its "
            "images. Restore the file from the original download, or leave the sample out"
        )
    values = folder_images.pixels(image) if image.shape[2] > 1 else folder_images.codes(image)
    if values.ndim == 3:
        colours = values[..., :3] if values.shape[2] > 2 else values[..., :1]
        if (colours != colours[..., :1]).any() or (
            values.shape[2] in (2, 4) and (values[..., -1] != 255).any()
        ):
            raise DatasetError(
                f"{where}: {image.describe()} that differ or are transparent, expected grey: 0 "
                "unchanged, 255 changed. Restore the file from the original download"
            )
        values = colours[..., 0]
    check(values, where, (0, 255))
    return np.asarray(values == 255).astype(np.uint8)


def check(values: np.ndarray, where: str, expected: tuple[int, int]) -> None:
    """Refuses a mask (height, width) with values other than those for unchanged and changed."""
    wrong = (values != expected[0]) & (values != expected[1])
    if wrong.any():
        row, column = (int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
        raise DatasetError(
            f"{where}: value {values[row, column]} at (row, col) ({row}, {column}) and "
            f"{int(wrong.sum())} such pixels in all, expected {expected[0]} (unchanged) and "
            f"{expected[1]} (changed) alone. Restore the file from the original download: a mask "
            "that was resampled or saved as JPEG has values in between"
        )
