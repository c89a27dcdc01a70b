"""A look at a prepared dataset: `python -m rsjax.gallery --data_dir=DIR [--dataset=NAME]`.

One self-contained page, `gallery.html`, and its figures as PNG: patches with labels and maps, class
balance, band histograms, where the patches lie. See docs/look.md.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of the prepared shards.", **SHARED)
DATASET = flags.DEFINE_string(
    "dataset", "", "Name of the dataset; default: the only one there.", **SHARED
)
SPLIT = flags.DEFINE_string("split", "train", "Whose patches and bands are shown.", **SHARED)
SAMPLES = flags.DEFINE_integer("samples", 24, "Patches drawn at random.")
OUTPUT = flags.DEFINE_string(
    "output", "", "Folder of the page; default: DATA_DIR/gallery/DATASET.", **SHARED
)


def main(argv: Sequence[str]) -> None:
    """Draws as the flags say."""
    doors.refuse_arguments(argv)
    from rsjax.training import gallery

    data_dir = doors.require("data_dir", DATA_DIR.value, "data")
    root = gallery.find(data_dir, DATASET.value)
    output = OUTPUT.value or pathlib.Path(data_dir) / "gallery" / root.parent.name
    print(gallery.write(root, output, SPLIT.value, SAMPLES.value))


if __name__ == "__main__":
    doors.run(main)
