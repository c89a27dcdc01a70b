"""A strict reader of .npy files held in memory; pickled objects are never loaded.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import io
import math
import tokenize
from collections.abc import Sequence

import numpy as np

from rsjax.errors import DatasetError


def read_npy(
    data: bytes, where: str, *, shape: Sequence[int | None], dtypes: Sequence[str]
) -> np.ndarray:
    """The array of a .npy file, read-only; its header is checked before anything else is read.

    Args:
        data: the whole file.
        where: its path, for messages.
        shape: the shape it must have; None: any length along this axis.
        dtypes: names of the numpy dtypes it may have.

    Raises:
        DatasetError: not a .npy file, truncated, too long, or of another shape or dtype.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        found, fortran, dtype = read(stream)
    except (ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError) as cause:
        raise _error(
            where, f"begins with {bytes(data[:12])!r} ({cause})", "a whole .npy file"
        ) from None
    fits = len(found) == len(shape) and all(
        have == want or (want is None and have > 0)
        for have, want in zip(found, shape, strict=False)
    )
    if not fits or dtype.name not in dtypes or dtype.hasobject:
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise _error(where, f"{dtype} of shape {found}", f"{' or '.join(dtypes)} of ({wanted})")
    start, size = stream.tell(), math.prod(found) * dtype.itemsize
    if len(data) - start != size:
        raise _error(where, f"{len(data) - start} bytes of values", f"{size} for {found} {dtype}")
    values = np.frombuffer(data, dtype, offset=start)
    return values.reshape(found, order="F" if fortran else "C")


def _error(where: str, found: str, expected: str) -> DatasetError:
    return DatasetError(
        f"{where}: {found}, expected {expected}. "
        "Restore the file from the original download, or leave the sample out"
    )
