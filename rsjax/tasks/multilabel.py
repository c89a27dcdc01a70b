"""Any number of classes per scene: sigmoids, binary cross-entropy, mean average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsjax import losses, metrics
from rsjax.tasks import Task, class_weights


def make(options: Mapping[str, Any], classes: int, class_counts: Sequence[int] | None) -> Task:
    """Multi-label scene classification over `classes` classes."""
    weights = class_weights(options["class_weights"], class_counts)

    def loss(logits: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
        return losses.get("binary_cross_entropy")(
            logits,
            target,
            mask=mask,
            class_weights=weights,
            label_smoothing=options["label_smoothing"],
        )

    def baseline(counts: Sequence[int], samples: int) -> float:
        # A constant score ranks nothing: its average precision is the share of positives.
        present = np.asarray([c for c in counts if c > 0], float)
        return float(present.mean() / samples) if len(present) else float("nan")

    return Task(
        name="multilabel",
        outputs=classes,
        headline="mAP_macro",
        metrics={
            "multilabel": metrics.get("multilabel").for_classes(classes, options["threshold"]),
            "average_precision": metrics.get("average_precision").for_classes(classes),
        },
        target=lambda batch: batch["label"].astype(jnp.float32),
        labels=lambda batch: batch["label"],
        counts=lambda labels, valid: valid,
        loss=loss,
        probabilities=lambda logits: jax.nn.sigmoid(logits.astype(jnp.float32)),
        decide=lambda probabilities: probabilities >= np.float32(options["threshold"]),
        baseline=baseline,
    )
