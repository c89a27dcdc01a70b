"""Whole scenes to maps: rows are read ahead, computed on all devices, and written behind.

Memory is bounded by a few rows of windows, whatever the height of the scene. A model of pixels
gives a map on the scene's grid, from windows whose probabilities are blended; a model of scenes
(one or several classes an image) gives one on a coarser grid, a cell for each window, with its most
probable class.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import rasterio

from rsjax.datasets.scene_area import Area
from rsjax.errors import ConfigError
from rsjax.mapping import (
    compute,
    ensemble,
    provenance,
    scene,
    scene_check,
    scene_files,
    tiling,
    writer,
)
from rsjax.mapping.compute import Network
from rsjax.mapping.ensemble import Members
from rsjax.mapping.pieces import Piece, Plan, Run
from rsjax.mapping.scene import Scene

THREADS = 16  # that read, at most
KEPT = 3  # networks that were compiled for scenes of other kinds; each holds the weights
TELL_S = 10.0  # seconds between two words on how far it is

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """How a map is made.

    Attributes:
        window: side of a window in pixels of the scene; 0: the patches of training, of the first
            model where there are several.
        overlap: pixels that neighbours share; -1: a quarter of the window, none of a model of
            scenes.
        tta: 'none', or 'd4': the mean over the symmetries of the square.
        confidence: what `map_confidence.tif` has, see `compute.CONFIDENCES`; 'none': no such file.
        probabilities: whether those of all classes are written.
        batch: windows computed at once; 0: by the device.

    Raises:
        ConfigError: a negative number that means nothing.
    """

    window: int = 0
    overlap: int = -1
    tta: str = "none"
    confidence: str = "probability"
    probabilities: bool = False
    batch: int = 0

    def __post_init__(self) -> None:
        for name, least, of_least in (
            ("window", 0, "that of training"),
            ("overlap", -1, "a quarter of the window"),
            ("batch", 0, "by the device"),
        ):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(
                    f"--{name}={value}: expected {least} ({of_least}) or a number above it"
                )


@dataclasses.dataclass(frozen=True)
class Made:
    """What came of it.

    Attributes:
        files: the map first.
        pixels: of the scene.
        seconds: in all.
        shares: seconds spent waiting for the reader, computing, waiting for the writer, and
            turning what is written into COGs.
        warnings: what the user should know.
    """

    files: tuple[pathlib.Path, ...]
    pixels: int
    seconds: float
    shares: dict[str, float]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.shares.items())
        rate = self.pixels / 1e6 / self.seconds
        return (
            f"{self.pixels / 1e6:.3g} Mpixel in {self.seconds:.1f} s, {rate:.3g} Mpixel/s ({parts})"
        )


@dataclasses.dataclass(frozen=True)
class Planned:
    """A map before its making: scene opened, everything checked, nothing written.

    Attributes:
        members: the models.
        opened: the scene.
        path: of the map.
        plan: its windows.
        options: as given.
        provenance: of the map to be.
    """

    members: Members
    opened: Scene
    path: pathlib.Path
    plan: Plan
    options: Options
    provenance: dict[str, Any]


def write_map(
    checkpoint: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    given: Sequence[str],
    output: str | os.PathLike[str],
    bands: Sequence[str] = (),
    units: Sequence[str] = (),
    options: Options = Options(),
    download: bool = False,
) -> Made:
    """Maps a scene with a trained model, or with the mean probabilities of several.

    Args:
        checkpoint: a bundle, or a workdir that has one; several are an ensemble.
        given: the scene, see `scene_files`.
        output: the map, e.g. `map.tif`; replaced as a whole where it is.
        bands: names of the bands of files that are given without names.
        units: of the scene's values, see `scene_files.unit_of`.
        options: see there.
        download: whether to get the files of a STAC item that are on a server.

    Raises:
        RsjaxError: of many kinds: a model, scene or option that cannot work; nothing is written.
    """
    begun = time.perf_counter()
    members = ensemble.load(checkpoint)
    made = make(plan_map(members, given, output, bands, units, options, download))
    return dataclasses.replace(made, seconds=time.perf_counter() - begun)


def plan_map(
    members: Members,
    given: Sequence[str],
    output: str | os.PathLike[str],
    bands: Sequence[str] = (),
    units: Sequence[str] = (),
    options: Options = Options(),
    download: bool = False,
) -> Planned:
    """Opens a scene and plans its map, as `write_map`; reads no pixels.

    Raises:
        RsjaxError: as `write_map`.
    """
    compute.check(options.tta, options.confidence, members.models[0].task.kind)
    layers = scene_files.layers(given, bands, members.inputs.bands, units, download)
    opened = scene.open_scene(layers, members.inputs, units)
    path = writer.check_output(output, opened.files)
    plan = _plan(members, opened, options)
    about = provenance.of_map(members, opened, options, plan.window, plan.overlap)
    return Planned(members, opened, path, plan, options, about)


def make(planned: Planned) -> Made:
    """Makes a planned map.

    Raises:
        RsjaxError: as `write_map`.
    """
    begun = time.perf_counter()
    members, opened, plan, options = (
        planned.members, planned.opened, planned.plan, planned.options
    )  # fmt: skip
    network = _network(members, opened, plan, options)
    waits: dict[str, float] = collections.defaultdict(float)
    with (
        concurrent.futures.ThreadPoolExecutor(_threads()) as pool,
        writer.open_writer(
            planned.path, plan.area, members.classes, planned.provenance, options.confidence,
            options.probabilities,
        ) as out,
    ):  # fmt: skip
        scene_check.check_values(opened, pool)
        run = Run(opened, plan, network, pool, waits, len(members.classes))
        # Closed at once where something fails: its threads would go on reading.
        with contextlib.closing(run.cells() if plan.coarse else run.pixels()) as pieces:
            _write_behind(pieces, out, plan.area.height, waits)
        start = time.perf_counter()
        files = out.finish()
        waits["finishing"] += time.perf_counter() - start
    seconds = time.perf_counter() - begun
    pixels = opened.area.height * opened.area.width
    known = [
        text
        for one, factor in zip(members.models, members.factors(opened), strict=True)
        for text in scene_check.notes(opened.gsd_m * factor, one.inputs)
    ]
    return Made(tuple(files), pixels, seconds, dict(waits), tuple(dict.fromkeys(known)))


def _network(members: Members, opened: Scene, plan: Plan, options: Options) -> Network:
    """Compiled once for all scenes that are alike."""
    each = members.members(opened, plan.window)
    factors = {name: entry.factor for name, entry in opened.entries.items()}
    inputs = [one.to_json() for _, one in each]
    key = json.dumps([inputs, factors, plan.window, dataclasses.asdict(options)])
    network = members.networks.pop(key, None) or compute.compile_for(
        each, factors, plan.window, tta=options.tta, confidence=options.confidence,
        probabilities=options.probabilities, batch=options.batch,
    )  # fmt: skip
    members.networks[key] = network  # the last that was used is the last of them
    for old in list(members.networks)[:-KEPT]:
        del members.networks[old]
    return network


def _threads() -> int:
    return min(THREADS, len(os.sched_getaffinity(0)))


def _plan(members: Members, opened: Scene, options: Options) -> Plan:
    coarse = members.models[0].about["task"]["name"] != "segmentation"
    step, area = opened.step, opened.area
    window = options.window or step * max(1, round(members.patch(opened) / step))
    overlap = options.overlap
    if overlap == -1:
        overlap = 0 if coarse else window // 4 // step * step
    make = tiling.cells if coarse else tiling.blended
    rows, columns = (make(size, window, overlap, step) for size in (area.height, area.width))
    if coarse:
        stride = window - overlap
        a, b, c, d, e, f = tuple(area.transform)[:6]
        transform = rasterio.Affine(a * stride, b * stride, c, d * stride, e * stride, f)
        area = Area(area.crs, transform, len(rows.starts), len(columns.starts))
    return Plan(rows, columns, window, overlap, coarse, area)


def _write_behind(
    pieces: Iterator[Piece], out: writer.MapWriter, height: int, waits: dict[str, float]
) -> None:
    """Writes rows in a thread, one piece behind the computation."""
    done, start = 0, time.perf_counter()
    told = start
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        pending: concurrent.futures.Future[None] | None = None
        for answers, missing in pieces:
            begun = time.perf_counter()
            if pending is not None:
                pending.result()
            waits["writing"] += time.perf_counter() - begun
            pending = thread.submit(out.write, answers, missing)
            done += len(missing)
            if begun - told > TELL_S:
                told = begun
                left = (begun - start) * (height - done) / done
                logger.info("%d of %d rows are done, about %.0f s left", done, height, left)
        if pending is not None:
            pending.result()
