"""Simulated Inria, Massachusetts Buildings and EPFL roofs: houses, roads and trees from above."""

from __future__ import annotations

import pathlib

import imagecodecs
import numpy as np

from rsjax.datasets import geotiff, inria
from rsjax.datasets.simulate import aerial
from rsjax.errors import ConfigError

_GRASS, _SOIL, _TREE, _ROAD, _ROOF = range(5)
_ROOFS = ("roof 1", "roof 8 rock 2", "roof 7 urban 3")
_INRIA_MAX = 150  # images: with one in eight for validation, both splits have enough names


def write_inria(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes Inria with images of about 600 pixels; see `rsjax.datasets.simulate`.

    `count` is that of tiles of 512 pixels, 2 at least, one a split; there is one more image, in
    `test`, without labels.
    """
    root = target / "AerialImageDataset"
    shapes = list(aerial.sizes(np.random.default_rng([seed, 0]), max(count, 2), images=2))
    if len(shapes) > _INRIA_MAX:
        raise ConfigError(f"count={count}: more than {_INRIA_MAX} simulated images; give less")
    used = {True: 0, False: 0}
    for i, shape in enumerate(shapes):
        validation = i % 8 == 1
        position = used[validation]
        used[validation] += 1
        city = inria.CITIES[position % 5]
        name = f"{city}{position // 5 + (1 if validation else 6)}"
        rng = np.random.default_rng([seed, i + 1])
        image, mask = scene(rng, shape, 56)
        place = (0.3, 0.0, 600000.0 + 5000 * position, 0.0, -0.3, 4800000.0)
        for folder, array in (("images", image), ("gt", mask * np.uint8(255))):
            _tiff(root / "train" / folder / f"{name}.tif", array, place)
    image, _ = scene(np.random.default_rng([seed, 10**6]), (64, 80), 30)
    _tiff(root / "test" / "images" / "sfo1.tif", image, (0.3, 0.0, 5e5, 0.0, -0.3, 4e6))


def write_massachusetts(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes Massachusetts Buildings with images of about 600 pixels.

    `count` is that of tiles of 512 pixels, 3 at least, one a split.
    """
    folders = ("train", "valid", "test", "train", "train", "train")
    for folder in set(folders):
        for part in ("sat", "map"):
            (target / "mass_buildings" / folder / part).mkdir(parents=True)
    shapes = aerial.sizes(np.random.default_rng([seed, 0]), max(count, 3), images=3)
    for i, shape in enumerate(shapes):
        image, mask = scene(np.random.default_rng([seed, i + 1]), shape, 28)
        colours = np.zeros((*shape, 3), np.uint8)
        colours[..., 0] = mask * np.uint8(255)
        root = target / "mass_buildings" / folders[i % 6]
        name = f"{22678900 + 15 * (i // 30)}_{15 * (i % 30)}"
        _tiff(root / "sat" / f"{name}.tiff", image)
        _tiff(root / "map" / f"{name}.tif", colours)


def write_epfl(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes EPFL roofs, an image a split at least; see `rsjax.datasets.simulate`."""
    folders = ("train", "val", "test", "train", "train", "train", "train", "train")
    for folder in set(folders):
        for part in ("images", "labels"):
            (target / folder / part).mkdir(parents=True)
    for i in range(max(count, 3)):
        image, mask = scene(np.random.default_rng([seed, i]), (250, 250), 70)
        root = target / folders[i % 8]
        east, north = 497500.0 + 62.5 * (i // 20), 119000.0 + 62.5 * (i % 20)
        name = f"DOP25_LV03_1301_11_2015_1_15_{east}_{north}.png"
        white = np.repeat(mask[..., None] * np.uint8(255), 3, axis=-1)
        for folder, array in (("images", image), ("labels", white)):
            (root / folder / name).write_bytes(imagecodecs.png_encode(array, level=1))


def scene(
    rng: np.random.Generator, shape: tuple[int, int], period: float
) -> tuple[np.ndarray, np.ndarray]:
    """An image (height, width, 3) uint8 and where buildings are, 0 and 1.

    Args:
        rng: source of randomness.
        shape: (height, width).
        period: pixels from house to house.
    """
    cover = np.where(aerial.field(rng, shape, 1.5 * period) > 0.4, _SOIL, _GRASS).astype(np.uint8)
    cover[aerial.field(rng, shape, period / 3) > 1.1] = _TREE
    built = aerial.field(rng, shape, 2.5 * period) > -0.6
    cover[aerial.pattern(rng, "blocks", shape, max(shape) / period) & built] = _ROOF
    cover[aerial.pattern(rng, "line", shape, 0.2 * period / max(shape))] = _ROAD
    surfaces = ("grass 7 broad 3", "soil 8 urban 2", "broad 1", "rock 8 urban 2",
                _ROOFS[int(rng.integers(len(_ROOFS)))])  # fmt: skip
    return aerial.photograph(rng, cover, surfaces), (cover == _ROOF).astype(np.uint8)


def _tiff(path: pathlib.Path, array: np.ndarray, place: geotiff.Transform | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    crs = "EPSG:32633" if place else None
    geotiff.write_geotiff(path, array, crs=crs, transform=place, interleave="pixel")
