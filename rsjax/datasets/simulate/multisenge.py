"""Simulated MultiSenGE: patches of several tiles and two UTM zones, with seasons and clouds.

As in the real data, dates are few and differ from patch to patch, the JSON lists them in no order,
and small areas have no label. Sentinel-1 has 2 or 3 dates, where the real series have 89 to 181.
"""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

import numpy as np
import rasterio

from rsjax.datasets import geotiff, multisenge, multisenge_places
from rsjax.datasets.simulate import fields, spectra

_SIZE = 256
# Code -> surface in summer and in winter; 0 is not labelled.
_CLASSES = {
    0: ("dry 5 soil 5", "soil 8 dry 2"),
    1: ("urban 8 roof 2", "urban 8 roof 2"),
    2: ("urban 4 grass 4 broad 2", "urban 5 soil 3 dry 2"),
    3: ("roof 8 urban 2", "roof 8 urban 2"),
    4: ("grass 7 urban 2 broad 1", "grass 4 urban 3 dry 3"),
    5: ("rock 7 urban 3", "rock 7 urban 3"),
    6: ("crop 8 soil 2", "soil 8 crop 2"),
    7: ("soil 5 broad 3 shrub 2", "soil 9 dry 1"),
    8: ("broad 6 grass 4", "grass 5 soil 5"),
    9: ("grass 9 crop 1", "grass 6 dry 4"),
    10: ("shrub 6 broad 4", "shrub 5 dry 5"),
    11: ("broad 6 conifer 4", "conifer 5 dry 3 soil 2"),
    12: ("rock 5 sand 5", "rock 5 sand 5"),
    13: ("marsh 8 grass 2", "marsh 7 lake 3"),
    14: ("lake 9 marsh 1", "lake 10"),
}
_ORDER = (11, 9, 6, 2, 14, 5, 13, 3, 4, 1, 8, 7, 10, 12)  # by the number of real patches, nearly
_SPLITS = ("train", "train", "validation", "train", "test")
_TILES = ("31UFQ", "31UGP", "32ULU", "32ULV", "31TFN")


