"""A map to look at, in one page: `python -m rsjax.view map.tif [scene.tif ...] --output=map.html`.

The page needs no network: pan and zoom, legend with hectares, pixels by click, the scene or an
older map (`--before=FILE`) beside it. See docs/view.md.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors
from rsjax.errors import ConfigError

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
MAP = flags.DEFINE_string("map", None, "GeoTIFF of class codes; or the first argument.", **SHARED)
SCENE = flags.DEFINE_multi_string(
    "scene", [], "As rsjax.predict takes it; or the arguments after the map.", **SHARED
)
BEFORE = flags.DEFINE_string("before", "", "Another map on the same grid, e.g. older.", **SHARED)
OUTPUT = flags.DEFINE_string("output", "", "The page; default: the map's name, .html.", **SHARED)
BANDS = flags.DEFINE_list("bands", [], "Names of the scene's bands, in their order.", **SHARED)
RGB = flags.DEFINE_list("rgb", [], "Bands to draw: red, green, blue; default: by wavelength.")
NOMENCLATURE = flags.DEFINE_string(
    "nomenclature", "", "What its codes mean, where it does not say: a name or a .csv.", **SHARED
)
MAX_PX = flags.DEFINE_integer("max_px", 4096, "Longest side of what is drawn; hectares use all.")
TRUST_TRANSFORM = flags.DEFINE_bool(
    "trust_transform", False, "Files of one transform are one grid, whatever their systems' names."
)


def main(argv: Sequence[str]) -> None:
    """Writes the page as the flags say."""
    given = list(argv[1:])
    if MAP.value and given:
        raise ConfigError(f"arguments {given} beside --map; give the scene as --scene=...")
    if SCENE.value and len(given) > 1:
        raise ConfigError(f"arguments {given[1:]} beside --scene; give the scene in one way")
    path = doors.require("map", MAP.value or (given.pop(0) if given else ""), "map.tif")
    from rsjax.mapping import view_write

    view_write.write(
        path,
        [*given, *SCENE.value],
        before=BEFORE.value,
        output=OUTPUT.value,
        bands=BANDS.value,
        rgb=RGB.value,
        nomenclature=NOMENCLATURE.value,
        max_px=MAX_PX.value,
        trust_transform=TRUST_TRANSFORM.value,
    )


if __name__ == "__main__":
    doors.run(main)
