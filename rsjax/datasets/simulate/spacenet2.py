"""Simulated SpaceNet 2: blocks of houses, each city turned its own way, in all four products."""

from __future__ import annotations

import json
import pathlib

import numpy as np

from rsjax.datasets import geotiff, spacenet2
from rsjax.datasets.simulate import fields, spectra

_SIZE, _PIXEL = 650, 2.7e-6  # pixels a side, degrees a pixel
_LOT = 65  # pixels from house to house
_CORNERS = {
    "Vegas": (-115.3, 36.25), "Paris": (2.2, 49.05), "Shanghai": (121.5, 31.4),
    "Khartoum": (32.5, 15.65),
}  # fmt: skip
_GROUND = ("dry 7 sand 3", "grass 8 broad 2", "soil 6 urban 4")
_ROOF = "roof 8 urban 2"
# Bands of WorldView-3 as the nearest ones of Sentinel-2; yellow lies between green and red.
_NEAREST = ("B01", "B02", "B03", "B03 B04", "B04", "B05", "B07", "B09")


def write_spacenet2(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes SpaceNet 2; see `rsjax.datasets.simulate`.

    There is at least one chip a city; chips lie 2 km apart. Every sixth has no buildings (an empty
    collection), every fifth a black border.
    """
    texture = np.random.default_rng(seed).integers(0, 24, (2 * _SIZE, _SIZE), np.uint16)
    for i in range(max(count, len(spacenet2.AREAS))):
        area = list(spacenet2.AREAS)[i % len(spacenet2.AREAS)]
        rng = np.random.default_rng([seed, i])
        name = spacenet2.AREAS[area][0]
        number = 3 * (i // len(spacenet2.AREAS)) + 1
        folder = target / f"{name}_Train"
        step = i // len(spacenet2.AREAS)
        left = _CORNERS[area][0] + 0.021 * (step % 30)
        top = _CORNERS[area][1] - 0.018 * (step // 30)
        houses = np.empty((0, 5)) if i % 6 == 5 else _houses(rng, 0.3 * (i % 4))
        image = _image(rng, houses, texture)
        if i % 5 == 4:
            image[:, : int(rng.integers(40, 200))] = 0
        _write_products(folder, f"{name}_img{number}.tif", image, left, top)
        labels = folder / spacenet2.LABELS
        labels.mkdir(parents=True, exist_ok=True)
        path = labels / f"buildings_{name}_img{number}.geojson"
        path.write_text(json.dumps(_collection(houses, left, top)))


def _houses(rng: np.random.Generator, turn: float) -> np.ndarray:
    """Row, column of the centre, half height, half width and angle of each house, in pixels."""
    lots = _SIZE // _LOT
    found = []
    for lot in range(lots * lots):
        if rng.random() < 0.45:
            continue
        height, width = rng.uniform(8, 21, 2)
        row = (lot // lots + 0.5) * _LOT + rng.uniform(-6, 6)
        column = (lot % lots + 0.5) * _LOT + rng.uniform(-6, 6)
        found.append((row, column, height, width, turn))
    return np.array(found)


def _image(rng: np.random.Generator, houses: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """The 8 bands, uint16 (650, 650, 8), digital numbers of 11 bits."""
    kinds = [spectra.mixture(parts) for parts in (*_GROUND, _ROOF)]
    table = np.array(
        [[np.mean([kind[spectra.BANDS.index(b)] for b in bands.split()]) for bands in _NEAREST]
         for kind in kinds]
    )  # fmt: skip
    table = np.rint(table * rng.uniform(0.25, 0.32) + 30).astype(np.uint16)
    coarse = fields.smooth(rng, len(_GROUND), _SIZE // 2, 40.0).argmax(axis=0)
    surface = coarse.repeat(2, axis=0).repeat(2, axis=1)
    rows, columns = np.mgrid[:_SIZE, :_SIZE] + 0.5
    for row, column, height, width, turn in houses:
        near = np.s_[
            max(int(row) - 32, 0) : int(row) + 32, max(int(column) - 32, 0) : int(column) + 32
        ]
        y, x = rows[near] - row, columns[near] - column
        along = abs(x * np.cos(turn) + y * np.sin(turn)) < width
        across = abs(y * np.cos(turn) - x * np.sin(turn)) < height
        surface[near][along & across] = len(_GROUND)
    image = table[surface]
    start = int(rng.integers(0, _SIZE))
    image += texture[start : start + _SIZE, :, None]
    return image


def _write_products(
    folder: pathlib.Path, name: str, image: np.ndarray, left: float, top: float
) -> None:
    rows = (np.arange(163) + 0.5) * _SIZE / 163
    products = {
        "PAN": (image[..., 1] + image[..., 4]) // 2,
        "MUL": image[rows.astype(int)][:, rows.astype(int)],
        "MUL-PanSharpen": image,
        "RGB-PanSharpen": image[..., [4, 2, 1]],
    }
    for product, pixels in products.items():
        pixel = _PIXEL * _SIZE / len(pixels)
        (folder / product).mkdir(parents=True, exist_ok=True)
        geotiff.write_geotiff(
            folder / product / f"{product}_{name}",
            pixels,
            crs="EPSG:4326",
            transform=(pixel, 0.0, left, 0.0, -pixel, top),
            interleave="pixel",
        )


def _collection(houses: np.ndarray, left: float, top: float) -> dict[str, object]:
    features = []
    for number, (row, column, height, width, turn) in enumerate(houses):
        corners = [(-width, -height), (width, -height), (width, height), (-width, height)]
        ring = [
            (
                column + x * np.cos(turn) - y * np.sin(turn),
                row + x * np.sin(turn) + y * np.cos(turn),
            )
            for x, y in (*corners, corners[0])
        ]
        degrees = [[float(left + u * _PIXEL), float(top - v * _PIXEL), 0.0] for u, v in ring]
        features.append({
            "type": "Feature",
            "properties": {"OBJECTID": number},
            "geometry": {"type": "Polygon", "coordinates": [degrees]},
        })  # fmt: skip
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    return {"type": "FeatureCollection", "crs": crs, "features": features}
