"""A reference sample to label: `python -m rsjax.sample --map=FILE --target_se=0.01 [...]`.

Draws pixels at random within each class of a map and writes them as points (GeoPackage and CSV)
with their design; once they are labelled, `python -m rsjax.area` reads both. See docs/area.md.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
TEXTS = {
    "map": "GeoTIFF of class codes.",
    "nomenclature": "What its codes mean, where it does not say: a name or a .csv.",
    "target_class": "Whose share of the area has --target_se; default: overall accuracy.",
    "output": "Files OUTPUT.gpkg, .csv, .design.json; default: beside the map.",
}
GIVEN = {name: flags.DEFINE_string(name, "", text, **SHARED) for name, text in TEXTS.items()}
UNITS = flags.DEFINE_integer("units", 0, "How many to draw; or give --target_se.", **SHARED)
TARGET_SE = flags.DEFINE_float("target_se", 0.0, "Standard error to reach, e.g. 0.01.", **SHARED)
USERS_ACCURACY = flags.DEFINE_multi_string(
    "users_accuracy", [], "CLASS=ACCURACY conjectured, e.g. forest=0.9; else 0.8.", **SHARED
)
OMISSION = flags.DEFINE_float("omission", 0.01, "Share of --target_class in others.", **SHARED)
ALLOCATION = flags.DEFINE_string(
    "allocation", "compromise", "compromise, proportional or equal.", **SHARED
)
MIN_UNITS = flags.DEFINE_integer("min_units", 75, "Of each rare class in the compromise.", **SHARED)
SEED = flags.DEFINE_integer("seed", 0, "Of the draw.", **SHARED)


def main(argv: Sequence[str]) -> None:
    """Draws as the flags say."""
    doors.refuse_arguments(argv)
    given = {name: flag.value for name, flag in GIVEN.items()}
    path = doors.require("map", given["map"], "map.tif")
    doors.log_to_stderr()
    from rsjax.mapping import sampling

    sampling.sample(
        path,
        nomenclature=given["nomenclature"],
        units=UNITS.value,
        target_se=TARGET_SE.value,
        users_accuracy=USERS_ACCURACY.value,
        target_class=given["target_class"],
        omission=OMISSION.value,
        allocation=ALLOCATION.value,
        min_units=MIN_UNITS.value,
        seed=SEED.value,
        output=given["output"],
    )


if __name__ == "__main__":
    doors.run(main)
