"""Any number of classes per scene: sigmoids, binary cross-entropy, mean average precision."""

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
    """Multi-label scene classification over `classes` classes.

    The option `threshold` is one number, or one for each class.
    """
    summed = losses_of(options, "binary_cross_entropy", "sigmoid", class_counts)
    thresholds = np.asarray(options["threshold"], np.float32)

    def baseline(counts: Sequence[int], samples: int) -> float:
        # A constant score ranks nothing: its average precision is the share of positives.
        present = np.asarray([c for c in counts if c > 0], float)
        return float(present.mean() / samples) if len(present) else float("nan")

    def outputs(logits: jax.Array, labels: jax.Array, counted: jax.Array) -> dict[str, jax.Array]:
        return {"labels": labels, "probabilities": jax.nn.sigmoid(logits.astype(jnp.float32))}

    def figures(samples: Mapping[str, np.ndarray], weights: np.ndarray) -> Any:
        scalars, per_class = weighted.multilabel(samples, weights, options["threshold"])
        ranked, each = weighted.average_precision(samples, weights)
        return {**scalars, **ranked}, {**per_class, **each}

    return Task(
        name="multilabel",
        kind="sigmoid",
        outputs=classes,
        headline="mAP_macro",
        metrics={
            "multilabel": metrics.get("multilabel").for_classes(classes, options["threshold"]),
            "average_precision": metrics.get("average_precision").for_classes(classes),
            "calibration": metrics.get("calibration").for_classes(classes, "sigmoid"),
        },
        target=lambda batch: batch["label"].astype(jnp.float32),
        labels=lambda batch: batch["label"],
        counts=lambda labels, valid: valid,
        loss=lambda logits, target, valid: summed(logits, target, mask=valid),
        samples=outputs,
        figures=figures,
        probabilities=lambda logits: jax.nn.sigmoid(logits.astype(jnp.float32)),
        decide=lambda probabilities: probabilities >= thresholds,
        baseline=baseline,
    )