def write_multisenge(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes MultiSenGE; see `rsjax.datasets.simulate`."""
    for part in ("labels", "ground_reference", "s2", "s1"):
        (target / part).mkdir()
    taken: dict[str, int] = {}
    with rasterio.Env():
        for i, (key, split) in enumerate(_plan(count, seed)):
            number = taken[split] = taken.get(split, -1) + 1
            rng = np.random.default_rng([seed, 4, i])
            longest = 23 if i == 3 else int(rng.integers(2, 6))
            _write(target, rng, key, _ORDER[number % len(_ORDER)], longest)


@functools.lru_cache(maxsize=1)
def _plan(count: int, seed: int) -> list[tuple[str, str]]:
    """Patches with their splits; tiles overlap, so two of the patches share ground."""
    rng = np.random.default_rng([seed, 5])
    cells = [(tile, x, y) for tile in _TILES for x in range(0, 36, 2) for y in range(0, 36, 2)]
    cells = [cells[i] for i in rng.permutation(len(cells)).tolist()]
    keys = [f"{tile}_{257 * x}_{257 * y}" for tile, x, y in cells]
    parts = {k: iter(v) for k, v in multisenge_places.split(keys).items()}
    plan = [(next(parts[split]), split) for split in (_SPLITS * (count // 5 + 1))[:count]]
    if count >= 8:
        plan[-2:] = _sharing()
    return plan


@functools.cache
def _sharing() -> list[tuple[str, str]]:
    """Two patches that share ground, in blocks of different splits."""
    for y in range(0, 30 * 257, 257):
        parts = multisenge_places.split([f"31UFQ_9766_{y}", f"31UGQ_0_{y}"])
        if parts["border"]:
            return [(keys[0], split) for split, keys in parts.items() if keys]
    raise AssertionError("a long strip of overlap lies in blocks of one split")


def _write(
    target: pathlib.Path, rng: np.random.Generator, key: str, wanted: int, dates: int
) -> None:
    tile, _, offset = key.partition("_")
    place = multisenge_places.place(key)
    assert place is not None
    transform = (10.0, 0.0, place.x, 0.0, -10.0, place.y)
    georeference: dict[str, Any] = {"crs": _crs(place.crs), "transform": transform}
    found = _regions(rng, wanted)
    geotiff.write_geotiff(
        target / "ground_reference" / f"{tile}_GR_{offset}.tif", found, **georeference
    )
    names: dict[str, list[str]] = {"s2": [], "s1": []}
    noise = rng.standard_normal((_SIZE, _SIZE, 10), np.float32)
    light = 1 + 0.06 * fields.smooth(rng, 1, _SIZE, 10.0)[0][..., None]
    light = light + 0.03 * noise
    for day in sorted(rng.choice(range(10, 360), dates, replace=False).tolist()):
        names["s2"].append(f"{tile}_{_date(day)}_S2_{offset}.tif")
        image = _tables(day)[0][found] * light
        if rng.random() < 0.15:
            cover = np.clip(fields.smooth(rng, 1, _SIZE, 30.0)[0] - 0.5, 0, 1)[..., None]
            image += (9000 - image) * cover
        pixels = np.clip(np.rint(image), 1, 65535).astype(np.uint16)
        geotiff.write_geotiff(target / "s2" / names["s2"][-1], pixels, **georeference)
    speckle = rng.standard_gamma(9.0, (_SIZE, _SIZE, 2), np.float32) / 9.0
    speckle = 10 * np.log10(speckle + np.float32(1e-4))
    for day in sorted(rng.choice(range(4, 364), int(rng.integers(2, 4)), replace=False).tolist()):
        names["s1"].append(f"{tile}_{_date(day)}_S1_{offset}.tif")
        image = _tables(day)[1][found] + speckle
        geotiff.write_geotiff(target / "s1" / names["s1"][-1], image, **georeference)
    note = {
        f"corresponding_{kind}": ";".join(rng.permutation(names[kind]).tolist()) for kind in names
    }
    note["projection"] = _crs(place.crs).to_wkt()
    note["labels"] = ";".join(str(code) for code in np.unique(found) if code)
    (target / "labels" / f"{key}.json").write_text(json.dumps(note))


def _regions(rng: np.random.Generator, wanted: int) -> np.ndarray:
    """Class codes uint8 (256, 256): the class wanted, three others, a little without label."""
    others = rng.permutation([code for code in _ORDER if code != wanted])[:3]
    codes = np.array([wanted, *others, 0], np.uint8)
    regions = fields.smooth(rng, len(codes), _SIZE, 24.0)
    regions += np.array([1.0, 0.0, 0.0, 0.0, -1.3], np.float32)[:, None, None]
    return codes[regions.argmax(axis=0)]


@functools.cache
def _seasons() -> tuple[np.ndarray, np.ndarray]:
    """Of each code in summer and in winter: reflectance and backscatter, float32 (15, 12)."""
    bands = [spectra.BANDS.index(b) for b in (*multisenge.BAND_ORDERS["resolution"], "VV", "VH")]
    summer, winter = (
        np.stack([spectra.mixture(parts)[bands] for parts in column]).astype(np.float32)
        for column in zip(*(_CLASSES[code] for code in range(len(_CLASSES))), strict=True)
    )
    return summer, winter


def _tables(day: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each code on a day of the year: reflectance (15, 10) and backscatter in dB (15, 2)."""
    summer, winter = _seasons()
    share = np.float32(0.5 - 0.5 * np.cos(2 * np.pi * (day - 15) / 365))
    table = share * summer + (1 - share) * winter
    return table[:, :10], table[:, 10:]


def _date(day: int) -> str:
    return str(np.datetime64("2020-01-01") + day).replace("-", "")


@functools.cache
def _crs(name: str) -> Any:
    return rasterio.CRS.from_string(name)
