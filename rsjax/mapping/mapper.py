"""Whole scenes to maps: rows are read ahead, computed on all devices, and written behind.

Memory is bounded by a few rows of windows, whatever the height of the scene. A model of pixels
gives a map on the scene's grid, from windows whose probabilities are blended; a model of scenes
(one or several classes an image) gives one on a coarser grid, a cell for each window, with its most
probable class.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import datetime
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import rasterio

import rsjax
from rsjax import bundle, sealed
from rsjax.bundle import Model
from rsjax.datasets.scene_area import Area
from rsjax.errors import BundleError
from rsjax.mapping import compute, scene, scene_files, scene_rows, tiling, writer
from rsjax.mapping.compute import Network
from rsjax.mapping.scene import Scene
from rsjax.mapping.scene_rows import Rows
from rsjax.mapping.tiling import Axis

AHEAD = 2  # rows of windows that are read before they are needed
THREADS = 16  # that read, at most


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
        scene.check_values(opened, pool)
        run = _Run(opened, plan, network, pool, waits, len(classes))
        _write_behind(run.cells() if plan.coarse else run.pixels(), out, waits)
        start = time.perf_counter()
        files = out.finish()
        waits["finishing"] += time.perf_counter() - start
    seconds = time.perf_counter() - begun
    pixels = opened.area.height * opened.area.width
    notes = tuple(scene.warnings(opened, model.inputs))
    return Made(tuple(files), pixels, seconds, dict(waits), notes)


def _threads() -> int:
    return min(THREADS, len(os.sched_getaffinity(0)))


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The windows of a scene.

    Attributes:
        rows, columns: where windows lie.
        window: side in pixels of the scene.
        overlap: in pixels of the scene.
        grid: side in pixels of the model.
        coarse: whether the map has a cell a window.
        area: the map's grid.
    """

    rows: Axis
    columns: Axis
    window: int
    overlap: int
    grid: int
    coarse: bool
    area: Area


def _plan(model: Model, opened: Scene, options: Options) -> _Plan:
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
        transform = area.transform * rasterio.Affine.scale(stride)
        area = Area(area.crs, transform, len(rows.starts), len(columns.starts))
    return _Plan(rows, columns, window, overlap, grid, coarse, area)


_Read = tuple[dict[str, jax.Array], Rows]  # on the devices, and as read
Piece = tuple[dict[str, np.ndarray], np.ndarray]  # answers and missing pixels of rows of the map


