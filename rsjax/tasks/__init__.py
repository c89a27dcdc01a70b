"""What a model is trained for: targets, loss, metrics and predictions of one task.

A task is made by name from its options and the classes: `make('multilabel', options, classes)`.
It is a `Task`, a table of functions that the training and evaluation steps call under jit. Adding
one is a module with `make(options, classes, class_counts) -> Task` and a line in the table.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rsjax.errors import ConfigError
from rsjax.losses.weights import class_weights as class_weights

if TYPE_CHECKING:
    import jax

TASKS = {
    "classification": "classification",
    "multilabel": "multilabel",
    "segmentation": "segmentation",
}


@dataclasses.dataclass(frozen=True)
class Task:
    """The functions of one task.

    Attributes:
        name: name in `TASKS`.
        outputs: channels of the logits.
        headline: the figure of the evaluation that chooses the best checkpoint; larger is better.
        metrics: metric classes by name, as `rsjax.metrics` has them.
        target: raw batch -> what the loss takes: float32 (B, K), mixable by augmentation, or
            class indices (B, H, W), which move with the image.
        labels: raw batch -> what the metrics take.
        counts: labels, valid (B,) -> mask of the labels, true at what the metrics count.
        loss: (logits, target, valid) -> float32 scalar.
        probabilities: logits -> float32 (B, K) or (B, H, W, K).
        decide: probabilities (..., K) numpy -> (..., K) bool, the predicted classes.
        baseline: class counts, number of samples -> the headline figure of always predicting the
            class frequencies.
    """

    name: str
    outputs: int
    headline: str
    metrics: dict[str, Any]
    target: Callable[[Mapping[str, jax.Array]], jax.Array]
    labels: Callable[[Mapping[str, jax.Array]], jax.Array]
    counts: Callable[[jax.Array, jax.Array], jax.Array]
    loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    probabilities: Callable[[jax.Array], jax.Array]
    decide: Callable[[np.ndarray], np.ndarray]
    baseline: Callable[[Sequence[int], int], float]


def make(
    name: str, options: Mapping[str, Any], classes: int, class_counts: Sequence[int] | None = None
) -> Task:
    """The task called `name`.

    Args:
        name: name in `TASKS`.
        options: the `task` part of the config.
        classes: number of classes.
        class_counts: samples of each class in the train split, for class weights.

    Raises:
        ConfigError: no task has this name; the known ones are listed.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}; known tasks: {', '.join(sorted(TASKS))}")
    module = importlib.import_module(f"{__name__}.{TASKS[name]}")
    return module.make(options, classes, class_counts)
