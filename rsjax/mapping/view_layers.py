"""A map as a page can hold it: counted in full, and thinned to what is drawn.

Thinning takes the centre pixel of each square of `factor` pixels a side: what is drawn, and said of
a place, is what one pixel of the map has there, not a mixture of several.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np
import rasterio
from rasterio.windows import Window

from rsjax.datasets import raster as rasters
from rsjax.errors import SceneError
from rsjax.landcover.nomenclature import IGNORE
from rsjax.mapping import area_table, landmap, writer
from rsjax.mapping.area_table import Tally
from rsjax.mapping.landmap import LandMap
from rsjax.mapping.pixel_area import PixelAreas


@dataclasses.dataclass(frozen=True)
class Thinning:
    """Which pixels of a grid are drawn.

    Attributes:
        factor: pixels of the grid a side for one that is drawn.
        rows: (r,) the rows drawn.
        cols: (c,) the columns drawn.
    """

    factor: int
    rows: np.ndarray
    cols: np.ndarray

    def empty(self) -> np.ndarray:
        """A layer without data: uint8 (r, c), 255 everywhere."""
        return np.full((len(self.rows), len(self.cols)), IGNORE, np.uint8)

    def take(self, window: Window, block: np.ndarray, layer: np.ndarray) -> None:
        """Puts the drawn pixels of a block (rows, columns) at `window` into a layer."""
        spans, picked = [], []
        for at, start, size in (
            (self.rows, window.row_off, window.height),
            (self.cols, window.col_off, window.width),
        ):
            first, stop = np.searchsorted(at, (start, start + size))
            spans.append(slice(first, stop))
            picked.append(at[first:stop] - start)
        layer[tuple(spans)] = block[np.ix_(*picked)]


def thinning(shape: tuple[int, int], max_px: int) -> Thinning:
    """The least thinning by which no side is longer than `max_px`.

    Args:
        shape: (rows, columns) of the grid.
        max_px: longest side drawn.
    """
    factor = max(1, -(-max(shape) // max_px))
    rows, cols = (
        np.minimum(np.arange(-(-size // factor)) * factor + factor // 2, size - 1) for size in shape
    )
    return Thinning(factor, rows, cols)


def classes(land_map: LandMap, areas: PixelAreas, thin: Thinning) -> tuple[Tally, np.ndarray]:
    """Counts all pixels of a map, and picks those to draw, in one reading.

    Args:
        land_map: the map.
        areas: of its grid.
        thin: what to draw.

    Returns:
        The tally, and class indices: uint8 (r, c), 255 where there is no class.

    Raises:
        SceneError, NomenclatureError: as `LandMap.blocks`; or no pixel has a class.
    """
    count = len(land_map.nomenclature)
    pixels, hectares = np.zeros(count + 1, np.int64), np.zeros(count + 1)
    layer = thin.empty()
    for window, block in land_map.blocks():
        found = area_table.in_block(np.minimum(block, count), areas.block(window), count + 1)
        pixels += found[0]
        hectares += found[1]
        thin.take(window, block, layer)
    if pixels[:-1].sum() == 0:
        raise SceneError(f"{land_map.path}: no pixel has a class, expected a map; is it the map?")
    every = pixels.astype(float)
    return (
        Tally(area_table.WHOLE, every[:-1], hectares[:-1], every[-1], float(hectares[-1])),
        layer,
    )


def same_grid(
    land_map: LandMap, path: str | os.PathLike[str], crs: rasterio.crs.CRS,
    transform: rasterio.Affine, shape: tuple[int, int], trust: bool = False,
) -> None:  # fmt: skip
    """Refuses another file that does not have a map's pixels.

    Args:
        land_map: the map.
        path: of the other file.
        crs: of the other.
        transform: of the other.
        shape: of the other.
        trust: whether coordinate systems of other names are taken for one.

    Raises:
        SceneError: says what differs.
    """
    there, here = (rasters.crs_name(one) for one in (crs, land_map.crs))
    if there != here and not trust:
        raise SceneError(
            f"{path}: {there}, but {land_map.path} has {here}; expected one coordinate system. "
            "Bring the files to one with gdalwarp -t_srs; or, if both names mean one grid, say "
            "--trust_transform"
        )
    apart = relative(land_map.transform, transform) - np.eye(2, 3)
    moved = np.abs(apart[:, :2]).max() * max(land_map.shape) + np.abs(apart[:, 2]).max()
    if shape != land_map.shape or moved > rasters.SAME:
        raise SceneError(
            f"{path}: {shape[0]} x {shape[1]} pixels, transform {tuple(transform)[:6]}, but "
            f"{land_map.path} has {land_map.shape[0]} x {land_map.shape[1]}, "
            f"{tuple(land_map.transform)[:6]}; expected the same grid. Bring it there with "
            "gdalwarp -te -ts -r near"
        )


def relative(ours: rasterio.Affine, theirs: rasterio.Affine) -> np.ndarray:
    """(col, row, 1) of one grid to (col, row) of another: (2, 3).

    Args:
        ours: transform of the grid to come to.
        theirs: transform of the grid to come from.
    """
    # About our corner: sums of large numbers would round.
    here, there = (np.array(one).reshape(3, 3) for one in (ours, theirs))
    return np.linalg.solve(here[:2, :2], there[:2] - [[0, 0, x] for x in here[:2, 2]])


def confidence(land_map: LandMap, thin: Thinning) -> tuple[np.ndarray | None, str, str]:
    """The confidence that lies beside a map that rsjax wrote.

    Args:
        land_map: the map.
        thin: what to draw.

    Returns:
        Bytes as in the file, times 0.004, uint8 (r, c), 255 where there is none, or None without
        such a file; what they mean; and why a file that is there is not shown, or ''.

    Raises:
        SceneError: it cannot be read.
    """
    path = writer.beside(pathlib.Path(land_map.path), "confidence")
    if not path.is_file():
        return None, "", ""
    with landmap.open_raster(path) as opened, landmap.open_raster(land_map.path) as of_map:
        meaning = opened.tags().get(writer.MEANING_TAG, "")
        if not meaning or opened.count != 1 or opened.dtypes[0] != "uint8":
            return None, "", f"{path}: not a confidence that rsjax wrote; it is not shown"
        tags = [one.tags().get(writer.PROVENANCE_TAG) for one in (opened, of_map)]
        if tags[0] != tags[1]:
            return None, "", f"{path}: was written with another map; it is not shown"
        same_grid(land_map, path, opened.crs, opened.transform, opened.shape)
        layer = thin.empty()
        try:
            for window in landmap.windows(opened.shape, opened.block_shapes[0]):
                thin.take(window, opened.read(1, window=window), layer)
        except rasterio.errors.RasterioError as error:
            raise SceneError(
                f"{path}: cannot be read ({error}), expected a whole file; write the map again, or "
                "move this file away"
            ) from error
    return layer, meaning.partition(": ")[2] or meaning, ""
