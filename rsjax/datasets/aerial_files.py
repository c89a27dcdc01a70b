"""Files of images with a mask each: finding the pairs, reading both, and whether they fit."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rsjax.datasets import files, geotiff, tiff
from rsjax.errors import DatasetError

Colour = tuple[int, ...]  # (grey,) or (red, green, blue)
BLACK: Colour = (0, 0, 0)
RED: Colour = (255, 0, 0)
WHITE: Colour = (255, 255, 255)


class Pair(NamedTuple):
    """The files of an image and of its mask, as paths inside the source."""

    image: str
    mask: str


def find_top(source: files.Source, tops: Sequence[str], probe: str) -> str:
    """The folder, with `/` at its end or '', that the layout begins in.

    Raises:
        DatasetError: there is none; names what was looked for and the dataset's page.
    """
    top = next((top for top in tops if source.exists(f"{top}{probe}")), None)
    if top is None:
        expected = ", ".join(f"{top}{probe}" for top in tops)
        raise DatasetError(
            f"{source.path}: not the official layout, expected one of {expected}. Download and "
            f"unpack the dataset from {source.page}"
        )
    return top


def find_pairs(
    source: files.Source, images: str, masks: str, endings: Sequence[str], suffix: str = ""
) -> dict[str, Pair]:
    """Images and masks of two folders that have the same name.

    Args:
        source: the files.
        images: folder of the images.
        masks: folder of the masks.
        endings: extensions of both, in small letters; files with others and hidden ones are left
            alone.
        suffix: what the name of a mask may have at its end, besides that of the image.

    Returns:
        Name without extension -> files, sorted by name.

    Raises:
        DatasetError: a missing folder, an image or a mask without the other, a name twice, or no
            images at all.
    """
    found: list[dict[str, str]] = []
    for folder, cut in ((images, ""), (masks, suffix)):
        if not source.exists(folder):
            raise source.missing(folder)
        names: dict[str, str] = {}
        for path in source.names(folder):
            stem, ending = posixpath.splitext(posixpath.basename(path))
            if ending.lower() not in endings or stem.startswith("."):
                continue
            stem = stem.removesuffix(cut)
            if stem in names:
                raise DatasetError(
                    f"{source.describe(path)}: {stem!r} is also {names[stem]}, expected each once; "
                    "move one of them away"
                )
            names[stem] = path
        found.append(names)
    ours, theirs = found
    for left, right, folder in ((ours, theirs, masks), (theirs, ours, images)):
        if alone := sorted(left.keys() - right.keys()):
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise DatasetError(
                f"{source.describe(left[alone[0]])}{more}: no file of this name "
                f"in {folder}, expected images and masks in pairs. Complete the "
                f"download from {source.page}"
            )
    if not ours:
        raise DatasetError(
            f"{source.describe(images)}: no images (*{', *'.join(endings)}), expected those of the "
            f"official download. Complete it from {source.page}"
        )
    return {name: Pair(ours[name], theirs[name]) for name in sorted(ours)}


def read_rgb(source: files.Source, path: str) -> tuple[np.ndarray, tiff.Header]:
    """The pixels (height, width, 3) uint8 of a TIFF with three bands, and its header."""
    header = tiff.parse(source.read(path), source.describe(path))
    return tiff.pixels(header, shape=None, dtype="uint8", bands=3), header


def place_of(header: tiff.Header, remedy: str) -> tuple[str, geotiff.Transform]:
    """Coordinate system and transform of a GeoTIFF; `remedy` ends the error where it has none."""
    try:
        return geotiff.crs(header), geotiff.transform(header)
    except DatasetError as error:
        raise DatasetError(f"{error}; {remedy}") from error


def check_same_place(image: tiff.Header, mask: tiff.Header) -> None:
    """Refuses an image and a mask that say they lie more than half a pixel apart."""
    try:
        ours, theirs = geotiff.transform(image), geotiff.transform(mask)
    except DatasetError:  # one of them does not say
        return
    half = [max(abs(ours[0]), abs(ours[1])) / 2, max(abs(ours[3]), abs(ours[4])) / 2]
    ends = [(0, 0), (image.height, image.width)]
    apart = [np.abs(np.subtract(_corner(ours, *end), _corner(theirs, *end))) > half for end in ends]
    if np.any(apart):
        raise tiff.error(mask.where, f"transform {theirs}", f"{ours} as its image {image.where}")


def _corner(transform: geotiff.Transform, row: int, column: int) -> tuple[float, float]:
    a, b, c, d, e, f = transform
    return a * column + b * row + c, d * column + e * row + f


def binary_mask(stored: np.ndarray, where: str, colours: Mapping[Colour, int]) -> np.ndarray:
    """Class indices of a mask that is stored as grey values or colours.

    Args:
        stored: (height, width) or (height, width, 3) uint8.
        where: its file, for the error message.
        colours: grey value or (red, green, blue) -> class index.

    Returns:
        uint8 (height, width).

    Raises:
        DatasetError: another value; names it and the first pixel that has it.
    """
    planes = stored[..., None] if stored.ndim == 2 else stored
    if planes.shape[2] == 1:
        table = np.full(256, 255, np.uint8)
        for (grey,), index in colours.items():
            table[grey] = index
        mask = table[planes[..., 0]]
    else:
        mask = np.full(planes.shape[:2], 255, np.uint8)
        for colour, index in colours.items():
            same = planes[..., 0] == colour[0]
            for band in (1, 2):
                same &= planes[..., band] == colour[band]
            mask[same] = index
    bad = mask == 255
    if bad.any():
        row, column = divmod(int(np.argmax(bad)), bad.shape[1])
        value = tuple(planes[row, column].tolist())
        known = ", ".join(str(c[0] if len(c) == 1 else c) for c in colours)
        raise DatasetError(
            f"{where}: value {value[0] if len(value) == 1 else value} at (row, column) "
            f"({row}, {column}), and {int(bad.sum()) - 1} more pixels of unknown value, expected "
            f"{known}. Restore the file from the original download, or leave the image out"
        )
    return mask
