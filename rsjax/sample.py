"""A reference sample to label: `python -m rsjax.sample --map=FILE --target_se=0.01 [...]`.

Draws pixels at random within each class of a map and writes them as points (GeoPackage and CSV)
with their design; once they are labelled, `python -m rsjax.area` reads both. See docs/area.md.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
MAP = flags.DEFINE_string("map", None, "GeoTIFF of class codes.", **SHARED)
NOMENCLATURE = flags.DEFINE_string(
    "nomenclature", "", "What its codes mean, where it does not say: a name or a .csv.", **SHARED
)
UNITS = flags.DEFINE_integer("units", 0, "How many to draw; or give --target_se.", **SHARED)
TARGET_SE = flags.DEFINE_float("target_se", 0.0, "Standard error to reach, e.g. 0.01.", **SHARED)
TARGET_CLASS = flags.DEFINE_string(
    "target_class",
    "",
    "Whose share of the area has --target_se; default: overall accuracy.",
    **SHARED,
)
USERS_ACCURACY = flags.DEFINE_multi_string(
    "users_accuracy", [], "CLASS=ACCURACY conjectured, e.g. forest=0.9; else 0.8.", **SHARED
)
OMISSION = flags.DEFINE_float(
    "omission", 0.01, "Conjectured share of --target_class within each other class.", **SHARED
)
ALLOCATION = flags.DEFINE_string(
    "allocation", "compromise", "compromise, proportional or equal.", **SHARED
)
MIN_UNITS = flags.DEFINE_integer("min_units", 75, "Of each rare class in the compromise.", **SHARED)
SEED = flags.DEFINE_integer("seed", 0, "Of the draw.", **SHARED)
OUTPUT = flags.DEFINE_string(
    "output", "", "Files OUTPUT.gpkg, .csv, .design.json; default: beside the map.", **SHARED
)


def main(argv: Sequence[str]) -> None:
    """Draws as the flags say."""
    doors.refuse_arguments(argv)
    path = doors.require("map", MAP.value, "map.tif")
    doors.log_to_stderr()
    from rsjax.mapping import sampling

    sampling.sample(
        path,
        nomenclature=NOMENCLATURE.value,
        units=UNITS.value,
        target_se=TARGET_SE.value,
        users_accuracy=USERS_ACCURACY.value,
        target_class=TARGET_CLASS.value,
        omission=OMISSION.value,
        allocation=ALLOCATION.value,
        min_units=MIN_UNITS.value,
        seed=SEED.value,
        output=OUTPUT.value,
    )


if __name__ == "__main__":
    doors.run(main)
