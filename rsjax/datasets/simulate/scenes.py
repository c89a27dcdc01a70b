"""Simulated EuroSAT and UC Merced: scenes of one class, each two surfaces in a pattern."""

from __future__ import annotations

import pathlib

import imagecodecs
import numpy as np

from rsjax import landcover
from rsjax.datasets import eurosat, geotiff
from rsjax.datasets.simulate import fields, spectra
from rsjax.errors import ConfigError

# Class -> (ground, what lies on it, pattern, its scale); see `fields.pattern`.
_EUROSAT = {
    "AnnualCrop": ("soil 6 crop 4", "crop 8 soil 2", "blocks", 3),
    "Forest": ("conifer 8 broad 2", "broad 6 conifer 4", "blobs", 8),
    "HerbaceousVegetation": ("dry 8 shrub 2", "shrub 6 grass 4", "blobs", 10),
    "Highway": ("crop 6 grass 4", "urban 8 rock 2", "line", 0.08),
    "Industrial": ("urban 7 soil 3", "roof 9 urban 1", "blocks", 5),
    "Pasture": ("grass 9 crop 1", "grass 6 broad 4", "blobs", 3),
    "PermanentCrop": ("soil 7 dry 3", "shrub 7 soil 3", "stripes", 10),
    "Residential": ("grass 6 broad 4", "urban 9 roof 1", "blocks", 9),
    "River": ("grass 6 broad 4", "lake 8 marsh 2", "line", 0.25),
    "SeaLake": ("sea 1", "lake 7 sea 3", "blobs", 2),
}
_UCMERCED = {
    "agricultural": ("crop 7 soil 3", "soil 7 crop 3", "stripes", 8),
    "airplane": ("rock 7 urban 3", "roof 1", "cross", 0.12),
    "baseballdiamond": ("grass 9 broad 1", "soil 9 sand 1", "one", 0.4),
    "beach": ("sea 7 lake 3", "sand 1", "halves", 1),
    "buildings": ("urban 8 grass 2", "roof 7 urban 3", "blocks", 3),
    "chaparral": ("dry 7 sand 3", "shrub 1", "discs", 12),
    "denseresidential": ("broad 5 urban 5", "roof 5 urban 5", "blocks", 10),
    "forest": ("broad 1", "conifer 1", "blobs", 14),
    "freeway": ("grass 8 dry 2", "rock 6 urban 4", "line", 0.3),
    "golfcourse": ("grass 1", "broad 8 sand 2", "blobs", 4),
    "harbor": ("lake 1", "roof 8 urban 2", "stripes", 9),
    "intersection": ("urban 3 grass 7", "rock 1", "cross", 0.18),
    "mediumresidential": ("grass 6 broad 4", "roof 6 urban 4", "blocks", 6),
    "mobilehomepark": ("urban 8 soil 2", "roof 1", "stripes", 14),
    "overpass": ("dry 7 urban 3", "rock 5 roof 5", "cross", 0.25),
    "parkinglot": ("rock 4 urban 6", "roof 9 soil 1", "discs", 16),
    "river": ("broad 7 soil 3", "lake 9 marsh 1", "line", 0.4),
    "runway": ("dry 9 grass 1", "rock 8 roof 2", "line", 0.15),
    "sparseresidential": ("shrub 7 grass 3", "roof 5 urban 5", "discs", 3),
    "storagetanks": ("soil 7 urban 3", "roof 1", "discs", 5),
    "tenniscourt": ("urban 5 broad 5", "grass 5 lake 5", "one", 0.55),
}


def write_eurosat(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes EuroSAT as RGB JPEG; see `rsjax.datasets.simulate`."""
    for name, number, image in _eurosat(count, seed):
        bands = [spectra.BANDS.index(band) for band in ("B04", "B03", "B02")]
        rgb = np.clip(np.rint(1 + image[..., bands] * (254 / 2750)), 1, 255).astype(np.uint8)
        path = target / "2750" / name / f"{name}_{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            imagecodecs.jpeg8_encode(np.ascontiguousarray(rgb), level=95, subsampling="420")
        )


def write_eurosat_allbands(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes EuroSAT with all bands; see `rsjax.datasets.simulate`."""
    folder = target / "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
    for name, number, image in _eurosat(count, seed):
        bands = [spectra.BANDS.index(band) for band in eurosat.ALL_BANDS]
        pixels = np.clip(np.rint(image[..., bands]), 1, 65535).astype(np.uint16)
        path = folder / name / f"{name}_{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        corner = (300000.0 + 640 * number, 5400000.0 - 640 * number)
        transform = (10.0, 0.0, corner[0], 0.0, -10.0, corner[1])
        geotiff.write_geotiff(
            path, pixels, crs="EPSG:32633", transform=transform, interleave="pixel"
        )


def write_ucmerced(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes UC Merced; see `rsjax.datasets.simulate`."""
    names = landcover.load("ucmerced").names
    if count > 100 * len(names):
        raise ConfigError(f"count={count}, UC Merced has at most 100 images in each of 21 classes")
    bands = [spectra.BANDS.index(band) for band in ("B04", "B03", "B02")]
    for i in range(count):
        name, number = names[i % len(names)], i // len(names)
        rng = np.random.default_rng([seed, i])
        image = _scene(rng, _UCMERCED[name], 256, bands)
        rgb = np.clip(np.rint(image * (255 / 2600)), 0, 255).astype(np.uint8)
        if i % 48 == 7:  # as 44 of the 2,100 real ones, not quite 256 pixels a side
            rgb = rgb[: 256 - int(rng.integers(0, 10)), : 255 - int(rng.integers(0, 10))]
        path = target / "UCMerced_LandUse" / "Images" / name / f"{name}{number:02d}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        geotiff.write_geotiff(path, rgb, interleave="pixel", photometric="RGB")


def _eurosat(count: int, seed: int):  # type: ignore[no-untyped-def]
    """Class, number in the class and 13 bands at the top of the atmosphere of every image."""
    names = landcover.load("eurosat").names
    for i in range(count):
        name = names[i % len(names)]
        rng = np.random.default_rng([seed, i])
        yield (
            name,
            i // len(names) + 1,
            spectra.top_of_atmosphere(_scene(rng, _EUROSAT[name], 64, list(range(13)))),
        )


def _scene(
    rng: np.random.Generator, recipe: tuple[str, str, str, float], size: int, bands: list[int]
) -> np.ndarray:
    """Surface reflectance x 10000 of a scene, float32 (size, size, len(bands))."""
    ground, cover, kind, scale = recipe
    share = fields.pattern(rng, kind, size, scale)[..., None]
    low, high = (spectra.mixture(parts).astype(np.float32)[bands] for parts in (ground, cover))
    image = low + (high - low) * share
    light = np.float32(rng.normal(1.0, 0.06)) + 0.08 * fields.smooth(rng, 1, size, size / 20)[0]
    noise = rng.standard_normal(image.shape, np.float32)
    scene: np.ndarray = image * (light[..., None] + 0.03 * noise) + 20.0 * noise
    return scene
