"""What a model is trained for: targets, loss, metrics and predictions of one task.

A task is made by name from its options and the classes: `make('multilabel', options, classes)`.
It is a `Task`, a table of functions that the training and evaluation steps call under jit. Adding
one is a module with `make(options, classes, class_counts) -> Task` and a line in the table.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rsjax.errors import ConfigError

if TYPE_CHECKING:
    import jax
    import numpy as np

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
        kind: 'softmax' or 'sigmoid': what makes probabilities of logits.
        outputs: channels of the logits.
        headline: the figure of the evaluation that chooses the best checkpoint; larger is better.
        metrics: metric classes by name, as `rsjax.metrics` has them.
        target: raw batch -> what the loss takes: float32 (B, K), mixable by augmentation, or
            class indices (B, H, W), which move with the image.
        labels: raw batch -> what the metrics take.
        counts: labels, valid (B,) -> mask of the labels, true at what the metrics count.
        loss: (logits, target, valid) -> float32 scalar.
        samples: (logits, labels, mask) -> what is kept of each sample of an evaluation, (B, ...).
        figures: those samples and weights (R, N) -> the figures of the metrics, of each of the R
            weighted sets: ({name: (R,)}, {name: (R, K)}); see `rsjax.metrics.weighted`.
        probabilities: logits -> float32 (B, K) or (B, H, W, K).
        decide: probabilities (..., K) numpy -> (..., K) bool, the predicted classes.
        baseline: class counts, number of samples -> the headline figure of always predicting the
            class frequencies.
    """

    name: str
    kind: str
    outputs: int
    headline: str
    metrics: dict[str, Any]
    target: Callable[[Mapping[str, jax.Array]], jax.Array]
    labels: Callable[[Mapping[str, jax.Array]], jax.Array]
    counts: Callable[[jax.Array, jax.Array], jax.Array]
    loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    samples: Callable[[jax.Array, jax.Array, jax.Array], dict[str, jax.Array]]
    figures: Callable[[Mapping[str, np.ndarray], np.ndarray], Any]
    probabilities: Callable[[jax.Array], jax.Array]
    decide: Callable[[np.ndarray], np.ndarray]
    baseline: Callable[[Sequence[int], int], float]


def make(
    name: str, options: Mapping[str, Any], classes: int, class_counts: Sequence[int] | None = None
) -> Task:
    """The task called `name`.

    Args:
        name: name in `TASKS`.
        options: the `task` part of the config; what it lacks has its default.
        classes: number of classes.
        class_counts: samples (segmentation: pixels) of each class in the train split, for class
            weights; None: no weights.

    Raises:
        ConfigError: no task has this name, or a loss that does not fit.
    """
    from rsjax import config

    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}; known tasks: {', '.join(sorted(TASKS))}")
    module = importlib.import_module(f"{__name__}.{TASKS[name]}")
    return module.make({**config.base().task.to_dict(), **options}, classes, class_counts)


def check(name: str, options: Mapping[str, Any]) -> None:
    """Tries the task's loss on shapes alone, to find what cannot work before data is read.

    Raises:
        ConfigError: a loss, an option of it, or a nomenclature that cannot be.
    """
    import jax
    import jax.numpy as jnp

    from rsjax import landcover

    task = make(name, options, 2)
    if wanted := options.get("nomenclature"):
        landcover.load(wanted)
    shape = (2, 4, 4) if name == "segmentation" else (2,)
    logits = jax.ShapeDtypeStruct((*shape, 2), jnp.float32)
    target = jax.ShapeDtypeStruct(shape, jnp.uint8) if len(shape) == 3 else logits
    jax.eval_shape(task.loss, logits, target, jax.ShapeDtypeStruct((2,), bool))


def losses_of(
    options: Mapping[str, Any],
    default: str,
    kind: str,
    class_counts: Sequence[int] | None,
    pixels: bool = False,
) -> Callable[..., jax.Array]:
    """The weighted sum of the losses that the options name: (logits, labels, *, mask) -> scalar.

    Args:
        options: of the task: losses, loss_options, label_smoothing, class_weights, and
            `present_totals` for the weights by median frequency.
        default: the loss where none is named.
        kind: 'softmax' or 'sigmoid', see `rsjax.losses.KINDS`.
        class_counts: for the class weights.
        pixels: whether labels are maps of class indices.

    Raises:
        ConfigError: an unknown loss, option or kind.
    """
    from rsjax import losses
    from rsjax.losses import combined, weights

    named = tuple(options["losses"]) or ((default, 1.0),)
    given = {name: dict(values) for name, values in dict(options["loss_options"]).items()}
    if smoothing := options["label_smoothing"]:
        names = [pair[0] for pair in named if len(pair) == 2 and pair[0] in losses.LOSSES]
        able = [name for name in names if "label_smoothing" in combined.options_of(name)]
        if names and not able:
            raise ConfigError(
                f"label_smoothing={smoothing}: none of the losses {', '.join(names)} has it; set "
                "task.label_smoothing=0"
            )
        for name in able:
            given[name] = {"label_smoothing": smoothing, **given.get(name, {})}
    # Scenes of one class have distributions as targets, which mixup makes mixtures of.
    mixtures = kind == "softmax" and not pixels
    summed = combined.make(named, given, kind=kind, pixels=pixels, mixtures=mixtures)
    chosen = weights.class_weights(
        options["class_weights"],
        class_counts,
        options["effective_beta"],
        present_totals=options.get("present_totals"),
    )
    return functools.partial(summed, class_weights=chosen)
