"""Images and masks of any of three formats, held in memory: looked at first, then decoded.

PNG: https://www.w3.org/TR/png-3/. JPEG and TIFF: see `jpeg` and `tiff`.
"""

from __future__ import annotations

import dataclasses
import struct
import warnings

import imagecodecs
import numpy as np

from rsjax.datasets import jpeg, tiff
from rsjax.errors import DatasetError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type; 3 is a palette
_PALETTE = 3


@dataclasses.dataclass(frozen=True)
class Image:
    """What the header of an image says; `pixels` decodes the rest.

    Attributes:
        data: the whole file.
        where: its path, for messages.
        kind: 'png', 'jpeg' or 'tiff'.
        shape: (height, width, bands).
        dtype: numpy dtype name.
        header: the parsed header of a TIFF, otherwise None.
        packed: whether the values are those of a palette, or of fewer than 8 bits.
    """

    data: bytes
    where: str
    kind: str
    shape: tuple[int, int, int]
    dtype: str
    header: tiff.Header | None = None
    packed: bool = False

    @property
    def georeferenced(self) -> bool:
        """Whether this is a GeoTIFF with a coordinate system."""
        return self.header is not None and bool(self.header.keys)

    def describe(self) -> str:
        """Size, bands and dtype in words, for messages."""
        height, width, bands = self.shape
        return f"{height}x{width} pixels, {bands} band{'s' if bands > 1 else ''} of {self.dtype}"


def look(data: bytes, where: str) -> Image:
    """Reads the header of a PNG, JPEG or TIFF file, by its content and not by its name.

    Raises:
        DatasetError: another format, or a damaged header.
    """
    if data.startswith(_PNG):
        return _look_at_png(data, where)
    if data.startswith(b"\xff\xd8"):
        frame = jpeg.frame(data)
        if frame is None:
            raise _error(where, "a JPEG without a frame header", "a whole file")
        return Image(data, where, "jpeg", frame, "uint8")
    if data[:4] in (b"II*\0", b"MM\0*"):
        header = tiff.parse(data, where)
        shape = (header.height, header.width, header.bands)
        return Image(data, where, "tiff", shape, header.dtype, header)
    raise _error(where, f"begins with {bytes(data[:12])!r}", "a PNG, JPEG or TIFF file")


def pixels(image: Image) -> np.ndarray:
    """The pixels of an image, (height, width, bands), values as they are stored.

    Raises:
        DatasetError: damaged, truncated, larger than `tiff.MAX_BYTES`, lossy TIFF compression, or
            a PNG with a palette.
    """
    height, width, bands = image.shape
    size = height * width * bands * np.dtype(image.dtype).itemsize
    if not 0 < size <= tiff.MAX_BYTES:
        raise _error(image.where, f"{image.describe()}", f"1 to {tiff.MAX_BYTES:,} bytes")
    if image.header:
        found = tiff.pixels(image.header, shape=(height, width), dtype=image.dtype, bands=bands)
    elif image.kind == "jpeg":
        found = jpeg.read_jpeg(image.data, image.where, shape=(height, width))
    elif image.packed:
        raise DatasetError(
            f"{image.where}: a PNG with a palette or fewer than 8 bits, expected plain values; "
            "save it as grey, RGB or RGBA of 8 or 16 bits"
        )
    else:
        try:
            found = imagecodecs.png_decode(image.data)
        except Exception as cause:  # libpng's errors have no common type
            raise _error(
                image.where, f"pixels that do not decode ({cause})", "a whole file"
            ) from cause
    return _checked(found, image)


def codes(image: Image) -> np.ndarray:
    """The class codes of a mask, (height, width), integers; of a palette its indices.

    Raises:
        DatasetError: as `pixels`; more than one band, or a JPEG, which changes codes.
    """
    if image.kind == "jpeg":
        raise DatasetError(
            f"{image.where}: a mask as JPEG, whose compression changes class codes; expected a "
            "single band as PNG or TIFF"
        )
    if image.shape[2] != 1:
        raise DatasetError(
            f"{image.where}: {image.shape[2]} bands, expected a mask of one band with class codes. "
            "Colours are no codes: write the code of each pixel's class"
        )
    return (_packed_codes(image) if image.packed else pixels(image))[..., 0]


def _packed_codes(image: Image) -> np.ndarray:
    """Palette indices and values of 1 to 4 bits, which libpng would turn into colours."""
    import rasterio
    from rasterio.io import MemoryFile

    try:
        with warnings.catch_warnings(), MemoryFile(image.data) as memory:
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with memory.open(driver="PNG") as raster:
                return _checked(raster.read(1), image)
    except rasterio.errors.RasterioError as cause:
        raise _error(image.where, f"pixels that do not decode ({cause})", "a whole file") from cause


def _checked(found: np.ndarray, image: Image) -> np.ndarray:
    found = found if found.ndim == 3 else found[..., None]
    if found.shape != image.shape or found.dtype != np.dtype(image.dtype):
        raise _error(image.where, f"{found.dtype} {found.shape} decoded", image.describe())
    return found


def _look_at_png(data: bytes, where: str) -> Image:
    try:
        width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
        bands = _PNG_BANDS[colour]
    except (struct.error, KeyError) as cause:
        raise _error(where, "a PNG with a damaged header", "a whole file") from cause
    dtype = "uint16" if depth == 16 else "uint8"
    packed = colour == _PALETTE or depth < 8
    return Image(data, where, "png", (height, width, bands), dtype, packed=packed)


def _error(where: str, found: str, expected: str) -> DatasetError:
    return DatasetError(
        f"{where}: {found}, expected {expected}. Write the file again, or leave the sample out"
    )
