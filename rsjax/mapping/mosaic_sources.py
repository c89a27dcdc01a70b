"""The maps that a mosaic is made of: on one grid, of one nomenclature, with their confidence."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from rsjax.datasets import raster
from rsjax.datasets.raster import SAME
from rsjax.datasets.scene_area import Area
from rsjax.errors import ConfigError, SceneError
from rsjax.landcover.nomenclature import IGNORE
from rsjax.mapping import landmap, provenance, writer
from rsjax.mapping.landmap import LandMap

_BESIDE = ("_confidence", "_probabilities")
_ENDINGS = (".tif", ".tiff")
MANY = 2**26  # pixels of a mosaic that may be as empty as it likes
EMPTY = 20  # times the pixels of the maps together; more is refused where there are many


@dataclasses.dataclass(frozen=True)
class Source:
    """One map in a mosaic.

    Attributes:
        land: the map.
        row, col: of its corner in the mosaic, in pixels.
        about: its provenance; empty where it has none.
        confidence: the file beside it; '' where there is none.
        meaning: of the confidence: 'probability', 'margin' or 'entropy'; ''.
    """

    land: LandMap
    row: int
    col: int
    about: dict[str, Any]
    confidence: str = ""
    meaning: str = ""

    @property
    def dates(self) -> list[str]:
        """ISO dates of the acquisition of its scene, as far as its provenance says."""
        found = self.about.get(provenance.SCENE_DATES)
        listed = found if isinstance(found, list) else []
        return [day for day in listed if isinstance(day, str)]

    @property
    def date(self) -> str:
        """The latest of them, or ''."""
        return max(self.dates, default="")

    def part(self, start: int, count: int) -> Window | None:
        """The window of this map in rows of the mosaic, or None."""
        first = max(start - self.row, 0)
        last = min(start + count - self.row, self.land.shape[0])
        return Window(0, first, self.land.shape[1], last - first) if first < last else None

    def read(
        self, starts: Iterable[int], count: int, confidence: bool
    ) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """Rows of the mosaic that this map has a part of, in their order.

        Args:
            starts: first rows.
            count: how many each.
            confidence: whether that is read.

        Yields:
            Class indices, 255: no class; and the confidence as stored, or zeros.

        Raises:
            SceneError: a block that cannot be read, or a pixel with a class and no confidence.
            NomenclatureError: an unknown code.
        """
        windows = [part for start in starts if (part := self.part(start, count)) is not None]
        for window, found in zip(windows, self.land.read(windows), strict=True):
            yield found, self._sure(window, found) if confidence else np.zeros_like(found)

    def _sure(self, window: Window, found: np.ndarray) -> np.ndarray:
        try:
            with landmap.open_raster(self.confidence) as opened:
                sure: np.ndarray = opened.read(1, window=window)
        except rasterio.errors.RasterioError as error:
            raise SceneError(
                f"{self.confidence}: rows from {window.row_off} on cannot be read ({error}); the "
                "file is damaged. Make the map again"
            ) from error
        lacking = (sure == writer.ABSENT) & (found != IGNORE)
        if lacking.any():
            row, col = np.argwhere(lacking)[0].tolist()
            raise SceneError(
                f"{self.confidence}: no confidence at (row, col) ({row + window.row_off}, {col}), "
                "where the map has a class; it is of another map. Make both again"
            )
        return sure


def open_sources(
    maps: Sequence[str], nomenclature: str = "", sparse: bool = False
) -> tuple[list[Source], Area]:
    """The maps of a mosaic, and its grid: that of the first, as far as all reach.

    Args:
        maps: GeoTIFFs of class codes, or folders of them.
        nomenclature: of maps that do not say it.
        sparse: whether the mosaic may have more than `EMPTY` times the pixels of its maps, where
            it has more than `MANY`.

    Raises:
        ConfigError: no maps, or one twice.
        SceneError: maps of several grids or nomenclatures, far from each other, or with a
            confidence beside them that is of another map.
    """
    paths = _paths(maps)
    lands = [landmap.read_map(path, nomenclature) for path in paths]
    first = lands[0]
    for land in lands[1:]:
        ours, theirs = first.nomenclature, land.nomenclature
        if (ours.codes, ours.names) != (theirs.codes, theirs.names):
            raise SceneError(
                f"{land.path}: nomenclature {theirs.name!r} of {len(theirs.codes)} classes, but "
                f"{first.path} has {ours.name!r} of {len(ours.codes)}; expected equal codes and "
                "names. Make the maps with models of the same classes"
            )
    places = [_place(land, first) for land in lands]
    top, left = (min(at[i] for at in places) for i in (0, 1))
    stops = [
        (row + land.shape[0], col + land.shape[1])
        for (row, col), land in zip(places, lands, strict=True)
    ]
    height, width = (max(at[i] for at in stops) - low for i, low in enumerate((top, left)))
    a, b, c, d, e, f = tuple(first.transform)[:6]
    corner = rasterio.Affine(a, b, c + a * left + b * top, d, e, f + d * left + e * top)
    area = Area(first.crs, corner, height, width)
    if not sparse:
        _check_extent(area, lands)
    return [
        Source(land, row - top, col - left, provenance.read(land.path), *_confidence(land))
        for land, (row, col) in zip(lands, places, strict=True)
    ], area


def _paths(maps: Sequence[str]) -> list[str]:
    """Files, those of folders by name."""
    found: list[str] = []
    for one in maps:
        if os.path.isdir(one):
            inside = sorted(
                path for path in pathlib.Path(one).iterdir() if path.suffix.lower() in _ENDINGS
            )
            found += [str(path) for path in inside if not _is_beside(path)]
        else:
            found.append(one)
    if not found:
        raise ConfigError("--maps: no maps, expected GeoTIFFs of class codes, e.g. a.tif,b.tif")
    real = [os.path.realpath(path) for path in found]
    for path, one in zip(found, real, strict=True):
        if real.count(one) > 1:
            raise ConfigError(f"--maps: {path} is there twice; name each map once")
    return found


def _is_beside(path: pathlib.Path) -> bool:
    """Whether a file is no map but lies beside one: a map may have such a name too."""
    base = path.stem.rpartition("_")[0]
    if not path.stem.endswith(_BESIDE):
        return False
    with landmap.open_raster(path) as opened:
        tags, scale = opened.tags(), opened.scales[0]
    if scale == 1 / writer.STEPS:  # as rsjax writes them
        return True
    named = writer.NOMENCLATURE_TAG in tags
    return not named and path.with_name(f"{base}{path.suffix}").is_file()


def _check_extent(area: Area, lands: Sequence[LandMap]) -> None:
    pixels = area.height * area.width
    covered = sum(land.shape[0] * land.shape[1] for land in lands)
    if pixels <= max(MANY, EMPTY * covered):
        return
    alone = max(lands, key=lambda land: _remoteness(land, lands))
    raise SceneError(
        f"the mosaic would have {area.height:,} x {area.width:,} pixels, {pixels / covered:,.0f} "
        f"times those of its {len(lands)} maps together; the farthest off is {alone.path}. Name "
        "the maps that lie together with --maps, or add --sparse if this is what you want"
    )


def _remoteness(land: LandMap, lands: Sequence[LandMap]) -> float:
    """How far a map's corner lies from where most corners are."""
    middle = np.median([one.transform[2::3][:2] for one in lands], axis=0)
    return float(np.abs(np.array(land.transform[2::3][:2]) - middle).max())


