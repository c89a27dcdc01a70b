"""`metadata.geojson` of PASTIS: folds, days and places of the patches."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import re
from typing import Any

from rsjax.errors import DatasetError

FOLDS = (1, 2, 3, 4, 5)
SIDE_M, PIXEL_M = 1280.0, 10.0

_SNAP_M = 2.5  # by which corners may miss the pixel grid: rounding of the stored coordinates
_TILE = re.compile(r"T?(\d{2})([C-X])[A-Z]{2}")


@dataclasses.dataclass(frozen=True)
class Patch:
    """One patch.

    Attributes:
        id: as in the names of its files.
        fold: 1 to 5.
        tile: name of the Sentinel-2 tile that it was cut from, e.g. 'T31TFM'.
        dates: satellite ('S2', 'S1A', 'S1D') -> ISO dates, in the order of the arrays.
        crs: coordinate system of `corners`, or ''.
        corners: (x, y) of the outline.
    """

    id: str
    fold: int
    tile: str
    dates: dict[str, tuple[str, ...]]
    crs: str
    corners: tuple[tuple[float, float], ...]


def read(content: bytes, where: str, satellites: tuple[str, ...]) -> dict[str, Patch]:
    """The patches of a `metadata.geojson` by id, in its order.

    Args:
        content: the file.
        where: its path, for messages.
        satellites: those whose dates must be there.

    Raises:
        DatasetError: names the patch, what was found, what was expected and the remedy.
    """
    try:
        data = json.loads(content)
        features = data["features"]
        crs = (data.get("crs") or {}).get("properties", {}).get("name", "")
        rows = [(feature["properties"], feature["geometry"]) for feature in features]
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise DatasetError(
            f"{where}: not a GeoJSON collection of features ({cause!r}), expected the file of the "
            "official download; download it again"
        ) from None
    found: dict[str, Patch] = {}
    for number, (row, geometry) in enumerate(rows):
        here = f"{where}: feature {number}"
        patch = _patch(row, geometry, str(crs), here, satellites)
        if patch.id in found:
            raise DatasetError(
                f"{here}: patch {patch.id} is there twice, expected each once; download the file "
                "again"
            )
        found[patch.id] = patch
    return found


def _patch(
    row: dict[str, Any], geometry: Any, crs: str, here: str, satellites: tuple[str, ...]
) -> Patch:
    try:
        key, fold, tile = str(int(row["ID_PATCH"])), row["Fold"], str(row["TILE"]).upper()
    except (KeyError, TypeError, ValueError) as cause:
        raise DatasetError(
            f"{here}: no usable property {cause}, expected ID_PATCH, Fold and TILE; download the "
            "file again"
        ) from None
    if fold not in FOLDS or isinstance(fold, bool) or not _TILE.fullmatch(tile):
        raise DatasetError(
            f"{here}: patch {key} has Fold {fold!r} and TILE {tile!r}, expected a fold from 1 to 5 "
            "and a Sentinel-2 tile like T31TFM; download the file again"
        )
    dates = {}
    for satellite in satellites:
        values: Any = row.get(f"dates-{satellite}")
        try:
            # GDAL writes objects as text when it copies the file.
            values = json.loads(values) if isinstance(values, str) else values
            days = [values[str(step)] for step in range(len(values))]
            dates[satellite] = tuple(_iso(day) for day in days)
        except (ValueError, KeyError, TypeError) as cause:
            raise DatasetError(
                f"{here}: patch {key} has dates-{satellite} {str(values)[:60]!r} ({cause!r}), "
                'expected {"0": YYYYMMDD, "1": ...}. Sentinel-1 is in PASTIS-R only: choose '
                "sensors='s2' for PASTIS, or download the file again"
            ) from None
        for step, (day, after) in enumerate(itertools.pairwise(dates[satellite])):
            if after < day:
                raise DatasetError(
                    f"{here}: patch {key} has dates-{satellite} with {after} at step {step + 1} "
                    f"after {day}, expected days that ascend as the images do; download the file "
                    "again"
                )
    return Patch(key, int(fold), f"T{tile.removeprefix('T')}", dates, crs, _outline(geometry))


def _iso(day: int | str) -> str:
    return datetime.datetime.strptime(str(day), "%Y%m%d").date().isoformat()


def _outline(geometry: Any) -> tuple[tuple[float, float], ...]:
    """The corners of a polygon's outline; none where there is no polygon."""
    try:
        ring = geometry["coordinates"]
        while not isinstance(ring[0][0], int | float):
            ring = ring[0]
        return tuple((float(x), float(y)) for x, y, *_ in ring)
    except (KeyError, IndexError, TypeError, ValueError):
        return ()


def place(patch: Patch, where: str) -> tuple[str, tuple[float, ...]]:
    """Coordinate system and transform of a patch, which was cut from the grid of its tile.

    The outline is brought to the UTM zone of the tile. There it must be a square of 1280 m that
    lies on the grid of 10 m, to 2.5 m: the release does not state the pixels' places, and this
    says whether they can be derived.

    Raises:
        DatasetError: no outline, or another one.
    """
    import rasterio
    from rasterio.warp import transform

    zone = _TILE.fullmatch(patch.tile)
    assert zone  # checked by `_patch`
    code = (32600 if zone[2] >= "N" else 32700) + int(zone[1])
    try:
        if not patch.corners or not patch.crs:
            raise ValueError(f"{len(patch.corners)} corners in {patch.crs or 'no'} coordinates")
        x, y = transform(
            rasterio.CRS.from_user_input(patch.crs),
            rasterio.CRS.from_epsg(code),
            *zip(*patch.corners, strict=True),
        )
        left, top = (round(value / PIXEL_M) * PIXEL_M for value in (min(x), max(y)))
        ideal = [(left + i * SIDE_M, top - j * SIDE_M) for i in (0, 1) for j in (0, 1)]
        apart = [[abs(a - u) + abs(b - v) for a, b in zip(x, y, strict=True)] for u, v in ideal]
        miss = max(
            [min(row) for row in apart] + [min(column) for column in zip(*apart, strict=True)]
        )
        if not miss <= 2 * _SNAP_M:
            raise ValueError(f"an outline that misses such a square by {miss:.1f} m")
    except (ValueError, OverflowError, rasterio.errors.CRSError) as cause:
        raise DatasetError(
            f"{where}: patch {patch.id} has {cause}, expected a square of 1280 m on the 10 m grid "
            f"of EPSG:{code} ({patch.tile}). Read it without places, with georeferenced=False"
        ) from None
    return f"EPSG:{code}", (PIXEL_M, 0.0, left, 0.0, -PIXEL_M, top)
