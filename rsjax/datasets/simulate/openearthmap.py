"""Simulated OpenEarthMap: landscapes with roads and houses, in the layout of the archive."""

from __future__ import annotations

import pathlib

import numpy as np

from rsjax.datasets import geotiff
from rsjax.datasets.simulate import aerial

# Surface of each code, 0 (unknown) among them.
_SURFACES = (
    "dry 5 rock 5", "soil 7 sand 3", "grass 7 dry 3", "urban 9 soil 1", "rock 8 urban 2",
    "broad 8 conifer 2", "lake 9 sea 1", "crop 9 grass 1", "roof 1",
)  # fmt: skip
_BARE, _RANGE, _DEVELOPED, _ROAD, _TREE, _WATER, _CROP, _BUILDING = range(1, 9)
_LAND = (_RANGE, _CROP, _TREE, _DEVELOPED, _BARE, _WATER)

# Region -> (coordinate system, pixel size in its units); those of xBD have none.
_REGIONS = {
    "aachen": ("EPSG:25832", 0.3),
    "al_qurnah": ("EPSG:4326", 3e-6),
    "kujawsko-pomorskie": ("EPSG:2180", 0.25),
    "mexico_city": ("EPSG:3857", 0.5),
    "houston": (None, 0.0),
}
_TEST = "aachen_999"


def write_openearthmap(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes OpenEarthMap with the xBD images added; see `rsjax.datasets.simulate`.

    `count` is that of tiles of 512 pixels; one more image is in the test list, without labels.
    """
    root = target / "OpenEarthMap_wo_xBD"
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": [_TEST]}
    regions = list(_REGIONS)
    for i, shape in enumerate(aerial.sizes(np.random.default_rng([seed, 0]), count, 440)):
        region = regions[i % len(regions)]
        name = f"{region}_{i // len(regions) + 1}"
        lists["val" if i % 5 == 1 else "train"].append(name)
        _write(root, name, np.random.default_rng([seed, i + 1]), shape, labels=True)
    _write(root, _TEST, np.random.default_rng([seed, 10**6]), (96, 80), labels=False)
    for split, names in lists.items():
        (root / f"{split}.txt").write_text("".join(f"{name}.tif\n" for name in sorted(names)))
    xbd = [name for names in lists.values() for name in names if name.startswith("houston_")]
    rows = (f"hurricane-harvey_{i:08d}_pre_disaster.png,{n}.tif\n" for i, n in enumerate(xbd))
    (root / "xbd_files.csv").write_text("".join(rows))


def _write(
    root: pathlib.Path,
    name: str,
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    labels: bool,
) -> None:
    region, _, number = name.rpartition("_")
    codes = landscape(rng, shape)
    image = aerial.photograph(rng, codes, _SURFACES)
    if int(number) % 4 == 2:  # some sources have a fourth band
        image = np.concatenate([image, image[..., :1] // 2 + 64], axis=-1)
    crs, pixel = _REGIONS[region]
    x, y = {"EPSG:4326": (47.4, 31.0), "EPSG:3857": (-11037000.0, 2200000.0)}.get(
        crs or "", (500000.0, 500000.0)
    )
    transform = (pixel, 0.0, x + 2000 * int(number) * pixel, 0.0, -pixel, y) if crs else None
    written = [("images", image)] + [("labels", codes)] * labels
    for folder, array in written:
        path = root / region / folder / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        geotiff.write_geotiff(
            path, array, crs=crs, transform=transform, compress="lzw", interleave="pixel"
        )


def landscape(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Codes of a landscape, uint8: areas of land, a road, houses where it is developed."""
    areas = np.stack([aerial.field(rng, shape, 70.0) for _ in _LAND])
    codes = np.asarray(_LAND, np.uint8)[areas.argmax(axis=0)]
    houses = (codes == _DEVELOPED) & aerial.pattern(rng, "blocks", shape, max(shape) / 44)
    codes[houses] = _BUILDING
    codes[aerial.pattern(rng, "line", shape, 12 / max(shape))] = _ROAD
    row, column = (int(rng.integers(0, side - 30)) for side in shape)
    codes[row : row + 30, column : column + 30] = 0
    return codes
