"""What the metrics share: classes made for a number of classes, exact merging, undefined ratios."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import clu.metrics
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from rsjax.errors import DatasetError, RsjaxError


def specialise(cls: Any, **attributes: Any) -> Any:
    """A subclass of a metric with class attributes; the same one for the same attributes.

    Two calls must give one class: metrics of different classes are different trees to JAX.
    """
    return _specialise(cls, tuple(sorted(attributes.items())))


@functools.cache
def _specialise(cls: Any, attributes: tuple[tuple[str, Any], ...]) -> Any:
    return flax.struct.dataclass(type(cls.__name__, (cls,), dict(attributes)))


@flax.struct.dataclass
class Scored(clu.metrics.Metric):
    """A metric over positions with a reference label and a prediction.

    Attributes:
        invalid_labels: positions that count but whose label is no class.
        invalid_predictions: positions that count but whose logits are not finite, or whose
            prediction is no class.
    """

    num_classes: ClassVar[int]

    invalid_labels: Any
    invalid_predictions: Any

    def merge(self, other: Scored) -> Any:
        """The sum of both, count by count."""
        return jax.tree.map(add, self, other)

    def check(self) -> None:
        """Raises where anything could not be scored.

        Raises:
            DatasetError: labels outside the nomenclature.
            RsjaxError: predictions that are not finite or no class.
        """
        check_invalid(self.invalid_labels, self.invalid_predictions, self.num_classes)


def check_invalid(labels: Any, predictions: Any, num_classes: int) -> None:
    """Raises where labels or predictions could not be scored, given how many.

    Raises:
        DatasetError: labels outside the nomenclature.
        RsjaxError: predictions that are not finite or no class.
    """
    if count := int(labels):
        raise DatasetError(
            f"{count} labels that count are outside the {num_classes} classes. Mask the "
            "positions to ignore, or prepare the dataset with the nomenclature of the model"
        )
    if count := int(predictions):
        raise RsjaxError(
            f"{count} predictions that count are not finite or outside the "
            f"{num_classes} classes. The model or its input holds NaN or infinite "
            "values, or the model was made for another number of classes"
        )


def to_host(metrics: Any) -> Any:
    """A tree of metrics as numpy arrays, integers widened to int64."""

    def move(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        return array.astype(np.int64) if np.issubdtype(array.dtype, np.integer) else array

    return jax.tree.map(move, metrics)


def add(left: Any, right: Any) -> Any:
    """The sum of two counts or sums, in 64 bits on the host as soon as either lies there."""
    traced = isinstance(left, jax.core.Tracer) or isinstance(right, jax.core.Tracer)
    host = isinstance(left, np.ndarray | np.generic) or isinstance(right, np.ndarray | np.generic)
    if host and not traced:
        # JAX would take over a mixed sum and narrow it to 32 bits.
        wide = np.int64 if np.issubdtype(np.asarray(left).dtype, np.integer) else np.float64
        return np.asarray(left, wide) + np.asarray(right, wide)
    return left + right


def check_shapes(mask: Any, positions: tuple[int, ...], **arrays: Any) -> None:
    """Checks the mask and (..., C) arrays given by name against the shape of the positions.

    Raises:
        ValueError: a shape does not fit.
    """
    if mask.shape != positions:
        raise ValueError(f"mask has shape {mask.shape}, expected {positions}: one per position")
    for name, (array, expected) in arrays.items():
        if array.shape != expected:
            raise ValueError(f"{name} have shape {array.shape}, expected {expected}")


def count(where: jax.Array, axis: tuple[int, ...] | None = None) -> jax.Array:
    """The number of true entries, int32."""
    return jnp.sum(where, axis=axis, dtype=jnp.int32)


def first_largest(logits: jax.Array) -> jax.Array:
    """Class indices (...,) int32 of logits (..., C); -1 where a logit is not finite."""
    # argmax of NaN is a class like any other.
    finite = jnp.all(jnp.isfinite(logits), axis=-1)
    return jnp.where(finite, jnp.argmax(logits, axis=-1).astype(jnp.int32), -1)


def multi_hot(labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Positives (..., C) of labels of any type, and where (...,) all classes are 0 or 1."""
    labels = labels.astype(jnp.float32)
    return labels == 1.0, jnp.all((labels == 0.0) | (labels == 1.0), axis=-1)


def ratio(numerator: Any, denominator: Any, defined: Any = True) -> np.ndarray:
    """The quotient in float64; 0 / 0 is 0 where `defined` and NaN elsewhere."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    value = numerator / np.where(denominator == 0, 1.0, denominator)
    return np.where(np.asarray(defined), value, np.nan)


def means(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The means (...) of `values` (..., K) where `where`; NaN if nowhere."""
    # Contiguous rows, so that one row and many are added in the same order.
    kept = np.ascontiguousarray(np.where(where, values, 0.0))
    count = np.sum(where, axis=-1)
    return ratio(np.sum(kept, axis=-1), count, count > 0)


def mean(values: np.ndarray, where: np.ndarray) -> float:
    """The mean of `values` (K,) where `where`; NaN if nowhere."""
    return float(means(values, where))


def numbers(figures: dict[str, np.ndarray]) -> dict[str, float]:
    """Figures of one set as plain numbers."""
    return {name: float(value) for name, value in figures.items()}
