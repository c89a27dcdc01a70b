"""One class per scene: softmax, cross-entropy, confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsjax import metrics
from rsjax.metrics import weighted
from rsjax.tasks import Task, losses_of


def make(options: Mapping[str, Any], classes: int, class_counts: Sequence[int] | None) -> Task:
    """Single-label scene classification over `classes` classes."""
    summed = losses_of(options, "cross_entropy", "softmax", class_counts)

    def target(batch: Mapping[str, jax.Array]) -> jax.Array:
        return jax.nn.one_hot(batch["label"], classes, dtype=jnp.float32)

    def decide(probabilities: np.ndarray) -> np.ndarray:
        return np.arange(classes) == probabilities.argmax(axis=-1)[..., None]

    def outputs(logits: jax.Array, labels: jax.Array, counted: jax.Array) -> dict[str, jax.Array]:
        return {"labels": labels, "probabilities": jax.nn.softmax(logits.astype(jnp.float32))}

    return Task(
        name="classification",
        kind="softmax",
        outputs=classes,
        headline="overall_accuracy",
        metrics={
            "confusion": metrics.get("confusion").for_classes(classes),
            "calibration": metrics.get("calibration").for_classes(classes, "softmax"),
        },
        target=target,
        labels=lambda batch: batch["label"],
        counts=lambda labels, valid: valid,
        loss=lambda logits, target, valid: summed(logits, target, mask=valid),
        samples=outputs,
        figures=weighted.single_label,
        probabilities=lambda logits: jax.nn.softmax(logits.astype(jnp.float32)),
        decide=decide,
        baseline=lambda counts, samples: max(counts) / max(samples, 1),
    )
