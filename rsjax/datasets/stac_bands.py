"""Which file of a STAC item holds which band, in which unit; see docs/stac.md.

Bands are matched by the names that the assets state (`bands` or `eo:bands`: a band's own name, else
its common name), never by position.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from rsjax import sensors
from rsjax.errors import DatasetError

_MEDIA = {  # media type -> ending of the file
    "image/tiff": ".tif",
    "image/vnd.stac.geotiff": ".tif",
    "image/x.geotiff": ".tif",
    "image/jp2": ".jp2",
}
_ENDINGS = (".tif", ".tiff", ".jp2")
_PICTURES = {"thumbnail", "overview", "visual", "metadata"}  # roles of what are no measurements

# Common names, https://github.com/stac-extensions/eo#common-band-names, that mean one band each.
_MSI = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge071": "B05",
    "rededge1": "B05", "rededge075": "B06", "rededge2": "B06", "rededge078": "B07",
    "rededge3": "B07", "nir": "B08", "nir08": "B8A", "nir09": "B09", "cirrus": "B10",
    "swir16": "B11", "swir22": "B12",
}  # fmt: skip
_TM = {
    "blue": "B1", "green": "B2", "red": "B3", "nir": "B4", "nir08": "B4", "swir16": "B5",
    "swir22": "B7",
}  # fmt: skip
_OLI = {
    "coastal": "B1", "blue": "B2", "green": "B3", "red": "B4", "nir": "B5", "nir08": "B5",
    "swir16": "B6", "swir22": "B7",
}  # fmt: skip
_COMMON = {
    "sentinel2_l1c": _MSI, "sentinel2_l2a": _MSI, "landsat5": _TM, "landsat7": _TM,
    "landsat8": _OLI, "landsat9": _OLI,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Asset:
    """One file of an item.

    Attributes:
        item: id of the item.
        key: of the asset in the item.
        href: an absolute path, or a URL.
        bands: of rsjax, in the order of the file; '' is one that is not wanted.
        size: bytes as stated, or None.
        checksum: as stated, a multihash in hexadecimal digits; or ''.
        scaling: (scale, offset) to the physical value as stated, or None.
        ending: of the file's name.
    """

    item: str
    key: str
    href: str
    bands: tuple[str, ...]
    size: int | None
    checksum: str
    scaling: tuple[float, float] | None
    ending: str = ".tif"


def match(item: Any, sensor: str, wanted: Sequence[str], keys: str = "") -> list[Asset]:
    """The files of an item that hold the wanted bands, each band in one of them.

    Of several files with a band, that of the fewest bands is taken, and of these the GeoTIFF where
    the others are JPEG 2000. Thumbnails, previews ("visual")
    and what is neither GeoTIFF nor JPEG 2000 are left out.

    Args:
        item: a pystac.Item.
        sensor: name in `rsjax.sensors`.
        wanted: names of its bands.
        keys: regular expression that the keys of assets must match; '': any.

    Raises:
        DatasetError: a band that no asset has, or that several have equally.
        SensorError: an unknown sensor or band.
    """
    known = sensors.get(sensor)
    for band in wanted:
        known.band(band)
    found = rasters(item, sensor, keys)
    chosen: dict[str, Asset] = {}
    for band in wanted:
        holders = [asset for asset in found if band in asset.bands]
        fewest = min((len(asset.bands) for asset in holders), default=0)
        holders = [asset for asset in holders if len(asset.bands) == fewest]
        holders = [asset for asset in holders if asset.ending != ".jp2"] or holders
        if not holders:
            listed = "; ".join(f"{a.key}: {', '.join(filter(None, a.bands)) or '-'}" for a in found)
            raise DatasetError(
                f"STAC item {item.id}: no asset has band {band} of {sensor}; there are "
                f"{listed or 'no rasters'}. Leave the band or the item out"
            )
        if len(holders) > 1:
            raise DatasetError(
                f"STAC item {item.id}: band {band} is in the assets "
                f"{', '.join(a.key for a in holders)}, expected one; choose by --assets=REGEX"
            )
        chosen[holders[0].key] = holders[0]
    return [
        dataclasses.replace(a, bands=tuple(b if b in wanted else "" for b in a.bands))
        for a in chosen.values()
    ]


def rasters(item: Any, sensor: str, keys: str = "") -> list[Asset]:
    """The files of an item that may be measurements, each with the sensor's bands that it has.

    Args:
        item: a pystac.Item.
        sensor: name in `rsjax.sensors`.
        keys: as of `match`.

    Raises:
        DatasetError: an asset whose bands have several scalings.
        SensorError: an unknown sensor.
    """
    known = sensors.get(sensor)
    return [
        _asset(item, key, one, known)
        for key, one in sorted(item.assets.items())
        if _is_raster(one) and (not keys or re.fullmatch(keys, key))
    ]


def located(asset: Any) -> tuple[str, str]:
    """Absolute path or URL of an item's asset, and the ending of its name; '' of no raster."""
    return _local(asset.get_absolute_href() or asset.href), _ending(asset)


