"""Hectares of each class of a map: `python -m rsjax.area --map=FILE [--regions=FILE] [...]`.

With a labelled reference sample (`--reference=FILE`, drawn by `python -m rsjax.sample`) areas are
adjusted for the map's errors and have standard errors and intervals. See docs/area.md.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
TEXTS = {
    "map": "GeoTIFF of class codes.",
    "nomenclature": "What its codes mean, where it does not say: a name or a .csv.",
    "regions": "Polygons to measure: any vector file.",
    "region_field": "Attribute with their names; default: name.",
    "reference": "Labelled sample: .csv or a vector file of points.",
    "reference_crs": "Of x and y in a .csv; default: the map's.",
    "matrix": "Confusion matrix in place of a sample: a .csv that states its design.",
    "design": "Of the sample: FILE.design.json, stratified or simple; default: the file beside.",
    "output": "Files OUTPUT.csv, .json and .png; default: beside the map.",
}
GIVEN = {name: flags.DEFINE_string(name, "", text, **SHARED) for name, text in TEXTS.items()}
LEVEL = flags.DEFINE_float("level", 0.95, "Of the intervals.", **SHARED)


def main(argv: Sequence[str]) -> None:
    """Measures as the flags say."""
    doors.refuse_arguments(argv)
    given = {name: flag.value for name, flag in GIVEN.items()}
    if not given["matrix"]:
        doors.require("map", given["map"], "map.tif")
    from rsjax.mapping import hectares

    hectares.measure(
        given["map"],
        nomenclature=given["nomenclature"],
        region_file=given["regions"],
        region_field=given["region_field"],
        sample=given["reference"],
        sample_crs=given["reference_crs"],
        matrix=given["matrix"],
        design=given["design"],
        level=LEVEL.value,
        output=given["output"],
    )


if __name__ == "__main__":
    doors.run(main)
