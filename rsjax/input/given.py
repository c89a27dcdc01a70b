"""Images as people give them to a trained model: checked, and brought to what it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from rsjax import sensors
from rsjax.datasets.info import ImageSpec
from rsjax.errors import BundleError, SensorError
from rsjax.input import fitting
from rsjax.input.preprocess import Inputs, names_of, steps_of


def entries(inputs: Inputs, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The entries of a dataset, checked and fitted as in training.

    Args:
        inputs: of the model.
        images: (B, h, w, c) or (h, w, c) of each entry, bands in the order of `inputs.images`.

    Raises:
        BundleError: sizes, dtypes or values that do not fit.
        SensorError: an entry is missing.
    """
    batch = {}
    for name, spec in inputs.images.items():
        if name not in images:
            raise SensorError(
                f"no entry '{name}' ({spec.sensor} {', '.join(spec.bands)}); the model needs "
                f"{sorted(inputs.images)}, found {sorted(images)}"
            )
        image = np.asarray(images[name])
        image = image[None] if image.ndim == len(spec.shape) else image
        shape = fitting.wanted(spec.shape, inputs.fit)
        if image.ndim == len(shape) + 1 and shape != spec.shape and 0 not in shape:
            image = np.stack([fitting.fit(one, shape) for one in image])  # as in training
        if image.ndim == len(shape) + 1:
            shape = tuple(a or b for a, b in zip(shape, image.shape[1:], strict=True))
        series = "" if spec.steps is None else "steps, "
        least = steps_of(spec, inputs.bands) if series else 0
        if image.shape[1:] != shape or (series and shape[0] < least):
            few = f", {least} steps or more" if series and shape[0] < least else ""
            raise BundleError(
                f"entry '{name}' is {image.shape[1:]}, expected {shape}{few}: {series}rows, "
                f"columns and bands {', '.join(spec.bands)}"
            )
        _check_values(image, spec, name)
        batch[name] = image
    if len({len(v) for v in batch.values()}) > 1:
        raise BundleError(f"entries of {[len(v) for v in batch.values()]} images; give equal")
    return batch


def array(
    inputs: Inputs, image: np.ndarray, bands: Sequence[str] | None, unit: str | None
) -> tuple[Inputs, dict[str, np.ndarray]]:
    """One array as entries, and the inputs that take them.

    Args:
        inputs: of the model.
        image: (B, H, W, C) or (H, W, C), on the model's grid.
        bands: names of the channels; None: the model's own.
        unit: of the values; None: that of training.

    Raises:
        BundleError: sizes or values that do not fit.
        SensorError: bands are missing or cannot be told apart, or the unit does not fit.
    """
    image = image[None] if image.ndim == 3 else image
    names = tuple(bands or inputs.bands)
    if image.ndim != 4 or image.shape[-1] != len(names):
        raise BundleError(
            f"the image is {image.shape}, expected (rows, columns, {len(names)}) or a batch "
            f"of it; channels {', '.join(names)}. Name yours with bands=[...]"
        )
    sizes = {inputs.grid} | {(s.height, s.width) for s in inputs.images.values()}
    largest = max(sizes)
    if image.shape[1:3] not in (inputs.grid, largest):
        raise BundleError(
            f"the image is {image.shape[1]} x {image.shape[2]} pixels, the model takes "
            f"{largest[0]} x {largest[1]} or {inputs.grid[0]} x {inputs.grid[1]}; "
            "cut patches of that size, it is not resized silently"
        )
    batch, specs = {}, {}
    for entry, spec in inputs.images.items():
        known = names_of(spec, inputs.bands)
        wanted = [b for b in known if f"{spec.sensor}/{b}" in inputs.bands]
        at = []
        for band in wanted:
            full = f"{spec.sensor}/{band}"
            hits = [i for i, n in enumerate(names) if n in (full, band)]
            if len(hits) != 1:
                what = "missing" if not hits else "given more than once"
                raise SensorError(
                    f"band {full} is {what}; the model needs {', '.join(inputs.bands)}, "
                    f"found {', '.join(names)}"
                )
            at.append(hits[0])
        part = image[..., at]
        if unit and unit != spec.unit:
            part = sensors.convert(part, unit, spec.unit)
        height, width = image.shape[1:3]
        specs[entry] = dataclasses.replace(
            spec, bands=tuple(wanted), height=height, width=width, dtype=str(part.dtype),
            steps=None,
        )  # fmt: skip
        _check_values(part, specs[entry], "image")
        batch[entry] = part
    return dataclasses.replace(inputs, images=specs, fit=fitting.NONE), batch


def _check_values(image: np.ndarray, spec: ImageSpec, name: str) -> None:
    """Refuses values that cannot be in the unit that the model was trained on."""
    if image.dtype.kind == "f":
        bad = np.isinf(image) if spec.missing_is_nan else ~np.isfinite(image)
        if bad.any():
            raise BundleError(f"'{name}' has NaN or infinite pixels; fill or cut them out first")
        image = image[~np.isnan(image)] if spec.missing_is_nan else image
    if not image.size:
        raise BundleError(f"'{name}' has no pixel that is not missing; leave it out")
    low, high = sensors.valid_range(spec.sensor, spec.unit)
    found = float(image.min()), float(image.max())
    tiny = spec.unit.startswith("reflectance_") and image.size > 1 and 0 <= found[1] <= 2
    if found[0] < low or found[1] > high or (tiny and found[1] > 0):
        raise BundleError(
            f"'{name}' has values from {found[0]:g} to {found[1]:g}, but {spec.sensor} in the "
            f"model's unit '{spec.unit}' lies in [{low:g}, {high:g}]"
            + (" and reaches beyond 2" if tiny else "")
            + f". Say what yours are in: unit=... ({', '.join(sensors.UNITS)})"
        )
