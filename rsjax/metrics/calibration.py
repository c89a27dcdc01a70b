"""How far probabilities can be taken at their word: confidence against the share that is right.

`kind` says how logits become probabilities: 'softmax' (one class per position: what counts is the
prediction's probability, and whether it is right) or 'sigmoid' (every pair of position and class
counts: its probability, and whether the class is there).

Source: Guo, Pleiss, Sun and Weinberger 2017, On Calibration of Modern Neural Networks.
"""

from __future__ import annotations

from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from rsjax.errors import ConfigError
from rsjax.metrics import base

FINE = 15360  # bins that are counted; divisible by 10, 12, 15, 16, 20, 30, 40, 60, ...
BINS = 15  # bins of the calibration error, as Guo et al.
KINDS = ("softmax", "sigmoid")


@flax.struct.dataclass
class Calibration(base.Scored):
    """Calibration of a set; make it with `Calibration.for_classes(num_classes, kind)`.

    Confidences are counted in `FINE` equal bins of [0, 1], each with its lower bound, the last
    also with 1. So coarser bins are exact in their counts, and mean confidences, by the middles of
    the fine bins, are exact to 1 / 30720.

    Attributes:
        all: (FINE,) integers, confidences in each bin.
        right: (FINE,) those that are right.
    """

    kind: ClassVar[str]

    all: Any
    right: Any

    @classmethod
    def for_classes(cls, num_classes: int, kind: str = "softmax") -> Any:
        """The metric class for `num_classes` classes.

        Raises:
            ConfigError: an unknown kind.
        """
        return base.specialise(cls, num_classes=num_classes, kind=known_kind(kind))

    @classmethod
    def empty(cls) -> Any:
        """Nothing counted, on the host."""
        zero, zeros = np.zeros((), np.int64), np.zeros(FINE, np.int64)
        return cls(zero, zero, zeros, zeros)

    @classmethod
    def from_model_output(  # type: ignore[override]
        cls,
        *,
        labels: jax.Array,
        mask: jax.Array,
        logits: jax.Array | None = None,
        probabilities: jax.Array | None = None,
        **_: Any,
    ) -> Any:
        """The counts of one batch.

        Args:
            labels: class indices (...,) for softmax; multi-hot (..., C) for sigmoid.
            mask: (...,), true where a position counts.
            logits: (..., C); probabilities are their softmax or sigmoid in float32.
            probabilities: (..., C), taken in place of the logits where given.

        Raises:
            ValueError: neither logits nor probabilities, or shapes that do not fit.
        """
        scores = logits if probabilities is None else probabilities
        if scores is None:
            raise ValueError("Calibration needs logits or probabilities")
        truth, known, finite = reference(cls, labels, mask, scores)
        # Of the logits: the softmax in float32 may tie what they tell apart.
        chosen = jnp.argmax(scores, axis=-1).astype(jnp.int32)
        scores = scores.astype(jnp.float32)
        if probabilities is not None:
            # Averaged probabilities may be past 1 by rounding; beyond that they are none.
            finite &= jnp.all((scores > -0.001) & (scores < 1.001), axis=-1)
        elif cls.kind == "softmax":
            scores = jax.nn.softmax(scores, axis=-1)
        else:
            scores = jax.nn.sigmoid(scores)
        counted = mask.astype(bool) & known & finite
        if cls.kind == "softmax":
            right = chosen == truth
            scores = jnp.max(scores, axis=-1)
        else:
            right, counted = truth, jnp.broadcast_to(counted[..., None], scores.shape)
        scores = jnp.where(counted, scores, 0.0)
        bins = jnp.clip((scores * FINE).astype(jnp.int32), 0, FINE - 1)
        # Wrong and right in one scatter.
        counts = jnp.bincount(
            (bins + FINE * right.astype(jnp.int32)).reshape(-1),
            weights=counted.astype(jnp.int32).reshape(-1),
            length=2 * FINE,
        ).reshape(2, FINE)
        return cls(
            base.count(mask.astype(bool) & ~known),
            base.count(mask.astype(bool) & ~finite),
            all=counts[0] + counts[1],
            right=counts[1],
        )

    def compute(self) -> dict[str, float]:
        """The figures of the whole set, over `BINS` bins; NaN where nothing was counted.

        Returns:
            `expected_calibration_error`, the difference of mean confidence and share right of a
            bin, weighted by the share of the bin; `maximum_calibration_error`, the largest; and
            for softmax `confidence_mean`. For sigmoid the confidence is the probability of the
            class and the share is that of positives.

        Raises:
            DatasetError, RsjaxError: see `Scored.check`.
        """
        table = self.reliability(BINS)
        total, filled = table["count"].sum(), table["count"] > 0
        gaps = np.abs(table["confidence"] - table["accuracy"])[filled]
        shares = table["count"][filled] / max(total, 1)
        expected, largest = (np.sum(shares * gaps), np.max(gaps)) if total else (np.nan, np.nan)
        figures = {
            "expected_calibration_error": float(expected),
            "maximum_calibration_error": float(largest),
        }
        if self.kind == "softmax":
            mean = np.sum(shares * table["confidence"][filled]) if total else np.nan
            figures["confidence_mean"] = float(mean)
        return figures

    def per_class(self) -> dict[str, np.ndarray]:
        """Nothing: calibration is of all classes together."""
        self.check()
        return {}

    def reliability(self, bins: int = BINS) -> dict[str, np.ndarray]:
        """The reliability diagram over equal bins of [0, 1].

        Args:
            bins: a divisor of `FINE`.

        Returns:
            Arrays (bins,): bounds `lower` and `upper`, mean `confidence` and share right
            `accuracy` (NaN where a bin is empty), and `count`.

        Raises:
            ConfigError: another number of bins.
            DatasetError, RsjaxError: see `Scored.check`.
        """
        self.check()
        if bins < 1 or FINE % bins:
            raise ConfigError(f"{bins} bins do not divide {FINE}: take 10, 15, 20 or 30")
        count, right = (np.asarray(x, np.int64).reshape(bins, -1) for x in (self.all, self.right))
        middles = ((np.arange(FINE) + 0.5) / FINE).reshape(bins, -1)
        total = count.sum(axis=1)
        edges = np.arange(bins + 1) / bins
        return {
            "lower": edges[:-1],
            "upper": edges[1:],
            "confidence": base.ratio(np.sum(count * middles, axis=1), total, total > 0),
            "accuracy": base.ratio(right.sum(axis=1), total, total > 0),
            "count": total,
        }


def known_kind(kind: str) -> str:
    """The kind, if there is one of this name.

    Raises:
        ConfigError: there is none.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind {kind!r} of probabilities; known: {', '.join(KINDS)}")
    return kind


def reference(
    metric: Any, labels: jax.Array, mask: jax.Array, scores: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Labels as int32 indices or positives, and where (...,) they and the scores can be scored."""
    classes = metric.num_classes
    if metric.kind == "softmax":
        base.check_shapes(mask, labels.shape, scores=(scores, (*labels.shape, classes)))
        truth = labels.astype(jnp.int32)
        known = (truth >= 0) & (truth < classes)
    else:
        shape = (*labels.shape[:-1], classes)
        base.check_shapes(mask, shape[:-1], labels=(labels, shape), scores=(scores, shape))
        truth, known = base.multi_hot(labels)
    return truth, known, jnp.all(jnp.isfinite(scores), axis=-1)
