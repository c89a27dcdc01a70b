"""Real Sentinel-2 pixels with references, as Dynamic World's nine bands on the 10 m grid."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import jax
import numpy as np

from rsjax import landcover, sensors
from rsjax.datasets import raster

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")
SIDE = 118
# What the classes of the Amazon scene's polygons may be called in Dynamic World's. Rivers' banks
# that fell dry are no class there.
POLYGONS = {2: ("trees",), 3: ("built", "bare"), 4: ("water",)}


@dataclasses.dataclass(frozen=True)
class Image:
    """One image and what is known of it.

    Attributes:
        name: of the scene or patch.
        pixels: (H, W, 9) float32, reflectance times 10000.
        known: (H, W, 9) bool: classes that the reference allows; none where it says nothing.
        labels: names of the classes of the patch as a whole, where no map is there.
    """

    name: str
    pixels: np.ndarray
    known: np.ndarray
    labels: tuple[str, ...] = ()


# Of an atmosphere without clouds; the sun stands 35 degrees from the zenith.
SUN = 0.819
AEROSOL, ANGSTROM, ALBEDO, ASYMMETRY = 0.1, 1.3, 0.9, 0.65  # optical thickness at 550 nm, and kind


def top_of_atmosphere(pixels: np.ndarray) -> np.ndarray:
    """Roughly what level 1C has where level 2A has `pixels`, (H, W, 9) reflectance times 10000.

    Light scattered once by air and aerosols is added, and what they scatter back taken off.
    Optical thickness of air: Hansen and Travis 1974, https://doi.org/10.1007/BF00168069, eq. 2.30;
    phase functions: Rayleigh's, and Henyey and Greenstein's. Gases absorb nothing here.
    """
    bands = sensors.get("sentinel2_l1c")
    micron = np.array([bands.band(name).wavelength_nm for name in BANDS], float) / 1000
    air = 0.008569 * micron**-4 * (1 + 0.0113 * micron**-2 + 0.00013 * micron**-4)
    aerosol = AEROSOL * (micron / 0.55) ** -ANGSTROM
    by_air = 0.75 * (1 + SUN**2)
    by_aerosol = (1 - ASYMMETRY**2) / (1 + ASYMMETRY**2 + 2 * ASYMMETRY * SUN) ** 1.5
    path = (air * by_air + ALBEDO * aerosol * by_aerosol) / (4 * SUN)
    lost = air / 2 + aerosol * (1 - ALBEDO * (1 + ASYMMETRY) / 2)
    passed = np.exp(-lost * (1 + 1 / SUN))
    return np.asarray(pixels * passed + path * 1e4, np.float32)


def load(folder: pathlib.Path) -> list[Image]:
    """Four quarters of the Amazon scene, patches of BigEarthNet v2 with their maps, and of v1.

    All are level 2A, and of 118 x 118 pixels: an even side, so that half of it is no fraction.
    """
    scene = amazon(folder / "scenes" / "amazon")
    found = [
        Image(f"{scene.name}_{i}_{j}", *(part[i:, j:] for part in (scene.pixels, scene.known)))
        for i in (0, SIDE)
        for j in (0, SIDE)
    ]
    maps = sorted((folder / "bigearthnet_v2" / "Reference_Maps").glob("*/*/*_reference_map.tif"))
    for path in maps:
        patch = path.parent
        pixels = _patch(
            folder / "bigearthnet_v2" / "BigEarthNet-S2" / patch.parent.name / patch.name
        )
        found.append(Image(patch.name, pixels, _corine(_read(path)[..., 0])))
    for patch in sorted((folder / "bigearthnet_v1" / "BigEarthNet-S2-Example").iterdir()):
        pixels = _patch(patch)
        told = json.loads((patch / f"{patch.name}_labels_metadata.json").read_text())["labels"]
        nothing = np.zeros(pixels.shape, bool)
        found.append(Image(patch.name, pixels, nothing, tuple(told)))
    return [
        dataclasses.replace(
            image, pixels=image.pixels[:SIDE, :SIDE], known=image.known[:SIDE, :SIDE]
        )
        for image in found
    ]


def amazon(folder: pathlib.Path) -> Image:
    """The scene: level 2A, as it has no B10, with the offset of 2022, as no value is below 1000."""
    stack = _read(folder / "sen2.tif")
    names = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
    pixels = stack[..., [names.index(band) for band in BANDS]].astype(np.float32) - 1000
    codes = _read(folder / "trainingPolygons_sen2.tif")[..., 0]
    classes = landcover.load("dynamicworld").names
    known = np.zeros((*codes.shape, len(classes)), bool)
    for code, allowed in POLYGONS.items():
        known[codes == code] = [name in allowed for name in classes]
    return Image("amazon", pixels, known)


def _patch(folder: pathlib.Path) -> np.ndarray:
    parts = []
    for band in BANDS:
        pixels = _read(folder / f"{folder.name}_{band}.tif").astype(np.float32)
        parts.append(np.asarray(jax.image.resize(pixels, (120, 120, 1), "bilinear")))
    return np.concatenate(parts, axis=-1)


def _corine(codes: np.ndarray) -> np.ndarray:
    corine, target = landcover.load("corine_l3"), landcover.load("dynamicworld")
    indices = corine.crosswalk(target)[corine.encode(codes)]
    return np.asarray(indices[..., None] == np.arange(len(target.names)))


def _read(path: pathlib.Path) -> np.ndarray:
    with raster.open_raster(path) as opened:
        return np.moveaxis(opened.read(), 0, -1)
