"""Metrics of the order of the scores: average precision, which needs every score of the set."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from rsjax.metrics import base

LARGEST = 2**22  # entries of one block of (steps, sets), 32 MiB


@flax.struct.dataclass
class AveragePrecision(base.Scored):
    """Average precision per class; make it with `AveragePrecision.for_classes(num_classes)`.

    Scores and labels are collected, batch by batch, and ranked as a whole: 5 bytes an entry.
    `from_model_output` runs under jit; `merge` only on the host. On several hosts the evaluation
    step must return replicated arrays.

    Attributes:
        scores: float32 (..., C), one array per batch.
        labels: bool (..., C), one per batch.
        mask: bool (...,), one per batch.
    """

    scores: tuple[Any, ...]
    labels: tuple[Any, ...]
    mask: tuple[Any, ...]

    @classmethod
    def for_classes(cls, num_classes: int) -> Any:
        """The metric class for `num_classes` classes."""
        return base.specialise(cls, num_classes=num_classes)

    @classmethod
    def empty(cls) -> Any:
        """Nothing collected."""
        zero = np.zeros((), np.int64)
        return cls(zero, zero, (), (), ())

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
        """The scores and labels of one batch.

        Args:
            labels: multi-hot (..., C), 0 or 1 of any type.
            mask: (...,), true where a position counts.
            logits: (..., C), ranked as they are: the sigmoid would only add ties, where it
                saturates.
            probabilities: (..., C), for models without logits.

        Raises:
            ValueError: neither logits nor probabilities, or shapes that do not fit.
        """
        scores = probabilities if logits is None else logits
        if scores is None:
            raise ValueError("AveragePrecision needs logits or probabilities")
        shape = (*labels.shape[:-1], cls.num_classes)
        base.check_shapes(mask, shape[:-1], labels=(labels, shape), scores=(scores, shape))
        mask = mask.astype(bool)
        actual, known = base.multi_hot(labels)
        finite = jnp.all(jnp.isfinite(scores), axis=-1)
        return cls(
            base.count(mask & ~known),
            base.count(mask & ~finite),
            (scores.astype(jnp.float32),),
            (actual,),
            (mask,),
        )

    def merge(self, other: Any) -> Any:
        """Both collections; the other's arrays are moved to the host.

        Raises:
            TypeError: under jit, where a collection that grows has no shape.
        """
        leaves = (self.invalid_labels, *jax.tree.leaves(other))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            raise TypeError("AveragePrecision.merge runs on the host, not under jit")
        left, right = self, base.to_host(other)
        return type(self)(
            base.add(left.invalid_labels, right.invalid_labels),
            base.add(left.invalid_predictions, right.invalid_predictions),
            left.scores + right.scores,
            left.labels + right.labels,
            left.mask + right.mask,
        )

    def compute(self) -> dict[str, float]:
        """The figures of the whole set.

        Returns:
            `mAP_macro`, the mean over the classes with positives in the reference;
            `classes_counted`, their number; `mAP_micro`, all entries ranked together;
            `samples_counted`. NaN where there is no positive at all.

        Raises:
            DatasetError, RsjaxError: see `Scored.check`.
        """
        scores, labels = self._collected()
        one = np.ones((1, len(scores)))
        found, _ = figures(scores, labels, one)
        return {name: float(value[0]) for name, value in found.items()}

    def per_class(self) -> dict[str, np.ndarray]:
        """`average_precision` (NaN without positives) and `support`, each (C,).

        Raises:
            DatasetError, RsjaxError: see `Scored.check`.
        """
        scores, labels = self._collected()
        one = np.ones((1, len(scores)))
        return {
            "average_precision": _per_class(scores, labels, one)[0],
            "support": labels.sum(axis=0, dtype=np.int64),
        }

    def _collected(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores and labels (N, C) of the positions that count."""
        self.check()
        none = np.zeros((0, self.num_classes))
        masks = [np.asarray(mask) for mask in self.mask]
        return (
            _concatenate(self.scores, masks, none.astype(np.float32)),
            _concatenate(self.labels, masks, none.astype(bool)),
        )


def _concatenate(batches: tuple[Any, ...], masks: list[np.ndarray], none: np.ndarray) -> np.ndarray:
    chosen = [np.asarray(batch)[mask] for batch, mask in zip(batches, masks, strict=True)]
    return np.concatenate([none, *chosen])


def figures(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The figures of `AveragePrecision` of sets that count each position a number of times.

    Args:
        scores: (N, K), finite.
        labels: bool (N, K).
        weights: (R, N) non-negative integers, how often each position counts in each set.

    Returns:
        Figures (R,) and figures per class (R, K), float64.
    """
    each = _per_class(scores, labels, weights)
    present = ~np.isnan(each)
    overall = {
        "mAP_macro": base.means(each, present),
        "mAP_micro": average_precision(scores, labels, weights),
        "classes_counted": present.sum(axis=-1).astype(float),
        "samples_counted": weights.sum(axis=-1, dtype=float),
    }
    return overall, {
        "average_precision": each,
        "support": weights.astype(float) @ labels.astype(float),
    }


def _per_class(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    columns = zip(scores.T[..., None], labels.T[..., None], strict=True)
    return np.stack([average_precision(s, y, weights) for s, y in columns], axis=-1)


def average_precision(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sum of precision times the step in recall, over the distinct scores from high to low.

    Equal scores are one step: their order carries no information. No interpolation. One sort
    serves all sets.

    Args:
        scores: (N, K), finite; the entries of all columns are ranked together.
        labels: bool (N, K).
        weights: (R, N) non-negative integers, how often each row counts in each set.

    Returns:
        Values in [0, 1], (R,); NaN for a set without positives.

    Source: Manning, Raghavan and Schütze 2008, Introduction to Information Retrieval, ch. 8.
    """
    (count, columns), weights = scores.shape, np.asarray(weights, float)
    order = np.argsort(scores, axis=None)[::-1]
    ranked, actual = scores.ravel()[order], labels.ravel()[order]
    if not actual.any():
        return np.full(len(weights), np.nan)
    # The run of equal scores of each entry, then the first run at or after it with a positive:
    # recall steps only there. Entries after the last positive change nothing.
    run = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])])
    steps = np.unique(run[actual])
    step = np.searchsorted(steps, run)
    ranks = step < len(steps)

    def entries(chosen: np.ndarray) -> sparse.csr_array:
        """How many of the chosen entries of each row come in at each step, (steps, N)."""
        cells = (step[chosen], order[chosen] // columns)
        return sparse.csr_array((np.ones(len(cells[0])), cells), shape=(len(steps), count))

    predicted, right = entries(ranks), entries(ranks & actual)
    parts = []
    for part in np.array_split(weights, -(-len(weights) * len(steps) // LARGEST) or 1):
        rises = right @ part.T
        hits = np.cumsum(rises, axis=0)
        precision = base.ratio(hits, np.cumsum(predicted @ part.T, axis=0))
        # Contiguous rows, so that one set and many are added in the same order.
        area = np.ascontiguousarray((rises * precision).T).sum(axis=-1)
        parts.append(base.ratio(area, hits[-1], hits[-1] > 0))
    return np.concatenate(parts)
