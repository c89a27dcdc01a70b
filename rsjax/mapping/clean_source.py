"""A map's probabilities and its scene's bands on one grid, for the conditional random field.

Bands are standardised by their mean and deviation over the pixels that count: those with a class, a
probability and a value in every band.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rsjax.datasets import raster
from rsjax.datasets.info import ImageSpec
from rsjax.errors import SceneError
from rsjax.input.preprocess import Inputs
from rsjax.landcover.nomenclature import IGNORE
from rsjax.mapping import landmap, scene, scene_check, scene_files
from rsjax.mapping.landmap import LandMap
from rsjax.mapping.scene import Scene
from rsjax.mapping.writer import ABSENT, PROVENANCE_TAG, beside

BLOCK = 512  # pixels of a side that are read at once for the statistics


@dataclasses.dataclass(frozen=True)
class Source:
    """A map's probabilities and the scene that it was made of, on one grid.

    Attributes:
        land_map: the map.
        probabilities: `map_probabilities.tif`.
        scene: the bands.
        pool: whose thread reads.
        mean: of each band over the pixels that count, (B,), in the order of `scene`'s entries.
        std: likewise.
    """

    land_map: LandMap
    probabilities: DatasetReader
    scene: Scene
    pool: concurrent.futures.Executor
    mean: np.ndarray
    std: np.ndarray


@contextlib.contextmanager
def open_probabilities(land_map: LandMap) -> Iterator[tuple[DatasetReader | None, str]]:
    """The probabilities beside a map, if they are there and its own.

    Yields:
        The open file, or None and why not.
    """
    path = beside(pathlib.Path(land_map.path), "probabilities")
    if not path.is_file():
        yield None, f"{path}: no such file"
        return
    with landmap.open_raster(land_map.path) as opened:
        ours = opened.tags().get(PROVENANCE_TAG)
    with landmap.open_raster(path) as found:
        if not ours or found.tags().get(PROVENANCE_TAG) != ours:
            yield None, f"{path}: its {PROVENANCE_TAG} is not that of {land_map.path}"
        elif found.shape != land_map.shape or found.count != len(land_map.nomenclature):
            yield (
                None,
                f"{path}: {found.count} bands of {found.shape} pixels, expected "
                f"{len(land_map.nomenclature)} of {land_map.shape}",
            )
        else:
            yield found, ""


@contextlib.contextmanager
def open_source(
    land_map: LandMap,
    probabilities: DatasetReader,
    given: Sequence[str],
    bands: Sequence[str],
    units: Sequence[str],
    classes: np.ndarray,
) -> Iterator[Source]:
    """Opens the scene that a map was made of, checks that it belongs to it, reads statistics.

    Args:
        land_map: made by `rsjax.predict --probabilities`.
        probabilities: of the map.
        given: its scene, see `scene_files`.
        bands: names of the bands of files that are given without names.
        units: of the scene's values.
        classes: of the map, uint8 (rows, columns), 255 where there is none.

    Raises:
        SceneError: a map that does not say which bands it was made of, or was cleaned before, or a
            scene on another grid.
        SensorError: a band that is missing.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        opened = _open_scene(land_map, given, bands, units)
        scene_check.check_values(opened, pool)
        raw = Source(land_map, probabilities, opened, pool, np.zeros(0), np.ones(0))
        mean, std = _statistics(raw, classes)
        yield dataclasses.replace(raw, mean=mean, std=std)


def provenance(land_map: LandMap) -> dict[str, Any]:
    """What a map says of itself; empty where it says nothing.

    Raises:
        SceneError: it is damaged: no JSON, or `bands` or `clean` are no lists of what they hold.
    """
    with landmap.open_raster(land_map.path) as opened:
        text = opened.tags().get(PROVENANCE_TAG, "")
    try:
        about = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        about = None
    if (
        not isinstance(about, dict)
        or not isinstance(about.get("clean", []), list)
        or not isinstance(names := about.get("bands", []), list)
        or not all(isinstance(name, str) and name.count("/") == 1 for name in names)
    ):
        raise SceneError(f"{land_map.path}: its {PROVENANCE_TAG} is damaged; make the map anew")
    return about


