"""Simulated SeasoNet: places of a landscape, each seen in three of the five seasons."""

from __future__ import annotations

import csv
import functools
import pathlib

import numpy as np
import rasterio
from rasterio.warp import transform as project

from rsjax import landcover
from rsjax.datasets import geotiff
from rsjax.datasets.seasonet import FILES
from rsjax.datasets.seasonet_metadata import SEASONS
from rsjax.datasets.simulate import fields, spectra
from rsjax.datasets.splits import LIST_NAMES

_SIZE, _SIDE_M = 120, 1200
_VISITS = 3  # of a place, in different seasons
_CELLS = 80  # patches a side of a tile
_SPLITS = ("train", "validation", "test", "train", "train")  # of the places, in turn
_COLUMNS = (
    "Index", "Season", "Grid", "Latitude", "Longitude", "Satellite", "Year", "Month", "Day",
    "Hour", "Minute", "Second", "Clouds", "Snow", "Classes", "SLRAUM", "RTYP3", "KTYP4", "Path",
)  # fmt: skip
# Sentinel-2 tile, EPSG code, upper left corner.
_TILES = (
    ("32UME", 32632, 399960, 6000000), ("32UPU", 32632, 600000, 5400000),
    ("33UUU", 32633, 300000, 5900040),
)  # fmt: skip
# Season -> when, and what of the land's surface (not of water) shows something else.
_LOOKS = {
    "Spring": ("20180418T104021", "crop", 0.10), "Summer": ("20180704T103021", "grass", 0.0),
    "Fall": ("20181011T103019", "dry", 0.30), "Winter": ("20181218T104431", "soil", 0.35),
    "Snow": ("20180228T102559", "snow", 0.60),
}  # fmt: skip
# Values from common to rare, and how often each is in a patch, relative to the next.
_COMMON = (
    12, 15, 17, 2, 16, 18, 3, 30, 21, 11, 29, 19, 13, 14, 7, 20, 4, 25, 26, 10, 6, 8, 33, 1, 9, 28,
    27, 22, 24, 5, 32, 31, 23,
)  # fmt: skip
_CHANCES = 1.0 / (2.0 + np.arange(len(_COMMON)))


