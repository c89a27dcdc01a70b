"""A STAC item as a scene: its files on this machine, bands by the names that its assets state."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rsjax.datasets import stac_bands, stac_files, stac_items
from rsjax.datasets.stac_bands import Asset
from rsjax.errors import DatasetError, SceneError

# What item and sensor may say of the satellite: 'sentinel-2a', 'LANDSAT_8', 'landsat9'.
_SATELLITE = re.compile(r"(sentinel|landsat)[-_ ]?0?(\d)", re.IGNORECASE)
_LEVEL = re.compile(r"l(1c|2a)", re.IGNORECASE)

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class StacFile:
    """One file of an item.

    Attributes:
        path: of it on this machine.
        bands: 'sensor/band' in its order; '' is one that is not wanted.
        unit: of its values; '' where the item does not say it.
        date: of acquisition, ISO.
    """

    path: str
    bands: tuple[str, ...]
    unit: str
    date: str


def files(
    where: str,
    item_id: str,
    wanted: Sequence[str],
    units: Sequence[str] = (),
    download: bool = False,
) -> list[StacFile]:
    """The files of an item that have bands which a model takes.

    Args:
        where: a JSON file: an item, or a collection of several.
        item_id: which one of several; '' where there is only one.
        wanted: 'sensor/band' names.
        units: stated by the user, 'UNIT' or 'SENSOR=UNIT': then the item's own does not count.
        download: whether to get files that are on a server, into a folder beside `where` with the
            item's id as its name; those that are there already are taken.

    Raises:
        SceneError: several items, files of another satellite or two sensors that it may be, or
            files that are on a server and not to be got.
        DatasetError: no STAC, or assets that contradict each other.
        StorageError, DiskError: from downloads.
    """
    item = _item(where, item_id)
    chosen = {}
    for sensor in dict.fromkeys(name.split("/")[0] for name in wanted):
        has = {band for asset in stac_bands.rasters(item, sensor) for band in asset.bands}
        asked = (name.split("/")[1] for name in wanted if name.startswith(f"{sensor}/"))
        there = [band for band in asked if band in has]
        if there and not _is_other(item, sensor):
            chosen[sensor] = _matched(where, item, sensor, there)
    if len(chosen) > 1:
        raise SceneError(
            f"{where}: its files may be of {' or '.join(chosen)}, which are both wanted; name "
            f"them yourself, e.g. --scene={next(iter(chosen))}/B02=FILE"
        )
    if not chosen:
        raise SceneError(
            f"{where}: no asset of STAC item {item.id} has one of the bands that are wanted, "
            f"{', '.join(wanted)}; its platform is {_about(item) or 'not stated'}. Name the files "
            "yourself with --scene=B02=FILE if they have them"
        )
    ((sensor, assets),) = chosen.items()
    paths = _here(where, assets, download)
    stated = any("=" not in unit or unit.startswith(f"{sensor}=") for unit in units)
    silent = all(asset.scaling is None for asset in assets)
    unit = "" if stated or silent else stac_bands.unit(item, assets, sensor)
    when = item.datetime or item.common_metadata.start_datetime
    date = when.date().isoformat() if when else ""
    names = [tuple(f"{sensor}/{b}" if b else "" for b in asset.bands) for asset in assets]
    return [StacFile(path, n, unit, date) for path, n in zip(paths, names, strict=True)]


def local_files(where: str) -> Iterator[str]:
    """Paths of all files of all items: where they are on this machine, or are got to.

    Args:
        where: a JSON file, as of `files`.

    Raises:
        DatasetError: no STAC.
    """
    for item in stac_items.read(where):
        for key, asset in item.assets.items():
            yield str(_place(where, item.id, key, *stac_bands.located(asset)))


def _item(where: str, item_id: str) -> Any:
    items = stac_items.read(where)
    ids = [item.id for item in items]
    if item_id not in ids and (item_id or len(ids) > 1):
        raise SceneError(
            f"{where}: {'no item ' + repr(item_id) if item_id else 'several items'}, expected one "
            f"of {', '.join(ids[:20])}; name it as --scene={where}#{ids[0]}"
        )
    return items[ids.index(item_id) if item_id else 0]


def _matched(where: str, item: Any, sensor: str, bands: list[str]) -> list[Asset]:
    try:
        return stac_bands.match(item, sensor, bands)
    except DatasetError as error:
        text = str(error).partition("; choose by")[0]
        raise SceneError(f"{where}: {text}. Name the file: --scene={bands[0]}=FILE") from None


def _about(item: Any) -> str:
    said = (item.properties.get("platform"), item.properties.get("constellation"))
    return " ".join(str(one) for one in (*said, item.collection_id) if one)


def _is_other(item: Any, sensor: str) -> bool:
    """Whether an item says that it is of another satellite, or another level of processing."""
    for pattern in (_SATELLITE, _LEVEL):
        theirs = {match.group().lower() for match in pattern.finditer(_about(item))}
        ours = {match.group().lower() for match in pattern.finditer(sensor)}
        plain = [{re.sub("[-_ 0]", "", one) for one in found} for found in (theirs, ours)]
        if plain[0] and plain[1] and not plain[0] & plain[1]:
            return True
    return False


def _here(where: str, assets: Sequence[Asset], download: bool) -> list[str]:
    """Where the files are on this machine; gets those that are not, or refuses them."""
    paths = {a.key: _place(where, a.item, a.key, a.href, a.ending) for a in assets}
    away = []
    for asset in assets:
        if stac_files.is_remote(asset.href):
            path = paths[asset.key]
            if not path.is_file() or asset.size not in (None, path.stat().st_size):
                away.append(asset)
        elif not paths[asset.key].is_file():
            raise SceneError(
                f"{where}: asset {asset.key}: {asset.href}: no such file; restore it, or correct "
                "the item"
            )
    if away and not download:
        raise SceneError(
            f"{where}: {len(away)} of its {len(assets)} files are not on this machine, the first "
            f"is {stac_files.plain(away[0].href)}. Add --download to get them into "
            f"{paths[away[0].key].parent}, or name your own copies: --scene=B02=FILE"
        )
    for asset in away:
        logger.info("%s <- %s", paths[asset.key], stac_files.plain(asset.href))
        stac_files.download(asset, paths[asset.key])
    return [str(paths[asset.key]) for asset in assets]


def _place(where: str, item: str, key: str, href: str, ending: str) -> pathlib.Path:
    """Where the file of an asset is on this machine, or where it is got to from a server."""
    if not stac_files.is_remote(href):
        return pathlib.Path(href)
    folder = pathlib.Path(os.path.abspath(where)).parent / safe(item)
    return folder / f"{safe(key)}{ending}"


def safe(name: str) -> str:
    """A name that a file can have: what it cannot hold becomes '_'."""
    return re.sub(r"[^\w.-]|^\.", "_", name)
