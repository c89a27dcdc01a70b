"""The order of the samples, and batches of them on the mesh.

Training is one endless stream of samples: position p is sample `shuffle(p mod N)` of epoch
`p // N`, a seeded permutation (grain's index shuffle) that costs nothing to enter anywhere. Batch
t takes positions [t·B, (t+1)·B), each process its slice of them. So every sample is seen exactly
once an epoch, nothing is dropped or padded (a batch may straddle two epochs), and the whole state
is the position: any number of hosts can go on from it. With weights an epoch is N draws in which
samples come more or less often (`sampling`), and all else is as said. Evaluation reads in order
and pads the last batch, marked in `valid`, alike on every host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from rsjax.input.readahead import read_ahead
from rsjax.input.sampling import cumulate, order, weighted_order
from rsjax.input.source import ShardSource

Batch = dict[str, Any]
STALL_S = 600.0


def _batches(
    source: ShardSource,
    indices: Callable[[int], tuple[np.ndarray, np.ndarray]],
    count: int,
    threads: int,
    buffer: int,
    stall_s: float,
) -> Iterator[Batch]:
    def read(step: int) -> Batch:
        index, valid = indices(step)
        return {**source.read(index), "index": index.astype(np.int32), "valid": valid}

    return read_ahead(read, count, threads, buffer, stall_s, source.being_read)


def _local(batch_size: int, process_index: int, process_count: int) -> tuple[int, int]:
    if batch_size % process_count:
        raise ValueError(f"batch_size={batch_size} is no multiple of {process_count} processes")
    size = batch_size // process_count
    return process_index * size, size


def train_batches(
    source: ShardSource,
    batch_size: int,
    seed: int,
    position: int,
    steps: int,
    threads: int = 2,
    buffer: int = 4,
    process_index: int = 0,
    process_count: int = 1,
    stall_s: float = STALL_S,
    weights: np.ndarray | None = None,
) -> Iterator[Batch]:
    """The batches of this process from `position` on, shuffled, `steps` of them.

    Args:
        source: the records.
        batch_size: samples of a batch over all processes.
        seed: seed of the order.
        position: samples consumed so far, over all processes.
        steps: number of batches.
        threads: reading threads; 0 reads in the caller's.
        buffer: batches read ahead.
        process_index: this process.
        process_count: number of processes.
        stall_s: how long to wait for a batch before giving up, in seconds.
        weights: (N,) with mean 1, how often each record is drawn an epoch, on average; None draws
            each once.

    Yields:
        the source's entries (b, ...), `index` (b,) int32 and `valid` (b,) all true.

    Raises:
        ValueError: the processes cannot share a batch, or these are no weights of the records.
    """
    offset, size = _local(batch_size, process_index, process_count)
    if weights is not None and len(weights) != len(source):
        raise ValueError(f"{len(weights)} weights of {len(source)} records")
    ends = None if weights is None else cumulate(weights)

    def indices(step: int) -> tuple[np.ndarray, np.ndarray]:
        start = position + step * batch_size + offset
        positions = np.arange(start, start + size)
        if ends is None:
            return order(positions, len(source), seed), np.ones(size, bool)
        return weighted_order(positions, ends, seed), np.ones(size, bool)

    return _batches(source, indices, steps, threads, buffer, stall_s)


def eval_batches(
    source: ShardSource,
    batch_size: int,
    threads: int = 2,
    buffer: int = 4,
    process_index: int = 0,
    process_count: int = 1,
    stall_s: float = STALL_S,
    records: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Every record once, in order; the last batch is padded where `valid` is false.

    The same number of batches on every process, so that collectives match. `records` reads those
    alone, in their order.
    """
    offset, size = _local(batch_size, process_index, process_count)
    count = len(source) if records is None else len(records)

    def indices(step: int) -> tuple[np.ndarray, np.ndarray]:
        index = np.arange(step * batch_size + offset, step * batch_size + offset + size)
        valid = index < count
        index = np.where(valid, index, 0)
        return index if records is None else records[index], valid

    return _batches(source, indices, -(-count // batch_size), threads, buffer, stall_s)


class OnMesh:
    """Places batches on the mesh one ahead of the step, and counts the time spent waiting."""

    def __init__(self, batches: Iterator[Batch], sharding: jax.sharding.Sharding):
        self.batches, self.sharding = batches, sharding
        self.wait_s = 0.0
        self._next = self._fetch()

    def _fetch(self) -> Batch | None:
        start = time.perf_counter()
        batch = next(self.batches, None)
        self.wait_s += time.perf_counter() - start
        if batch is None:
            return None
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(self.sharding, x), batch
        )

    def __iter__(self) -> Iterator[Batch]:
        while self._next is not None:
            batch = self._next
            yield batch
            # Fetched after the caller has dispatched its step: the copy overlaps with it.
            self._next = self._fetch()
