"""Simulated ForTy v1: places with four seasons of Sentinel-1 and -2, few shards of it."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from rsjax.datasets import forty_features
from rsjax.datasets.simulate import fields, spectra, tfds_files

_SIZE = 128
_SHARD = 12  # records
# Code as stored -> spectrum, and how much of it withers in winter.
_CLASSES = {
    0: ("shrub 5 grass 5", 0.5),
    1: ("broad 8 conifer 2", 0.5),
    2: ("conifer 9 grass 1", 0.05),
    3: ("broad 4 soil 6", 0.3),
    4: ("crop 5 grass 5", 0.7),
    5: ("urban 7 roof 3", 0.0),
    6: ("lake 1", 0.0),
    7: ("snow 1", 0.0),
    8: ("sand 4 soil 6", 0.0),
}
_WITHERED = (1.0, 0.4, 0.0, 0.5)  # winter, spring, summer, autumn
# Share of a patch of each class, the commonest last, so that its map fills what is left.
_SHARES = {0: 0.08, 7: 0.01, 8: 0.06, 6: 0.08, 5: 0.08, 3: 0.08, 2: 0.10, 1: 0.16}


def write_forty(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes ForTy v1; see `rsjax.datasets.simulate`."""
    held_out = count // 8
    splits = {"train": count - 2 * held_out, "validation": held_out, "test": held_out}
    shards: dict[str, list[list[bytes]]] = {}
    number = 0
    for split, size in splits.items():
        parts = -(-size // _SHARD)
        shards[split] = [[] for _ in range(parts)]
        for index in range(size):
            record = tfds_files.example(_record(number, seed))
            shards[split][index * parts // size].append(record)
            number += 1
    tfds_files.write_folder(target / "forty_v1" / "1.0.0", "forty_v1", "1.0.0", _features(), shards)


def _features() -> dict[str, Any]:
    import tensorflow_datasets as tfds

    def tensor(shape: tuple[int, ...], dtype: type) -> Any:
        return tfds.features.Tensor(shape=shape, dtype=dtype)

    found = {"id": tensor((), np.int64), "lat": tensor((), np.float64)}
    found["lon"] = tensor((), np.float64)
    for values, mask, shape in forty_features.FEATURES.values():
        found[values] = tensor(shape, np.float32)
        if mask:
            found[mask] = tensor(shape, np.uint8)
    found[forty_features.LABELS] = tensor((_SIZE, _SIZE), np.uint8)
    return found


def _record(number: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, number])
    codes = _codes(rng)
    latitude = 38.0 + rng.uniform(-6, 25) if number % 2 == 0 else rng.uniform(-35, 25)
    table = np.stack([_spectrum(code) for code in _CLASSES])  # (codes, seasons, bands)
    values = np.moveaxis(table[codes], 2, 0)  # (seasons, height, width, bands)
    optical = [spectra.BANDS.index(band) for band in forty_features.S2_BANDS]
    radar = [spectra.BANDS.index(band) for band in ("VV", "VH")]
    light = (1 + 0.06 * fields.smooth(rng, 4, _SIZE, 8.0))[..., None]
    noise = rng.standard_normal((4, _SIZE, _SIZE, len(optical)), np.float32)
    s2 = values[..., optical] * light * (1 + 0.03 * noise)
    clear = fields.smooth(rng, 4, _SIZE, 20.0) < 1.6
    valid = np.repeat(clear[..., None], len(optical), axis=-1)
    place = {"id": np.array([number * 523 % 200_000]), "lat": np.array([latitude])}
    found = {
        **place,
        "lon": np.array([rng.uniform(-180, 180)]),
        "s2": np.where(valid, s2, 0).astype(np.float32),
        "s2_mask": valid.astype(np.uint8),
        "elevation": _terrain(rng),
        "climate": _climate(rng, latitude),
        forty_features.LABELS: codes.astype(np.uint8),
    }
    for entry, missing in (("s1_ascending", 0.3), ("s1_descending", 0.16)):
        name, mask, shape = forty_features.FEATURES[entry]
        speckle = 1.2 * rng.standard_normal((4, _SIZE, _SIZE, 2), np.float32)
        angle = rng.uniform(30, 44) + np.linspace(0, 1, _SIZE, dtype=np.float32)
        image = np.empty(shape, np.float32)
        image[..., :2] = values[..., radar] + speckle
        image[..., 2] = angle
        seen = (rng.random(4) >= missing)[:, None, None, None]
        found[name] = np.where(seen, image, np.float32(0))
        found[mask] = np.broadcast_to(seen, shape).astype(np.uint8)
    return found


def _codes(rng: np.random.Generator) -> np.ndarray:
    """A map with the usual share of every class."""
    codes = np.full((_SIZE, _SIZE), 4)
    for (code, share), field in zip(
        _SHARES.items(), fields.smooth(rng, len(_SHARES), _SIZE, 12.0), strict=True
    ):
        free = codes == 4
        rank = np.where(free, field, -np.inf)
        place = np.argpartition(rank.ravel(), -int(share * _SIZE**2))[-int(share * _SIZE**2) :]
        codes.ravel()[place] = code
    return codes


def _spectrum(code: int) -> np.ndarray:
    """Spectrum of a class in the four seasons, (4, bands)."""
    parts, wither = _CLASSES[code]
    summer, dead = spectra.mixture(parts), spectra.mixture("dry 8 soil 2")
    share = wither * np.array(_WITHERED)[:, None]
    return (summer * (1 - share) + dead * share).astype(np.float32)


def _terrain(rng: np.random.Generator) -> np.ndarray:
    height = 400 + 60 * fields.smooth(rng, 1, _SIZE, 24.0)[0]
    down, right = np.gradient(height, 10.0)
    slope = np.degrees(np.arctan(np.hypot(down, right)))
    aspect = np.degrees(np.arctan2(-right, down)) % 360
    return np.stack([height, slope, aspect], axis=-1).astype(np.float32)


def _climate(rng: np.random.Generator, latitude: float) -> np.ndarray:
    """TerraClimate as Earth Engine has it: temperatures in tenths of a degree, ..."""
    season = np.array([-1.0, 0.0, 1.0, 0.1]) * (1 if latitude > 0 else -1)
    warmest = 330 - 3.5 * abs(latitude) + 2.5 * abs(latitude) * season + rng.normal(0, 8)
    rain = rng.uniform(20, 120, 4)
    pet = 600 + 2.0 * np.maximum(warmest, 0)
    values = {
        "aet": pet * rng.uniform(0.3, 0.9, 4), "def": pet * 0.2, "pdsi": rng.normal(0, 150, 4),
        "pet": pet, "pr": rain, "ro": rain * 0.3, "soil": rng.uniform(100, 900, 4),
        "srad": 1500 + 700 * season, "swe": np.maximum(-warmest, 0), "tmmn": warmest - 100,
        "tmmx": warmest, "vap": 1000 + 3 * warmest, "vpd": rng.uniform(20, 120, 4),
        "vs": rng.uniform(150, 400, 4),
    }  # fmt: skip
    stacked = np.stack([values[name] for name in forty_features.CLIMATE_BANDS], axis=-1)
    return stacked.astype(np.float32)[:, None, None]
