"""Pictures of a dataset, or of what a model predicts, as one self-contained page and PNGs.

`python -m rsjax.gallery --data_dir=DIR [--dataset=NAME]`: patches with labels and maps, balance,
bands, places. `--workdir=RUN`: predictions with their mistakes. See docs/look.md.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors
from rsjax.errors import ConfigError

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
WORKDIR = flags.DEFINE_string("workdir", None, "A trained run: its predictions.", **SHARED)
DATA_DIR = flags.DEFINE_string(
    "data_dir", "", "Folder of the prepared shards; default: data, or that of the run.", **SHARED
)
DATASET = flags.DEFINE_string(
    "dataset", "", "Name of the dataset; default: the only one there, or the run's.", **SHARED
)
SPLIT = flags.DEFINE_string("split", "", "Default: train, or the run's test split.", **SHARED)
COUNT = flags.DEFINE_integer("count", 24, "Patches drawn at random; of a run: records shown.")
flags.DEFINE_alias("samples", "count")
PICK = flags.DEFINE_string("pick", "", "Of a run: worst (default), best, typical or random.")
OUTPUT = flags.DEFINE_string(
    "output", "", "Folder of the page; default: DATA_DIR/gallery/DATASET, RUN/gallery.", **SHARED
)


def main(argv: Sequence[str]) -> None:
    """Draws as the flags say."""
    doors.refuse_arguments(argv)
    if WORKDIR.value:
        doors.log_to_stderr()
        from rsjax.training import predictions

        output = OUTPUT.value or pathlib.Path(WORKDIR.value) / "gallery"
        print(predictions.write(WORKDIR.value, output, SPLIT.value, COUNT.value,
                                PICK.value or "worst", DATA_DIR.value, DATASET.value))  # fmt: skip
        return
    if PICK.value:
        raise ConfigError("--pick is for the predictions of a run: give its --workdir")
    from rsjax.training import gallery

    data_dir = DATA_DIR.value or "data"
    root = gallery.find(data_dir, DATASET.value)
    output = OUTPUT.value or pathlib.Path(data_dir) / "gallery" / root.parent.name
    print(gallery.write(root, output, SPLIT.value or "train", COUNT.value))


if __name__ == "__main__":
    doors.run(main)
