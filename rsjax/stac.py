"""From STAC items to own scenes: `python -m rsjax.stac --items=DIR --output=DIR ...`.

Writes `scenes.json` for `--dataset=scenes`. Items come from files, a catalog on disk, a URL, or an
API (`--api`); files that are not on this machine are got with `--download`. See docs/stac.md.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
ITEMS = flags.DEFINE_string("items", "", "STAC item, collection of items, catalog, or a folder.")
API = flags.DEFINE_string("api", "", "URL of a STAC API to search, instead of --items.")
COLLECTION = flags.DEFINE_string("collection", "", "Of the API, e.g. sentinel-2-l2a.")
BBOX = flags.DEFINE_list("bbox", [], "west,south,east,north in degrees, for the API.")
DATETIME = flags.DEFINE_string("datetime", "", "For the API, e.g. 2020-06-01/2020-08-31.")
SENSOR = flags.DEFINE_string("sensor", "", "Name in rsjax.sensors.", **SHARED)
BANDS = flags.DEFINE_list("bands", [], "Bands of the sensor, e.g. B02,B03,B04.", **SHARED)
UNIT = flags.DEFINE_string("unit", "", "Unit of the files; default: as the items state.", **SHARED)
ASSETS = flags.DEFINE_string("assets", "", "Regular expression of the keys of assets to use.")
LABELS = flags.DEFINE_list("labels", [], "Rasters or one vector file in --output.", **SHARED)
NOMENCLATURE = flags.DEFINE_string("nomenclature", "", "Classes of the labels.", **SHARED)
FIELD = flags.DEFINE_string("field", "", "Field of a vector file with the class.", **SHARED)
OUTPUT = flags.DEFINE_string("output", "", "Folder of scenes.json and its files.", **SHARED)
DOWNLOAD = flags.DEFINE_bool("download", False, "Get files that are not on this machine.")
VERIFY = flags.DEFINE_bool("verify", False, "Reread all files and their checksums.", **SHARED)


def main(argv: Sequence[str]) -> None:
    """Writes, downloads or verifies, as the flags say."""
    doors.refuse_arguments(argv)
    doors.log_to_stderr()
    from rsjax.datasets import scene_list, stac_files, stac_items, stac_scenes

    folder = pathlib.Path(doors.require("output", OUTPUT.value, "scenes"))
    if ITEMS.value or API.value:
        sensor = doors.require("sensor", SENSOR.value, "sentinel2_l2a")
        doors.require("bands", ",".join(BANDS.value), "B02,B03,B04,B08")
        items = stac_items.find(
            ITEMS.value, API.value, COLLECTION.value, BBOX.value, DATETIME.value
        )
        labels = stac_scenes.labels(folder, LABELS.value, NOMENCLATURE.value, FIELD.value)
        with doors.stoppable("Run the same command again: it goes on"):
            made = stac_scenes.write(
                items, folder, sensor, BANDS.value, UNIT.value, ASSETS.value, labels, DOWNLOAD.value
            )
        print(f"{folder / scene_list.FILE}: {len(made.scenes)} scenes of {made.sensor}")
    elif not VERIFY.value:
        doors.require("items", "", "catalog.json")
    if VERIFY.value:
        for name, size in stac_files.verify(folder):
            print(f"{name}: {size} bytes, sound")


if __name__ == "__main__":
    doors.run(main)
