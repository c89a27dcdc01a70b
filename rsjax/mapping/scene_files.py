"""What a user calls a scene, as raster files whose bands have names.

One of: a multi-band raster whose bands are named by `--bands` or by their descriptions;
`NAME=FILE`, once a file (`B04,B03=FILE` names several bands of one); the folder of a Sentinel-2
SAFE or Landsat Collection 2 product; a STAC item; a `scenes.json` or its folder, with `#ID` for
one of its scenes. Several of them together make one scene where they lie on one grid.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Sequence

from rsjax import sensors
from rsjax.datasets import files, products, raster, scene_list
from rsjax.datasets.scene_list import BandFile, SceneList
from rsjax.errors import DatasetError, SceneError
from rsjax.mapping import scene_stac

_JSON = (".json", ".geojson")
_NAMED = re.compile(r"([\w/@,]+)=(.+)")


@dataclasses.dataclass(frozen=True)
class Layer:
    """One raster file of a scene.

    Attributes:
        path: local GeoTIFF or JPEG 2000 file.
        names: of its bands in order, 'B02' or 'sensor/B02' (of a time series 'B02@0'); '' is none.
        unit: of its values; '' where neither product nor list says it.
        nodata: value of missing pixels, in place of the file's own; None: the file's own.
        date: ISO date of acquisition; '' where nobody says it.
    """

    path: str
    names: tuple[str, ...]
    unit: str = ""
    nodata: float | None = None
    date: str = ""


def layers(
    given: Sequence[str],
    bands: Sequence[str],
    wanted: Sequence[str],
    units: Sequence[str] = (),
    download: bool = False,
) -> list[Layer]:
    """The files of a scene.

    Args:
        given: what the user names, see the module.
        bands: names of the bands of the files that are given without names; may be empty.
        wanted: 'sensor/band' names that the model takes; of a product only these are looked for.
        units: stated by the user, see `unit_of`; they hold for what a STAC item does not tell.
        download: whether to get the files of a STAC item that are on a server.

    Raises:
        SceneError: nothing is given, or bands without names.
        DatasetError: files that are missing, damaged or not as stated.
    """
    if not given:
        raise SceneError("no scene; give --scene=FILE.tif, NAME=FILE.tif or a product's folder")
    found: list[Layer] = []
    for one in given:
        match = _NAMED.fullmatch(one)
        place, scene_id = split(one)
        if os.path.isdir(place):
            found += _folder(place, scene_id, wanted)
        elif os.path.isfile(place) and (scene_id or place.lower().endswith(_JSON)):
            found += _described(place, scene_id, wanted, units, download)
        elif match and not os.path.exists(one):
            found.append(Layer(match[2], tuple(match[1].split(","))))
        else:
            found.append(_named(one, bands))
    return found


def _named(path: str, bands: Sequence[str]) -> Layer:
    """A file whose bands are named from outside, or by their descriptions."""
    with raster.open_raster(path) as opened:
        count, described = opened.count, opened.descriptions
    if bands and len(bands) != count:
        raise SceneError(
            f"{path}: {count} bands, expected {len(bands)} as --bands={','.join(bands)} says; "
            "name every band in its order, with nothing between two commas for one to leave out"
        )
    if not bands and not any(described):
        raise SceneError(
            f"{path}: its {count} bands have no names, expected descriptions in the file. Name "
            "them with --bands=B02,B03,... in their order, or with --scene=B02=FILE"
        )
    return Layer(path, tuple(bands) or tuple(name or "" for name in described))


def split(given: str) -> tuple[str, str]:
    """`PATH#ID` as path and id, which is '' where there is none; a path may have a # too."""
    parts = given.split("#")
    for count in range(len(parts), 0, -1):
        path = "#".join(parts[:count])
        if os.path.exists(path):
            return path, "#".join(parts[count:])
    return parts[0], "#".join(parts[1:])


def is_item(given: str) -> bool:
    """Whether a scene is one of STAC."""
    path = split(given)[0]
    return path.lower().endswith(_JSON) and os.path.isfile(path) and not is_list(path)


def _folder(folder: str, scene_id: str, wanted: Sequence[str]) -> list[Layer]:
    """A product, or a scene of a list."""
    folder = os.path.abspath(folder)
    if os.path.isfile(os.path.join(folder, scene_list.FILE)):
        return _listed(os.path.join(folder, scene_list.FILE), scene_id, wanted)
    source, name = files.folder(os.path.dirname(folder)), os.path.basename(folder)
    return _product(source, name, wanted)


