"""From STAC items to `scenes.json`: files in place or downloaded, bands by name."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from rsjax.datasets import scene_list, stac_bands, stac_files
from rsjax.datasets.scene_list import BandFile, Labels, Scene, SceneList
from rsjax.datasets.stac_bands import Asset
from rsjax.errors import ConfigError, DatasetError

log = logging.getLogger("rsjax")
VECTORS = (".geojson", ".json", ".gpkg", ".shp", ".fgb")


def write(
    items: Sequence[Any],
    folder: str | os.PathLike[str],
    sensor: str,
    bands: Sequence[str],
    unit: str = "",
    keys: str = "",
    labels: Labels | None = None,
    download: bool = False,
) -> SceneList:
    """Writes `scenes.json` and the list of its files into a folder.

    Where there is a `scenes.json`, its grid, split, labels and texts are kept, and the scenes, with
    sensor, bands and unit, are replaced.

    Args:
        items: of `stac_items.read` or `search`.
        folder: takes the two files and what is downloaded; local files must lie in it.
        sensor: name in `rsjax.sensors`.
        bands: the bands wanted, each once.
        unit: name in `rsjax.sensors.UNITS`; '': what each item states.
        keys: regular expression of the keys of assets; '': any.
        labels: the reference; None: that of the `scenes.json` that is there.
        download: whether to get files that are not on this machine.

    Raises:
        ConfigError: no labels, or files that are not here and `download` is false.
        DatasetError: an item, or a file, that is not as it should be.
        SensorError: an unknown sensor or band.
        StorageError, DiskError: from downloads.
    """
    folder = pathlib.Path(folder)
    names = _names(items)
    found = [stac_bands.match(item, sensor, bands, keys) for item in items]
    units = [
        unit or stac_bands.unit(item, some, sensor) for item, some in zip(items, found, strict=True)
    ]
    kept = _kept(folder, labels)
    assets = [(name, asset) for name, some in zip(names, found, strict=True) for asset in some]
    places = {(asset.item, asset.key): _place(folder, name, asset) for name, asset in assets}
    if len(set(places.values())) < len(places):
        raise DatasetError(f"{folder}: two assets would be one file; choose by --assets=REGEX")
    notes = _fetch(folder, [asset for _, asset in assets], places, download)
    one_unit = len(set(units)) == 1
    scenes = []
    for item, name, some, own in zip(items, names, found, units, strict=True):
        files = [(places[asset.item, asset.key], asset.bands) for asset in some]
        scenes.append(
            Scene(
                id=name,
                date=_date(item),
                files=tuple(BandFile(p, b, notes[p]["sha256"]) for p, b in files),
                unit="" if one_unit else own,
                **_of_scene(kept, name),
            )
        )
    made = dataclasses.replace(
        kept,
        sensor=sensor,
        scenes=tuple(scenes),
        bands=tuple(bands),
        unit=units[0] if one_unit else "",
        **_texts(kept, items),
    )
    stac_files.save(folder, notes)
    scene_list.write(made, folder / scene_list.FILE)
    return made


def labels(
    folder: pathlib.Path, paths: Sequence[str], nomenclature: str, field: str
) -> Labels | None:
    """The reference of all scenes; None where no paths are given.

    Args:
        folder: of `scenes.json`; the paths are relative to it.
        paths: rasters, or one vector file.
        nomenclature: a name in `rsjax.landcover`, or a CSV file in the folder.
        field: of the vector file.

    Raises:
        ConfigError: a path that is not there, or no nomenclature.
    """
    if not paths:
        return None
    if not nomenclature:
        raise ConfigError("--nomenclature is missing, e.g. --nomenclature=worldcover")
    for path in paths:
        if not (folder / path).is_file():
            raise ConfigError(
                f"--labels: {folder / path} is not there; paths are those in --output"
            )
    if len(paths) == 1 and paths[0].lower().endswith(VECTORS):
        return Labels(nomenclature, vector=paths[0], field=field)
    return Labels(nomenclature, raster=tuple(paths))


def _safe(name: str) -> str:
    """What a file name cannot hold becomes '_'."""
    return re.sub(r"[^\w.-]|^\.", "_", name)


def _names(items: Sequence[Any]) -> list[str]:
    """Ids of scenes: those of the items, where a file can have that name."""
    names = [_safe(item.id) for item in items]
    for item, name in zip(items, names, strict=True):
        if name != item.id:
            log.warning("STAC item %r becomes scene %r", item.id, name)
        if names.count(name) > 1:
            raise DatasetError(f"several STAC items would be scene {name!r}; leave all but one out")
    return names


def _kept(folder: pathlib.Path, labels: Labels | None) -> SceneList:
    """What the `scenes.json` of the folder says besides its scenes."""
    path = folder / scene_list.FILE
    if path.is_file():
        before = scene_list.read(path.read_bytes(), os.fspath(path))
        log.info("%s: grid, split and texts are kept, scenes are replaced", path)
        return dataclasses.replace(before, labels=labels or before.labels)
    if labels is None:
        raise ConfigError(
            "--labels and --nomenclature are missing, e.g. --labels=map.tif "
            "--nomenclature=worldcover: training needs classes"
        )
    return SceneList(sensor="", scenes=(), labels=labels)


def _of_scene(kept: SceneList, name: str) -> dict[str, Any]:
    """Split and labels that an earlier list gave this scene."""
    before = next((scene for scene in kept.scenes if scene.id == name), None)
    return {"split": before.split, "labels": before.labels} if before else {}


def _texts(kept: SceneList, items: Sequence[Any]) -> dict[str, Any]:
    """Licence and citation where all items state the same, and the list none."""
    found = {}
    for field, key in (("licence", "license"), ("citation", "sci:citation")):
        stated = {str(item.properties.get(key) or "") for item in items}
        if getattr(kept, field) == scene_list.NOT_STATED and len(stated) == 1 and stated != {""}:
            found[field] = stated.pop()
    return found


def _date(item: Any) -> str:
    when = item.datetime or item.common_metadata.start_datetime
    return when.date().isoformat() if when else ""


def _place(folder: pathlib.Path, name: str, asset: Asset) -> str:
    """Where a file lies or will lie in the folder, with `/`."""
    if stac_files.is_remote(asset.href):
        return f"{name}/{_safe(asset.key)}{asset.ending}"
    path = pathlib.Path(os.path.realpath(asset.href))
    where = f"STAC item {asset.item}: asset {asset.key}: {asset.href}"
    if not path.is_file():
        raise DatasetError(f"{where}: no such file; restore it, or correct the item")
    try:
        return path.relative_to(os.path.realpath(folder)).as_posix()
    except ValueError:
        raise ConfigError(
            f"{where} lies outside of {folder}; files are used in place, so give a folder as "
            f"--output that holds them, e.g. --output={path.parent}"
        ) from None


def _fetch(
    folder: pathlib.Path,
    assets: Sequence[Asset],
    places: dict[tuple[str, str], str],
    download: bool,
) -> dict[str, dict[str, Any]]:
    """Downloads what is not there; path -> what the list of files says, of all."""
    before = stac_files.listed(folder)
    missing = []
    for asset in assets:
        name = places[asset.item, asset.key]
        stale = name in before and before[name]["href"] != stac_files.plain(asset.href)
        if stac_files.is_remote(asset.href) and (stale or not (folder / name).is_file()):
            missing.append(asset)
    if missing and not download:
        sizes = [asset.size for asset in missing if asset.size is not None]
        size = f", {sum(sizes) / 1e6:.1f} MB" if len(sizes) == len(missing) else ""
        raise ConfigError(
            f"{len(missing)} of {len(assets)} files are not on this machine{size}, the first is "
            f"{stac_files.plain(missing[0].href)}. Add --download to get them into {folder}"
        )
    for asset in missing:
        name = places[asset.item, asset.key]
        log.info("%s <- %s", name, stac_files.plain(asset.href))
        stac_files.download(asset, folder / name)
    notes = {}
    for asset in assets:
        name = places[asset.item, asset.key]
        old = before.get(name)
        same = old and asset not in missing and old["checksum"] == asset.checksum
        if old and same and old["bytes"] == (folder / name).stat().st_size:
            notes[name] = old  # as of prepared shards: sizes are compared, --verify rereads
        else:
            notes[name] = stac_files.note(folder, name, asset)
    return notes
