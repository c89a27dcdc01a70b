"""From images as on disk to one standardised image, on the device, inside the jitted step.

Bands are chosen by (sensor, band) name, of a time series by name and step ('sensor/band@0'),
brought to one grid, and standardised with the statistics of (sensor, band): never by position.
Values that are missing (NaN, where the entry says so) become the mean of their band.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsjax.datasets.info import ImageSpec
from rsjax.errors import SensorError
from rsjax.input import fitting

RESAMPLING = ("bilinear", "nearest")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a model takes: everything needed to turn raw images into its input.

    Attributes:
        images: entries that the bands come from, by name.
        bands: 'sensor/band', of a series 'sensor/band@step', in the order of the channels.
        mean: one per band, in the entry's unit.
        std: one per band.
        grid: (height, width) in pixels of the model's input.
        resample: 'bilinear' or 'nearest', for entries on another grid. Going to a coarser grid
            whose size divides is the mean over blocks in both cases.
        fit: (steps, rows, columns) that series and images of varying size are brought to before,
            see `rsjax.input.fitting`; 0 for what does not vary.
        rescale: (offset, factor) of each band, for a model that takes another quantity than
            standardised values: it gets offset + factor x the standardised value. Empty: the
            standardised values.
    """

    images: dict[str, ImageSpec]
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    grid: tuple[int, int]
    resample: str = "bilinear"
    fit: tuple[int, int, int] = fitting.NONE
    rescale: tuple[tuple[float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The inputs as plain JSON types."""
        images = {name: spec.to_json() for name, spec in self.images.items()}
        data = {**dataclasses.asdict(self), "images": images}
        if self.fit == fitting.NONE:
            del data["fit"]
        if not self.rescale:
            del data["rescale"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Inputs:
        """The inverse of `to_json`."""
        images = {name: ImageSpec.from_json(spec) for name, spec in data["images"].items()}
        lists = {k: tuple(data[k]) for k in ("bands", "mean", "std", "grid")}
        fit = tuple(data.get("fit", fitting.NONE))
        rescale = tuple((offset, factor) for offset, factor in data.get("rescale", ()))
        return cls(images=images, resample=data["resample"], fit=fit, rescale=rescale, **lists)


def make_inputs(
    images: Mapping[str, ImageSpec],
    bands: Sequence[str],
    statistics: Mapping[str, Mapping[str, Mapping[str, float]]],
    grid: tuple[int, int],
    resample: str = "bilinear",
    fit: tuple[int, int, int] = fitting.NONE,
) -> Inputs:
    """Looks up bands and their statistics by name.

    Args:
        images: the entries of the shards.
        bands: 'sensor/band' or 'sensor/band@step' names, in the order of the channels.
        statistics: {sensor: {band: {mean, std}}}.
        grid: (height, width) of the model's input.
        resample: see `Inputs`.
        fit: see `Inputs`.

    Raises:
        SensorError: a band is not in the shards or has no usable statistics.
    """
    lengths = {
        name: dataclasses.replace(s, steps=fit[0]) if s.steps == 0 and fit[0] else s
        for name, s in images.items()
    }
    known = {f"{s.sensor}/{b}": name for name, s in lengths.items() for b in names_of(s, bands)}
    missing = [b for b in bands if b not in known]
    if missing or not bands or len(set(bands)) != len(bands):
        what = (
            f"bands {missing} are not in the shards" if missing else f"bands {list(bands)} repeat"
        )
        there = ", ".join(f"{s.sensor}/{b}" for s in lengths.values() for b in _told(s))
        raise SensorError(f"{what}; they have {there}. Set config.data.bands")
    mean, std = [], []
    for band in bands:
        sensor, name = band.split("/")
        found = statistics.get(sensor, {}).get(name.partition("@")[0])
        if not found or not np.isfinite(found["mean"]) or not found["std"] > 0:
            raise SensorError(
                f"band {band}: no usable statistics ({found}); a constant or empty band cannot be "
                "standardised. Leave it out of config.data.bands, or prepare the data again"
            )
        mean.append(float(found["mean"]))
        std.append(float(found["std"]))
    used = {n: s for n, s in images.items() if any(known[b] == n for b in bands)}
    return Inputs(used, tuple(bands), tuple(mean), tuple(std), grid, resample, fit)


def preprocess(inputs: Inputs) -> Callable[[Mapping[str, jax.Array]], jax.Array]:
    """A function from a batch of raw entries to the model's input.

    Returns:
        f({entry: (B, h, w, c) or (B, t, h, w, c)}) -> (B, H, W, C) float32, channels as
        `inputs.bands`: standardised, and rescaled as `inputs.rescale` says.
    """

    def apply(batch: Mapping[str, jax.Array]) -> jax.Array:
        parts: dict[str, jax.Array] = {}
        for name, spec in inputs.images.items():
            names = names_of(spec, inputs.bands)
            wanted = [b for b in names if f"{spec.sensor}/{b}" in inputs.bands]
            chosen = np.array([names.index(b) for b in wanted])
            image = batch[name]
            if spec.steps is not None:  # the channels of a series: all bands step by step
                image = jnp.moveaxis(image, 1, 3)
                image = image.reshape(*image.shape[:3], -1)
            image = image[..., chosen].astype(jnp.float32)
            if spec.missing_is_nan:
                at = [inputs.bands.index(f"{spec.sensor}/{b}") for b in wanted]
                means = np.asarray(inputs.mean, np.float32)[at].reshape(1, 1, 1, -1)
                image = jnp.where(jnp.isnan(image), means, image)
            image = resample(image, inputs.grid, inputs.resample)
            parts |= {f"{spec.sensor}/{b}": image[..., i] for i, b in enumerate(wanted)}
        x = jnp.stack([parts[band] for band in inputs.bands], axis=-1)
        mean = np.asarray(inputs.mean, np.float32).reshape(1, 1, 1, -1)
        scale = (1.0 / np.asarray(inputs.std)).astype(np.float32).reshape(1, 1, 1, -1)
        return rescaled(inputs, (x - mean) * scale)

    return apply


def rescaled(inputs: Inputs, x: jax.Array) -> jax.Array:
    """Standardised values (B, H, W, C) -> what the model takes, see `Inputs.rescale`."""
    if not inputs.rescale:
        return x
    offset, factor = np.asarray(inputs.rescale, np.float32).T.reshape(2, 1, 1, 1, -1)
    return offset + factor * x


def names_of(spec: ImageSpec, bands: Sequence[str]) -> list[str]:
    """The names of an entry's channels: its bands, of a series with the step of each.

    A series of varying length has as many steps as `bands` ask for.
    """
    if spec.steps is None:
        return list(spec.bands)
    steps = range(steps_of(spec, bands))
    return [f"{band}@{step}" for step in steps for band in spec.bands]


def steps_of(spec: ImageSpec, bands: Sequence[str]) -> int:
    """Steps of a series; of one that varies, at least those that 'sensor/band@step' names."""
    return spec.steps or 1 + max((_step(b) for b in bands), default=0)


def _step(band: str) -> int:
    _, _, step = band.partition("@")
    return int(step) if step.isdecimal() else 0


def _told(spec: ImageSpec) -> list[str]:
    """The names of an entry's bands, for messages."""
    if spec.steps is None:
        return list(spec.bands)
    last = spec.steps - 1 if spec.steps else "data.fit_steps - 1"
    return [f"{band}@0 to @{last}" for band in spec.bands]


def resample(image: jax.Array, grid: tuple[int, int], method: str) -> jax.Array:
    """Brings (B, h, w, C) to (B, H, W, C): block means to coarser grids, else `method`."""
    batch, h, w, c = image.shape
    if (h, w) == grid:
        return image
    if h % grid[0] == 0 and w % grid[1] == 0:
        blocks = image.reshape(batch, grid[0], h // grid[0], grid[1], w // grid[1], c)
        return blocks.mean(axis=(2, 4))
    if method == "nearest" and grid[0] % h == 0 and grid[1] % w == 0:
        return jnp.repeat(jnp.repeat(image, grid[0] // h, axis=1), grid[1] // w, axis=2)
    return jax.image.resize(image, (batch, *grid, c), method)
