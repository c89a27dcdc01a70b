"""One class per pixel: softmax, cross-entropy and confusion matrix over the pixels that count.

Labels are (B, H, W) class indices; 255 is ignored: such pixels touch neither loss nor metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsjax import losses, metrics
from rsjax.landcover import IGNORE
from rsjax.tasks import Task, class_weights


def make(options: Mapping[str, Any], classes: int, class_counts: Sequence[int] | None) -> Task:
    """Segmentation into `classes` classes; the entry 'mask' of a batch has the labels."""
    weights = class_weights(options["class_weights"], class_counts)

    def counts(labels: jax.Array, valid: jax.Array) -> jax.Array:
        return valid.reshape(-1, 1, 1) & (labels != IGNORE)

    def loss(logits: jax.Array, target: jax.Array, valid: jax.Array) -> jax.Array:
        return losses.get("cross_entropy")(
            logits,
            target,
            mask=counts(target, valid),
            class_weights=weights,
            label_smoothing=options["label_smoothing"],
        )

    def decide(probabilities: np.ndarray) -> np.ndarray:
        return np.arange(classes) == probabilities.argmax(axis=-1)[..., None]

    def baseline(class_counts: Sequence[int], samples: int) -> float:
        # Always the most frequent class: its share is its IoU, the others present have 0.
        present = [count for count in class_counts if count > 0]
        return max(present) / sum(present) / len(present) if present else float("nan")

    return Task(
        name="segmentation",
        outputs=classes,
        headline="iou_macro",
        metrics={"confusion": metrics.get("confusion").for_classes(classes)},
        target=lambda batch: batch["mask"],
        labels=lambda batch: batch["mask"],
        counts=counts,
        loss=loss,
        probabilities=lambda logits: jax.nn.softmax(logits.astype(jnp.float32)),
        decide=decide,
        baseline=baseline,
    )
