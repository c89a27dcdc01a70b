"""Hectares of each class of a map: `python -m rsjax.area --map=FILE [--regions=FILE] [...]`.

With a labelled reference sample (`--reference=FILE`, drawn by `python -m rsjax.sample`) areas are
adjusted for the map's errors and have standard errors and intervals. See docs/area.md.
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
REGIONS = flags.DEFINE_string("regions", "", "Polygons to measure: any vector file.", **SHARED)
REGION_FIELD = flags.DEFINE_string(
    "region_field", "", "Attribute with their names; default: name.", **SHARED
)
REFERENCE = flags.DEFINE_string(
    "reference", "", "Labelled sample: .csv or a vector file of points.", **SHARED
)
REFERENCE_CRS = flags.DEFINE_string(
    "reference_crs", "", "Of x and y in a .csv; default: the map's.", **SHARED
)
DESIGN = flags.DEFINE_string(
    "design",
    "",
    "Of the sample: FILE.design.json, stratified or simple; default: the file beside.",
    **SHARED,
)
LEVEL = flags.DEFINE_float("level", 0.95, "Of the intervals.", **SHARED)
OUTPUT = flags.DEFINE_string(
    "output", "", "Files OUTPUT.csv, .json and .png; default: beside the map.", **SHARED
)


def main(argv: Sequence[str]) -> None:
    """Measures as the flags say."""
    doors.refuse_arguments(argv)
    path = doors.require("map", MAP.value, "map.tif")
    from rsjax.mapping import hectares

    hectares.measure(
        path,
        nomenclature=NOMENCLATURE.value,
        region_file=REGIONS.value,
        region_field=REGION_FIELD.value,
        sample=REFERENCE.value,
        sample_crs=REFERENCE_CRS.value,
        design=DESIGN.value,
        level=LEVEL.value,
        output=OUTPUT.value,
    )


if __name__ == "__main__":
    doors.run(main)
