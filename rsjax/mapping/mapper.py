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
import datetime
import logging
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import rasterio

import rsjax
from rsjax import bundle, sealed
from rsjax.bundle import Model
from rsjax.datasets.scene_area import Area
from rsjax.mapping import compute, scene, scene_check, scene_files, tiling, writer
from rsjax.mapping.pieces import Piece, Plan, Run
from rsjax.mapping.scene import Scene

THREADS = 16  # that read, at most
TELL_S = 10.0  # seconds between two words on how far it is

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """How a map is made.

    Attributes:
        window: side of a window in pixels of the scene; 0: the patches of training.
        overlap: pixels that neighbours share; -1: a quarter of the window, none of a model of
            scenes.
        tta: 'none', or 'd4': the mean over the symmetries of the square.
        confidence: what `map_confidence.tif` has, see `compute.CONFIDENCES`; 'none': no such file.
        probabilities: whether those of all classes are written.
        batch: windows computed at once; 0: by the device.
    """

    window: int = 0
    overlap: int = -1
    tta: str = "none"
    confidence: str = "probability"
    probabilities: bool = False
    batch: int = 0


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


def write_map(
    checkpoint: str | os.PathLike[str],
    given: Sequence[str],
    output: str | os.PathLike[str],
    bands: Sequence[str] = (),
    units: Sequence[str] = (),
    options: Options = Options(),
) -> Made:
    """Maps a scene with a trained model.

    Args:
        checkpoint: a bundle, or a workdir that has one.
        given: the scene, see `scene_files`.
        output: the map, e.g. `map.tif`; replaced as a whole where it is.
        bands: names of the bands of files that are given without names.
        units: of the scene's values, see `scene_files.unit_of`.
        options: see there.

    Raises:
        RsjaxError: of many kinds: a model, scene or option that cannot work; nothing is written.
    """
    begun = time.perf_counter()
    model = bundle.load(checkpoint)
    classes = model.classes()
    opened = scene.open_scene(
        scene_files.layers(given, bands, model.inputs.bands), model.inputs, units
    )
    path = writer.check_output(output, opened.files)
    plan = _plan(model, opened, options)
    network = compute.compile_for(
        model,
        opened.inputs(model.inputs, plan.window, plan.grid),
        {name: entry.factor for name, entry in opened.entries.items()},
        plan.window,
        tta=options.tta,
        confidence=options.confidence,
        probabilities=options.probabilities,
        batch=options.batch,
    )
    provenance = _provenance(checkpoint, model, opened, plan, options)
    waits: dict[str, float] = collections.defaultdict(float)
    with (
        concurrent.futures.ThreadPoolExecutor(_threads()) as pool,
        writer.open_writer(
            path, plan.area, classes, provenance, options.confidence, options.probabilities
        ) as out,
    ):
        scene_check.check_values(opened, pool)
        run = Run(opened, plan, network, pool, waits, len(classes))
        # Closed at once where something fails: its threads would go on reading.
        with contextlib.closing(run.cells() if plan.coarse else run.pixels()) as pieces:
            _write_behind(pieces, out, plan.area.height, waits)
        start = time.perf_counter()
        files = out.finish()
        waits["finishing"] += time.perf_counter() - start
    seconds = time.perf_counter() - begun
    pixels = opened.area.height * opened.area.width
    known = tuple(scene_check.notes(opened, model.inputs))
    return Made(tuple(files), pixels, seconds, dict(waits), known)


def _threads() -> int:
    return min(THREADS, len(os.sched_getaffinity(0)))


def _plan(model: Model, opened: Scene, options: Options) -> Plan:
    finest = min(model.inputs.images.values(), key=lambda spec: spec.gsd_m)
    trained = finest.height or model.inputs.grid[0]
    coarse = model.about["task"]["name"] != "segmentation"
    step, area = opened.step, opened.area
    window = options.window or step * max(1, round(trained / step))
    overlap = options.overlap
    if overlap == -1:
        overlap = 0 if coarse else window // 4 // step * step
    make = tiling.cells if coarse else tiling.blended
    rows, columns = (make(size, window, overlap, step) for size in (area.height, area.width))
    grid = max(1, round(window * model.inputs.grid[0] / trained))
    if coarse:
        stride = window - overlap
        a, b, c, d, e, f = tuple(area.transform)[:6]
        transform = rasterio.Affine(a * stride, b * stride, c, d * stride, e * stride, f)
        area = Area(area.crs, transform, len(rows.starts), len(columns.starts))
    return Plan(rows, columns, window, overlap, grid, coarse, area)


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


def _provenance(
    checkpoint: str | os.PathLike[str], model: Model, opened: Scene, plan: Plan, options: Options
) -> dict[str, Any]:
    """What the map was made of and how, for its tags."""
    folder = pathlib.Path(os.path.abspath(checkpoint))
    folder = folder / "bundle" if (folder / "bundle" / bundle.ABOUT).is_file() else folder
    now = datetime.datetime.now(datetime.UTC)
    return {
        "model": model.about["model"]["name"],
        "task": model.about["task"]["name"],
        "bundle": str(folder),
        "weights_sha256": sealed.read(folder / bundle.ABOUT)["weights_sha256"],
        "scene": [os.path.abspath(path) for path in opened.files],
        "bands": list(model.inputs.bands),
        "options": {
            **dataclasses.asdict(options), "window": plan.window, "overlap": plan.overlap
        },
        "temperature": model.temperature,
        "rsjax": rsjax.__version__,
        "date": now.isoformat(timespec="seconds"),
    }  # fmt: skip