def _open_scene(
    land_map: LandMap, given: Sequence[str], bands: Sequence[str], units: Sequence[str]
) -> Scene:
    about = provenance(land_map)
    if "clean" in about:
        raise SceneError(
            f"{land_map.path}: was cleaned before, which --crf would undo as it starts from the "
            "model's probabilities; give all steps at once, with the map of rsjax.predict"
        )
    names = about.get("bands", [])
    if not names:
        raise SceneError(
            f"{land_map.path}: its {PROVENANCE_TAG} does not say which bands it was made of, so "
            "--crf does not know which to take; make it with python -m rsjax.predict"
        )
    layers = scene_files.layers(given, bands, names)
    images = {}
    for sensor in dict.fromkeys(name.split("/")[0] for name in names):
        own = tuple(name.split("/")[1] for name in names if name.startswith(f"{sensor}/"))
        known = {*own, *(f"{sensor}/{band}" for band in own)}
        units_here = [
            scene_files.unit_of(layer, sensor, units) for layer in layers if known & {*layer.names}
        ]
        # Whatever the unit, bands are standardised; where files differ they are converted.
        unit = units_here[0] if units_here else ""
        images[sensor] = ImageSpec(sensor, own, 0, 0, "float32", unit, 1.0)
    count = len(names)
    inputs = Inputs(images, tuple(names), (0.0,) * count, (1.0,) * count, (1, 1))
    opened_scene = scene.open_scene(layers, inputs, units)
    area = opened_scene.area
    corners = np.array([[0, 0, 1], [*land_map.shape[::-1], 1]]).T
    ours, theirs = (np.array(one).reshape(3, 3) for one in (land_map.transform, area.transform))
    # About the map's corner: sums of large numbers would round.
    moved = np.array([[0, 0, ours[0, 2]], [0, 0, ours[1, 2]], [0, 0, 0]])
    apart = np.linalg.solve(theirs - moved, (ours - moved) @ corners) - corners
    if (
        (area.height, area.width) != land_map.shape
        or np.abs(apart).max() > raster.SAME
        or not raster.same_crs(area.crs, land_map.crs)
    ):
        raise SceneError(
            f"{opened_scene.files[0]}: {area.height} x {area.width} pixels in "
            f"{raster.crs_name(area.crs)}, transform {tuple(area.transform)[:6]}, but the map has "
            f"{land_map.shape[0]} x {land_map.shape[1]} in {raster.crs_name(land_map.crs)}, "
            f"{tuple(land_map.transform)[:6]}; expected the scene that the map was made of, with "
            "all its bands (a map of a model of scenes has cells, and no field)"
        )
    return opened_scene


def read(
    source: Source, classes: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels rows[0] .. rows[1] - 1 and columns[0] .. columns[1] - 1; beyond the map none counts.

    Args:
        source: of the pixels.
        classes: of the map, uint8 (rows, columns), 255 where there is none.
        rows: multiples of the scene's step.
        columns: likewise.

    Returns:
        Probabilities as bytes (K, r, c), standardised bands float32 (B, r, c), 0 where a pixel does
        not count, and which count, bool (r, c).
    """
    shares, bands, valid = _pixels(source, classes, rows, columns)
    bands = (bands - source.mean[:, None, None]) / source.std[:, None, None]
    return shares, np.where(valid[None], bands, 0).astype(np.float32), valid


def _pixels(
    source: Source, classes: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = rows[1] - rows[0], columns[1] - columns[0]
    top, left = (max(0, span[0]) for span in (rows, columns))
    stop, right = (min(span[1], n) for span, n in zip((rows, columns), classes.shape, strict=True))
    inside = slice(top - rows[0], stop - rows[0]), slice(left - columns[0], right - columns[0])
    shares = np.full((source.probabilities.count, *shape), ABSENT, np.uint8)
    window = Window(left, top, right - left, stop - top)
    shares[:, *inside] = read_bytes(source.probabilities, window)
    found = source.scene.read(rows, columns, source.pool)
    planes = []
    for name, entry in source.scene.entries.items():
        block = found.entries[name].astype(np.float64)
        planes.append(block.repeat(entry.factor, axis=1).repeat(entry.factor, axis=2))
    bands = np.concatenate(planes)
    valid = np.zeros(shape, bool)
    valid[inside] = np.asarray(classes[top:stop, left:right]) != IGNORE
    valid &= ~found.missing & np.isfinite(bands).all(axis=0) & (shares != ABSENT).all(axis=0)
    return shares, bands, valid


def read_bytes(probabilities: DatasetReader, window: Window) -> np.ndarray:
    """A window of probabilities as they are stored, uint8 (K, rows, columns).

    Raises:
        SceneError: they cannot be read.
    """
    try:
        return np.asarray(probabilities.read(window=window))
    except RasterioError as error:
        raise SceneError(
            f"{probabilities.name}: rows {window.row_off} to {window.row_off + window.height - 1} "
            f"cannot be read ({error}); the file is damaged or was not written to its end"
        ) from error


def _statistics(source: Source, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each band over the pixels that count.

    Blocks are joined as by Chan, Golub & LeVeque 1983.
    """
    (height, width), step = source.land_map.shape, source.scene.step
    side = BLOCK // step * step
    count, mean, squares = 0, 0.0, 0.0
    for top in range(0, height, side):
        for left in range(0, width, side):
            spans = [
                (at, at + -(-min(side, size - at) // step) * step)
                for at, size in ((top, height), (left, width))
            ]
            _, bands, valid = _pixels(source, classes, *spans)
            values = bands[:, valid]
            more = values.shape[1]
            if not more:
                continue
            middle = values.mean(axis=1)
            apart = middle - mean
            squares = squares + np.square(values - middle[:, None]).sum(axis=1)
            squares = squares + apart**2 * (count * more / (count + more))
            mean = mean + apart * (more / (count + more))
            count += more
    if not count:
        raise SceneError(
            f"{source.land_map.path}: no pixel has a class, a probability and a value in "
            "every band of the scene; expected the scene that the map was made of"
        )
    std = np.sqrt(squares / count)
    return np.asarray(mean), np.where(std > 0, std, 1.0)  # a constant band says nothing