def _place(land: LandMap, first: LandMap) -> tuple[int, int]:
    """Row and column of a map's corner in pixels of the first."""
    if not raster.same_crs(land.crs, first.crs):
        crs = raster.crs_name(first.crs)
        raise SceneError(
            f"{land.path}: {raster.crs_name(land.crs)}, but {first.path} has {crs}; expected one "
            f"coordinate system. Bring it to that grid, e.g. with gdalwarp -r near -t_srs {crs} "
            "-tr ... -te ..., or make a mosaic of each zone"
        )
    ours, theirs = (np.array(one.transform).reshape(3, 3) for one in (first, land))
    scale = np.linalg.solve(ours[:2, :2], theirs[:2, :2]) - np.eye(2)
    col, row = np.linalg.solve(ours[:2, :2], theirs[:2, 2] - ours[:2, 2]).tolist()
    apart = max(abs(row - round(row)), abs(col - round(col)))
    if np.abs(scale).max() * max(land.shape) > SAME or apart > SAME:
        raise SceneError(
            f"{land.path}: transform {tuple(land.transform)[:6]}, but {first.path} has "
            f"{tuple(first.transform)[:6]}; expected pixels of the same size, on the same corners. "
            "Bring it to that grid, e.g. with gdalwarp -r near -tr ... -te ..."
        )
    return round(row), round(col)


def _confidence(land: LandMap) -> tuple[str, str]:
    """The file beside a map and its kind, or two empty texts."""
    path = writer.beside(pathlib.Path(land.path), "confidence")
    if not path.is_file():
        return "", ""
    with landmap.open_raster(path) as opened:
        kind = opened.tags().get(writer.MEANING_TAG, "").partition(":")[0]
        about = opened.tags().get(writer.PROVENANCE_TAG)
        fits = (opened.shape, opened.transform) == (land.shape, land.transform)
        if not fits or opened.count != 1 or opened.dtypes[0] != "uint8" or not kind:
            raise SceneError(
                f"{path}: {opened.count} bands of {opened.dtypes[0]}, {opened.height} x "
                f"{opened.width} pixels, confidence {kind!r}; expected what rsjax.predict writes "
                f"beside {land.path}, on its grid. Make the map again, or move the file away"
            )
    with landmap.open_raster(land.path) as opened:
        if opened.tags().get(writer.PROVENANCE_TAG) != about:
            raise SceneError(
                f"{path}: its provenance is not that of {land.path}; it is of another map. Make "
                "the map again, or move the file away"
            )
    return str(path), kind
