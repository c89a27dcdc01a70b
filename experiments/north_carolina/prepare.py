"""Cuts the Landsat 7 scene of the GRASS North Carolina data into a folder for `--dataset=folder`.

    python experiments/north_carolina/prepare.py SCENE data/nc_source --trust_transform
    python experiments/north_carolina/prepare.py SCENE data/nc_source --trust_transform \
        --split=halves

SCENE holds `lsat7_2000_{10,20,30,40,50,70}.tif` (bands 1-5 and 7, digital numbers 1 to 255 stored
as floats) and `strata.tif` (the map landclass96, 7 classes). Band 7 covers less of the scene than
the others: a pixel counts where all six have data, elsewhere the image is 0 (nodata) and the mask
0 (unlabelled). Patches of 64 x 64 pixels begin at the corner of the box of pixels that count; those
with less than half of them are dropped. Blocks of 2 x 2 patches go to one split as a whole: drawn
over the scene, or by halves, whose blocks begin at the half's own corner: the east is the test set,
the last blocks of the west validation; they lie between the test set and the rest, which trains.
"""

import argparse
import csv
import io
import json
import pathlib

import numpy as np
import rasterio

from rsjax.datasets import geotiff

FILES = tuple(f"lsat7_2000_{band}0.tif" for band in (1, 2, 3, 4, 5, 7))
LABELS = "strata.tif"
SIDE = 64  # pixels
BLOCK = 2  # patches a side
LEAST_VALID = 0.5
SHARES = {"test": 0.2, "validation": 0.2}  # of the blocks, rounded; the rest trains
SEED = 0
SPLITS = ("blocks", "halves")

PAGE = "https://grass.osgeo.org/download/data/"
CARD = {
    "title": "Landsat 7 over Raleigh, North Carolina, with the map landclass96",
    "page": PAGE,
    "licence": "CC BY-SA 3.0 (as OSGeoLive states for the North Carolina dataset)",
    "citation": "GRASS GIS North Carolina sample dataset, " + PAGE,
    "sensor": "landsat7",
    "bands": ["B1", "B2", "B3", "B4", "B5", "B7"],
    "unit": "dn8",
    "gsd_m": 28.5,
    "nodata": 0,
    "rgb_range": [20, 160],
    "mask_nomenclature": "landclass96.csv",
}
CLASSES = f"""# title: landclass96 of the GRASS North Carolina dataset, 7 classes
# source: GRASS GIS North Carolina sample dataset, {PAGE}; colours chosen here
code,name,colour,parent,ignore
1,developed,#d7191c,,
2,agriculture,#ffd92f,,
3,herbaceous,#b2df8a,,
4,shrubland,#bf812d,,
5,forest,#1b7837,,
6,water,#2c7fb8,,
7,sediment,#bdbdbd,,
0,unlabelled,,,yes
"""


def read_scene(
    scene: pathlib.Path, trust_transform: bool
) -> tuple[np.ndarray, np.ndarray, str, geotiff.Transform]:
    """The scene as uint8 (rows, columns, 6) with 0 for nodata, its codes, CRS and transform.

    Raises:
        SystemExit: files of different grids, or of different coordinate systems without
            `trust_transform`; values that are no digital numbers.
    """
    bands, codes, valid, grids = [], None, None, {}
    for name in (*FILES, LABELS):
        with rasterio.open(scene / name) as raster:
            values = raster.read(1)
            grids[name] = (raster.crs.to_string(), tuple(raster.transform)[:6], raster.shape)
            there = values != raster.nodata
        if name == LABELS:
            codes = np.where(there, values, 0).astype(np.uint8)
            continue
        if not np.isin(values[there], np.arange(1, 256)).all():
            raise SystemExit(f"{scene / name}: values other than whole numbers from 1 to 255")
        bands.append(np.where(there, values, 0).astype(np.uint8))
        valid = there if valid is None else valid & there
    assert codes is not None
    assert valid is not None
    crs, transform, shape = grids[FILES[0]]
    for name, grid in grids.items():
        if grid[1:] != (transform, shape):
            raise SystemExit(f"{scene / name}: grid {grid[1:]}, expected {transform, shape}")
        if grid[0] != crs and not trust_transform:
            raise SystemExit(
                f"{scene / name} says {grid[0]}, the images say {crs}, with the same transform "
                f"{transform}. If both mean the same grid, say so with --trust_transform; "
                "otherwise reproject the labels"
            )
        if grid[0] != crs:
            print(f"{name} says {grid[0]}, the images {crs}; transforms and sizes are equal: "
                  "taken as one grid")  # fmt: skip
    image = np.stack(bands, axis=-1)
    image[~valid] = 0
    codes[~valid] = 0
    return image, codes, crs, transform


