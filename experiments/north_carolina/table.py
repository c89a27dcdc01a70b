"""Maps of the eastern half against landclass96: accuracy, and hectares counted and adjusted.

    python experiments/north_carolina/table.py data/nc_source U-Net=maps/unet.tif ...

The folder is that of `prepare.py --split=halves`. Pixels that count are those of the test patches
with a class. A stratified sample of each map, cut to these pixels, is labelled from landclass96, as
an interpreter would who never errs; the same with 200 seeds tells how often its intervals hold the
truth. A class of one pixel is drawn with the largest. Prints Markdown; other files are temporary.
"""

import argparse
import csv
import dataclasses
import pathlib
import tempfile

import numpy as np
from rasterio.windows import Window
from rich.console import Console

from rsjax.datasets.scene_area import Area
from rsjax.landcover import IGNORE
from rsjax.mapping import (
    area_estimate,
    area_table,
    hectares,
    landmap,
    pixel_area,
    sample_design,
    sampling,
)
from rsjax.mapping.landmap import LandMap
from rsjax.mapping.writer import open_writer
from rsjax.metrics import resample, weighted

UNITS, LEAST = 500, 50  # of a sample, and of each rare class in it
SEEDS, REPLICATES, LEVEL = 200, 1000, 0.95  # of samples, of the bootstrap, of all intervals
QUIET = Console(quiet=True)


@dataclasses.dataclass(frozen=True)
class Truth:
    """The reference on a map's grid.

    Attributes:
        classes: (rows, columns) uint8 class indices, 255 where nothing counts.
        patch: (rows, columns) number of the test patch, -1 elsewhere.
        blocks: (N,) number of each patch's block.
    """

    classes: np.ndarray
    patch: np.ndarray
    blocks: np.ndarray


def read_truth(source: pathlib.Path, grid: LandMap) -> Truth:
    """The test patches' masks where they lie on the map's grid."""
    with open(source / "samples.csv", newline="") as file:
        patches = [row for row in csv.DictReader(file) if row["split"] == "test"]
    classes = np.full(grid.shape, IGNORE, np.uint8)
    patch = np.full(grid.shape, -1)
    for i, row in enumerate(patches):
        mask = landmap.read_map(source / row["mask"], str(source / "landclass96.csv"))
        if mask.nomenclature.names != grid.nomenclature.names:
            raise SystemExit(f"{grid.path}: other classes than {mask.path}")
        left, top = (round(v) for v in ~grid.transform @ (mask.transform.c, mask.transform.f))
        window = Window(left, top, mask.shape[1], mask.shape[0])
        (classes[window.toslices()],) = mask.read([Window(0, 0, mask.shape[1], mask.shape[0])])
        patch[window.toslices()] = i
    return Truth(classes, patch, np.unique([p["block"] for p in patches], return_inverse=True)[1])


def score(found: np.ndarray, truth: Truth, count: int) -> tuple[list[str], np.ndarray]:
    """Cells of overall accuracy and mean IoU with intervals over blocks; accuracy of each block."""
    counts = truth.classes != IGNORE
    if (found[counts] == IGNORE).any():
        raise SystemExit("the map has no class in pixels that the reference has")
    index = (truth.patch[counts] * count + truth.classes[counts]) * count + found[counts]
    matrices = np.bincount(index, minlength=len(truth.blocks) * count**2)
    matrices = matrices.reshape(-1, count, count)
    samples = {
        "index": np.arange(len(matrices)),
        "hits": np.diagonal(matrices, axis1=1, axis2=2),
        "reference": matrices.sum(axis=2),
        "predicted": matrices.sum(axis=1),
    }
    figures, _ = weighted.confusion(samples, np.ones((1, len(matrices))))
    how = (truth.blocks, REPLICATES, LEVEL, 0)
    spread, _ = resample.intervals(weighted.confusion, samples, *how)
    single, _ = weighted.confusion(samples, np.unique(truth.blocks)[:, None] == truth.blocks)
    names = ("overall_accuracy", "iou_macro")
    cells = [f"{figures[n][0]:.3f} [{spread[n][0]:.3f}, {spread[n][1]:.3f}]" for n in names]
    return cells, single["overall_accuracy"]


def write_cut(path: pathlib.Path, classes: np.ndarray, like: LandMap) -> LandMap:
    """Writes class indices as a map, 255 as nodata."""
    area = Area(like.crs, like.transform, *like.shape)
    with open_writer(path, area, like.nomenclature, {"cut_of": like.path}, "none", False) as out:
        missing = classes == IGNORE
        out.write({"classes": np.where(missing, np.uint8(0), classes)}, missing)
        out.finish()
    return landmap.read_map(path)


