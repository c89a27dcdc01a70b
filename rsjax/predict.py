"""A scene to a map: `python -m rsjax.predict --checkpoint=DIR --scene=FILE --output=map.tif`.

Any bundle on any scene, larger than memory or not; writes a Cloud-Optimised GeoTIFF of class codes,
beside it `map_confidence.tif`, `map.qml` for QGIS and `map.png`. See docs/mapping.md.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A workdir or bundle.", **SHARED)
SCENE = flags.DEFINE_multi_string(
    "scene", [], "GeoTIFF, NAME=GeoTIFF, product folder, or folder of scenes.json; may be repeated."
)
OUTPUT = flags.DEFINE_string("output", "map.tif", "The map.", **SHARED)
BANDS = flags.DEFINE_list("bands", [], "Names of the scene's bands, in their order.", **SHARED)
UNIT = flags.DEFINE_list("unit", [], "Unit of the scene's values, or SENSOR=UNIT,...", **SHARED)
WINDOW = flags.DEFINE_integer("window", 0, "Pixels of a window; 0: those of training.")
OVERLAP = flags.DEFINE_integer("overlap", -1, "Pixels that windows share; -1: a quarter.")
TTA = flags.DEFINE_string("tta", "none", "d4: mean over the symmetries of the square.", **SHARED)
CONFIDENCE = flags.DEFINE_string(
    "confidence", "probability", "probability, margin, entropy, or none: no such file."
)
PROBABILITIES = flags.DEFINE_bool("probabilities", False, "Also write those of all classes.")
BATCH = flags.DEFINE_integer("batch", 0, "Windows computed at once; 0: by the device.")
AGAIN = "Nothing was left under the map's name; the same command starts anew"


def main(argv: Sequence[str]) -> None:
    """Maps as the flags say."""
    doors.refuse_arguments(argv)
    doors.log_to_stderr()
    checkpoint = doors.require("checkpoint", CHECKPOINT.value, "runs/unet")
    doors.require("scene", " ".join(SCENE.value), "scene.tif")
    from rsjax.mapping import mapper

    options = mapper.Options(
        WINDOW.value, OVERLAP.value, TTA.value, CONFIDENCE.value, PROBABILITIES.value, BATCH.value
    )
    with doors.stoppable(AGAIN):
        made = mapper.write_map(
            checkpoint, SCENE.value, OUTPUT.value, BANDS.value, UNIT.value, options
        )
    for text in made.warnings:
        print(f"note: {text}")
    print(*made.files, made, sep="\n")


if __name__ == "__main__":
    doors.run(main)