def assign(blocks: list[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Block -> split: a permutation with `SEED`, then whole blocks by `SHARES`."""
    order = [blocks[i] for i in np.random.default_rng(SEED).permutation(len(blocks))]
    splits = dict.fromkeys(blocks, "train")
    for split, share in SHARES.items():
        for _ in range(round(share * len(blocks))):
            splits[order.pop()] = split
    return splits


def halves(
    places: list[tuple[int, int]],
) -> tuple[dict[tuple[int, int], tuple[int, int]], dict[tuple[int, int], str]]:
    """Patch -> block and block -> split, by halves of as many columns of patches.

    Where the number of columns is odd the west has one more. A block is (row, column) with columns
    counted over both halves, so that none lies in both.
    """
    columns = sorted({column for _, column in places})
    west, top = -(-len(columns) // 2), min(row for row, _ in places)
    last = (west - 1) // BLOCK
    block_of = {}
    for row, column in places:
        at = columns.index(column)
        across = at // BLOCK if at < west else last + 1 + (at - west) // BLOCK
        block_of[row, column] = ((row - top) // SIDE // BLOCK, across)
    splits = {}
    for block in sorted(set(block_of.values())):
        splits[block] = ("train", "validation", "test")[1 + (block[1] > last) - (block[1] < last)]
    return block_of, splits


def prepare(
    scene: str | pathlib.Path,
    folder: str | pathlib.Path,
    *,
    trust_transform: bool,
    split: str = "blocks",
) -> None:
    """Writes patches as GeoTIFFs, `samples.csv`, `landclass96.csv` and `dataset.json`."""
    folder = pathlib.Path(folder)
    image, codes, crs, transform = read_scene(pathlib.Path(scene), trust_transform)
    valid = image.any(axis=-1)
    top, left = (int(np.flatnonzero(valid.any(axis=axis))[0]) for axis in (1, 0))
    kept = []
    for row in range(top, valid.shape[0] - SIDE + 1, SIDE):
        for column in range(left, valid.shape[1] - SIDE + 1, SIDE):
            if valid[row : row + SIDE, column : column + SIDE].mean() >= LEAST_VALID:
                kept.append((row, column))
    if split == "halves":
        block_of, splits = halves(kept)
    else:
        block_of = {
            (row, column): ((row - top) // SIDE // BLOCK, (column - left) // SIDE // BLOCK)
            for row, column in kept
        }
        splits = assign(sorted(set(block_of.values())))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    rows = []
    for (row, column), block in block_of.items():
        name = f"{row:03d}_{column:03d}.tif"
        window = np.s_[row : row + SIDE, column : column + SIDE]
        a, b, c, d, e, f = transform
        place = (a, b, c + column * a + row * b, d, e, f + column * d + row * e)
        options = {"crs": crs, "transform": place, "nodata": 0, "compress": "deflate"}
        geotiff.write_geotiff(folder / "images" / name, image[window], **options)
        geotiff.write_geotiff(folder / "masks" / name, codes[window], **options)
        rows.append(
            {
                "image": f"images/{name}",
                "mask": f"masks/{name}",
                "split": splits[block],
                "block": "{}_{}".format(*block),
            }
        )
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    (folder / "samples.csv").write_text(text.getvalue())
    (folder / "landclass96.csv").write_text(CLASSES)
    (folder / "dataset.json").write_text(json.dumps(CARD, indent=1))
    report(block_of, splits, codes)


def report(
    block_of: dict[tuple[int, int], tuple[int, int]],
    splits: dict[tuple[int, int], str],
    codes: np.ndarray,
) -> None:
    """Prints sizes, classes and the smallest distance between training and test patches."""
    places = {s: [p for p, b in block_of.items() if splits[b] == s] for s in set(splits.values())}
    for split, found in sorted(places.items()):
        counts = sum(
            np.bincount(codes[r : r + SIDE, c : c + SIDE].ravel(), minlength=8) for r, c in found
        )
        blocks = sum(name == split for name in splits.values())
        print(f"{split}: {len(found)} patches in {blocks} blocks; pixels of code 0 (unlabelled) "
              f"to 7: {counts.tolist()}")  # fmt: skip
    gaps = [
        np.hypot(max(abs(r - s) - SIDE, 0), max(abs(c - d) - SIDE, 0)) * CARD["gsd_m"]
        for r, c in places["train"]
        for s, d in places["test"]
    ]
    print(f"smallest distance between a training and a test patch: {min(gaps):.0f} m; "
          f"{gaps.count(0.0)} pairs touch")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The scene as a folder of patches.")
    parser.add_argument("scene", help="folder of the GeoTIFFs")
    parser.add_argument("folder", help="folder to write")
    parser.add_argument(
        "--trust_transform",
        action="store_true",
        help="take files of equal transform as one grid although their CRS codes differ",
    )
    parser.add_argument(
        "--split", choices=SPLITS, default="blocks", help="draw whole blocks, or train on one half"
    )
    given = parser.parse_args()
    prepare(given.scene, given.folder, trust_transform=given.trust_transform, split=given.split)
