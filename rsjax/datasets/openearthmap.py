"""OpenEarthMap: 5,000 aerial images of about 1000 pixels from 97 regions, 8 land-cover classes.

Page: https://zenodo.org/records/7223446. Paper: https://arxiv.org/abs/2210.10732. Code that adds
the xBD images: https://github.com/bao18/open_earth_map.

Splits are the official `train.txt` and `val.txt`. The labels of the 1,500 images of `test.txt` are
withheld, so there is no split `test`: published test figures come from the authors' server.
"""

from __future__ import annotations

import functools
import os
import re

import numpy as np

from rsjax import landcover
from rsjax.datasets import aerial, aerial_files, base, geotiff, tiff, tiling
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import DatasetError

PAGE = "https://zenodo.org/records/7223446"

_LISTS = {"train": "train.txt", "validation": "val.txt"}
_XBD = "xbd_files.csv"
_NAME = re.compile(r"([A-Za-z][\w-]*)_(\d+)")
_GSD_M = 0.35  # between the 0.25 and 0.5 of the dataset; the text entry `gsd` has the image's own
_RADIUS_M, _FLATTENING = 6_378_137.0, 1 / 298.257223563  # of WGS 84


class OpenEarthMap(aerial.Tiled):
    """OpenEarthMap in tiles, see `aerial.Tiled`; from the folder `OpenEarthMap_wo_xBD`.

    An example also has `region` and `gsd`, metres a pixel where the file says so, else ''. Of
    images with more than three bands the first three are taken, as the authors do; values are
    kept as they are and must fit 8 bits. Class 0 (unknown) is 255 in the mask.

    Args:
        source: the folder, or the one it lies in. Of a zip each image is unpacked to list it.
        xbd: the archive has no images of the xBD regions, `xbd_files.csv` lists them and the
            authors' compile_xbd.py adds them. 'require' refuses a download without them; 'skip'
            leaves out the images of that list that are not there, and no others.
        georeferenced: whether each image must say where it lies, and each example gets `crs` and
            `transform`. The xBD images do not.
        tile_px, overlap_px, edges: see `rsjax.datasets.tiling`.

    Raises:
        ConfigError: an unknown option value.
        DatasetError, NomenclatureError: from `keys` and `read`; missing, damaged or inconsistent
            files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        xbd: str = "require",
        georeferenced: bool = False,
        tile_px: int = 512,
        overlap_px: int = 0,
        edges: str = "shift",
    ):
        self._xbd = base.choice("xbd", xbd, ("require", "skip"))
        self._georeferenced = georeferenced
        tiles = tiling.Tiling(tile_px, overlap_px, edges)
        super().__init__(
            source,
            DatasetInfo(
                name="openearthmap",
                version="1.0.0",
                title="OpenEarthMap",
                page=PAGE,
                licence="CC-BY-NC-SA-4.0, or that of the source image",
                citation="Xia et al., OpenEarthMap: A Benchmark Dataset for Global High-Resolution "
                "Land Cover Mapping, WACV 2023, arXiv:2210.10732",
                images={"rgb": aerial.rgb_spec(tile_px, _GSD_M)},
                label=None,
                nomenclature="openearthmap",
                mask=(tile_px, tile_px),
                mask_nomenclature="openearthmap",
                metadata=("region", "gsd"),
                splits=dict.fromkeys(_LISTS, 0),  # 3,000 and 500 images of varying size
                rgb=("rgb", aerial.RGB),
                rgb_range=(0.0, 255.0),
                georeferenced=georeferenced,
            ),
            tops=("", "OpenEarthMap_wo_xBD/", "OpenEarthMap/"),
            probe="train.txt",
            tiles=tiles,
            options={"xbd": xbd, "georeferenced": georeferenced},
        )

    def _list(self, split: str) -> dict[str, aerial_files.Pair]:
        where = self._files.describe(self._top + _LISTS[split])
        pairs: dict[str, aerial_files.Pair] = {}
        missing = []
        for number, line in enumerate(self._lines(_LISTS[split]), 1):
            name = line.strip().removesuffix(".tif")
            if not name:
                continue
            match = _NAME.fullmatch(name)
            if not match or name in pairs:
                raise DatasetError(
                    f"{where}:{number}: {line!r}, expected names such as aachen_1.tif, each once; "
                    "download the list again"
                )
            folder = f"{self._top}{match[1]}"
            pair = aerial_files.Pair(f"{folder}/images/{name}.tif", f"{folder}/labels/{name}.tif")
            if name in self._from_xbd and not self._files.exists(pair.image):
                missing.append(name)
            else:
                pairs[name] = pair
        if missing and self._xbd == "require":
            raise DatasetError(
                f"{self._files.path}: {len(missing)} images of split '{split}' that come from xBD "
                f"are not there, the first {', '.join(missing[:5])}. Add them with compile_xbd.py "
                "of https://github.com/bao18/open_earth_map, or leave them out with "
                "--option=xbd=skip"
            )
        return pairs

    def _decode(self, name: str, pair: aerial_files.Pair) -> aerial.Decoded:
        source = self._files
        header = tiff.parse(source.read(pair.image), source.describe(pair.image))
        if header.bands < 3:
            raise tiff.error(header.where, f"{header.bands} bands", "red, green and blue")
        image = _decoded(header)[..., :3]
        codes_header = tiff.parse(source.read(pair.mask), source.describe(pair.mask))
        if codes_header.bands != 1:
            raise tiff.error(codes_header.where, f"{codes_header.bands} bands", "one band of codes")
        aerial_files.check_same_place(header, codes_header)
        mask = landcover.load("openearthmap").encode(_decoded(codes_header), codes_header.where)
        place = None
        if self._georeferenced:
            place = aerial_files.place_of(header, "or use --option=georeferenced=false")
        gsd = ground_distance(header)
        texts = {"region": name.rsplit("_", 1)[0], "gsd": f"{gsd:.3f}" if gsd else ""}
        return aerial.Decoded(np.ascontiguousarray(image), mask, texts, place)

    def _lists(self) -> dict[str, bytes]:
        names = [*_LISTS.values(), _XBD]
        return {name: self._files.read(self._top + name) for name in names}

    def _lines(self, name: str) -> list[str]:
        path = self._top + name
        try:
            return self._files.read(path).decode().splitlines()
        except UnicodeDecodeError:
            raise DatasetError(
                f"{self._files.describe(path)}: not a text file; download the list again"
            ) from None

    @functools.cached_property
    def _from_xbd(self) -> frozenset[str]:
        """Names of the images that xBD gives: second column of the list."""
        names = []
        for number, line in enumerate(self._lines(_XBD), 1):
            picture, _, name = line.strip().partition(",")
            if not line.strip():
                continue
            if not picture.endswith(".png") or not _NAME.fullmatch(name.removesuffix(".tif")):
                raise DatasetError(
                    f"{self._files.describe(self._top + _XBD)}:{number}: {line!r}, expected 'name "
                    "in xBD.png,name here.tif'; download the list again"
                )
            names.append(name.removesuffix(".tif"))
        return frozenset(names)


def _decoded(header: tiff.Header) -> np.ndarray:
    """The values of a TIFF of any type as uint8, where they are whole and from 0 to 255."""
    stored = tiff.pixels(header, shape=None, dtype=header.dtype, bands=header.bands)
    values = stored.astype(np.uint8) if stored.dtype.kind != "f" or _fits(stored) else None
    if values is None or (values != stored).any():
        raise tiff.error(
            header.where,
            f"{header.dtype} from {np.nanmin(stored)} to {np.nanmax(stored)}",
            "whole values from 0 to 255, which 8 bits hold without scaling",
        )
    return values


def _fits(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255)


def ground_distance(header: tiff.Header) -> float | None:
    """Metres a pixel at the centre of a GeoTIFF, in any system; None where it cannot be told."""
    import rasterio.warp

    if not header.keys:
        return None
    try:
        crs, (a, b, c, d, e, f) = geotiff.crs(header), geotiff.transform(header)
    except DatasetError:
        return None
    x, y = header.width / 2, header.height / 2
    columns, rows = np.array([x, x + 1, x]), np.array([y, y, y + 1])
    points = (a * columns + b * rows + c, d * columns + e * rows + f)
    try:
        lon, lat = np.array(rasterio.warp.transform(crs, "EPSG:4326", *points))
    except Exception:  # a local system, or a place outside its own; GDAL's errors are not public
        return None
    lon, lat = np.radians(lon), np.radians(lat)
    squared = _FLATTENING * (2 - _FLATTENING)  # eccentricity
    bent = 1 - squared * np.sin(lat[0]) ** 2
    east = (lon[1:] - lon[0]) * np.cos(lat[0]) * _RADIUS_M / np.sqrt(bent)
    north = (lat[1:] - lat[0]) * _RADIUS_M * (1 - squared) / bent**1.5
    return float(np.hypot(north, east).mean())
