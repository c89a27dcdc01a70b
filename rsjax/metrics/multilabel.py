"""Any number of classes per position: counts at a threshold and what follows from them.

Rules for classes that are absent from the set: recall is NaN for a class without positives in the
reference; precision and F1 are NaN for a class with positives in neither the reference nor the
predictions, and 0 where it is never hit. The `_macro` means are over the classes with positives in
the reference, and `classes_counted` is their number, as for the mean average precision. The
`_micro` figures count all classes, so false positives of absent classes still cost precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from rsjax.errors import ConfigError
from rsjax.metrics import base


@flax.struct.dataclass
class MultilabelCounts(base.Scored):
    """Counts at a threshold; make it with `MultilabelCounts.for_classes(num_classes, threshold)`.

    Attributes:
        tp: (C,) integers, true positives.
        fp: (C,) false positives.
        fn: (C,) false negatives.
        tn: (C,) true negatives.
        exact: positions where all classes are right.
        samples: positions that count.
    """

    threshold: ClassVar[tuple[float, ...]]

    tp: Any
    fp: Any
    fn: Any
    tn: Any
    exact: Any
    samples: Any

    @classmethod
    def for_classes(cls, num_classes: int, threshold: float | Sequence[float] = 0.5) -> Any:
        """The metric class for `num_classes` classes.

        Args:
            num_classes: C.
            threshold: a class is predicted where its probability, in float32, is not below this;
                one number for all classes, or one per class.

        Raises:
            ConfigError: thresholds that are not one per class, or outside [0, 1].
        """
        array = np.asarray(threshold, float)
        if array.shape not in ((), (num_classes,)) or not np.all((array >= 0) & (array <= 1)):
            raise ConfigError(
                f"threshold is {threshold}, expected one number in [0, 1] or {num_classes} of "
                "them, one per class"
            )
        thresholds = tuple(np.broadcast_to(array, num_classes).tolist())
        return base.specialise(cls, num_classes=num_classes, threshold=thresholds)

    @classmethod
    def empty(cls) -> Any:
        """Nothing counted, on the host."""
        zero, zeros = np.zeros((), np.int64), np.zeros(cls.num_classes, np.int64)
        return cls(zero, zero, zeros, zeros, zeros, zeros, zero, zero)

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
            labels: multi-hot (..., C), 0 or 1 of any type.
            mask: (...,), true where a position counts.
            logits: (..., C); probabilities are their sigmoid in float32.
            probabilities: (..., C), taken in place of the logits where given.

        Raises:
            ValueError: neither logits nor probabilities, or shapes that do not fit.
        """
        if probabilities is None:
            if logits is None:
                raise ValueError("MultilabelCounts needs logits or probabilities")
            probabilities = jax.nn.sigmoid(logits.astype(jnp.float32))
            # The sigmoid of an infinite logit is a probability like any other.
            probabilities = jnp.where(jnp.isfinite(logits), probabilities, jnp.nan)
        shape = (*labels.shape[:-1], cls.num_classes)
        base.check_shapes(
            mask, shape[:-1], labels=(labels, shape), probabilities=(probabilities, shape)
        )
        mask = mask.astype(bool)
        scores = probabilities.astype(jnp.float32)
        actual, known = base.multi_hot(labels)
        finite = jnp.all(jnp.isfinite(scores), axis=-1)
        predicted = scores >= jnp.broadcast_to(jnp.asarray(cls.threshold, jnp.float32), shape)

        axes = tuple(range(labels.ndim - 1))
        counted = mask & known & finite
        each = counted[..., None]
        return cls(
            base.count(mask & ~known),
            base.count(mask & ~finite),
            tp=base.count(each & actual & predicted, axes),
            fp=base.count(each & ~actual & predicted, axes),
            fn=base.count(each & actual & ~predicted, axes),
            tn=base.count(each & ~actual & ~predicted, axes),
            exact=base.count(counted & jnp.all(actual == predicted, axis=-1)),
            samples=base.count(counted),
        )

    def compute(self) -> dict[str, float]:
        """The figures of the whole set, with the averaging in their names.

        Returns:
            `precision`, `recall` and `f1` as `_macro` (over `classes_counted`) and `_micro`;
            `subset_accuracy`, the share of positions with all classes right; `hamming_loss`, the
            share of wrong entries; `classes_counted`; `samples_counted`. A figure without a
            single case is NaN.

        Raises:
            DatasetError, RsjaxError: see `Scored.check`.
        """
        self.check()
        counts = (self.tp, self.fp, self.fn, self.exact, self.samples)
        return base.numbers(figures(*counts))

    def per_class(self) -> dict[str, np.ndarray]:
        """`precision`, `recall`, `f1` (NaN where undefined) and `support`, each (C,).

        Raises:
            DatasetError, RsjaxError: see `Scored.check`.
        """
        self.check()
        counts = (np.asarray(count, np.int64) for count in (self.tp, self.fp, self.fn))
        return class_figures(*counts)


def figures(tp: Any, fp: Any, fn: Any, exact: Any, samples: Any) -> dict[str, np.ndarray]:
    """The figures of whole sets, see `MultilabelCounts.compute`.

    Args:
        tp: (..., K) true positives of each class.
        fp: (..., K) false positives.
        fn: (..., K) false negatives.
        exact: (...) positions where all classes are right.
        samples: (...) positions that count.

    Returns:
        Arrays (...) float64.
    """
    tp, fp, fn, exact, samples = (
        np.asarray(count, float, order="C") for count in (tp, fp, fn, exact, samples)
    )
    table = class_figures(tp, fp, fn)
    present = table["support"] > 0
    micro = class_figures(tp.sum(axis=-1), fp.sum(axis=-1), fn.sum(axis=-1))
    wrong, names = (fp + fn).sum(axis=-1), ("precision", "recall", "f1")
    return {
        **{f"{name}_macro": base.means(table[name], present) for name in names},
        **{f"{name}_micro": micro[name] for name in names},
        "subset_accuracy": base.ratio(exact, samples, samples > 0),
        "hamming_loss": base.ratio(wrong, samples * tp.shape[-1], samples > 0),
        "classes_counted": present.sum(axis=-1).astype(float),
        "samples_counted": samples,
    }


def class_figures(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 (NaN where undefined) and support of counts of any one shape."""
    seen = (tp + fp + fn) > 0
    return {
        "precision": base.ratio(tp, tp + fp, seen),
        "recall": base.ratio(tp, tp + fn, tp + fn > 0),
        "f1": base.ratio(2 * tp, 2 * tp + fp + fn, seen),
        "support": tp + fn,
    }
