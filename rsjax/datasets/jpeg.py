"""A strict reader of small JPEG files held in memory."""

from __future__ import annotations

import imagecodecs
import numpy as np

from rsjax.errors import DatasetError

_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive


def read_jpeg(data: bytes, where: str, *, shape: tuple[int, int]) -> np.ndarray:
    """The pixels of an RGB JPEG.

    Args:
        data: the whole file.
        where: its path, for error messages.
        shape: the (height, width) it must have.

    Returns:
        uint8 (height, width, 3).

    Raises:
        DatasetError: not a JPEG, truncated, or of another size or band count.
    """
    if not data.startswith(b"\xff\xd8"):
        raise _error(where, f"begins with {data[:12]!r}", "a JPEG file")
    found = frame(data)
    if found != (*shape, 3):
        raise _error(where, f"(height, width, bands) {found}", f"{(*shape, 3)}")
    # libjpeg fills what is missing with grey and only warns.
    if b"\xff\xd9" not in data[-64:]:
        raise _error(where, f"{len(data)} bytes without an end mark (truncated)", "a whole file")
    try:
        pixels: np.ndarray = imagecodecs.jpeg8_decode(data)
    except Exception as error:  # libjpeg's errors have no common type
        raise _error(where, f"pixels that do not decode ({error})", "a whole file") from error
    if pixels.shape != (*shape, 3) or pixels.dtype != np.uint8:
        raise _error(where, f"{pixels.dtype} {pixels.shape} decoded", f"uint8 {(*shape, 3)}")
    return pixels


def frame(data: bytes) -> tuple[int, int, int] | None:
    """(height, width, bands) from the frame header of a JPEG; None where there is none."""
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _FRAMES:
            height = int.from_bytes(data[position + 5 : position + 7])
            width = int.from_bytes(data[position + 7 : position + 9])
            return height, width, data[position + 9]
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return None


def _error(where: str, found: str, expected: str) -> DatasetError:
    return DatasetError(
        f"{where}: {found}, expected {expected}. "
        "Restore the file from the original download, or leave the sample out"
    )
