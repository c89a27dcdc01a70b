"""One class per scene: softmax, cross-entropy, confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsjax import losses, metrics
from rsjax.tasks import Task, class_weights


def make(options: Mapping[str, Any], classes: int, class_counts: Sequence[int] | None) -> Task:
    """Single-label scene classification over `classes` classes."""
    weights = class_weights(options["class_weights"], class_counts)

    def target(batch: Mapping[str, jax.Array]) -> jax.Array:
        return jax.nn.one_hot(batch["label"], classes, dtype=jnp.float32)

    def loss(logits: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
        return losses.get("cross_entropy")(
            logits,
            target,
            mask=mask,
            class_weights=weights,
            label_smoothing=options["label_smoothing"],
        )

    def decide(probabilities: np.ndarray) -> np.ndarray:
        return np.arange(classes) == probabilities.argmax(axis=-1)[..., None]

    return Task(
        name="classification",
        outputs=classes,
        headline="overall_accuracy",
        metrics={"confusion": metrics.get("confusion").for_classes(classes)},
        target=target,
        labels=lambda batch: batch["label"],
        counts=lambda labels, valid: valid,
        loss=loss,
        probabilities=lambda logits: jax.nn.softmax(logits.astype(jnp.float32)),
        decide=decide,
        baseline=lambda counts, samples: max(counts) / max(samples, 1),
    )