def _is_raster(asset: Any) -> bool:
    return _ending(asset) != "" and not _PICTURES & set(asset.roles or ())


def _ending(asset: Any) -> str:
    """Of the name of a raster file; '' of any other."""
    own = os.path.splitext(asset.href.partition("?")[0])[1].lower()
    media = (asset.media_type or "").partition(";")[0].strip().lower()
    return own if own in _ENDINGS else _MEDIA.get(media, "")


def _asset(item: Any, key: str, asset: Any, sensor: sensors.Sensor) -> Asset:
    fields: Mapping[str, Any] = asset.extra_fields
    listed = fields.get("bands") or fields.get("eo:bands") or []
    polarizations = fields.get("sar:polarizations") or []
    if listed:
        bands = tuple(_band(sensor, one) for one in listed)
    elif len(polarizations) == 1:
        bands = (_band(sensor, {"name": polarizations[0]}),)
    else:
        bands = (_own(sensor, key),)
    raster = fields.get("raster:bands") or fields.get("bands") or [fields]
    stated = {
        (float(scale), float(one.get("offset", one.get("raster:offset", 0.0))))
        for one in (*raster, fields)
        if (scale := one.get("scale", one.get("raster:scale"))) is not None
    }
    if len(stated) > 1:
        raise DatasetError(
            f"STAC item {item.id}: asset {key} has bands of the scalings {sorted(stated)}, "
            "expected one; leave it out by --assets=REGEX"
        )
    href, ending = located(asset)
    return Asset(
        item=item.id,
        key=key,
        href=href,
        bands=bands,
        size=fields.get("file:size"),
        checksum=str(fields.get("file:checksum") or "").lower(),
        scaling=next(iter(stated), None),
        ending=ending,
    )


def _local(href: str) -> str:
    if not href.startswith("file:"):
        return href
    return urllib.request.url2pathname(urllib.parse.urlsplit(href).path)


def _band(sensor: sensors.Sensor, described: Mapping[str, Any]) -> str:
    """The band of the sensor that a description means, by its own name or else a common one.

    Where the common name is that of several bands (rededge), the own may be of one (rededge1).
    """
    known = _COMMON.get(sensor.name, {})
    name = str(described.get("name") or "")
    common = str(described.get("eo:common_name") or described.get("common_name") or "")
    return _own(sensor, name) or _own(
        sensor, known.get(common.lower()) or known.get(name.lower(), "")
    )


def _own(sensor: sensors.Sensor, name: str) -> str:
    """The band of this name, in whatever case and with or without zeros (B2, b02); or ''."""
    return next((b.name for b in sensor.bands if _plain(b.name) == _plain(name)), "")


def _plain(name: str) -> str:
    return re.sub(r"^b0+", "b", name.lower())


def unit(item: Any, assets: Sequence[Asset], sensor: str) -> str:
    """The unit of an item's files, by the scale and offset that it states.

    Raises:
        DatasetError: it states none, several, or one that the sensor's data do not come in.
    """
    known = sensors.get(sensor).units
    given = {asset.scaling for asset in assets}
    applied = item.properties.get("earthsearch:boa_offset_applied")
    stated = ", ".join("not stated" if s is None else f"{s}" for s in sorted(given, key=str))
    fits = [u for u in known if len(given) == 1 and _same(sensors.UNITS[u][:2], next(iter(given)))]
    if given == {None} and len(known) == 1:
        return known[0]
    if len(fits) != 1 or (applied and sensors.UNITS[fits[0]][1]):
        flag = "; earthsearch:boa_offset_applied is true" if applied else ""
        raise DatasetError(
            f"STAC item {item.id}: (scale, offset) of its files: {stated}{flag}; this is not one "
            f"unit of {sensor}. Give --unit, one of {', '.join(known)}"
        )
    return fits[0]


def _same(scaling: tuple[float, float], stated: tuple[float, float] | None) -> bool:
    return stated is not None and all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(scaling, stated, strict=True)
    )
