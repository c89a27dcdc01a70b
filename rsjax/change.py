"""What changed between two maps: `python -m rsjax.change --before=FILE --after=FILE [...]`.

Transition matrix in pixels and hectares, gains and losses of each class, by region too, and a map
of the changes. See docs/change.md.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
BEFORE = flags.DEFINE_string("before", None, "GeoTIFF of class codes: the earlier map.", **SHARED)
AFTER = flags.DEFINE_string("after", None, "The later one, on the same pixels.", **SHARED)
NOMENCLATURE = flags.DEFINE_string(
    "nomenclature", "", "Of codes where a file does not say: a name or .csv; or BEFORE,AFTER.",
    **SHARED,
)  # fmt: skip
TO = flags.DEFINE_string("to", "", "Nomenclature to translate both into first.", **SHARED)
CROSSWALK_BEFORE = flags.DEFINE_string(
    "crosswalk_before", "", "CSV (from_code,to_code) that translates the earlier map.", **SHARED
)
CROSSWALK_AFTER = flags.DEFINE_string("crosswalk_after", "", "Likewise the later one.", **SHARED)
REGIONS = flags.DEFINE_string("regions", "", "Polygons to measure: any vector file.", **SHARED)
REGION_FIELD = flags.DEFINE_string(
    "region_field", "", "Attribute with their names; default: name.", **SHARED
)
OUTPUT = flags.DEFINE_string("output", "change", "Prefix of the files, or a folder.", **SHARED)


def main(argv: Sequence[str]) -> None:
    """Compares as the flags say."""
    doors.refuse_arguments(argv)
    before = doors.require("before", BEFORE.value, "map_2015.tif")
    after = doors.require("after", AFTER.value, "map_2020.tif")
    from rsjax.mapping import change

    with doors.stoppable("The same command starts anew"):
        change.compare(
            before,
            after,
            nomenclature=NOMENCLATURE.value,
            to=TO.value,
            crosswalk_before=CROSSWALK_BEFORE.value,
            crosswalk_after=CROSSWALK_AFTER.value,
            region_file=REGIONS.value,
            region_field=REGION_FIELD.value,
            output=OUTPUT.value,
        )


if __name__ == "__main__":
    doors.run(main)
