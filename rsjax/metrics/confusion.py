"""One class per position, a scene or a pixel: the confusion matrix and what follows from it.

Rules for classes that are absent from the set, per metric:

- recall (producer's accuracy) is defined for classes that occur in the reference;
- precision (user's accuracy), F1 and IoU are defined for classes that occur in the reference or
  in the predictions, and are 0 for one that occurs in only one of them;
- elsewhere they are NaN and left out of the mean. So average accuracy is a mean over
  `classes_in_reference`, and the `_macro` means are over `classes_counted`.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from rsjax.metrics import base


def confusion_matrix(
    labels: jax.Array, predictions: jax.Array, mask: jax.Array, num_classes: int
) -> jax.Array:
    """Counts (C, C) int32: rows are the reference, columns the prediction.

    Args:
        labels: class indices (...,) of any integer type.
        predictions: class indices (...,) of any integer type.
        mask: (...,), true where a position counts.
        num_classes: C.

    Returns:
        The counts of positions whose label and prediction are classes. The others have no place
        in the matrix: `count_invalid` counts them.

    Raises:
        ValueError: the shapes differ, or labels or predictions are not integers.
    """
    for name, array in (("labels", labels), ("predictions", predictions)):
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise ValueError(f"{name} are {array.dtype}, expected integer class indices")
    base.check_shapes(mask, labels.shape, predictions=(predictions, labels.shape))
    labels, predictions = labels.astype(jnp.int32), predictions.astype(jnp.int32)
    counted = (
        mask.astype(bool) & _is_class(labels, num_classes) & _is_class(predictions, num_classes)
    )
    cell = jnp.where(counted, labels * num_classes + predictions, 0)
    counts = jnp.bincount(
        cell.reshape(-1), weights=counted.astype(jnp.int32).reshape(-1), length=num_classes**2
    )
    return counts.reshape(num_classes, num_classes)


def count_invalid(indices: jax.Array, mask: jax.Array, num_classes: int) -> jax.Array:
    """The number of positions that count where `indices` (...,) is outside [0, C), int32."""
    return base.count(mask.astype(bool) & ~_is_class(indices.astype(jnp.int32), num_classes))


def _is_class(indices: jax.Array, num_classes: int) -> jax.Array:
    return (indices >= 0) & (indices < num_classes)


@flax.struct.dataclass
class ConfusionMatrix(base.Scored):
    """Confusion matrix of a set; make it with `ConfusionMatrix.for_classes(num_classes)`.

    Attributes:
        counts: (C, C) integers, rows the reference, columns the prediction.
    """

    counts: Any

    @classmethod
    def for_classes(cls, num_classes: int) -> Any:
        """The metric class for `num_classes` classes."""
        return base.specialise(cls, num_classes=num_classes)

    @classmethod
    def empty(cls) -> Any:
        """Nothing counted, on the host."""
        zero = np.zeros((), np.int64)
        return cls(zero, zero, np.zeros((cls.num_classes, cls.num_classes), np.int64))

    @classmethod
    def from_model_output(  # type: ignore[override]
        cls,
        *,
        labels: jax.Array,
        mask: jax.Array,
        logits: jax.Array | None = None,
        predictions: jax.Array | None = None,
        **_: Any,
    ) -> Any:
        """The counts of one batch.

        Args:
            labels: class indices (...,).
            mask: (...,), true where a position counts.
            logits: (..., C); the prediction is the first largest.
            predictions: class indices (...,), taken in place of the logits where given.

        Raises:
            ValueError: neither logits nor predictions, or shapes that do not fit.
        """
        if predictions is None:
            if logits is None:
                raise ValueError("ConfusionMatrix needs logits or predictions")
            base.check_shapes(mask, labels.shape, logits=(logits, (*labels.shape, cls.num_classes)))
            predictions = base.first_largest(logits)
        counts = confusion_matrix(labels, predictions, mask, cls.num_classes)
        return cls(
            count_invalid(labels, mask, cls.num_classes),
            count_invalid(predictions, mask, cls.num_classes),
            counts,
        )

    def compute(self) -> dict[str, float]:
        """`summary` of the counts.

        Raises:
            DatasetError, RsjaxError: see `Scored.check`.
        """
        self.check()
        return summary(np.asarray(self.counts))

    def per_class(self) -> dict[str, np.ndarray]:
        """`class_table` of the counts.

        Raises:
            DatasetError, RsjaxError: see `Scored.check`.
        """
        self.check()
        return class_table(np.asarray(self.counts))


def class_table(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """`class_figures` of a confusion matrix (C, C); `support` stays an integer."""
    hits, reference, predicted = marginals(matrix)
    return {**class_figures(hits, reference, predicted), "support": reference}


def summary(matrix: np.ndarray) -> dict[str, float]:
    """`figures` of a confusion matrix (C, C), rows the reference, columns the prediction."""
    return base.numbers(figures(*marginals(matrix)))


def marginals(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, positions in the reference and predicted positions of each class, (C,) int64.

    Args:
        matrix: (C, C) counts, rows the reference, columns the prediction.
    """
    matrix = np.asarray(matrix, np.int64)
    return np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)


