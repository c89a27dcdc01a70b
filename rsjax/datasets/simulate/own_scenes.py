"""Simulated scenes of one's own: two acquisitions with a land-cover map of another projection."""

from __future__ import annotations

import math
import pathlib

import numpy as np
import rasterio
from rasterio import warp
from rasterio.crs import CRS
from rasterio.enums import Resampling

from rsjax import landcover
from rsjax.datasets import geotiff, scene_list
from rsjax.datasets.scene_list import BandFile, Grid, Labels, Scene, SceneList, Split
from rsjax.datasets.simulate import fields, spectra
from rsjax.errors import ConfigError

PATCH_PX = 64
_FINE = ("B02", "B03", "B04", "B08")
_COARSE = ("B05", "B06", "B07", "B8A", "B11", "B12")
# WorldCover code -> parts of materials.
_CLASSES = {
    10: "conifer 5 broad 5",
    30: "grass 8 dry 2",
    40: "crop 6 soil 4",
    50: "urban 7 roof 3",
    80: "lake 9 marsh 1",
}
_SCENES = (("west", "2020-06-01", 600_000.0), ("east", "2020-07-11", 0.0))
_TOP, _GAP_M = 5_700_000.0, 1280.0
_CRS, _MAP_CRS = "EPSG:32631", "EPSG:3035"
_LEAST = 6  # so that each split has a block


def write_scenes(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes scenes with `count` patches; see `rsjax.datasets.simulate`.

    A band is a file, at 10 m or 20 m, in UTM; the map is one file of WorldCover codes in EPSG:3035.
    What a scene has beyond its patches is missing (0).
    """
    if count < _LEAST:
        raise ConfigError(f"count={count}, expected at least {_LEAST}: a block for each split")
    scenes, maps, left = [], [], _SCENES[0][2]
    for index, (name, date, _) in enumerate(_SCENES):
        patches = count // 2 if index else count - count // 2
        cols = math.ceil(math.sqrt(patches))
        rows = math.ceil(patches / cols)
        rng = np.random.default_rng([seed, index])
        codes, image = _landscape(rng, max(rows, cols) * PATCH_PX)
        codes, image = (
            codes[: rows * PATCH_PX, : cols * PATCH_PX],
            image[: rows * PATCH_PX, : cols * PATCH_PX],
        )
        for extra in range(patches, rows * cols):
            row, col = divmod(extra, cols)
            image[row * PATCH_PX :, col * PATCH_PX :] = 0
        scenes.append(Scene(name, date, _write_bands(target, name, image, left)))
        maps.append((codes, _place(left, 10.0)))
        left += cols * PATCH_PX * 10 + _GAP_M
    _write_map(target / "landcover.tif", maps)
    scene_list.write(
        SceneList(
            sensor="sentinel2_l2a",
            unit="reflectance_1e4",
            nodata=0.0,
            title="Simulated scenes",
            licence="Apache-2.0",
            citation="written by rsjax.datasets.simulate; not measured imagery",
            scenes=tuple(scenes),
            labels=Labels("worldcover", raster=("landcover.tif",)),
            grid=Grid(patch_px=PATCH_PX),
            split=Split(block_patches=1 if count < 100 else 2, seed=seed),
            max_nodata=0.5,
        ),
        target / scene_list.FILE,
    )


def _landscape(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """WorldCover codes uint8 (size, size), and all bands of `spectra.BANDS` float32."""
    heights = fields.smooth(rng, len(_CLASSES), size, PATCH_PX / 4)
    index = heights.argmax(axis=0)
    table = np.stack([spectra.mixture(parts) for parts in _CLASSES.values()]).astype(np.float32)
    light = 1 + 0.05 * fields.smooth(rng, 1, size, PATCH_PX)[0]
    noise = rng.standard_normal((size, size, table.shape[1]), np.float32)
    image = table[index] * (light[..., None] + 0.04 * noise) + 20 * noise
    return np.array(list(_CLASSES), np.uint8)[index], image


def _write_bands(
    target: pathlib.Path, name: str, image: np.ndarray, left: float
) -> tuple[BandFile, ...]:
    files = []
    gone = (image == 0).all(axis=-1)
    for bands, step in ((_FINE, 1), (_COARSE, 2)):
        (target / name).mkdir(exist_ok=True)
        for band in bands:
            plane = image[..., spectra.BANDS.index(band)]
            shape = (plane.shape[0] // step, step, plane.shape[1] // step, step)
            mean = plane.reshape(shape).mean(axis=(1, 3))
            lost = gone.reshape(shape).any(axis=(1, 3))
            values = np.where(lost, 0, np.clip(np.rint(mean), 1, 65535)).astype(np.uint16)
            path = f"{name}/{band}.tif"
            geotiff.write_geotiff(
                target / path, values, crs=_CRS, transform=_place(left, 10.0 * step), nodata=0,
                compress="deflate", tiled=True, blockxsize=256, blockysize=256,
            )  # fmt: skip
            files.append(BandFile(path, (band,)))
    return tuple(files)


def _place(left: float, gsd: float) -> geotiff.Transform:
    return gsd, 0.0, left, 0.0, -gsd, _TOP


def _write_map(path: pathlib.Path, maps: list[tuple[np.ndarray, geotiff.Transform]]) -> None:
    """One raster of codes that holds all scenes, in another projection."""
    ours, theirs = CRS.from_user_input(_CRS), CRS.from_user_input(_MAP_CRS)
    boxes = []
    for codes, (a, _, left, _, e, top) in maps:
        height, width = codes.shape
        box = (left, top + e * height, left + a * width, top)
        boxes.append(warp.transform_bounds(ours, theirs, *box))
    left, top = min(b[0] for b in boxes), max(b[3] for b in boxes)
    width = math.ceil((max(b[2] for b in boxes) - left) / 10)
    height = math.ceil((top - min(b[1] for b in boxes)) / 10)
    place = (10.0, 0.0, left, 0.0, -10.0, top)
    out = np.zeros((height, width), np.uint8)
    for codes, transform in maps:
        warp.reproject(
            codes, out, src_transform=rasterio.Affine(*transform), src_crs=ours, src_nodata=0,
            dst_transform=rasterio.Affine(*place), dst_crs=theirs, dst_nodata=0,
            resampling=Resampling.nearest, init_dest_nodata=False,
        )  # fmt: skip
    ignore = landcover.load("worldcover").ignore
    assert ignore == (0,)
    geotiff.write_geotiff(
        path, out, crs=_MAP_CRS, transform=place, nodata=0, compress="deflate", tiled=True,
        blockxsize=256, blockysize=256,
    )  # fmt: skip