def adjusted(cut: LandMap, strata: LandMap, truth: Truth) -> list[dict[str, float]]:
    """Rows of `rsjax.area` with a sample of `rsjax.sample` that landclass96 labels."""
    prefix = str(pathlib.Path(cut.path).with_suffix("")) + "_sample"
    sampling.sample(strata.path, units=UNITS, min_units=LEAST, output=prefix, console=QUIET)
    with open(f"{prefix}.csv", newline="") as file:
        units = list(csv.DictReader(file))
    for unit in units:
        true = truth.classes[int(unit["row"]), int(unit["col"])]
        unit["reference"] = str(cut.nomenclature.codes[true])
    with open(f"{prefix}.csv", "w", newline="") as file:
        table = csv.DictWriter(file, list(units[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(units)
    found = hectares.measure(cut.path, sample=f"{prefix}.csv", console=QUIET)
    return [row for row in found["areas"] if row["code"] is not None]


def repeat(strata: LandMap, truth: Truth) -> area_estimate.Estimate:
    """Adjusted hectares of `SEEDS` samples, arrays (SEEDS, classes), as `adjusted` makes one."""
    areas = pixel_area.of_grid(strata.crs, strata.transform, strata.shape)
    counted = area_table.tally(strata, areas)
    there = np.flatnonzero(counted.pixels)
    pixels = counted.pixels[there].astype(np.int64)
    units = np.zeros(len(counted.pixels), np.int64)
    units[there] = sample_design.allocate(UNITS, pixels, "compromise", LEAST)
    found = []
    for seed in range(SEEDS):
        drawn = sample_design.draw(strata, counted.pixels, units, seed)
        accuracy = area_estimate.estimate(
            np.searchsorted(there, drawn.stratum), drawn.stratum,
            truth.classes[drawn.row, drawn.col], counted.hectares[there], len(units),
            population=pixels, unit_areas=areas.at(drawn.row, drawn.col), level=LEVEL,
        )  # fmt: skip
        found.append(dataclasses.astuple(accuracy.area))
    return area_estimate.Estimate(*(np.stack(part) for part in zip(*found, strict=True)))


def number(value: float) -> str:
    """Hectares, with one decimal below 100."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.1f}"


def main(source: pathlib.Path, maps: list[tuple[str, str]], folder: pathlib.Path) -> None:
    """Prints both tables; a map named 'NAME, ...' is compared with that of NAME."""
    grid = landmap.read_map(maps[0][1])
    truth, names = read_truth(source, grid), grid.nomenclature.names
    cut = write_cut(folder / "truth.tif", truth.classes, grid)
    areas = pixel_area.of_grid(cut.crs, cut.transform, cut.shape)
    true = area_table.tally(cut, areas).hectares
    head = ["map", "overall accuracy", "mean IoU", "blocks where better", *names]
    lines = [head, ["---"] * len(head), ["landclass96", "", "", "", *map(number, true)]]
    again = [["map", *names, "sum, counted", "sum, adjusted"], ["---"] * (len(names) + 3)]
    plain: dict[str, np.ndarray] = {}
    for i, (name, path) in enumerate(maps):
        land_map = landmap.read_map(path)
        if (land_map.shape, land_map.transform) != (grid.shape, grid.transform):
            raise SystemExit(f"{path}: another grid than {grid.path}")
        (classes,) = land_map.read([Window(0, 0, *grid.shape[::-1])])
        cells, of_block = score(classes, truth, len(names))
        before = plain.setdefault(name.partition(",")[0], of_block)
        better = "" if before is of_block else f"{(of_block > before).sum()} of {len(before)}"
        classes[truth.classes == IGNORE] = IGNORE
        cut = strata = write_cut(folder / f"{i}.tif", classes, land_map)
        pixels = np.bincount(classes.ravel(), minlength=256)[: len(names)]
        if single := np.flatnonzero(pixels == 1).tolist():  # no stratum: nothing would vary
            classes[np.isin(classes, single)] = pixels.argmax()
            strata = write_cut(folder / f"{i}_strata.tif", classes, land_map)
            print(f"{name}: drawn with {names[pixels.argmax()]}: {[names[c] for c in single]}\n")
        rows = adjusted(cut, strata, truth)
        for row, area in zip(rows, true, strict=True):
            low, high = row["adjusted_hectares_low"], row["adjusted_hectares_high"]
            text = f"{number(row['hectares'])}; {number(row['adjusted_hectares'])} "
            text += "(±?)" if low is None else f"({number(low)}–{number(high)})"
            cells.append(text if low is not None and low <= area <= high else text + " \\*")
        lines.append([name, *cells[:2], better, *cells[2:]])
        many = repeat(strata, truth)
        wrong = np.array([row["hectares"] for row in rows]) - true
        held = np.mean((many.low <= true) & (true <= many.high), axis=0)
        cells = [f"{number(w)}; {number(s)}; {number(e)}; {h:.1%}" for w, s, e, h in zip(
            wrong, many.se.mean(axis=0), np.sqrt(np.mean((many.value - true) ** 2, axis=0)), held,
            strict=True)]  # fmt: skip
        sums = np.abs(many.value - true).sum(axis=1)
        again.append([name, *cells, number(np.abs(wrong).sum()), number(sums.mean())])
    for table in (lines, again):
        print(*(f"| {' | '.join(row)} |" for row in table), "", sep="\n", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Accuracy and hectares of maps of one scene.")
    parser.add_argument("source", type=pathlib.Path, help="folder of prepare.py --split=halves")
    parser.add_argument("maps", nargs="+", help="NAME=FILE, a cleaned one after its own: 'NAME, x'")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        main(given.source, [tuple(m.rsplit("=", 1)) for m in given.maps], pathlib.Path(made))
