"""Ninths of the 64 BigEarthNet patches of the strip, with the CORINE level 2 classes in each.

    python experiments/probabilities/prepare.py rgb_png_strip.zip data/ninths_source

Multi-label scenes of 40 x 40 pixels for `--dataset=folder`: a class is a label where it covers
5 % of the pixels. Split by place: two rows of patches (2.4 km) are `test`, the next two `train`,
two `validation`, two `train`, and so on southwards; ninths of one patch are never apart, but
stretches touch. (With three stretches instead, some classes do not occur in all of them.)
"""

import argparse
import csv
import json
import pathlib
import re
import zipfile

import imagecodecs
import numpy as np

from rsjax import landcover

SIDE, CUTS, SHARE = 40, 3, 0.05
FIRST = 59  # northernmost row
TURNS = ("test", "train", "validation", "train")  # of every two rows
SPLITS = ("train", "validation", "test")

CARD = {
    "title": "BigEarthNet, ninths of 64 neighbouring patches of tile T31UGS as RGB pictures",
    "page": "https://zenodo.org/records/10891137",
    "licence": "CDLA-Permissive-1.0",
    "citation": "Clasen et al., reBEN, 2024, arXiv:2407.03653",
    "sensor": "rgb",
    "bands": ["red", "green", "blue"],
    "gsd_m": 10,
    "label_nomenclature": "corine_l2",
    "label": "multihot",
}


def prepare(archive: str, folder: pathlib.Path) -> None:
    """Writes images, `samples.csv` and `dataset.json`, and prints how many samples have a class."""
    fine, coarse = landcover.load("corine_l3"), landcover.load("corine_l2")
    merge = fine.crosswalk(coarse)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows, counts = [], {split: np.zeros(len(coarse), int) for split in SPLITS}
    with zipfile.ZipFile(archive) as source:
        for image in sorted(n for n in source.namelist() if re.fullmatch(r"images/.*\.png", n)):
            stem = pathlib.PurePath(image).stem
            row = int(re.search(r"_T31UGS_\d+_(\d+)_", stem)[1])  # type: ignore[index]
            split = TURNS[(row - FIRST) // 2 % len(TURNS)]
            pixels = imagecodecs.png_decode(source.read(image))
            codes = imagecodecs.png_decode(source.read(f"masks/{stem}_mask.png"))
            classes = merge[fine.encode(codes, stem)]
            for cut in range(CUTS * CUTS):
                top, left = SIDE * (cut // CUTS), SIDE * (cut % CUTS)
                window = np.s_[top : top + SIDE, left : left + SIDE]
                share = np.bincount(classes[window].ravel(), minlength=256)[: len(coarse)]
                present = np.flatnonzero(share >= SHARE * SIDE * SIDE)
                counts[split][present] += 1
                name = f"images/{stem}_{cut}.png"
                cut_out = np.ascontiguousarray(pixels[window])
                (folder / name).write_bytes(imagecodecs.png_encode(cut_out))
                label = ";".join(coarse.names[c] for c in present)
                rows.append({"image": name, "label": label, "split": split, "patch": stem})
    with (folder / "samples.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    (folder / "dataset.json").write_text(json.dumps(CARD, indent=1))
    for index, name in enumerate(coarse.names):
        print(f"{name}: " + ", ".join(f"{counts[split][index]} {split}" for split in SPLITS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The strip as multi-label scenes.")
    parser.add_argument("archive", help="rgb_png_strip.zip")
    parser.add_argument("folder", type=pathlib.Path, help="folder to write")
    given = parser.parse_args()
    prepare(given.archive, given.folder)
