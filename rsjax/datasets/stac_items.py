"""STAC items: from files, folders, catalogs, and APIs; see docs/stac.md.

Specification: https://github.com/radiantearth/stac-spec.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from rsjax.errors import ConfigError, DatasetError


def library() -> Any:
    """The package pystac; a ConfigError where it is not installed."""
    try:
        import pystac
    except ImportError:
        raise ConfigError("STAC needs pystac: pip install 'rsjax[stac]'") from None
    return pystac


def find(items: str, api: str, collection: str, bbox: Sequence[str], datetime: str) -> list[Any]:
    """Items of files or of an API; see `read` and `search`.

    Args:
        items: file, folder or URL; empty: the API.
        api: its URL; empty: the files.
        collection: of the API.
        bbox: for the API, four numbers as text, or none.
        datetime: for the API.

    Raises:
        ConfigError: files and an API, no collection of it, a bbox that is none, or no pystac.
        DatasetError: see `read` and `search`.
    """
    if items and api:
        raise ConfigError("--items and --api are both given; give one")
    library()
    if items:
        return read(items)
    if not collection:
        raise ConfigError("--collection is missing, e.g. --collection=sentinel-2-l2a")
    try:
        box = [float(value) for value in bbox]
    except ValueError:
        box = [0.0]
    if len(box) not in (0, 4):
        raise ConfigError(f"--bbox={','.join(bbox)}: expected west,south,east,north in degrees")
    return search(api, collection, box, datetime)


def read(where: str) -> list[Any]:
    """The items of an item, an item collection, a catalog, or a folder of any of these.

    Args:
        where: file, folder or http(s) URL. In a folder, `catalog.json` or `collection.json`, or
            else every `*.json` directly in it.

    Raises:
        DatasetError: not there, no STAC, no items, or two of one id.
    """
    if os.path.isdir(where):
        folder = pathlib.Path(where)
        tops = [folder / n for n in ("catalog.json", "collection.json") if (folder / n).is_file()]
        paths = [os.fspath(path) for path in tops[:1] or sorted(folder.glob("*.json"))]
        if not paths:
            raise DatasetError(f"{where}: no *.json, expected STAC items or a catalog.json")
    else:
        paths = [where]
    items = [item for path in paths for item in _items(path)]
    return unique(items, where)


def search(api: str, collection: str, bbox: Sequence[float], datetime: str) -> list[Any]:
    """The items that a STAC API finds.

    Args:
        api: its URL.
        collection: id of the collection.
        bbox: west, south, east, north in degrees; empty: everywhere.
        datetime: e.g. '2020-06-01/2020-08-31'; '': ever.

    Raises:
        ConfigError: pystac-client is not installed.
        DatasetError: the API does not answer, or finds nothing.
    """
    try:
        import pystac_client
    except ImportError:
        raise ConfigError("--api needs pystac-client: pip install 'rsjax[stac]'") from None
    try:
        found = pystac_client.Client.open(api).search(
            method="GET",  # which every API has
            collections=[collection],
            bbox=list(bbox) or None,
            datetime=datetime or None,
        )
        items = list(found.items())
    except Exception as error:  # each layer below raises its own kinds
        text = (str(error).strip().splitlines() or [""])[0]
        raise DatasetError(
            f"{api}: {type(error).__name__}: {text}. Check the address, the network and the search"
        ) from error
    return unique(items, f"{api}, collection {collection}")


def unique(items: Iterable[Any], where: str) -> list[Any]:
    """The items, sorted by id; none, or two of one id, are a DatasetError."""
    found = sorted(items, key=lambda item: item.id)
    if not found:
        raise DatasetError(f"{where}: no STAC items, expected at least one; widen the search")
    for one, other in itertools.pairwise(found):
        if one.id == other.id:
            raise DatasetError(f"{where}: item {one.id!r} is there twice, expected each once")
    return found


def _items(path: str) -> list[Any]:
    pystac = library()
    try:
        text = pystac.StacIO.default().read_text(path)
        data = json.loads(text)
        kind = data.get("type") if isinstance(data, dict) else None
        if kind == "FeatureCollection":
            found = list(pystac.ItemCollection.from_dict(data).items)
        elif kind == "Feature":
            found = [pystac.Item.from_dict(data, href=path)]
        elif kind in ("Catalog", "Collection"):
            found = list(pystac.read_file(path).get_items(recursive=True))
        else:
            raise DatasetError(
                f"{path}: type {kind!r}, expected a STAC Feature, FeatureCollection, Catalog or "
                "Collection; give another file or folder as --items"
            )
        for item in found:
            if item.get_self_href() is None:  # then its paths are relative to this file
                item.set_self_href(_beside(path, f"{item.id.replace('/', '_')}.json"))
        return found
    except DatasetError:
        raise
    except Exception as error:  # pystac raises many kinds for what is no STAC
        text = (str(error).strip().splitlines() or [""])[0]
        raise DatasetError(
            f"{path}: {type(error).__name__}: {text}; expected STAC items as JSON. Check the path, "
            "and that the download is complete"
        ) from error


def _beside(path: str, name: str) -> str:
    return f"{(path if '://' in path else os.path.abspath(path)).rpartition('/')[0]}/{name}"
