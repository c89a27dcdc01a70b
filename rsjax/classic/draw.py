"""Pixels (or images) of the train split as rows of features: so many of each class, at random.

Which ones follows from the counts of each record that the shards keep, so that only records with a
drawn pixel are read, and the same seed draws the same. Pixels without a class never come.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rsjax.errors import RsjaxError
from rsjax.input import manifest as manifests
from rsjax.input.preprocess import Inputs, preprocess
from rsjax.landcover import IGNORE
from rsjax.models.pixel_features import Features
from rsjax.training import data

log = logging.getLogger("rsjax")
AT_ONCE = 2**18  # pixels whose features are computed together


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What is fitted to.

    Attributes:
        features: (N, F) float32.
        labels: (N,) class indices of the task.
        available: (K,) pixels of each class in the split.
    """

    features: np.ndarray
    labels: np.ndarray
    available: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Rows of each class, (K,)."""
        return np.bincount(self.labels, minlength=len(self.available))


def choose(counts: np.ndarray, per_class: int, seed: int) -> list[dict[int, np.ndarray]]:
    """Which pixels of which class are taken from each record, without replacement.

    Args:
        counts: (N, K), pixels of each class in each record.
        per_class: how many of each class; all where there are not more, or where it is 0.
        seed: of the draw.

    Returns:
        for each record {class: sorted numbers among the record's pixels of this class}.
    """
    rng = np.random.default_rng(seed)
    chosen: list[dict[int, np.ndarray]] = [{} for _ in counts]
    for k in range(counts.shape[1]):
        ends = np.cumsum(counts[:, k], dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        if per_class and total > per_class:
            ranks = np.sort(rng.choice(total, per_class, replace=False, shuffle=False))
        else:
            ranks = np.arange(total)
        records = np.searchsorted(ends, ranks, side="right")
        for record in np.unique(records):
            before = ends[record] - counts[record, k]
            chosen[record][k] = ranks[records == record] - int(before)
    return chosen


def draw(
    config: ConfigDict,
    made: manifests.Manifest,
    inputs: Inputs,
    classes: data.Classes,
    features: Features,
    split: str,
) -> Drawn:
    """Reads the rows that a model is fitted to, or chosen by.

    Args:
        config: its `fit.per_class` and seed.
        made: the shards.
        inputs: the model's input.
        classes: of the task, with the table from the shards' classes.
        features: of a pixel or an image.
        split: the split, or several joined by '+'.

    Raises:
        RsjaxError: no pixel of the split has a class.
        ShardError: the shards have no counts of each record, or cannot be read.
    """
    names = classes.nomenclature.names
    merge = classes.options.get("merge")
    if config.task.name == "segmentation":
        counts = _merged(manifests.histograms(made, split, "mask")[:, :-1], merge, len(names))
    else:
        counts = manifests.histograms(made, split, "label").astype(np.int64)
    chosen = choose(counts, config.fit.per_class, config.seed)
    wanted = np.array([i for i, one in enumerate(chosen) if one], np.int64)
    if not len(wanted):
        raise RsjaxError(
            f"{made.root}: no pixel of the split '{split}' has a class; nothing can be fitted"
        )
    source = data.open_split(config, made.root, split, [inputs], config.task.name)
    image = preprocess(inputs)
    compute = jax.jit(lambda batch: features(image(batch)))
    size = max(1, AT_ONCE // (inputs.grid[0] * inputs.grid[1]))
    rows, labels = [], []
    for start in range(0, len(wanted), size):
        index = wanted[start : start + size]
        padded = np.concatenate([index, np.repeat(index[-1:], min(size, len(wanted)) - len(index))])
        batch = source.read(padded)  # one shape, one compilation
        target = batch.pop("mask" if "mask" in batch else "label")
        target = target if merge is None else merge[target]
        found = np.asarray(compute(batch))
        for i, record in enumerate(index.tolist()):
            own, seen = target[i].reshape(-1), found[i].reshape(-1, found.shape[-1])
            for k, ranks in chosen[record].items():
                at = np.flatnonzero(own == k)
                if len(at) != counts[record, k]:
                    raise RsjaxError(
                        f"{made.root}: record {record} of '{split}' has {len(at)} pixels of class "
                        f"{names[k]}, its counts say {counts[record, k]}. Prepare the data again"
                    )
                rows.append(seen[at[ranks]])
                labels.append(np.full(len(ranks), k, np.int32))
    drawn = Drawn(np.concatenate(rows), np.concatenate(labels), counts.sum(axis=0))
    for name, taken, there in zip(names, drawn.counts, drawn.available, strict=True):
        log.info("%s, %s: %d of %d %s", split, name, taken, there, _unit(config))
    return drawn


def _unit(config: ConfigDict) -> str:
    return "pixels" if config.task.name == "segmentation" else "images"


def _merged(counts: np.ndarray, merge: Any, classes: int) -> np.ndarray:
    """Counts (N, K) in the classes of the task."""
    counts = counts.astype(np.int64)
    if merge is None:
        return counts
    to = np.asarray(merge, np.int64)[: counts.shape[1]]
    found = np.zeros((len(counts), classes), np.int64)
    for k, target in enumerate(to):
        if target != IGNORE:
            found[:, target] += counts[:, k]
    return found
