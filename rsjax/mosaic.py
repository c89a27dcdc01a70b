"""Maps to one: `python -m rsjax.mosaic --maps=a.tif,b.tif --output=mosaic.tif --by=confidence`.

The maps lie on one grid and have one nomenclature; see docs/many_scenes.md.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
MAPS = flags.DEFINE_list("maps", [], "GeoTIFFs of class codes, or folders of them.", **SHARED)
OUTPUT = flags.DEFINE_string("output", "mosaic.tif", "The mosaic.", **SHARED)
BY = flags.DEFINE_string(
    "by", "first", "Which map a pixel is taken from: confidence, date, first or last.", **SHARED
)
NOMENCLATURE = flags.DEFINE_string(
    "nomenclature", "", "What codes mean, where the maps do not say: a name or a .csv.", **SHARED
)
SPARSE = flags.DEFINE_bool("sparse", False, "Also of maps far apart, with much between them empty.")
AGAIN = "Nothing was left under the mosaic's name; the same command starts anew"


def main(argv: Sequence[str]) -> None:
    """Joins maps as the flags say."""
    doors.refuse_arguments(argv)
    doors.log_to_stderr()
    doors.require("maps", ",".join(MAPS.value), "a.tif,b.tif")
    from rsjax.mapping import mosaic

    with doors.stoppable(AGAIN):
        made = mosaic.write_mosaic(
            MAPS.value, OUTPUT.value, BY.value, NOMENCLATURE.value, SPARSE.value
        )
    for text in made.warnings:
        print(f"note: {text}")
    print(*made.files, sep="\n")


if __name__ == "__main__":
    doors.run(main)
