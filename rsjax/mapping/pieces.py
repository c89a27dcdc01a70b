"""The answers of a model for a scene, piece by piece from top to bottom.

One thread reads the rows of windows that come next (with the threads of a pool) and brings them to
the devices, while the windows of the present rows are computed.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import time
from collections.abc import Generator, Iterator

import jax
import numpy as np

from rsjax.datasets.scene_area import Area
from rsjax.errors import BundleError
from rsjax.mapping import compute, scene_rows, tiling
from rsjax.mapping.compute import Network
from rsjax.mapping.scene import Scene
from rsjax.mapping.scene_rows import Rows
from rsjax.mapping.tiling import Axis

AHEAD = 2  # rows of windows that are read before they are needed


@dataclasses.dataclass(frozen=True)
class Plan:
    """The windows of a scene.

    Attributes:
        rows, columns: where windows lie.
        window: side in pixels of the scene.
        overlap: in pixels of the scene.
        coarse: whether the map has a cell a window.
        area: the map's grid.
    """

    rows: Axis
    columns: Axis
    window: int
    overlap: int
    coarse: bool
    area: Area


_Read = tuple[dict[str, jax.Array], Rows]  # on the devices, and as read
Piece = tuple[dict[str, np.ndarray], np.ndarray]  # answers and missing pixels of rows of the map


@dataclasses.dataclass(frozen=True)
class Run:
    """One map in the making."""

    scene: Scene
    plan: Plan
    network: Network
    pool: concurrent.futures.Executor
    waits: dict[str, float]
    classes: int

    @property
    def width(self) -> int:
        """Columns of arrays on the devices: rounded up, as each new width is compiled anew."""
        return tiling.rounded(self.plan.columns.end - self.plan.columns.starts[0], self.scene.step)

    def pixels(self) -> Generator[Piece, None, None]:
        """Rows of the map, of windows that are blended."""
        plan, size = self.plan, self.scene.area
        left, network = plan.columns.starts[0], self.network
        starts = np.array(plan.columns.starts, np.int32)
        shape = (plan.window, self.width, self.classes)
        total = jax.device_put(np.zeros(shape, np.float32), network.everywhere)
        stops = [*plan.rows.starts[1:], size.height]
        for i, (band, rows) in enumerate(self._ahead()):
            begun = time.perf_counter()
            for at in self._batches(rows):
                weights = np.zeros((network.batch, plan.window), np.float32)
                weights[: len(at)] = plan.columns.weights[at]
                columns = self._padded(starts[at] - left)
                total = network.add(
                    network.variables, network.temperatures, total, band, columns,
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

    def cells(self) -> Generator[Piece, None, None]:
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
                answers = network.each(network.variables, network.temperatures, band, columns)
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
        """Rows of windows; each pixel is read once, and files in whole rows of their blocks."""
        plan, at_once = self.plan, self.scene.rows_at_once
        columns = plan.columns.starts[0], plan.columns.end
        low = high = plan.rows.starts[0]
        held: Rows | None = None
        for start in plan.rows.starts:
            if start + plan.window > high:
                until = min(-(-(start + plan.window) // at_once) * at_once, plan.rows.end)
                more = self.scene.read((high, until), columns, self.pool)
                if held is not None:
                    more = scene_rows.joined(held, more, self.scene.entries, high - start)
                held, low, high = more, start, until
            assert held is not None  # since the first window reaches beyond the first row
            rows = scene_rows.part(held, self.scene.entries, start - low, plan.window)
            wide = {
                name: _widened(value, self.width // self.scene.entries[name].factor)
                for name, value in rows.entries.items()
            }
            yield jax.device_put(wide, self.network.everywhere), rows


def _widened(values: np.ndarray, width: int) -> np.ndarray:
    """(bands, rows, columns) with columns of zeros, which no window reaches, up to a width."""
    return np.pad(values, ((0, 0), (0, 0), (0, width - values.shape[2])))
