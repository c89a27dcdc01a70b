"""Scenes as agencies deliver them: Sentinel-2 SAFE folders and Landsat Collection 2 folders.

Bands are found by their official file names, the unit by what the metadata says of it: level 1C
and 2A products of processing baseline 04.00 and later (acquired or reprocessed since 2022-01-25)
store reflectance × 10000 + 1000. Sentinel-2: https://sentiwiki.copernicus.eu/web/s2-products;
Landsat: https://www.usgs.gov/landsat-missions/landsat-collection-2.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re

from rsjax import sensors
from rsjax.datasets.files import Source
from rsjax.datasets.scene_list import BandFile
from rsjax.errors import DatasetError

NODATA = 0.0  # of both

_SAFE = re.compile(r"S2[A-D]_MSI(L1C|L2A)_(\d{8})T\d{6}_N(\d{4})_R\d{3}_T\w{5}(_\w+)?(\.SAFE)?")
_S2_BAND = re.compile(r"_(B\d\d|B8A)(?:_(\d\d)m)?\.(?:jp2|tif)$")
_S2_OFFSET = re.compile(r"<(?:BOA|RADIO)_ADD_OFFSET\b[^>]*>\s*(-?\d+)\s*</")
_S2_SCALE = re.compile(r"<(?:L2A_)?(?:BOA_)?QUANTIFICATION_VALUE\b[^>]*>\s*(\d+(?:\.0*)?)\s*</")
_UNITS = {0: "reflectance_1e4", -1000: "reflectance_1e4_offset1000"}
_OFFSET_SINCE = 400  # processing baseline

_LANDSAT = re.compile(
    r"L([COET])(0\d)_(L1TP|L1GT|L1GS|L2SP|L2SR)_\d{6}_(\d{8})_\d{8}_02_(T1|T2|RT)"
)
_SATELLITES = {
    ("T", "05"): "landsat5", ("E", "07"): "landsat7", ("C", "08"): "landsat8",
    ("O", "08"): "landsat8", ("C", "09"): "landsat9", ("O", "09"): "landsat9",
}  # fmt: skip
_LANDSAT_SCALE = re.compile(r"REFLECTANCE_(MULT|ADD)_BAND_\d\w* = (\S+)")


@dataclasses.dataclass(frozen=True)
class Product:
    """What a product holds: sensor, unit, ISO date, files with their bands, metadata read."""

    sensor: str
    unit: str
    date: str
    files: tuple[BandFile, ...]
    metadata: tuple[str, ...] = ()


def is_name(name: str) -> bool:
    """Whether this is the official name of a product's folder."""
    return bool(_SAFE.fullmatch(name) or _LANDSAT.fullmatch(name))


def sensor_of(name: str) -> str:
    """The sensor of a product, by its official name; '' where it is not known."""
    if match := _SAFE.fullmatch(name):
        return f"sentinel2_{match[1].lower()}"
    match = _LANDSAT.fullmatch(name)
    return _SATELLITES.get((match[1], match[2]), "") if match else ""


def find(source: Source, folder: str, wanted: tuple[str, ...] = ()) -> Product:
    """The band files of a product folder.

    Args:
        source: the files.
        folder: name of the product's folder, which is its official one.
        wanted: bands to find; empty is all that its sensor has.

    Raises:
        DatasetError: another name, a band file that is missing or double, metadata that is
            missing where the unit depends on it, or of an unknown unit.
    """
    name = posixpath.basename(folder.rstrip("/"))
    where = source.describe(folder)
    if match := _SAFE.fullmatch(name):
        return _sentinel2(source, folder.rstrip("/"), match, wanted)
    if match := _LANDSAT.fullmatch(name):
        return _landsat(source, folder.rstrip("/"), match, wanted)
    raise DatasetError(
        f"{where}: not the name of a product, expected S2?_MSIL1C|L2A_....SAFE of Sentinel-2 or "
        "L?0?_L1..|L2.._PPPRRR_date_date_02_T? of Landsat Collection 2. Give the folder its "
        "official name, or list its files"
    )


def _sentinel2(
    source: Source, folder: str, match: re.Match[str], wanted: tuple[str, ...]
) -> Product:
    level, day, baseline = match[1], match[2], match[3]
    sensor = sensors.get("sentinel2_l1c" if level == "L1C" else "sentinel2_l2a")
    names = [n for n in source.names(folder) if "/IMG_DATA/" in n]
    found = []
    for band in sensor.bands:
        if wanted and band.name not in wanted:
            continue
        # Level 2A has bands again at coarser distances; only the native one is a measurement.
        ending = "" if level == "L1C" else f"{band.gsd_m:.0f}"
        files = [
            n
            for n in names
            if (m := _S2_BAND.search(n)) and m[1] == band.name and (m[2] or "") == ending
        ]
        found.append(BandFile(_only(files, source, folder, band.name), (band.name,)))
    unit = _sentinel2_unit(source, folder, level, baseline)
    metadata = [name for name in (_sentinel2_metadata(folder, level),) if source.exists(name)]
    return Product(sensor.name, unit, _date(day), tuple(found), tuple(metadata))


