"""Simulated PASTIS-R: parcels that green and are harvested, each crop at a time of its own."""

from __future__ import annotations

import datetime
import json
import pathlib
from typing import Any

import numpy as np
import rasterio
from rasterio.warp import transform

from rsjax.datasets import pastis
from rsjax.datasets.simulate import fields, spectra

_TILES = {"t30uxv": 32630, "t31tfm": 32631, "t31tfj": 32631, "t32ulu": 32632}
_START = datetime.date(2018, 9, 17)
_DAYS = 400
_VOID = 19
_CLASSES = 19  # with background, without void
_SIZE, _PARCELS = pastis.SIZE, 30


def write_pastis(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes PASTIS-R with series of 3 to 6 dates, without instances; see `simulate`."""
    folder = target / "PASTIS-R"
    for name in ("DATA_S2", "DATA_S1A", "DATA_S1D", "ANNOTATIONS"):
        (folder / name).mkdir(parents=True)
    features = []
    values: dict[int, list[np.ndarray]] = {fold: [] for fold in pastis.FOLDS}
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        key, fold = 10000 + 7 * i, i % len(pastis.FOLDS) + 1
        classes, parcels = _parcels(rng)
        target_layers = np.stack([classes, parcels % 256, parcels > 0]).astype(np.uint8)
        np.save(folder / "ANNOTATIONS" / f"TARGET_{key}.npy", target_layers)
        np.save(folder / "ANNOTATIONS" / f"ParcelIDs_{key}.npy", parcels)
        days = {name: _days(rng) for name in ("S2", "S1A", "S1D")}
        crop = np.where(classes == _VOID, rng.integers(1, _CLASSES), classes)
        for name, dates in days.items():
            series = _optical(rng, crop, dates) if name == "S2" else _radar(rng, crop, dates)
            np.save(folder / f"DATA_{name}" / f"{name}_{key}.npy", series)
            if name == "S2":
                values[fold].append(series.mean(axis=(0, 2, 3)))
        features.append(_feature(i, key, fold, days, rng))
    norm = {
        f"Fold_{fold}": {"mean": np.mean(found, 0).tolist(), "std": np.std(found, 0).tolist()}
        for fold, found in values.items()
        if found
    }
    (folder / "NORM_S2_patch.json").write_text(json.dumps(norm, indent=4))
    collection = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::2154"}},
        "features": features,
    }
    (folder / "metadata.geojson").write_text(json.dumps(collection))


def _parcels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Class codes (0 to 19) and parcel numbers, both (128, 128)."""
    centres = rng.uniform(-8, _SIZE + 8, (_PARCELS, 2))
    rows, columns = np.mgrid[:_SIZE, :_SIZE]
    apart = abs(rows[..., None] - centres[:, 0]) + abs(columns[..., None] - centres[:, 1])
    nearest = apart.argmin(axis=-1)
    codes = rng.integers(1, _CLASSES, _PARCELS)
    codes[rng.random(_PARCELS) < 0.07] = _VOID
    wild = fields.smooth(rng, 1, _SIZE, 20.0)[0] > 0.7  # villages and woods
    classes = np.where(wild, 0, codes[nearest])
    return classes, np.where(wild, 0, nearest + 1).astype(np.int32)


def _days(rng: np.random.Generator) -> list[int]:
    return sorted(int(d) for d in rng.choice(_DAYS, int(rng.integers(3, 7)), replace=False))


def _green(days: list[int]) -> np.ndarray:
    """How green each class is on each day, float32 (days, classes): a bump at its own time."""
    peak = 60 + 300 * np.arange(_CLASSES) / _CLASSES
    width = 45 + 25 * (np.arange(_CLASSES) % 3)
    return np.exp(-0.5 * ((np.array(days)[:, None] - peak) / width) ** 2).astype(np.float32)


def _spectra(days: list[int], bands: list[str]) -> np.ndarray:
    """Spectrum of each class on each day, float32 (days, classes, bands)."""
    places = [spectra.BANDS.index(band) for band in bands]
    leaf = [spectra.mixture(f"crop {9 - i % 5} broad {1 + i % 4}")[places] for i in range(_CLASSES)]
    bare = [spectra.mixture(f"soil {6 + i % 4} dry {1 + i % 3}")[places] for i in range(_CLASSES)]
    green = _green(days)[..., None]
    found = green * np.array(leaf, np.float32) + (1 - green) * np.array(bare, np.float32)
    found[:, 0] = spectra.mixture("broad 6 urban 4")[places]
    return found


def _optical(rng: np.random.Generator, crop: np.ndarray, days: list[int]) -> np.ndarray:
    """Sentinel-2 int16 (days, 10, 128, 128), every fourth image or so with clouds."""
    image = _spectra(days, list(pastis.S2_BANDS))[:, crop]
    image += rng.standard_normal(image.shape, np.float32) * (20 + 0.03 * image)
    for step in np.flatnonzero(rng.random(len(days)) < 0.25):
        cover = np.clip(fields.smooth(rng, 1, _SIZE, 25.0)[0], 0, 1)[..., None]
        image[step] += cover * (9000 - image[step])
    return np.moveaxis(np.rint(image), -1, 1).astype(np.int16)


def _radar(rng: np.random.Generator, crop: np.ndarray, days: list[int]) -> np.ndarray:
    """Sentinel-1 float32 (days, 3, 128, 128) in dB."""
    image = _spectra(days, ["VV", "VH"])[:, crop]
    image += 1.5 * rng.standard_normal(image.shape, np.float32)
    ratio = image[..., :1] - image[..., 1:]
    return np.moveaxis(np.concatenate([image, ratio], axis=-1), -1, 1)


def _feature(
    index: int, key: int, fold: int, days: dict[str, list[int]], rng: np.random.Generator
) -> dict[str, Any]:
    tile = list(_TILES)[index % len(_TILES)]
    left = 640000.0 + 1280 * (index // len(_TILES) % 20)
    top = 5300000.0 - 1280 * (index // len(_TILES) // 20)
    x, y = transform(
        rasterio.CRS.from_epsg(_TILES[tile]),
        rasterio.CRS.from_epsg(2154),
        [left, left, left + 1280, left + 1280, left],
        [top, top - 1280, top - 1280, top, top],
    )
    dates = {
        f"dates-{name}": {
            str(step): int((_START + datetime.timedelta(day)).strftime("%Y%m%d"))
            for step, day in enumerate(found)
        }
        for name, found in days.items()
    }
    return {
        "type": "Feature",
        "id": str(key),
        "properties": {
            "Fold": fold, "ID_PATCH": key, "N_Parcel": _PARCELS, "TILE": tile,
            "Parcel_Cover": round(float(rng.uniform(0.2, 1)), 3), **dates,
        },
        "geometry": {"type": "MultiPolygon", "coordinates": [[list(zip(x, y, strict=True))]]},
    }  # fmt: skip
