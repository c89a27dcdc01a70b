"""One class per pixel: softmax, cross-entropy, confusion matrix and boundaries.

Labels are (B, H, W) class indices; 255 is ignored: such pixels touch neither loss nor metric nor
picture. `merge` translates the classes of the shards into coarser ones on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsjax import metrics
from rsjax.landcover import IGNORE
from rsjax.metrics import boundary, boundary_score, weighted
from rsjax.tasks import Task, losses_of


def make(options: Mapping[str, Any], classes: int, class_counts: Sequence[int] | None) -> Task:
    """Segmentation into `classes` classes; the entry 'mask' of a batch has the labels.

    Options of its own, beside those of the config: `merge`, a table (256,) from the class indices
    of the shards to those of the task, or None; `boundary_radius_px`, the distance up to which
    boundaries agree, or None: boundaries are not scored.
    """
    summed = losses_of(options, "cross_entropy", "softmax", class_counts, pixels=True)
    table, radius = options.get("merge"), options.get("boundary_radius_px")

    def labels(batch: Mapping[str, jax.Array]) -> jax.Array:
        mask = batch["mask"]
        return mask if table is None else jnp.asarray(table, jnp.uint8)[mask]

    def counts(labels: jax.Array, valid: jax.Array) -> jax.Array:
        return valid.reshape(-1, 1, 1) & (labels != IGNORE)

    def loss(logits: jax.Array, target: jax.Array, valid: jax.Array) -> jax.Array:
        return summed(logits, target, mask=counts(target, valid))

    def samples(logits: jax.Array, labels: jax.Array, counted: jax.Array) -> dict[str, jax.Array]:
        predicted = jnp.argmax(logits, axis=-1)

        def per_class(indices: jax.Array, where: jax.Array) -> jax.Array:
            # One more place, for what does not count.
            index = jnp.where(where, indices.astype(jnp.int32), classes).reshape(len(indices), -1)
            bins = jax.vmap(lambda row: jnp.bincount(row, length=classes + 1))(index)
            return bins[:, :classes].astype(jnp.int32)

        right = counted & (predicted.astype(jnp.int32) == labels.astype(jnp.int32))
        found = {
            "hits": per_class(predicted, right),
            "reference": per_class(labels, counted),
            "predicted": per_class(predicted, counted),
        }
        if radius is not None:
            found["boundary"] = boundary.boundary_counts(
                labels, predicted, counted, classes, radius
            )
        return found

    def figures(samples: Mapping[str, np.ndarray], weights: np.ndarray) -> Any:
        scalars, per_class = weighted.confusion(samples, weights)
        if "boundary" in samples:
            edges, each = boundary_score.scores(samples["boundary"], weights)
            scalars, per_class = {**scalars, **edges}, {**per_class, **each}
        return scalars, per_class

    def decide(probabilities: np.ndarray) -> np.ndarray:
        return np.arange(classes) == probabilities.argmax(axis=-1)[..., None]

    def baseline(class_counts: Sequence[int], samples: int) -> float:
        # Always the most frequent class: its share is its IoU, the others present have 0.
        present = [count for count in class_counts if count > 0]
        return max(present) / sum(present) / len(present) if present else float("nan")

    return Task(
        name="segmentation",
        kind="softmax",
        outputs=classes,
        headline="iou_macro",
        metrics={
            "confusion": metrics.get("confusion").for_classes(classes),
            "calibration": metrics.get("calibration").for_classes(classes, "softmax"),
        },
        target=labels,
        labels=labels,
        counts=counts,
        loss=loss,
        samples=samples,
        figures=figures,
        probabilities=lambda logits: jax.nn.softmax(logits.astype(jnp.float32)),
        decide=decide,
        baseline=baseline,
    )
