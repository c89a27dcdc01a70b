"""Normalised differences by name: which two bands of a sensor 'ndvi' is made of.

A name means two places in the spectrum, and takes the bands of the model's input that lie nearest;
a pair of band names says itself which. Where the input has several sensors or steps of a series,
there is one index of each that has both bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsjax import sensors
from rsjax.errors import ConfigError, SensorError
from rsjax.input.preprocess import Inputs

# Centre in nanometres; a band within 5 % of it will do.
PLACES = {"green": 560.0, "red": 660.0, "nir": 840.0, "swir1": 1630.0, "swir2": 2200.0}
TOLERANCE = 0.05
INDICES = {
    "ndvi": ("nir", "red"),  # Rouse et al. 1974, Monitoring Vegetation Systems in the Great Plains
    "ndwi": ("green", "nir"),  # McFeeters 1996, The Use of the Normalized Difference Water Index
    "mndwi": ("green", "swir1"),  # Xu 2006, Modification of Normalised Difference Water Index
    "ndbi": ("swir1", "nir"),  # Zha et al. 2003, Use of Normalized Difference Built-Up Index
    "nbr": ("nir", "swir2"),  # Key and Benson 2006, Landscape Assessment
}


def resolve(wanted: Sequence[Any], inputs: Inputs) -> dict[str, Any]:
    """The fields `indices` and `physical` of a classic model for this input.

    Args:
        wanted: names in `INDICES`, or pairs of bands, 'B08' or 'sentinel2_l2a/B08'.
        inputs: bands, units and statistics.

    Raises:
        ConfigError: an unknown name.
        SensorError: no sensor of the input has both bands, or only radar has.
    """
    if not wanted:
        return {"indices": (), "physical": ()}
    places: dict[tuple[str, str], list[int]] = {}  # (sensor, step): channels
    for channel, band in enumerate(inputs.bands):
        sensor, name = band.split("/")
        places.setdefault((sensor, name.partition("@")[2]), []).append(channel)
    found: list[tuple[int, int]] = []
    for index in wanted:
        pairs = [_pair(index, channels, inputs) for channels in places.values()]
        whole = [(a, b) for a, b in pairs if a is not None and b is not None]
        if not whole:
            told = index if isinstance(index, str) else "/".join(map(str, index))
            need = f" ({' and '.join(INDICES[index])})" if isinstance(index, str) else ""
            raise SensorError(
                f"model.fields.indices: no sensor of the input has both bands of {told}{need}; "
                f"the input has {', '.join(inputs.bands)}. Add them to config.data.bands, or leave "
                "the index out"
            )
        found += whole
    for channel in {channel for pair in found for channel in pair}:
        unit = _unit(inputs, channel)
        if sensors.UNITS[unit][2] in ("backscatter", "several quantities"):
            raise SensorError(
                f"model.fields.indices: {inputs.bands[channel]} is in '{unit}', of which a "
                "normalised difference has no meaning. Leave it out"
            )
    physical = []
    for channel, (mean, std) in enumerate(zip(inputs.mean, inputs.std, strict=True)):
        scale, offset, _ = sensors.UNITS[_unit(inputs, channel)]
        physical.append((scale * std, scale * mean + offset))
    return {"indices": tuple(found), "physical": tuple(physical)}


def _unit(inputs: Inputs, channel: int) -> str:
    sensor, name = inputs.bands[channel].split("/")
    own = name.partition("@")[0]
    return next(s.unit for s in inputs.images.values() if s.sensor == sensor and own in s.bands)


def _pair(index: Any, channels: Sequence[int], inputs: Inputs) -> list[int | None]:
    """The two channels of an index among those of one sensor and step; None: not there."""
    if isinstance(index, str):
        if index not in INDICES:
            raise ConfigError(
                f"model.fields.indices: unknown {index!r}; known: {', '.join(INDICES)}, or a pair "
                "of bands, e.g. ('B08', 'B04')"
            )
        return [_nearest(place, channels, inputs) for place in INDICES[index]]
    if len(index) != 2:
        raise ConfigError(f"model.fields.indices: {index!r} is no pair of bands")

    def named(band: str) -> int | None:
        for channel in channels:
            sensor, _, name = inputs.bands[channel].partition("/")
            own = name.partition("@")[0]
            if band in (own, f"{sensor}/{own}"):
                return channel
        return None

    return [named(band) for band in index]


def _nearest(place: str, channels: Sequence[int], inputs: Inputs) -> int | None:
    centre, best = PLACES[place], None
    for channel in channels:
        sensor, _, name = inputs.bands[channel].partition("/")
        wavelength = sensors.get(sensor).band(name.partition("@")[0]).wavelength_nm
        if wavelength is not None:
            apart = abs(wavelength - centre)
            if apart <= TOLERANCE * centre and (best is None or apart < best[0]):
                best = (apart, channel)
    return None if best is None else best[1]
