"""A scene to a map: `python -m rsjax.predict --checkpoint=DIR --scene=FILE --output=map.tif`.

Any bundle, or several as an ensemble, on any scene; writes a COG of class codes, and what belongs
beside it (docs/mapping.md). `--scenes=LIST --output=maps` maps many (docs/many_scenes.md).
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
CHECKPOINT = flags.DEFINE_multi_string("checkpoint", [], "Workdir or bundle; repeatable.", **SHARED)
SCENE = flags.DEFINE_multi_string(
    "scene", [], "GeoTIFF, NAME=GeoTIFF, product, STAC item, folder of scenes.json; repeatable."
)
SCENES = flags.DEFINE_string("scenes", "", "scenes.json, STAC, or folder of products.", **SHARED)
OUTPUT = flags.DEFINE_string("output", "map.tif", "The map; of --scenes a folder.", **SHARED)
BANDS = flags.DEFINE_list("bands", [], "Names of the scene's bands, in their order.", **SHARED)
UNIT = flags.DEFINE_list("unit", [], "Unit of the scene's values, or SENSOR=UNIT,...", **SHARED)
DOWNLOAD = flags.DEFINE_bool("download", False, "Get remote files of STAC items.", **SHARED)
WINDOW = flags.DEFINE_integer("window", 0, "Pixels of a window; 0: those of training.")
OVERLAP = flags.DEFINE_integer("overlap", -1, "Pixels that windows share; -1: a quarter.")
TTA = flags.DEFINE_string("tta", "none", "d4: mean over the symmetries of the square.", **SHARED)
CONFIDENCE = flags.DEFINE_string(
    "confidence", "probability", "probability, margin, entropy, or none: no such file."
)
PROBABILITIES = flags.DEFINE_bool("probabilities", False, "Also write those of all classes.")
BATCH = flags.DEFINE_integer("batch", 0, "Windows computed at once; 0: by the device.")
SHARD = flags.DEFINE_string("shard", "", "i/n, i from 0: every n-th of --scenes, for n hosts.")
RUNNER = flags.DEFINE_string("beam_runner", "", "Apache Beam's runner, for --scenes.")
BEAM = flags.DEFINE_string("beam", "", "Beam's own options.", **SHARED)
AGAIN = "Finished maps stay, of others nothing was left: run the same command again"


def main(argv: Sequence[str]) -> None:
    """Maps as the flags say."""
    doors.refuse_arguments(argv)
    doors.log_to_stderr()
    doors.require("checkpoint", " ".join(CHECKPOINT.value), "runs/unet")
    doors.require("scene", " ".join([*SCENE.value, SCENES.value]).strip(), "scene.tif")
    from rsjax.mapping import many, mapper

    options = mapper.Options(
        WINDOW.value, OVERLAP.value, TTA.value, CONFIDENCE.value, PROBABILITIES.value, BATCH.value
    )
    how = BANDS.value, UNIT.value, options, DOWNLOAD.value
    with doors.stoppable(AGAIN):
        if many.is_asked(SCENES.value, SCENE.value, SHARD.value, RUNNER.value):
            beam = RUNNER.value, BEAM.value
            many.map_all(CHECKPOINT.value, SCENES.value, OUTPUT.value, how, SHARD.value, *beam)
        else:
            made = mapper.write_map(CHECKPOINT.value, SCENE.value, OUTPUT.value, *how)
            print(*[f"note: {text}" for text in made.warnings], *made.files, made, sep="\n")


if __name__ == "__main__":
    doors.run(main)