def _described(
    path: str, scene_id: str, wanted: Sequence[str], units: Sequence[str], download: bool
) -> list[Layer]:
    """A scene of a list, or a STAC item."""
    if is_list(path):
        return _listed(os.path.abspath(path), scene_id, wanted)
    return [
        Layer(file.path, file.bands, file.unit, date=file.date)
        for file in scene_stac.files(path, scene_id, wanted, units, download)
    ]


def is_list(path: str) -> bool:
    """Whether a JSON file is a list of scenes, as `scenes.json`, and not STAC."""
    try:
        data = json.loads(pathlib.Path(path).read_bytes())
    except (OSError, ValueError):
        return os.path.basename(path) == scene_list.FILE
    return isinstance(data, dict) and "scenes" in data and "type" not in data


def read_list(path: str) -> SceneList:
    """A list of scenes, which for a map needs no labels.

    Raises:
        DatasetError: it is not there, or not as docs/scenes.md says.
    """
    try:
        content = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; correct the path") from None
    return scene_list.read(content, path, labelled=False)


def _product(source: files.Source, name: str, wanted: Sequence[str]) -> list[Layer]:
    mine = [one for one in wanted if one.startswith(f"{products.sensor_of(name)}/")]
    bare = tuple(dict.fromkeys(one.split("/")[1] for one in mine or wanted))
    found = products.find(source, name, bare)
    made = _layers(source.path, found.files, found.sensor, found.unit, products.NODATA)
    return [dataclasses.replace(layer, date=found.date) for layer in made]


def _listed(where: str, scene_id: str, wanted: Sequence[str]) -> list[Layer]:
    given, folder = read_list(where), os.path.dirname(where)
    ids = [scene.id for scene in given.scenes]
    if scene_id not in ids and (scene_id or len(ids) > 1):
        raise SceneError(
            f"{where}: {'no scene ' + repr(scene_id) if scene_id else 'several scenes'}, expected "
            f"one of {', '.join(ids)}; name it as --scene={folder}#{ids[0]}"
        )
    scene = given.scenes[ids.index(scene_id) if scene_id else 0]
    if scene.product:
        found = _of_list(_product(files.folder(folder), scene.product, wanted), given)
    else:
        unit = scene.unit or given.unit
        found = _layers(folder, scene.files, given.sensor, unit, given.nodata)
    return [dataclasses.replace(layer, date=scene.date or layer.date) for layer in found]


def _of_list(found: list[Layer], given: SceneList) -> list[Layer]:
    """A product's files with the nodata value that the list states, if it does."""
    if given.nodata is None:
        return found
    return [dataclasses.replace(layer, nodata=given.nodata) for layer in found]


def _layers(
    root: str, listed: Sequence[BandFile], sensor: str, unit: str, nodata: float | None
) -> list[Layer]:
    found = []
    for file in listed:
        path = raster.locate(root, file.path)
        if file.sha256:
            raster.check_sha256(path, file.sha256)
        names = tuple(f"{sensor}/{band}" if band else "" for band in file.bands)
        found.append(Layer(path, names, unit, nodata))
    return found


def unit_of(layer: Layer, sensor: str, stated: Sequence[str]) -> str:
    """The unit of a file's values.

    Args:
        layer: the file.
        sensor: of the band in question.
        stated: by the user: 'UNIT', or 'SENSOR=UNIT' where there are several sensors.

    Raises:
        SceneError: nobody says it and the sensor has several, or product and user disagree.
        SensorError: a unit that the sensor's data do not come in.
    """
    said = [one.rpartition("=") for one in stated]
    named = {unit for who, _, unit in said if who == sensor}
    named = named or {unit for who, _, unit in said if not who}
    known = sensors.get(sensor).units
    if len(named) > 1 or (layer.unit and named and {layer.unit} != named):
        raise SceneError(
            f"{layer.path}: unit {' and '.join(sorted(named))} stated"
            f"{', but its product says ' + layer.unit if layer.unit else ''}; state one, or none"
        )
    unit = layer.unit or next(iter(named), "") or (known[0] if len(known) == 1 else "")
    if not unit:
        raise SceneError(
            f"{layer.path}: the unit of its values is not known, expected one of "
            f"{', '.join(known)} for {sensor}; state it with --unit={known[0]}"
        )
    sensors.valid_range(sensor, unit)  # refuses a unit that the sensor does not have
    return unit
