"""Simulated SEN12MS: overlapping patches of a few scenes in four seasons, with blocky land cover.

As in the real data, the land cover is of cells of 500 m, each with the class at its centre; some
patches reach beyond the edge of their scene and are 0 there; and one triplet, which the lists leave
out, has NaN in its radar image.
"""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import numpy as np
import rasterio

from rsjax.datasets import geotiff, sen12ms_files
from rsjax.datasets.simulate import fields, spectra

_SIZE, _CELL = 256, 50  # pixels: of a patch, of a MODIS cell
_PLACES = {
    "ROIs1158_spring": (32633, 300000.0, 5400000.0),
    "ROIs1868_summer": (32654, 380000.0, 3900000.0),
    "ROIs1970_fall": (32735, 610000.0, 7100000.0),
    "ROIs2017_winter": (32618, 450000.0, 4500000.0),
}
# IGBP code -> (surface, LCCS1, LCCS2, LCCS3); the LCCS codes as far as each needs some pixels.
_CLASSES = {
    1: ("conifer 9 peat 1", 11, 10, 10),
    2: ("broad 10", 12, 10, 10),
    3: ("conifer 6 dry 4", 13, 10, 27),
    4: ("broad 8 grass 2", 14, 10, 10),
    5: ("broad 5 conifer 5", 15, 10, 10),
    6: ("shrub 9 broad 1", 41, 40, 40),
    7: ("shrub 5 soil 5", 43, 40, 40),
    8: ("broad 5 dry 5", 21, 20, 20),
    9: ("dry 8 broad 2", 22, 20, 20),
    10: ("grass 7 dry 3", 31, 30, 30),
    11: ("marsh 8 lake 2", 42, 30, 50),
    12: ("crop 7 soil 3", 31, 36, 30),
    13: ("urban 7 roof 3", 1, 9, 1),
    14: ("crop 5 broad 3 grass 2", 32, 35, 30),
    15: ("snow 9 rock 1", 2, 2, 2),
    16: ("sand 6 rock 4", 1, 1, 1),
    17: ("lake 6 sea 4", 3, 3, 3),
}
# The k-th sample of a split has the k-th of these most of all, the common ones first.
_ORDER = (12, 10, 5, 17, 8, 4, 13, 16, 7, 14, 11, 1, 9, 2, 15, 6, 3)
_SPLITS = ("train", "train", "validation", "train", "test")


def write_sen12ms(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes SEN12MS; see `rsjax.datasets.simulate`."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    taken: dict[str, int] = {}
    with rasterio.Env():
        for i in range(count):
            split = _SPLITS[i % len(_SPLITS)]
            season = tuple(_PLACES)[i % len(_PLACES)]
            number = taken[split] = taken.get(split, -1) + 1
            scene = _scenes(season)[split][number // 20 % 2]
            # Patches are 1.28 km apart: half of each is in the next.
            patch = 30 + i
            s2, s1, lc = _triplet(np.random.default_rng([seed, i]), _ORDER[number % len(_ORDER)])
            if i % 16 == 5:
                for image in (s2, s1, lc):
                    image[:, -21:] = 0
            _write(target, (season, scene, patch), s2, s1, lc)
            side = "test" if split == "test" else "train"
            lines[side].append(f"{season}_s2_{scene}_p{patch}.tif\n")
        s2, s1, lc = _triplet(np.random.default_rng([seed, count]), 12)
        s1[100:140, 30:60] = np.nan
        _write(target, ("ROIs1868_summer", 146, 202), s2, s1, lc)  # `sen12ms_files.DAMAGED`
    for side, name in sen12ms_files.LISTS.items():
        (target / name).write_text("".join(lines[side]))


@functools.cache
def _scenes(season: str) -> dict[str, list[int]]:
    """Split -> the first two scenes of a season that belong to it, by the rules of the dataset."""
    found: dict[str, list[int]] = {"train": [], "validation": []}
    for scene in range(1, 150):
        if scene not in sen12ms_files.HOLD_OUT[season]:
            validation = sen12ms_files.for_validation(f"{season}_{scene}")
            found["validation" if validation else "train"].append(scene)
    return {k: v[:2] for k, v in found.items()} | {"test": list(sen12ms_files.HOLD_OUT[season][:2])}


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Of each IGBP code: spectrum at the top of the atmosphere (18, 15), land cover (18, 4)."""
    spectrum = np.zeros((18, len(spectra.BANDS)), np.float32)
    cover = np.zeros((18, 4), np.uint16)
    for code, (surface, *lccs) in _CLASSES.items():
        spectrum[code] = spectra.mixture(surface)
        spectrum[code, :13] = spectra.top_of_atmosphere(spectrum[code, :13])
        cover[code] = (code, *lccs)
    return spectrum, cover


def _triplet(rng: np.random.Generator, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (256, 256, 13) uint16, (256, 256, 2) float32 and land cover (256, 256, 4) uint16."""
    spectrum, cover = _tables()
    codes = np.array([wanted, *rng.choice(range(1, 18), 2, replace=False)])
    regions = fields.smooth(rng, len(codes), _SIZE, 55.0)
    regions[0] += 1.0
    found = codes[regions.argmax(axis=0)]
    values = spectrum[found]
    light = np.float32(rng.normal(1.0, 0.05)) + 0.06 * fields.smooth(rng, 1, _SIZE, 8.0)[0]
    noise = rng.standard_normal((_SIZE, _SIZE, 13), np.float32)
    optical = values[..., :13] * (light[..., None] + 0.03 * noise) + 12.0 * noise
    speckle = rng.standard_gamma(4.4, (_SIZE, _SIZE, 2), np.float32) / 4.4
    radar = values[..., 13:] + 10 * np.log10(speckle + np.float32(1e-4))
    centres = [
        np.clip((np.arange(_SIZE) + shift) // _CELL * _CELL + _CELL // 2 - shift, 0, _SIZE - 1)
        for shift in rng.integers(0, _CELL, 2)
    ]
    land = cover[found[np.ix_(*centres)]]
    if rng.random() < 0.1:  # what the product could not tell
        land[:_CELL, :_CELL] = 255
    return np.clip(np.rint(optical), 1, 65535).astype(np.uint16), radar, land


def _write(
    target: pathlib.Path,
    place: tuple[str, int, int],
    s2: np.ndarray,
    s1: np.ndarray,
    lc: np.ndarray,
) -> None:
    season, scene, patch = place
    epsg, x, y = _PLACES[season]
    corner = (x + 1280 * (patch % 40), y - 1280 * (patch // 40) - 60000 * scene)
    for kind, image in (("s2", s2), ("s1", s1), ("lc", lc)):
        folder = target / season / f"{kind}_{scene}"
        folder.mkdir(parents=True, exist_ok=True)
        geotiff.write_geotiff(
            folder / f"{season}_{kind}_{scene}_p{patch}.tif",
            image,
            crs=_crs(epsg),
            transform=(10.0, 0.0, corner[0], 0.0, -10.0, corner[1]),
            interleave="pixel",
        )


@functools.cache
def _crs(epsg: int) -> Any:
    return rasterio.CRS.from_epsg(epsg)