@dataclasses.dataclass(frozen=True)
class _Run:
    """One map in the making."""

    scene: Scene
    plan: _Plan
    network: Network
    pool: concurrent.futures.Executor
    waits: dict[str, float]
    classes: int

    def pixels(self) -> Iterator[Piece]:
        """Rows of the map, of windows that are blended."""
        plan, size = self.plan, self.scene.area
        left, network = plan.columns.starts[0], self.network
        starts = np.array(plan.columns.starts, np.int32)
        shape = (plan.window, plan.columns.end - left, self.classes)
        total = jax.device_put(np.zeros(shape, np.float32), network.everywhere)
        stops = [*plan.rows.starts[1:], size.height]
        for i, (band, rows) in enumerate(self._ahead()):
            begun = time.perf_counter()
            for at in self._batches(rows):
                weights = np.zeros((network.batch, plan.window), np.float32)
                weights[: len(at)] = plan.columns.weights[at]
                columns = self._padded(starts[at] - left)
                total = network.add(
                    network.variables, network.temperature, total, band, columns,
                    plan.rows.weights[i], weights,
                )  # fmt: skip
            done = stops[i] - plan.rows.starts[i]
            answers, total = network.finish(total, np.int32(done))
            found = self._fetched(answers, plan.rows.starts[i])
            self.waits["computing"] += time.perf_counter() - begun
            yield (
                {name: value[:done, : size.width] for name, value in found.items()},
                rows.missing[:done, : size.width],
            )

    def cells(self) -> Iterator[Piece]:
        """Rows of cells, one for each window."""
        plan, network = self.plan, self.network
        starts = np.array(plan.columns.starts, np.int32)
        for i, (band, rows) in enumerate(self._ahead()):
            begun = time.perf_counter()
            parts: dict[str, list[np.ndarray]] = collections.defaultdict(list)
            every = np.arange(len(starts))
            for first in range(0, len(starts), network.batch):
                at = every[first : first + network.batch]
                columns = self._padded(starts[at] - starts[0])
                answers = network.each(network.variables, network.temperature, band, columns)
                for name, value in self._fetched(answers, plan.rows.starts[i]).items():
                    parts[name].append(value[: len(at)])
            self.waits["computing"] += time.perf_counter() - begun
            answers_of_row = {name: np.concatenate(value)[None] for name, value in parts.items()}
            yield answers_of_row, self._empty(i, rows)[None]

    def _empty(self, i: int, rows: Rows) -> np.ndarray:
        """Cells of which more than half is missing, of what lies within the scene."""
        plan, area = self.plan, self.scene.area
        stride = plan.window - plan.overlap
        first = i * stride - plan.rows.starts[i]
        height = min(stride, area.height - i * stride)
        left = -plan.columns.starts[0]
        gone = rows.missing[first : first + height, left : left + area.width].sum(axis=0)
        edges = np.arange(0, area.width, stride)
        widths = np.minimum(stride, area.width - edges)
        return np.asarray(np.add.reduceat(gone, edges) > 0.5 * height * widths)

    def _batches(self, rows: Rows) -> Iterator[np.ndarray]:
        """Positions of windows that have data, as many at once as the network takes."""
        plan = self.plan
        left = plan.columns.starts[0]
        there = np.concatenate([[0], np.cumsum(~rows.missing.all(axis=0))])
        starts = np.array(plan.columns.starts) - left
        full = np.flatnonzero(there[starts + plan.window] > there[starts])
        for first in range(0, len(full), self.network.batch):
            yield full[first : first + self.network.batch]

    def _padded(self, columns: np.ndarray) -> np.ndarray:
        """As many columns as the network takes; those too many repeat the last."""
        return np.pad(columns, (0, self.network.batch - len(columns)), mode="edge")

    def _fetched(self, answers: compute.Answers, row: int) -> dict[str, np.ndarray]:
        found = {name: np.asarray(value) for name, value in answers.items()}
        if not found.pop("finite"):
            raise BundleError(
                f"{self.scene.files[0]}: the model gives no numbers (NaN) for the rows from "
                f"{max(row, 0)} on, expected probabilities. Its weights, or values far from those "
                "of training, are to blame"
            )
        return found

    def _ahead(self) -> Iterator[_Read]:
        """Rows of windows on the devices, and as they were read; the next are read meanwhile."""

        def next_of(reads: Iterator[_Read]) -> _Read | None:
            return next(reads, None)

        with concurrent.futures.ThreadPoolExecutor(1) as reader:
            reads = self._reads()
            futures = collections.deque(reader.submit(next_of, reads) for _ in range(AHEAD))
            try:
                for _ in self.plan.rows.starts:
                    begun = time.perf_counter()
                    found = futures.popleft().result()
                    self.waits["reading"] += time.perf_counter() - begun
                    futures.append(reader.submit(next_of, reads))
                    assert found is not None  # one for each row of windows
                    yield found
                    del found
            finally:
                reader.shutdown(cancel_futures=True)

    def _reads(self) -> Iterator[_Read]:
        plan = self.plan
        columns = plan.columns.starts[0], plan.columns.end
        before: Rows | None = None
        for i, start in enumerate(plan.rows.starts):
            keep = max(0, plan.rows.starts[i - 1] + plan.window - start) if i else 0
            rows = self.scene.read((start + keep, start + plan.window), columns, self.pool)
            if keep and before is not None:
                rows = scene_rows.joined(before, rows, self.scene.entries, keep)
            before = rows
            yield jax.device_put(rows.entries, self.network.everywhere), rows


def _write_behind(pieces: Iterator[Piece], out: writer.MapWriter, waits: dict[str, float]) -> None:
    """Writes rows in a thread, one piece behind the computation."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        pending: concurrent.futures.Future[None] | None = None
        for answers, missing in pieces:
            begun = time.perf_counter()
            if pending is not None:
                pending.result()
            waits["writing"] += time.perf_counter() - begun
            pending = thread.submit(out.write, answers, missing)
        if pending is not None:
            pending.result()


def _provenance(
    checkpoint: str | os.PathLike[str], model: Model, opened: Scene, plan: _Plan, options: Options
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
