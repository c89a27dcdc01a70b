"""A fast, strict reader of small TIFF files held in memory.

Header and tags are parsed here, so that size, dtype and band count are checked before anything is
allocated, and no driver can be talked into opening something else. Pixels that lie in one piece
are taken as they are, all others decoded by libtiff (`imagecodecs`). Only lossless compressions
are read: what a lossy one decodes to depends on the decoder.

TIFF 6.0: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
import struct
from collections.abc import Callable
from typing import Any, Literal

import imagecodecs
import numpy as np

from rsjax.errors import DatasetError

MAX_BYTES = 256 * 2**20  # decoded, where the caller does not know the size
SCALE, TIEPOINT, MATRIX, GEO_KEYS, NODATA = 33550, 33922, 34264, 34735, 42113

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _BANDS, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _SAMPLE_FORMAT = 322, 323, 324, 325, 339
_WANTED = frozenset({
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER,
    _STRIP_OFFSETS, _BANDS, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR,
    _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _SAMPLE_FORMAT,
    SCALE, TIEPOINT, MATRIX, GEO_KEYS, NODATA,
})  # fmt: skip
_TYPES = {1: "B", 2: "c", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 16: "Q"}
_SHORT, _LONG = 3, 4
_MAX_VALUES = 2**22  # of a tag; a file of 256 MB has no more strips
_HEAD = 2**16  # bytes that hold all tags of most files
_DTYPES = {
    (1, 8): "uint8", (1, 16): "uint16", (1, 32): "uint32",
    (2, 8): "int8", (2, 16): "int16", (2, 32): "int32",
    (3, 32): "float32", (3, 64): "float64",
}  # fmt: skip
_LOSSLESS = {1, 5, 8, 32773, 32946, 50000}  # none, LZW, deflate, PackBits, deflate, ZSTD
_PHOTOMETRICS = {0, 1, 2, 3}  # grey (two ways), RGB, palette: stored values are pixel values


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """The first image of a TIFF file, as its tags describe it."""

    data: bytes
    where: str
    width: int
    height: int
    bands: int
    dtype: str
    order: Literal["<", ">"]
    planar: bool
    nodata: str | None
    tags: dict[int, Any]
    keys: dict[int, int]


def parse(data: bytes, where: str) -> Header:
    """Reads header and tags of a TIFF; see `read_tiff`."""
    return _header(data, where, lambda start, stop: data[start:stop])


def parse_tags(part: Callable[[int, int], bytes], where: str) -> Header:
    """Header and tags of a TIFF, wherever they lie in it; `data` of the result is empty.

    Args:
        part: the bytes of the file from one position up to another, e.g. of `Source.part`.
        where: its path, for error messages.

    Raises:
        DatasetError: as `parse`.
    """
    head = part(0, _HEAD)

    def get(start: int, stop: int) -> bytes:
        return head[start:stop] if stop <= len(head) or len(head) < _HEAD else part(start, stop)

    return _header(b"", where, get)


def _header(data: bytes, where: str, part: Callable[[int, int], bytes]) -> Header:
    order = _order(part(0, 64), where)
    try:
        tags = _read_tags(part, order)
    except (struct.error, ValueError) as cause:
        size = f"{len(data)} bytes with " if data else ""
        raise error(where, f"{size}broken tags ({cause})", "a whole TIFF") from cause
    try:
        width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
        bands = tags.get(_BANDS, (1,))[0]
        kinds = set(tags.get(_SAMPLE_FORMAT, (1,)))
        depths = set(tags.get(_BITS, (1,)))
        dtype = _DTYPES.get((min(kinds), min(depths)), "")
    except (KeyError, IndexError, TypeError) as cause:
        raise error(where, f"no tag {cause}", "a TIFF image") from cause
    if len(kinds) > 1 or len(depths) > 1 or not dtype:
        raise error(
            where, f"bits {sorted(depths)}, sample format {sorted(kinds)}", "one plain numeric type"
        )
    nodata = tags.get(NODATA)
    return Header(
        data=data,
        where=where,
        width=width,
        height=height,
        bands=bands,
        dtype=dtype,
        order=order,
        planar=tags.get(_PLANAR, (1,))[0] == 2,
        nodata=b"".join(nodata).split(b"\0")[0].decode("latin1").strip() if nodata else None,
        tags=tags,
        keys=_geo_keys(tags),
    )


def size(part: Callable[[int, int], bytes], where: str) -> tuple[int, int]:
    """The (height, width) of a TIFF, from its header and directory alone.

    Args:
        part: the bytes of the file from one position up to another, e.g. of `Source.part`.
        where: its path, for error messages.

    Raises:
        DatasetError: not a TIFF, or its directory is not in the file.
    """
    head = part(0, 64)
    order = _order(head, where)
    found: dict[int, int] = {}
    try:
        (start,) = struct.unpack_from(order + "I", head, 4)
        (count,) = struct.unpack(order + "H", part(start, start + 2))
        directory = part(start + 2, start + 2 + 12 * count)
        for tag, kind, number, value in struct.iter_unpack(order + "HHII", directory):
            if tag in (_WIDTH, _HEIGHT) and number == 1 and kind in (_SHORT, _LONG):
                short = value & 0xFFFF if order == "<" else value >> 16
                found[tag] = short if kind == _SHORT else value
        return found[_HEIGHT], found[_WIDTH]
    except (struct.error, KeyError) as cause:
        raise error(where, f"no height and width ({cause})", "a whole TIFF") from cause


def _order(data: bytes, where: str) -> Literal["<", ">"]:
    """The byte order of a TIFF that begins like this."""
    orders: dict[bytes, Literal["<", ">"]] = {b"II*\0": "<", b"MM\0*": ">"}
    order = orders.get(bytes(data[:4]))
    if order is None:
        text = data[:64].lstrip().startswith(b"<")
        hint = " (an HTML page or a VRT)" if text else " (empty)" if not data else ""
        raise error(where, f"begins with {bytes(data[:12])!r}{hint}", "a TIFF file (not BigTIFF)")
    return order


def _read_tags(part: Callable[[int, int], bytes], order: str) -> dict[int, Any]:
    (start,) = struct.unpack(order + "I", part(4, 8))
    (count,) = struct.unpack(order + "H", part(start, start + 2))
    directory = part(start + 2, start + 2 + 12 * count)
    if len(directory) < 12 * count or count == 0:
        raise ValueError(f"{count} tags at byte {start}")
    tags: dict[int, Any] = {}
    for tag, kind, number, value in struct.iter_unpack(order + "HHII", directory):
        if tag not in _WANTED:
            continue
        if number == 1 and kind == _SHORT:
            tags[tag] = (value & 0xFFFF if order == "<" else value >> 16,)
            continue
        if number == 1 and kind == _LONG:
            tags[tag] = (value,)
            continue
        if kind not in _TYPES or number > _MAX_VALUES:
            raise ValueError(f"tag {tag} of type {kind} with {number} values")
        layout = f"{order}{number}{_TYPES[kind]}"
        size = struct.calcsize(layout)
        if size <= 4:
            tags[tag] = struct.unpack_from(layout, struct.pack(order + "I", value))
        elif len(content := part(value, value + size)) == size:
            tags[tag] = struct.unpack(layout, content)
        else:
            raise ValueError(f"tag {tag} lies beyond the end of the file")
    return tags


def pixels(header: Header, *, shape: tuple[int, int] | None, dtype: str, bands: int) -> np.ndarray:
    """Checks a parsed TIFF and decodes its pixels; see `read_tiff`."""
    height, width = header.height, header.width
    found = (height, width, header.bands, header.dtype)
    expected = (*(shape or (height, width)), bands, dtype)
    if found != expected:
        raise error(header.where, _image(*found), _image(*expected))
    size = height * width * bands * np.dtype(dtype).itemsize
    if not 0 < size <= MAX_BYTES:
        raise error(header.where, f"{_image(*found)}, {size:,} bytes", f"1 to {MAX_BYTES:,} bytes")
    wanted = (height, width) if bands == 1 else (height, width, bands)
    start = _check_layout(header, size)
    if start:
        stored = np.dtype(dtype).newbyteorder(header.order)
        plain = np.frombuffer(header.data, stored, math.prod(wanted), start)
        return plain.astype(dtype, copy=False).reshape(wanted)
    try:
        decoded: np.ndarray = imagecodecs.tiff_decode(header.data, index=0)
    except Exception as cause:  # libtiff's errors have no common type
        raise error(header.where, f"pixels that do not decode ({cause})", "a whole file") from cause
    if bands > 1 and header.planar:
        decoded = np.moveaxis(decoded, 0, -1)
    if decoded.shape != wanted or decoded.dtype != np.dtype(dtype):
        raise error(header.where, f"{decoded.dtype} {decoded.shape} decoded", f"{dtype} {wanted}")
    return decoded


def _check_layout(header: Header, size: int) -> int:
    """Refuses lossy, truncated, half-written and oversized strips and tiles.

    Returns:
        The first byte of the pixels where they lie in one piece, `size` bytes, as they are to be
        returned; otherwise 0.
    """
    tags, where = header.tags, header.where
    compression = tags.get(_COMPRESSION, (1,))[0]
    photometric = tags.get(_PHOTOMETRIC, (1,))[0]
    if compression not in _LOSSLESS or photometric not in _PHOTOMETRICS:
        raise error(
            where,
            f"compression {compression}, photometric {photometric}",
            "plain values without loss (compression none, LZW, deflate, PackBits or ZSTD)",
        )
    tiled = _TILE_WIDTH in tags
    offsets = tags.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, ())
    lengths = tags.get(_TILE_BYTES if tiled else _STRIP_BYTES, ())
    if tiled:
        across, down = tags[_TILE_WIDTH][0], tags.get(_TILE_HEIGHT, (0,))[0]
        per_pixel = np.dtype(header.dtype).itemsize * header.bands
        if not 0 < across * down * per_pixel <= MAX_BYTES:
            raise error(where, f"tiles of {down}x{across} pixels", f"up to {MAX_BYTES:,} bytes")
        blocks = math.ceil(header.width / across) * math.ceil(header.height / down)
    else:
        rows = min(tags.get(_ROWS_PER_STRIP, (header.height,))[0], header.height)
        blocks = math.ceil(header.height / max(rows, 1))
    blocks *= header.bands if header.planar else 1
    if len(offsets) != blocks or len(lengths) != blocks:
        raise error(where, f"{len(offsets)} strips or tiles", f"{blocks}")
    if min(lengths) == 0 or min(offsets) == 0:
        raise error(where, "strips or tiles that were never written", "all of them")
    end = max(map(operator.add, offsets, lengths))
    if end > len(header.data):
        raise error(where, f"{len(header.data)} bytes (truncated)", f"at least {end} bytes")
    plain = compression == 1 and not tiled and tags.get(_FILL_ORDER, (1,))[0] == 1
    if not plain or sum(lengths) != size or (header.planar and header.bands > 1):
        return 0
    starts = tuple(itertools.accumulate(lengths[:-1], initial=offsets[0]))
    return offsets[0] if starts == offsets else 0


def _geo_keys(tags: dict[int, Any]) -> dict[int, int]:
    """The GeoTIFF keys whose value is in the directory itself."""
    entries = tags.get(GEO_KEYS, ())
    quads = zip(entries[4::4], entries[5::4], entries[6::4], entries[7::4], strict=False)
    return {key: value for key, place, _, value in quads if place == 0}


def _image(height: int, width: int, bands: int, dtype: str) -> str:
    return f"{height}x{width} pixels, {bands} band{'s' if bands != 1 else ''} of {dtype}"


def error(where: str, found: str, expected: str) -> DatasetError:
    """The error for a file that is not as it must be."""
    return DatasetError(
        f"{where}: {found}, expected {expected}. "
        "Restore the file from the original download, or leave the sample out"
    )
