"""Evaluates a model on a whole split: exact figures, and each sample's prediction."""

from __future__ import annotations

import dataclasses
import io
import logging
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from rsjax import sealed
from rsjax.errors import ConfigError, RsjaxError
from rsjax.metrics import boundary_score, resample, to_host
from rsjax.tasks import Task

log = logging.getLogger("rsjax")


@dataclasses.dataclass(frozen=True)
class Results:
    """What an evaluation found.

    Attributes:
        scalars: figures of the whole split; names state the averaging.
        per_class: figures of each class, (C,).
        matrix: confusion matrix (C, C), rows the reference, or None.
        samples: per record in order: index, loss, and what the task keeps: labels and
            probabilities (N, K), or counts of the pixels (N, K); `rsjax.tasks` has the rest.
        intervals: figure -> its (low, high).
        per_class_intervals: figure -> (low, high) of each class, (2, C).
        groups: column -> value -> figures of the records that have it, with their 'samples'.
        reliability: of bins of confidence: lower, upper, confidence, accuracy (None: empty), count.
    """

    scalars: dict[str, float]
    per_class: dict[str, np.ndarray]
    matrix: np.ndarray | None
    samples: dict[str, np.ndarray]
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    per_class_intervals: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    groups: dict[str, dict[str, dict[str, float]]] = dataclasses.field(default_factory=dict)
    reliability: dict[str, list[Any]] = dataclasses.field(default_factory=dict)

    def save(self, folder: pathlib.Path, split: str, about: dict[str, Any]) -> None:
        """Writes `split.json` (figures) and `split.npz` (samples) into `folder`.

        `split` names the files; `about` may name another split, of which this is a special
        evaluation.
        """
        packed = io.BytesIO()
        np.savez_compressed(packed, **self.samples)  # type: ignore[arg-type]
        sealed.replace(folder / f"{split}.npz", packed.getvalue())
        table = {name: values.tolist() for name, values in self.per_class.items()}
        matrix = None if self.matrix is None else self.matrix.tolist()
        data = {"split": split, **about, "scalars": self.scalars, "per_class": table}
        spread = {
            name: np.asarray(ends).tolist() for name, ends in self.per_class_intervals.items()
        }
        more = {
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "per_class_intervals": spread,
            "groups": self.groups,
            "reliability": self.reliability,
        }
        sealed.write(folder / f"{split}.json", {**data, **more, "confusion_matrix": matrix})


def load(folder: pathlib.Path, split: str) -> tuple[Results, dict[str, Any]]:
    """What `Results.save` wrote, and what it was told about the run.

    Raises:
        RsjaxError: it is not there, or damaged.
    """
    try:
        data = sealed.read(folder / f"{split}.json")
        with np.load(folder / f"{split}.npz", allow_pickle=False) as file:
            samples = dict(file)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise RsjaxError(
            f"{folder / split}.json and .npz: {error}. Evaluate again: --config.mode=eval "
            f"--config.eval.split={split}"
        ) from None
    matrix = data.pop("confusion_matrix")
    results = Results(
        data.pop("scalars"),
        {name: np.asarray(values, float) for name, values in data.pop("per_class").items()},
        None if matrix is None else np.asarray(matrix, np.int64),
        samples,
        {name: (low, high) for name, (low, high) in data.pop("intervals", {}).items()},
        {
            name: np.asarray(ends, float)
            for name, ends in data.pop("per_class_intervals", {}).items()
        },
        data.pop("groups", {}),
        data.pop("reliability", {}),
    )
    return results, data


