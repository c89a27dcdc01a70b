"""The whole way from a map to a page: read, count, thin, draw the scene, write."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio

import rsjax
from rsjax import sealed
from rsjax.errors import ConfigError, SceneError
from rsjax.mapping import (
    landmap,
    pixel_area,
    view_layers,
    view_page,
    view_place,
    view_scene,
    writer,
)
from rsjax.mapping.area_table import Tally
from rsjax.mapping.landmap import LandMap
from rsjax.mapping.sample_files import sha256

MAX_PX = 4096  # the largest side that every browser can draw at once
_LEAST_PX = 256


def write(
    map_path: str | os.PathLike[str],
    scene: Sequence[str] = (),
    *,
    before: str | os.PathLike[str] = "",
    output: str | os.PathLike[str] = "",
    bands: Sequence[str] = (),
    rgb: Sequence[str] = (),
    nomenclature: str = "",
    max_px: int = MAX_PX,
    trust_transform: bool = False,
) -> pathlib.Path:
    """Writes a self-contained HTML page of a map, and prints what it shows.

    Args:
        map_path: a map: see `rsjax.mapping.landmap.read_map`.
        scene: to draw behind it, see `rsjax.mapping.scene_files`; on the map's grid.
        before: another map on the same grid and of the same classes.
        output: the page; '' is the map's name with `.html`.
        bands: names of the scene's bands, where its files have none.
        rgb: bands to draw; empty: those nearest to red, green and blue.
        nomenclature: the map's classes, where the file does not say.
        max_px: longest side of what is drawn; larger maps are thinned. Areas are those of all
            pixels.
        trust_transform: whether files of one transform are one grid, although their coordinate
            systems have other names.

    Returns:
        The page.

    Raises:
        RsjaxError: input that does not fit; nothing is written then.
    """
    path = pathlib.Path(output or pathlib.Path(map_path).with_suffix(".html"))
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"output={output}: expected the name of a page, e.g. map.html")
    if not _LEAST_PX <= max_px <= MAX_PX:
        raise ConfigError(f"--max_px={max_px}, expected {_LEAST_PX} to {MAX_PX}")
    with rasterio.Env(GDAL_CACHEMAX=landmap.CACHE_BYTES):
        land_map = landmap.read_map(map_path, nomenclature)
        thin = view_layers.thinning(land_map.shape, max_px)
        older = _older(land_map, before, nomenclature, trust_transform) if before else None
        areas = pixel_area.of_grid(land_map.crs, land_map.transform, land_map.shape)
        picture = None
        if scene:
            picture = view_scene.draw(
                scene, land_map, bands=bands, rgb=rgb, max_px=max_px,
                trust_transform=trust_transform,
            )  # fmt: skip
        counted, layer = view_layers.classes(land_map, areas, thin)
        layers = {"map": layer}
        counted_before = None
        if older is not None:
            counted_before, layers["before"] = view_layers.classes(older, areas, thin)
        sure, meaning, note = view_layers.confidence(land_map, thin)
    if sure is not None:
        layers["confidence"] = sure
    notes = [_thinned(land_map, thin.factor)] if thin.factor > 1 else []
    notes += [note] if note else []
    about = _about(land_map, areas.method, areas.ellipsoid)
    if older is not None:
        about |= {
            f"before: {k}": v for k, v in _about(older).items() if k not in ("grid", "classes")
        }
    if picture is not None:
        about |= {"scene": ", ".join(picture.files), "scene drawn": picture.said}
    if trust_transform:
        about["coordinate systems"] = "files of one transform are taken for one grid, as asked"
    about |= {"page": f"rsjax {rsjax.__version__}, {_today()}"}
    made = view_page.Page(
        land_map=land_map,
        before="" if older is None else older.path,
        tally=counted,
        tally_before=counted_before,
        layers=layers,
        factor=thin.factor,
        meaning=meaning,
        picture=picture,
        place=view_place.lattice(land_map),
        notes=notes,
        about=about,
    )
    content = view_page.document(made).encode()
    sealed.replace(path, content)
    for text in notes:
        print(f"note: {text}")
    print(f"{path}: {len(content) / 1e6:.1f} MB, {_largest(counted, land_map)}")
    return path


def _older(
    land_map: LandMap, path: str | os.PathLike[str], nomenclature: str, trust: bool
) -> LandMap:
    """Another map of the same pixels and classes."""
    older = landmap.read_map(path, nomenclature)
    view_layers.same_grid(land_map, older.path, older.crs, older.transform, older.shape, trust)
    ours, theirs = land_map.nomenclature, older.nomenclature
    if (ours.codes, ours.names) != (theirs.codes, theirs.names):
        raise SceneError(
            f"{path}: classes of nomenclature {theirs.name!r} ({len(theirs)}), but {land_map.path} "
            f"has {ours.name!r} ({len(ours)}); expected the same classes. Recode one of them"
        )
    return older


def _thinned(land_map: LandMap, factor: int) -> str:
    rows, cols = land_map.shape
    return (
        f"{rows:,} x {cols:,} pixels are drawn thinned by a factor of {factor}: each pixel of the "
        f"page is the centre one of {factor} x {factor}. Shares and hectares are those of all "
        "pixels"
    )


def _about(land_map: LandMap, method: str = "", ellipsoid: str = "") -> dict[str, str]:
    """Where a map comes from, in words, as pairs."""
    rows, cols = land_map.shape
    a, _, c, _, e, f = tuple(land_map.transform)[:6]
    classes = land_map.nomenclature
    system = land_map.crs.to_epsg()
    found = {
        "map": land_map.path,
        "sha256": sha256(land_map.path),
        "grid": f"{rows:,} rows x {cols:,} columns, pixels of {a:.10g} x {-e:.10g}, corner "
        f"({c:.10g}, {f:.10g})",
        "coordinate system": f"EPSG:{system}" if system else land_map.crs.to_wkt(),
        "classes": ". ".join(filter(None, (classes.title, classes.source))) or classes.name,
    }
    if method:
        found["areas"] = f"on {ellipsoid}, {_METHODS[method]}"
    with landmap.open_raster(land_map.path) as opened:
        tag = opened.tags().get(writer.PROVENANCE_TAG, "")
    try:
        given: Any = json.loads(tag) if tag else {}
    except ValueError:
        given = {"provenance": tag}
    for name, value in given.items() if isinstance(given, dict) else ():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        found[f"made with: {name}"] = text
    return found


_METHODS = {
    "equal-area": "the projection keeps areas",
    "rows": "pixels of each row in closed form",
    "lattice": "the projection's scale taken out pixel by pixel",
}


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _largest(counted: Tally, land_map: LandMap) -> str:
    names, hectares = land_map.nomenclature.names, counted.hectares
    total = hectares.sum()
    order = np.argsort(-hectares, kind="stable")[:3]
    return ", ".join(
        f"{names[c]} {hectares[c]:,.1f} ha ({hectares[c] / total:.1%})"
        for c in order
        if hectares[c]
    )
