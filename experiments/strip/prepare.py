"""Writes the strip of 64 neighbouring BigEarthNet patches as a folder for `--dataset=folder`.

    python experiments/strip/prepare.py rgb_png_strip.zip data/strip_source

The patches are RGB pictures, stretched to 0-255 patch by patch (so colours jump between
neighbours), with CORINE level 3 codes as masks. Their names say where they lie in tile T31UGS:
`..._<column>_<row>_...`, the first number eastwards and the second southwards. The northernmost
rows, 59 to 65, are held out: 16 patches; the 48 others, rows 66 to 90, train. Not the southernmost,
since 30 % of the pixels there have a class that the other patches lack, and in the north 1 %.
"""

import argparse
import csv
import io
import json
import pathlib
import re
import zipfile

import imagecodecs
import numpy as np

from rsjax import landcover

TRAIN = 66  # rows from here on southwards
BLOCK_ROWS = 4  # 4.8 km; a block lies in one split
COUNT = 64

CARD = {
    "title": "BigEarthNet, 64 neighbouring patches of tile T31UGS as RGB pictures",
    "page": "https://zenodo.org/records/10891137",
    "licence": "CDLA-Permissive-1.0",
    "citation": "Clasen et al., reBEN: Refined BigEarthNet Dataset for Remote Sensing Image "
    "Analysis, 2024, arXiv:2407.03653",
    "sensor": "rgb",
    "bands": ["red", "green", "blue"],
    "gsd_m": 10,
    "mask_nomenclature": "corine_l3",
}


def prepare(archive: str | pathlib.Path, folder: str | pathlib.Path) -> None:
    """Unpacks images and masks unchanged, and writes `samples.csv` and `dataset.json`."""
    folder = pathlib.Path(folder)
    classes = landcover.load("corine_l3")
    rows = []
    pixels = {split: np.zeros(len(classes), np.int64) for split in ("train", "test")}
    with zipfile.ZipFile(archive) as source:
        images = sorted(n for n in source.namelist() if re.fullmatch(r"images/.*\.png", n))
        if len(images) != COUNT:
            raise SystemExit(f"{archive}: {len(images)} files images/*.png, expected {COUNT}")
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for image in images:
            found = re.fullmatch(r"images/(\w+_T31UGS_(\d+)_(\d+)_\d+)\.png", image)
            if not found:
                raise SystemExit(f"{archive}: {image}, expected ..._T31UGS_<column>_<row>_<date>")
            stem, column, row = found[1], int(found[2]), int(found[3])
            split = "train" if row >= TRAIN else "test"
            codes = imagecodecs.png_decode(source.read(f"masks/{stem}_mask.png"))
            pixels[split] += np.bincount(
                classes.encode(codes, stem).ravel(), minlength=len(classes)
            )
            for name in (image, f"masks/{stem}_mask.png"):
                (folder / name).write_bytes(source.read(name))
            rows.append(
                {
                    "image": image,
                    "mask": f"masks/{stem}_mask.png",
                    "split": split,
                    "block": f"{column:02d}_{(row - TRAIN) // BLOCK_ROWS + 2}",
                    "column": column,
                    "row": row,
                }
            )
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    (folder / "samples.csv").write_text(text.getvalue())
    (folder / "dataset.json").write_text(json.dumps(CARD, indent=1))
    report(rows, pixels, classes)


def report(
    rows: list[dict], pixels: dict[str, np.ndarray], classes: landcover.Nomenclature
) -> None:
    """Prints split sizes, how many borders touch, and the classes of both splits."""
    places = {s: {(r["column"], r["row"]) for r in rows if r["split"] == s} for s in pixels}
    for split, where in places.items():
        print(f"{split}: {len(where)} patches, rows {min(r for _, r in where)} to "
              f"{max(r for _, r in where)}")  # fmt: skip
    steps = [
        max(abs(a - c), abs(b - d)) + (abs(a - c) + abs(b - d) > 1)
        for a, b in places["train"]
        for c, d in places["test"]
    ]
    edges = steps.count(1)
    print(
        f"{edges} borders of a training patch are borders of a held-out patch: distance 0 m there"
    )
    print("class: share of the pixels in train, in test")
    for index, name in enumerate(classes.names):
        if any(counts[index] for counts in pixels.values()):
            shares = ", ".join(f"{c[index] / c.sum():7.2%}" for c in pixels.values())
            print(f"  {classes.codes[index]} {name}: {shares}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The strip as a folder of patches.")
    parser.add_argument("archive", help="rgb_png_strip.zip")
    parser.add_argument("folder", help="folder to write")
    given = parser.parse_args()
    prepare(given.archive, given.folder)