def evaluate(
    eval_step: Callable[..., Any],
    variables: Any,
    temperatures: Any,
    batches: Iterable[dict[str, Any]],
    task: Task,
    class_counts: list[int],
) -> Results:
    """Runs `eval_step` over all batches and computes the figures of the whole set.

    Args:
        eval_step: jitted; its outputs are replicated, so every process has all of them.
        variables: of each model.
        temperatures: of each model.
        batches: batches on the mesh.
        task: metrics and baseline.
        class_counts: samples of each class in the split, for the baseline.

    Raises:
        DatasetError, RsjaxError: labels or predictions cannot be scored.
    """
    total = {name: metric.empty() for name, metric in task.metrics.items()}
    parts: list[dict[str, np.ndarray]] = []
    pending = None
    for batch in batches:
        ahead = eval_step(variables, temperatures, batch)
        if pending is not None:
            total = _collect(total, parts, pending)
        pending = ahead  # read one batch late: the device works while the host counts
    if pending is not None:
        total = _collect(total, parts, pending)

    samples = {k: np.concatenate([p[k] for p in parts]) for k in parts[0] if k != "valid"}
    keep = np.concatenate([p["valid"] for p in parts])
    samples = {name: values[keep] for name, values in samples.items()}
    # Over what counts: pixels of segmentation, samples else. Nothing counted has no loss.
    counted = samples.pop("counted")
    samples["loss"] = np.where(counted > 0, samples["loss"], np.nan)
    loss = np.sum(np.where(counted > 0, samples["loss"] * counted, 0.0), dtype=np.float64)
    scalars: dict[str, float] = {"loss": float(loss / counted.sum()) if counted.any() else np.nan}
    per_class: dict[str, np.ndarray] = {}
    for metric in total.values():
        scalars |= metric.compute()
        per_class |= metric.per_class()
    scalars[f"{task.headline}_of_class_frequencies"] = task.baseline(class_counts, len(keep[keep]))
    matrix = np.asarray(total["confusion"].counts) if "confusion" in total else None
    if "boundary" in samples:  # kept of each image, and only once
        figures, each = boundary_score.scores(samples["boundary"], np.ones((1, len(counted))))
        scalars |= {name: float(value[0]) for name, value in figures.items()}
        per_class |= {name: values[0] for name, values in each.items()}
    reliability = total["calibration"].reliability() if "calibration" in total else {}
    bins = {name: _plain(values) for name, values in reliability.items()}
    return Results(scalars, per_class, matrix, samples, reliability=bins)


def _plain(values: Any) -> list[Any]:
    return [None if v != v else v for v in np.asarray(values).tolist()]


def analyse(
    results: Results, task: Task, texts: Callable[[str], list[str]], options: Mapping[str, Any]
) -> Results:
    """The results with intervals and with the figures of groups, from the kept samples.

    Args:
        results: of `evaluate`.
        task: says how figures follow from samples.
        texts: text entry -> its value of each record, in the order of `results.samples`.
        options: the `eval` part of the config.

    Where there are too few blocks for intervals there are none, and a warning.

    Raises:
        ShardError: a text entry that the shards do not have.
    """
    groups = {
        name: resample.groups(task.figures, results.samples, texts(name))
        for name in options["group_by"]
    }
    intervals: Any = ({}, {})
    if options["bootstrap"]:
        blocks = None
        if options["blocks"]:
            blocks = np.unique(texts(options["blocks"]), return_inverse=True)[1]
        try:
            intervals = resample.intervals(
                task.figures,
                results.samples,
                blocks,
                options["bootstrap"],
                options["level"],
                seed=0,
            )
        except ConfigError as error:  # after hours of training: better figures without intervals
            log.warning("no intervals: %s", error)
    # How many samples or classes a resampled set has says nothing about this one.
    scalars, per_class = (
        {n: v for n, v in part.items() if not n.endswith(("_counted", "_in_reference", "support"))}
        for part in intervals
    )
    return dataclasses.replace(
        results,
        intervals=scalars,
        per_class_intervals={name: np.stack(pair) for name, pair in per_class.items()},
        groups=groups,
    )


def _collect(total: dict[str, Any], parts: list[dict[str, np.ndarray]], pending: Any) -> Any:
    measured, outputs = jax.device_get(pending)
    parts.append({name: np.asarray(value) for name, value in outputs.items()})
    return {name: metric.merge(to_host(measured[name])) for name, metric in total.items()}
