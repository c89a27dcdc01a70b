"""Whether a scene's values can be what they are said to be, and what a user should know of it."""

from __future__ import annotations

import concurrent.futures

import numpy as np

from rsjax import sensors
from rsjax.errors import SceneError
from rsjax.input.preprocess import Inputs
from rsjax.mapping.scene import Scene
from rsjax.mapping.scene_rows import Entry

LOOKS, LOOK_PIXELS = 3, 256  # squares of the scene that are looked at


def check_values(scene: Scene, pool: concurrent.futures.Executor) -> None:
    """Refuses a scene whose values cannot be in the stated unit, before all of it is read.

    Looks at the median of each band in a few squares along the diagonal.

    Raises:
        SceneError: names the band, its values, and the range of the model's unit.
    """
    area, step = scene.area, scene.step
    for i in range(1, LOOKS + 1):
        spans = []
        for size in (area.height, area.width):
            start = max(0, size * i // (LOOKS + 1) - LOOK_PIXELS // 2) // step * step
            spans.append((start, start + step * -(-min(LOOK_PIXELS, size - start) // step)))
        found = scene.read(spans[0], spans[1], pool)
        for name, entry in scene.entries.items():
            k = entry.factor
            there = ~found.missing[k // 2 :: k, k // 2 :: k]
            for band, plane in zip(entry.spec.bands, found.entries[name], strict=True):
                _check_band(scene, entry, band, plane[there])


def _check_band(scene: Scene, entry: Entry, band: str, values: np.ndarray) -> None:
    values = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if not values.size:
        return
    spec = entry.spec
    low, high = sensors.valid_range(spec.sensor, spec.unit)
    middle, top = float(np.median(values)), float(values.max())
    tiny = spec.unit.startswith("reflectance_") and values.size > 100 and 0 < top <= 2
    if low <= middle <= high and not tiny:
        return
    part = next(p for p in entry.parts if spec.bands.index(band) in p.places)
    raise SceneError(
        f"{part.path}: band {band} has the median {middle:g} and the maximum {top:g} in the "
        f"model's unit {spec.unit}, which lies in [{low:g}, {high:g}]"
        f"{' and reaches beyond 2' if tiny else ''}; its values were taken for {part.unit}. "
        f"State their unit with --unit={'|'.join(sensors.get(spec.sensor).units)}"
    )


def notes(gsd_m: float, inputs: Inputs) -> list[str]:
    """What a user should know of a scene that can be mapped, as sentences.

    Args:
        gsd_m: side in metres of the finest pixels that the model takes of the scene.
        inputs: what it was trained with.
    """
    finest = min(inputs.images.values(), key=lambda spec: spec.gsd_m)
    if 0.9 < gsd_m / finest.gsd_m < 1.1:
        return []
    return [
        f"the scene's pixels are {gsd_m:.3g} m, those that the model learned from "
        f"{finest.gsd_m:g} m: objects look {finest.gsd_m / gsd_m:.2g} times as large to it"
    ]