def write_seasonet(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes SeasoNet; see `rsjax.datasets.simulate`."""
    rows = []
    for season in SEASONS:
        (target / season.lower()).mkdir()
    with rasterio.Env():
        for i in range(count):
            place, visit = divmod(i, _VISITS)
            season = SEASONS[(place + place // len(SEASONS) + visit) % len(SEASONS)]
            split = _SPLITS[place % len(_SPLITS)]
            rows.append((_write_patch(target, place, season, seed), split))
    rng = np.random.default_rng([seed, 1])
    # As in the real table, a row's Index does not tell its position.
    rows = [rows[i] for i in rng.permutation(count)]
    for index, (row, _) in zip(rng.permutation(count).tolist(), rows, strict=True):
        row["Index"] = str(index)
    with open(target / "meta.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row, _ in rows)
    (target / "splits").mkdir()
    for split, theirs in LIST_NAMES.items():
        lines = [f"{i}\n" for i, (_, found) in enumerate(rows) if found == split]
        (target / "splits" / f"{theirs}.csv").write_text("".join(lines) or "\n")


@functools.lru_cache(maxsize=1)
def _codes(place: int, seed: int) -> np.ndarray:
    """The map of a place, uint8 (120, 120): the same in every season."""
    rng = np.random.default_rng([seed, 2, place])
    turn, part = divmod(place, len(_SPLITS))
    ours = [i for i, split in enumerate(_SPLITS) if split == _SPLITS[part]]
    # Every class comes first in some place of each split, the common ones earliest.
    first = (turn * len(ours) + ours.index(part)) % len(_COMMON)
    others = rng.choice(len(_COMMON), 4, p=_CHANCES / _CHANCES.sum(), replace=False)
    wanted = [first, *(i for i in others.tolist() if i != first)][: 1 + int(rng.integers(4))]
    regions = fields.smooth(rng, len(wanted), _SIZE, 14.0)
    regions[0] += 0.5
    codes: np.ndarray = np.array([_COMMON[i] for i in wanted], np.uint8)[regions.argmax(axis=0)]
    return codes


@functools.cache
def _table(season: str) -> np.ndarray:
    """Value of the labels -> reflectance of the twelve bands and B10, float32 (34, 13)."""
    _, cover, share = _LOOKS[season]
    known = landcover.load("seasonet")
    table = np.zeros((len(known) + 1, 13), np.float32)
    for value, code in zip(known.codes, known.parents, strict=True):
        assert code is not None
        weight = 0.0 if code >= 500 else share
        table[value] = (1 - weight) * spectra.corine()[code][:13]
        table[value] += weight * spectra.MATERIALS[cover][:13]
    return table


def _write_patch(target: pathlib.Path, place: int, season: str, seed: int) -> dict[str, str]:
    """Writes the five files of a patch; its row of `meta.csv`, without Index."""
    tile, epsg, x, y = _TILES[place % len(_TILES)]
    grid = 1 + place // len(_TILES) % 2
    rng = np.random.default_rng([seed, 3])
    spot = int(rng.permutation(_CELLS**2)[place // len(_TILES) % _CELLS**2])
    shift = _SIDE_M // 2 * (grid - 1)  # the second grid lies half a patch further
    x += spot % _CELLS * _SIDE_M + shift
    y -= spot // _CELLS * _SIDE_M + shift
    middle = ([x + _SIDE_M / 2], [y - _SIDE_M / 2])
    longitude, latitude = (f"{v[0]:.6f}" for v in project(f"EPSG:{epsg}", "EPSG:4326", *middle))
    when = _LOOKS[season][0]
    name = f"{tile}_{when}_{latitude}_{longitude}".replace(".", "_")
    folder = target / season.lower() / f"grid{grid}" / name
    folder.mkdir(parents=True)

    codes = _codes(place, seed)
    rng = np.random.default_rng([seed, 4, place, SEASONS.index(season)])
    light = np.float32(rng.normal(1.0, 0.05)) + 0.06 * fields.smooth(rng, 1, _SIZE, 3.0)[0]
    image = _table(season)[codes] * light[..., None]
    image += rng.standard_normal(image.shape, np.float32) * (15.0 + 0.02 * image)
    for parts, size, gsd in FILES.values():
        step = _SIZE // size
        coarse = image.reshape(size, step, size, step, 13).mean(axis=(1, 3))
        coarse = np.clip(np.rint(coarse), 1, 65535).astype(np.uint16)
        for part, bands in parts.items():
            chosen = coarse[..., [spectra.BANDS.index(band) for band in bands]]
            _write(folder / f"{name}_{part}.tif", chosen, epsg, gsd, x, y)
    _write(folder / f"{name}_labels.tif", codes, epsg, 10.0, x, y)
    return {
        "Season": season, "Grid": str(grid), "Latitude": latitude, "Longitude": longitude,
        "Satellite": "AB"[place % 2], "Year": when[:4], "Month": str(int(when[4:6])),
        "Day": str(int(when[6:8])), "Hour": str(int(when[9:11])), "Minute": str(int(when[11:13])),
        "Second": str(int(when[13:15])), "Clouds": "0.0",
        "Snow": "60.0" if season == "Snow" else "0.0",
        "Classes": ",".join(map(str, np.unique(codes).tolist())),
        "SLRAUM": "1", "RTYP3": "2", "KTYP4": "3", "Path": folder.relative_to(target).as_posix(),
    }  # fmt: skip


def _write(
    path: pathlib.Path, image: np.ndarray, epsg: int, gsd_m: float, x: float, y: float
) -> None:
    geotiff.write_geotiff(
        path, image, crs=_crs(epsg), transform=(gsd_m, 0.0, float(x), 0.0, -gsd_m, float(y))
    )


@functools.cache
def _crs(epsg: int) -> rasterio.CRS:
    return rasterio.CRS.from_epsg(epsg)
