"""Simulated Planted, subset 'species': plantations in series of five satellites."""

from __future__ import annotations

import datetime
import pathlib
from typing import Any

import numpy as np

from rsjax import landcover
from rsjax.datasets import planted_names
from rsjax.datasets.simulate import spectra, tfds_files

# Series -> steps, pixels a side, days between steps.
_SERIES = {
    "s1": (8, 12, 90),
    "s2": (8, 12, 90),
    "l7": (20, 4, 90),
    "alos": (4, 4, 365),
    "modis": (60, 1, 30),
}
# The Sentinel-2 band that a band of the others is nearest to.
_NEAREST = {
    "l7": "B02 B03 B04 B08 B11 B12",
    "modis": "B04 B08 B02 B03 B8A B11 B12",
    "alos": "VV VH",
}
_CLASSES = 12  # of the 40, so that few records show each more than once
_FIRST_DAY = datetime.datetime(2013, 1, 15)


def write_planted(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes Planted; see `rsjax.datasets.simulate`."""
    held_out = count // 6
    splits = {"train": count - 2 * held_out, "validation": held_out, "test": held_out}
    shards: dict[str, list[list[bytes]]] = {}
    number = 0
    for split, size in splits.items():
        parts = min(size, 2)
        shards[split] = [[] for _ in range(parts)]
        for index in range(size):
            record = _record(np.random.default_rng([seed, number]), index % _CLASSES)
            shards[split][index * parts // size].append(tfds_files.example(record))
            number += 1
    folder = target / "planted-public" / "species" / "1.2.0"
    tfds_files.write_folder(folder, "planted", "1.2.0", _features(), shards, config="species")


def _features() -> dict[str, Any]:
    import tensorflow_datasets as tfds

    tensor = tfds.features.Tensor
    found: dict[str, Any] = {}
    for name, (steps, side, _) in _SERIES.items():
        shape = (steps, side, side, len(planted_names.BANDS[name].split()))
        found[name] = tensor(shape=shape, dtype=np.float32)
        found[f"{name}_mask"] = tensor(shape=shape, dtype=np.uint8)
        found[f"{name}_timestamp"] = tensor(shape=(steps,), dtype=np.int64)
    names = sorted(landcover.load("planted_species").names)  # not in the order of our table
    found["species"] = tfds.features.ClassLabel(names=names)
    found["genus"] = tfds.features.ClassLabel(names=sorted({n.split()[0] for n in names}))
    found["common_name"] = tfds.features.Text()
    found["country"] = tfds.features.Text()
    return found | {k: tensor(shape=(), dtype=np.float32) for k in ("lat", "lon")}


def _record(rng: np.random.Generator, kind: int) -> dict[str, Any]:
    """One plantation: each species withers by its own measure, at its own shade."""
    names = sorted(landcover.load("planted_species").names)
    species = names[kind * len(names) // _CLASSES]
    genera = sorted({name.split()[0] for name in names})
    mine = np.random.default_rng(kind)
    green = spectra.mixture(f"broad {mine.integers(1, 9)} conifer {mine.integers(1, 9)}")
    green = green * np.where(np.arange(green.size) < 13, mine.uniform(0.75, 1.3), 1.0)
    wither = mine.uniform(0, 0.5)
    found: dict[str, Any] = {}
    for name, (steps, side, days) in _SERIES.items():
        dates = [_FIRST_DAY + datetime.timedelta(days=days * k) for k in range(steps)]
        season = np.array([np.cos(2 * np.pi * d.timetuple().tm_yday / 365) for d in dates])
        share = (wither * (0.5 + 0.5 * season))[:, None]
        series = green * (1 - share) + spectra.mixture("dry 9 soil 1") * share
        bands = (_NEAREST.get(name) or planted_names.BANDS[name]).split()
        series = series[:, [spectra.BANDS.index(band) for band in bands]]
        shape = (steps, side, side, len(bands))
        noise = rng.standard_normal(shape)
        if name in ("s1", "alos"):
            values = series[:, None, None] + 1.5 * noise
        else:
            values = series[:, None, None] * (1 + 0.05 * noise)
        if name == "alos":  # as JAXA distributes it: gamma0 = 20 log10(DN) - 83 dB
            values = np.rint(10 ** ((values + 83) / 20))
        if name == "l7":  # collection 2, level 2
            values = np.rint((values * 1e-4 + 0.2) / 2.75e-5)
        seen = rng.random((steps, 1, 1, 1)) > 0.1
        found[name] = np.where(seen, values, 0).astype(np.float32)
        found[f"{name}_mask"] = np.broadcast_to(seen, shape).astype(np.uint8)
        epoch = datetime.datetime(1970, 1, 1)
        times = [(date - epoch) // datetime.timedelta(milliseconds=1) for date in dates]
        found[f"{name}_timestamp"] = np.array(times, np.int64)
    found["species"] = np.array([names.index(species)])
    found["genus"] = np.array([genera.index(species.split()[0])])
    found["common_name"] = [species.split()[0].lower().encode()]
    found["country"] = [str(rng.choice(["Japan", "Chile", "South Africa"])).encode()]
    return found | {"lat": np.array([rng.uniform(-40, 45)]), "lon": np.array([rng.uniform(0, 9)])}
