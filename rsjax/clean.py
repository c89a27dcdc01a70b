"""A tidier map: `python -m rsjax.clean --map=FILE [--crf --scene=FILE] [--majority=3] [...]`.

A dense conditional random field on the scene's bands, a majority filter, and a minimum mapping
unit, in this order; the result is a map as `rsjax.predict` writes it. See docs/clean.md.
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
OUTPUT = flags.DEFINE_string("output", "clean.tif", "The new map.", **SHARED)
CRF = flags.DEFINE_bool("crf", False, "Conditional random field; needs the scene.")
CRF_OPTION = flags.DEFINE_multi_string("crf_option", [], "name=value, e.g. theta_beta=0.5.")
COMPATIBILITY = flags.DEFINE_string("compatibility", "", "CSV of costs; default: 1 for any two.")
SCENE = flags.DEFINE_multi_string("scene", [], "That the map was made of; repeated.", **SHARED)
BANDS = flags.DEFINE_list("bands", [], "Names of the scene's bands, in their order.", **SHARED)
UNIT = flags.DEFINE_list("unit", [], "Unit of the scene's values, or SENSOR=UNIT,...", **SHARED)
MAJORITY = flags.DEFINE_integer("majority", 0, "Side of the window in pixels; 0: none.")
MIN_UNIT = flags.DEFINE_string("min_unit", "", "Least area of a region, 0.5ha or 9px.")
CONNECTIVITY = flags.DEFINE_integer("connectivity", 4, "Of regions: 4 or 8.")
KEEP = flags.DEFINE_list("keep", [], "Classes that neither filter nor merging takes away.")
AGAIN = "Nothing was left under the map's name; the same command starts anew"


def main(argv: Sequence[str]) -> None:
    """Cleans as the flags say."""
    doors.refuse_arguments(argv)
    doors.log_to_stderr()
    path = doors.require("map", MAP.value, "map.tif")
    from rsjax.mapping import clean, clean_options

    options = clean_options.Options(
        clean_options.field(CRF.value, doors.options(CRF_OPTION.value)),
        COMPATIBILITY.value, MAJORITY.value, MIN_UNIT.value, CONNECTIVITY.value, tuple(KEEP.value),
    )  # fmt: skip
    with doors.stoppable(AGAIN):
        clean.clean(
            path, OUTPUT.value, options, nomenclature=NOMENCLATURE.value, scene=SCENE.value,
            bands=BANDS.value, units=UNIT.value,
        )  # fmt: skip


if __name__ == "__main__":
    doors.run(main)
