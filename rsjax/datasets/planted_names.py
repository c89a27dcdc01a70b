"""What Planted is expected to name its features, bands and units, and how options replace it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rsjax.errors import ConfigError

LEVELS = {"common_name": 64, "genus": 46, "species": 40}
SENSORS = {
    "s1": "sentinel1",
    "s2": "sentinel2_l2a",
    "l7": "landsat7",
    "alos": "palsar2",
    "modis": "modis",
}
BANDS = {
    "s1": "VV VH",
    "s2": "B02 B03 B04 B05 B06 B07 B08 B8A B11 B12",
    "l7": "B1 B2 B3 B4 B5 B7",
    "alos": "HH HV",
    "modis": "B1 B2 B3 B4 B5 B6 B7",
}
UNITS = {
    "s1": "db",
    "s2": "reflectance_1e4",
    "l7": "landsat_c2_l2",
    "alos": "natural",
    "modis": "modis_sr",
}
# What is read -> its feature.
FEATURES = {
    **{name: name for name in SENSORS},
    **{f"{name}_mask": f"{name}_mask" for name in SENSORS},
    **{f"{name}_dates": f"{name}_timestamp" for name in SENSORS},
    **{level: level for level in LEVELS},
    **{name: name for name in ("country", "lat", "lon")},
}
TEXTS = ("country", "lat", "lon")


def replaced(option: str, given: str | Sequence[str], table: Mapping[str, str]) -> dict[str, str]:
    """A table with some of its values replaced, as 'key=value' pairs say."""
    found = dict(table)
    for pair in [p for p in given.split(",") if p] if isinstance(given, str) else given:
        name, equals, value = pair.partition("=")
        if not equals or name not in table or not (value or name in TEXTS):
            raise ConfigError(
                f"{option}={given!r}: {pair!r}, expected name=value with a name of "
                f"{', '.join(table)}"
            )
        found[name] = value
    return found