def class_figures(
    hits: np.ndarray, reference: np.ndarray, predicted: np.ndarray
) -> dict[str, np.ndarray]:
    """Precision, recall, F1, IoU (float64, NaN where undefined) and support of each class.

    Args:
        hits: (..., K) positions of each class that are right.
        reference: (..., K) positions of each class in the reference.
        predicted: (..., K) positions predicted as each class.

    Returns:
        Arrays (..., K). `support` is the number of positions of the class in the reference.
    """
    hits, reference, predicted = (np.asarray(x, float) for x in (hits, reference, predicted))
    present = (reference + predicted) > 0
    return {
        "precision": base.ratio(hits, predicted, present),
        "recall": base.ratio(hits, reference, reference > 0),
        "f1": base.ratio(2 * hits, reference + predicted, present),
        "iou": base.ratio(hits, reference + predicted - hits, present),
        "support": reference,
    }


def figures(
    hits: np.ndarray, reference: np.ndarray, predicted: np.ndarray
) -> dict[str, np.ndarray]:
    """Every figure of whole sets, from what their confusion matrices leave of each class.

    Args:
        hits: (..., K) positions of each class that are right.
        reference: (..., K) positions of each class in the reference.
        predicted: (..., K) positions predicted as each class.

    Returns:
        Arrays (...) float64, with the averaging in the name, NaN where nothing was counted:
        `overall_accuracy`; `average_accuracy`, mean recall over `classes_in_reference`; `kappa`,
        Cohen's, agreement beyond chance, NaN where chance alone agrees on everything;
        `precision_macro`, `f1_macro`, `iou_macro` over `classes_counted`;
        `iou_frequency_weighted`, each class with its share of the reference; those two numbers
        of classes; and `samples_counted`, the number of positions.

    Source: Cohen 1960, A Coefficient of Agreement for Nominal Scales; Long, Shelhamer and
    Darrell 2015, Fully Convolutional Networks for Semantic Segmentation (frequency-weighted IU).
    """
    # float64 before products: the square of 10^10 pixels does not fit int64.
    hits, reference, predicted = (
        np.asarray(x, float, order="C") for x in (hits, reference, predicted)
    )
    table = class_figures(hits, reference, predicted)
    present, in_reference = ~np.isnan(table["f1"]), reference > 0
    total, right = reference.sum(axis=-1), hits.sum(axis=-1)
    chance = np.sum(reference * predicted, axis=-1)
    shares = np.where(in_reference, reference * table["iou"], 0.0)
    return {
        "overall_accuracy": base.ratio(right, total, total > 0),
        "average_accuracy": base.means(table["recall"], in_reference),
        "kappa": base.ratio(total * right - chance, total**2 - chance, total**2 > chance),
        **{
            f"{name}_macro": base.means(table[name], present) for name in ("precision", "f1", "iou")
        },
        "iou_frequency_weighted": base.ratio(shares.sum(axis=-1), total, total > 0),
        "classes_counted": present.sum(axis=-1).astype(float),
        "classes_in_reference": in_reference.sum(axis=-1).astype(float),
        "samples_counted": total,
    }
