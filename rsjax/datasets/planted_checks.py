"""Whether the guesses about Planted (order of bands, units) agree with its data.

Its records are plantations of trees: bright in the infrared and dark in red, and stronger in
co-polarised than in cross-polarised backscatter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from rsjax import sensors
from rsjax.errors import DatasetError

# Series -> pairs of a lower and a higher band.
_HIGHER = {
    "s1": (("VH", "VV"),),
    "s2": (("B04", "B08"), ("B12", "B11"), ("B05", "B07"), ("B04", "B8A")),
    "l7": (("B3", "B4"), ("B7", "B5")),
    "alos": (("HV", "HH"),),
    "modis": (("B1", "B2"), ("B7", "B6")),
}
_NIR = {"s2": "B08", "l7": "B4", "modis": "B2"}
_REFLECTANCE = (0.05, 0.7)
_DB = (-40.0, -1.0)


def compare(
    records: Iterable[Mapping[str, Mapping[str, np.ndarray]]],
    units: Mapping[str, str],
    source: str,
) -> None:
    """Refuses bands and units that the data contradict.

    Args:
        records: of each record, series -> band -> values, NaN where missing.
        units: series -> unit.
        source: of the dataset, for the message.

    Raises:
        DatasetError: tells what was found, what was expected and what to set.
    """
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for record in records:
        for name, bands in record.items():
            valid = ~np.isnan(np.stack(list(bands.values()))).any(axis=0)
            for band, values in bands.items():
                found.setdefault(name, {}).setdefault(band, []).append(values[valid])
    problems = []
    for name, lists in found.items():
        joined = {band: np.concatenate(parts) for band, parts in lists.items()}
        middle = {band: float(np.median(v)) for band, v in joined.items() if v.size}
        for low, high in _HIGHER[name]:
            if {low, high} <= middle.keys() and middle[low] >= middle[high]:
                problems.append(
                    f"{name}: median {low} is {middle[low]:.4g} and {high} {middle[high]:.4g}, "
                    f"expected {high} to be higher: set bands='{name}=...'"
                )
        problems += _units(name, middle, units[name])
    if problems:
        raise DatasetError(
            f"{source}: what Planted does not document was guessed, and its first records "
            "contradict it\n  " + "\n  ".join(problems) + "\nchecks=False prepares the data as "
            "the options say"
        )


def _units(name: str, middle: Mapping[str, float], unit: str) -> list[str]:
    """What contradicts the unit of a series."""
    if unit == "db":
        wrong = {band: v for band, v in middle.items() if not _DB[0] <= v <= _DB[1]}
        low, high, what = *_DB, "dB"
    elif _NIR.get(name) in middle and sensors.UNITS[unit][2] == "reflectance":
        scale, offset, _ = sensors.UNITS[unit]
        value = middle[_NIR[name]]
        low, high = ((edge - offset) / scale for edge in _REFLECTANCE)
        wrong = {} if low <= value <= high else {_NIR[name]: value}
        what = f"of unit '{unit}'"
    else:
        return []
    return [
        f"{name}: median {band} is {value:.4g}, expected {low:.4g} to {high:.4g} {what}: set "
        f"units='{name}=...'"
        for band, value in wrong.items()
    ]