def _sentinel2_metadata(folder: str, level: str) -> str:
    return f"{folder}/MTD_MSI{level}.xml"


def _sentinel2_unit(source: Source, folder: str, level: str, baseline: str) -> str:
    """From the product's metadata, or from the baseline in its name where they are missing."""
    name = _sentinel2_metadata(folder, level)
    if not source.exists(name):
        if not 0 < int(baseline) < 9999:
            raise DatasetError(
                f"{source.describe(name)}: no such file, and baseline N{baseline} of the folder's "
                "name does not tell the unit; restore the file"
            )
        return _UNITS[-1000 if int(baseline) >= _OFFSET_SINCE else 0]
    text, where = source.read(name).decode("utf-8", "replace"), source.describe(name)
    scales = {float(value) for value in _S2_SCALE.findall(text)}
    offsets = {int(value) for value in _S2_OFFSET.findall(text)} or {0}
    if scales != {10000.0} or len(offsets) > 1 or not offsets <= set(_UNITS):
        raise DatasetError(
            f"{where}: quantification {sorted(scales)}, offsets {sorted(offsets)}, expected 10000 "
            "and one of 0, -1000. Restore the file, or list the files of the product and state "
            "their unit"
        )
    (offset,) = offsets
    if 0 < int(baseline) < 9999 and (offset != 0) != (int(baseline) >= _OFFSET_SINCE):
        raise DatasetError(
            f"{where}: offset {offset} with processing baseline N{baseline} in the folder's name, "
            "expected -1000 from N0400 on and none before. Restore the product, or list its files "
            "and state their unit"
        )
    return _UNITS[offset]


def _landsat(source: Source, folder: str, match: re.Match[str], wanted: tuple[str, ...]) -> Product:
    name, where = match[0], source.describe(folder)
    satellite = _SATELLITES.get((match[1], match[2]))
    if satellite is None:
        known = ", ".join(f"L{a}{b} ({s})" for (a, b), s in _SATELLITES.items())
        raise DatasetError(f"{where}: satellite L{match[1]}{match[2]}, expected one of {known}")
    level2 = match[3].startswith("L2")
    sensor = sensors.get(satellite)
    unit = "landsat_c2_l2" if level2 else "dn8"
    if unit not in sensor.units:
        raise DatasetError(
            f"{where}: level 1 of {satellite}, expected level 2 (surface reflectance), for the "
            "unit of this level 1 has no name in rsjax. Download the level 2 product"
        )
    names = source.names(folder)
    found = []
    for band in sensor.bands:
        if wanted and band.name not in wanted:
            continue
        ending = re.compile(f"{name}_{'SR_' if level2 else ''}{band.name}\\.tif", re.IGNORECASE)
        files = [n for n in names if ending.fullmatch(posixpath.basename(n))]
        found.append(BandFile(_only(files, source, folder, band.name), (band.name,)))
    metadata = [n for n in (f"{folder}/{name}_MTL.txt",) if level2 and source.exists(n)]
    for one in metadata:
        _check_landsat(source, one)
    return Product(satellite, unit, _date(match[4]), tuple(found), tuple(metadata))


def _check_landsat(source: Source, name: str) -> None:
    """Scale and offset of surface reflectance."""
    text = source.read(name).decode("utf-8", "replace")
    # The same group stands again for the level 1 product that this one was made from.
    part = text.partition("GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS")[2]
    part = part.partition("END_GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS")[0]
    for kind, value in _LANDSAT_SCALE.findall(part):
        expected = 2.75e-05 if kind == "MULT" else -0.2
        if abs(float(value) - expected) > 1e-9:
            raise DatasetError(
                f"{source.describe(name)}: REFLECTANCE_{kind} {value}, expected {expected} as in "
                "every product of Collection 2; restore the file"
            )


def _only(found: list[str], source: Source, folder: str, band: str) -> str:
    if len(found) != 1:
        raise DatasetError(
            f"{source.describe(folder)}: {len(found)} files of band {band}"
            f"{' (' + ', '.join(found) + ')' if found else ''}, expected one. Restore the "
            "product, or name the bands that it has under bands in scenes.json"
        )
    return found[0]


def _date(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
