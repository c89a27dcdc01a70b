"""Sensors: bands by name, with wavelength, ground sampling distance and the units of the data.

Statistics, weights, inputs and scenes are matched by (sensor, band name), never by position.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence

import numpy as np

from rsjax.errors import SensorError

# Physical value = scale × stored value + offset. Only values of one quantity can be converted
# into each other. Decibels are 10·log10 of the linear backscatter, which no scale expresses.
UNITS: dict[str, tuple[float, float, str]] = {
    "reflectance": (1.0, 0.0, "reflectance"),
    "reflectance_1e4": (1e-4, 0.0, "reflectance"),
    # Sentinel-2 processing baseline 04.00 and later, acquired or reprocessed since 2022-01-25.
    "reflectance_1e4_offset1000": (1e-4, -0.1, "reflectance"),
    "landsat_c2_l2": (2.75e-5, -0.2, "reflectance"),
    "modis_sr": (1e-4, 0.0, "reflectance"),
    "linear_power": (1.0, 0.0, "backscatter"),
    "db": (1.0, 0.0, "backscatter"),
    "dn8": (1.0, 0.0, "digital number of 8 bits"),
    # Bands of several quantities in one entry, each in the unit that its sensor's title says.
    "natural": (1.0, 0.0, "several quantities"),
    "dn16": (1.0, 0.0, "digital number of 16 bits"),
}

# Values beyond these hint at a wrong unit: bright clouds and glint reach 2, atmospheric correction
# goes below 0, and buildings facing the radar reach 30 dB.
_SANE = {
    "reflectance": (-0.2, 2.0),
    "db": (-50.0, 30.0),
    "linear_power": (1e-5, 1e3),
    "dn8": (0.0, 255.0),
    "natural": (-1e5, 1e5),
    "dn16": (0.0, 65535.0),
}


@dataclasses.dataclass(frozen=True)
class Band:
    """One band.

    Attributes:
        name: name within its sensor, as in the sensor's official products.
        wavelength_nm: central wavelength in nanometres, None for radar and uncalibrated colour.
        gsd_m: nominal ground sampling distance in metres.
    """

    name: str
    wavelength_nm: float | None
    gsd_m: float


@dataclasses.dataclass(frozen=True)
class Sensor:
    """One sensor at one processing level.

    Attributes:
        name: name in `SENSORS`.
        title: full name.
        bands: in official order.
        units: names in `UNITS` that its data come in, the usual one first.
        source: where the band table comes from.
    """

    name: str
    title: str
    bands: tuple[Band, ...]
    units: tuple[str, ...]
    source: str

    def band(self, name: str) -> Band:
        """The band of this name; an unknown name is a SensorError."""
        for band in self.bands:
            if band.name == name:
                return band
        known = ", ".join(band.name for band in self.bands)
        raise SensorError(f"sensor {self.name!r} has no band {name!r}; known: {known}")


def _bands(table: str) -> tuple[Band, ...]:
    """Bands written as `name wavelength gsd, ...` with `-` for no wavelength."""
    rows = [row.split() for row in table.split(",")]
    return tuple(Band(name, None if nm == "-" else float(nm), float(m)) for name, nm, m in rows)


# Central wavelengths of Sentinel-2A; those of 2B differ by up to 17 nm (B12).
_MSI = _bands(
    "B01 442.7 60, B02 492.4 10, B03 559.8 10, B04 664.6 10, B05 704.1 20, B06 740.5 20, "
    "B07 782.8 20, B08 832.8 10, B8A 864.7 20, B09 945.1 60, B10 1373.5 60, B11 1613.7 20, "
    "B12 2202.4 20"
)
# Landsat and MODIS: the middle of the range that USGS and NASA give.
_TM = _bands("B1 485 30, B2 560 30, B3 660 30, B4 830 30, B5 1650 30, B7 2215 30")
_ETM = _bands("B1 485 30, B2 560 30, B3 660 30, B4 835 30, B5 1650 30, B7 2220 30")
_OLI = _bands("B1 440 30, B2 480 30, B3 560 30, B4 655 30, B5 865 30, B6 1610 30, B7 2200 30")
_MODIS = _bands(
    "B1 645 250, B2 858.5 250, B3 469 500, B4 555 500, B5 1240 500, B6 1640 500, B7 2130 500"
)
_SAR = _bands("VV - 10, VH - 10")
# As some datasets stack them: with the incidence angle, or with VV over VH (a difference in dB).
_SAR_ORBIT = _bands("VV - 10, VH - 10, angle - 10, ratio - 10")
_PALSAR = _bands("HH - 25, HV - 25")
_TERRAIN = _bands("elevation - 30, slope - 30, aspect - 30")
_CLIMATE = _bands(
    "aet - 4638, def - 4638, pdsi - 4638, pet - 4638, pr - 4638, ro - 4638, soil - 4638, "
    "srad - 4638, swe - 4638, tmmn - 4638, tmmx - 4638, vap - 4638, vpd - 4638, vs - 4638"
)
# WorldView-3: the middle of the range that Maxar gives; at nadir.
_WV3 = _bands(
    "Coastal 425 1.24, Blue 480 1.24, Green 545 1.24, Yellow 605 1.24, Red 660 1.24, "
    "RedEdge 725 1.24, NIR1 832.5 1.24, NIR2 950 1.24, PAN 625 0.31"
)
# The distance is that of UC Merced and Inria; a dataset's card states its own.
_RGB = _bands("red - 0.3, green - 0.3, blue - 0.3")

_S2_UNITS = ("reflectance_1e4", "reflectance_1e4_offset1000", "reflectance")
_S2_SOURCE = "ESA, Sentinel-2A spectral bands, https://sentiwiki.copernicus.eu/web/s2-mission"
# Level 1 of TM and ETM+ has 8 bits.
_TM_UNITS = ("landsat_c2_l2", "reflectance", "reflectance_1e4", "dn8")
_OLI_UNITS = ("landsat_c2_l2", "reflectance")
_USGS = (
    "USGS, https://www.usgs.gov/faqs/what-are-band-designations-landsat-satellites; scale: "
    "https://www.usgs.gov/faqs/how-do-i-use-a-scale-factor-landsat-level-2-science-products"
)
_NASA = "NASA, https://modis.gsfc.nasa.gov/about/specifications.php"
_ESA_S1 = "ESA, https://sentiwiki.copernicus.eu/web/s1-mission"
_JAXA = "JAXA, https://www.eorc.jaxa.jp/ALOS/en/alos-2/a2_about_e.htm"
_MAXAR = "Maxar, https://resources.maxar.com/data-sheets/worldview-3"
_L2A = tuple(band for band in _MSI if band.name != "B10")  # cirrus: seen in no surface product

SENSORS: dict[str, Sensor] = {
    row[0]: Sensor(*row)
    for row in (
        ("sentinel2_l1c", "Sentinel-2 level 1C, top of atmosphere", _MSI, _S2_UNITS, _S2_SOURCE),
        ("sentinel2_l2a", "Sentinel-2 level 2A, surface", _L2A, _S2_UNITS, _S2_SOURCE),
        ("sentinel1", "Sentinel-1 C-band radar, IW GRD", _SAR, ("db", "linear_power"), _ESA_S1),
        (
            "sentinel1_ascending",
            "Sentinel-1, ascending orbits: VV, VH and VV/VH in dB, incidence angle in degrees",
            *(_SAR_ORBIT, ("db", "natural"), _ESA_S1),
        ),
        (
            "sentinel1_descending",
            "Sentinel-1, descending orbits: VV, VH and VV/VH in dB, incidence angle in degrees",
            *(_SAR_ORBIT, ("db", "natural"), _ESA_S1),
        ),
        (
            "palsar2",
            "ALOS-2 PALSAR-2, L-band radar; 'natural': digital numbers as distributed",
            *(_PALSAR, ("natural", "db", "linear_power"), _JAXA),
        ),
        ("landsat5", "Landsat 5 TM, reflective bands", _TM, _TM_UNITS, _USGS),
        ("landsat7", "Landsat 7 ETM+, reflective 30 m bands", _ETM, _TM_UNITS, _USGS),
        ("landsat8", "Landsat 8 OLI, surface reflectance bands", _OLI, _OLI_UNITS, _USGS),
        ("landsat9", "Landsat 9 OLI-2, surface reflectance bands", _OLI, _OLI_UNITS, _USGS),
        ("modis", "MODIS land bands", _MODIS, ("modis_sr", "reflectance"), _NASA),
        (
            "fabdem",
            "FABDEM, bare-earth terrain: elevation in metres, slope and aspect in degrees",
            *(_TERRAIN, ("natural",), "https://doi.org/10.5523/bris.s5hqmjcdj8yo2ibzi9b4ew3sn"),
        ),
        (
            "terraclimate",
            "TerraClimate, climate and water balance, each variable in its product's unit",
            *(_CLIMATE, ("natural",), "https://www.climatologylab.org/terraclimate.html"),
        ),
        ("worldview3", "WorldView-3, panchromatic and 8 bands", _WV3, ("dn16",), _MAXAR),
        ("rgb", "Colour pictures of 8 bits, uncalibrated", _RGB, ("dn8",), "no band table"),
    )
}


def get(name: str) -> Sensor:
    """The sensor of this name (see `SENSORS`); an unknown name is a SensorError."""
    if name not in SENSORS:
        close = difflib.get_close_matches(name, SENSORS, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise SensorError(f"no sensor {name!r}; {hint}known: {', '.join(SENSORS)}")
    return SENSORS[name]


def convert(values: np.ndarray, from_unit: str, to_unit: str) -> np.ndarray:
    """Values in another unit of the same quantity.

    Args:
        values: numbers of any shape and dtype. NaN stays NaN; other nodata values must be masked
            by the caller, for they are converted like any number.
        from_unit: name in `UNITS`.
        to_unit: name in `UNITS`.

    Returns:
        float32 of the same shape; `values` itself where the units are the same.

    Raises:
        SensorError: an unknown unit, two quantities, or linear backscatter of zero or less to
            be put in decibels.
    """
    scale_in, offset_in, quantity_in = _unit(from_unit)
    scale_out, offset_out, quantity_out = _unit(to_unit)
    if quantity_in != quantity_out:
        raise SensorError(
            f"cannot convert {from_unit!r} ({quantity_in}) to {to_unit!r} ({quantity_out}): "
            "they measure different things. Check the unit stated for the data"
        )
    if from_unit == to_unit:
        return values
    values = np.asarray(values, np.float32)
    if from_unit == "db":
        values = np.power(np.float32(10), values / np.float32(10))
    scale = np.float32(scale_in / scale_out)
    offset = np.float32((offset_in - offset_out) / scale_out)
    values = values * scale + offset
    if to_unit == "db":
        if count := int(np.count_nonzero(values <= 0)):
            raise SensorError(
                f"{count} of {values.size} values of {from_unit!r} are zero or less and have no "
                "decibels; set them to NaN if they mean nodata, or clip them at the noise floor"
            )
        values = np.float32(10) * np.log10(values)
    return np.asarray(values, np.float32)


def select(available: Sequence[str], wanted: Sequence[str], where: str = "") -> tuple[int, ...]:
    """Positions of the wanted bands among those available, in the order wanted.

    Args:
        available: band names, in stored order.
        wanted: band names.
        where: file or entry, for the error message.

    Raises:
        SensorError: a wanted band that is missing, or a name that is there twice.
    """
    prefix = f"{where}: " if where else ""
    if repeated := sorted({name for name in available if list(available).count(name) > 1}):
        raise SensorError(
            f"{prefix}band {', '.join(repeated)} is there more than once in "
            f"{', '.join(available)}; give each band one name"
        )
    if missing := [name for name in wanted if name not in available]:
        raise SensorError(
            f"{prefix}band {', '.join(missing)} is missing; there are {', '.join(available)}. "
            "Supply it, give the bands of the file their names, or choose a model without it"
        )
    return tuple(list(available).index(name) for name in wanted)


def valid_range(sensor: str | Sensor, unit: str) -> tuple[float, float]:
    """Lowest and highest sane value of a sensor's data in a unit, to warn about wrong units.

    Raises:
        SensorError: an unknown sensor, or a unit that its data do not come in.
    """
    sensor = get(sensor) if isinstance(sensor, str) else sensor
    if unit not in sensor.units:
        raise SensorError(
            f"data of sensor {sensor.name!r} do not come in {unit!r}; "
            f"known: {', '.join(sensor.units)}"
        )
    scale, offset, _ = UNITS[unit]
    low, high = _SANE[unit if unit in _SANE else "reflectance"]
    return (low - offset) / scale, (high - offset) / scale


def _unit(name: str) -> tuple[float, float, str]:
    if name not in UNITS:
        raise SensorError(f"no unit {name!r}; known: {', '.join(UNITS)}")
    return UNITS[name]
