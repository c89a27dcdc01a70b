"""Boundary F1 and boundary IoU of a set, from the counts of each image (`boundary.COUNTS`).

Boundary F1 is the score of Csurka, Larlus and Perronnin 2013, What is a good evaluation measure
for semantic segmentation?: precision is the share of the predicted boundary within the tolerance
of the reference boundary, recall the reverse, and F1 is taken for each image and class. Here a
distance equal to the tolerance is within. Boundary IoU is the IoU of the bands (Cheng et al. 2021,
Boundary IoU: Improving Object-Centric Image Segmentation Evaluation), pooled over the set; here
distances are Euclidean, where their code has squares, and the image's border is no boundary.

Rules for absent classes: F1 is not defined in an image where neither map has a boundary of the
class, and is 0 where only one has; IoU is not defined for a class without any band. What is not
defined is NaN per class and left out of the means, so an image of one class, rightly predicted,
does not count.
"""

from __future__ import annotations

from typing import Any, ClassVar

import flax.struct
import jax
import numpy as np

from rsjax.metrics import base, boundary, confusion

Figures = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


@flax.struct.dataclass
class BoundaryScore(base.Scored):
    """Boundary scores; make it with `BoundaryScore.for_classes(num_classes, radius_px)`.

    Counts of each image are collected, batch by batch. `from_model_output` runs under jit; `merge`
    only on the host. On several hosts the evaluation step must return replicated arrays. Padding
    is an image with nothing to count.

    Attributes:
        counts: (B, K, 7) integers as in `boundary.COUNTS`, one array per batch.
    """

    radius_px: ClassVar[float]

    counts: tuple[Any, ...]

    @classmethod
    def for_classes(cls, num_classes: int, radius_px: float) -> Any:
        """The metric class for `num_classes` classes and a tolerance (`boundary.radius_of`).

        Raises:
            ConfigError: see `boundary.check_options`.
        """
        boundary.check_options(num_classes, radius_px)
        return base.specialise(cls, num_classes=num_classes, radius_px=float(radius_px))

    @classmethod
    def empty(cls) -> Any:
        """Nothing collected."""
        zero = np.zeros((), np.int64)
        return cls(zero, zero, ())

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
            labels: class indices (B, H, W).
            mask: (B, H, W), true where a pixel counts.
            logits: (B, H, W, K); the prediction is the first largest.
            predictions: class indices (B, H, W), taken in place of the logits where given.

        Raises:
            ValueError: neither logits nor predictions, or shapes that do not fit.
        """
        if predictions is None:
            if logits is None:
                raise ValueError("BoundaryScore needs logits or predictions")
            base.check_shapes(mask, labels.shape, logits=(logits, (*labels.shape, cls.num_classes)))
            predictions = base.first_largest(logits)
        return cls(
            confusion.count_invalid(labels, mask, cls.num_classes),
            confusion.count_invalid(predictions, mask, cls.num_classes),
            (boundary.boundary_counts(labels, predictions, mask, cls.num_classes, cls.radius_px),),
        )

    def merge(self, other: Any) -> Any:
        """Both collections; the other's arrays are moved to the host.

        Raises:
            TypeError: under jit, where a collection that grows has no shape.
        """
        leaves = (self.invalid_labels, *jax.tree.leaves(other))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            raise TypeError("BoundaryScore.merge runs on the host, not under jit")
        right = base.to_host(other)
        return type(self)(
            base.add(self.invalid_labels, right.invalid_labels),
            base.add(self.invalid_predictions, right.invalid_predictions),
            self.counts + right.counts,
        )

    def compute(self) -> dict[str, float]:
        """The figures of `scores`, of the set itself.

        Raises:
            DatasetError, RsjaxError: see `Scored.check`.
        """
        return {name: float(value[0]) for name, value in self._scores()[0].items()}

    def per_class(self) -> dict[str, np.ndarray]:
        """`boundary_f1` and `boundary_iou` of each class, (K,), as in `scores`.

        Raises:
            DatasetError, RsjaxError: see `Scored.check`.
        """
        return {name: values[0] for name, values in self._scores()[1].items()}

    def _scores(self) -> Figures:
        self.check()
        none = np.zeros((0, self.num_classes, len(boundary.COUNTS)), np.int64)
        counts = np.concatenate([none, *(np.asarray(batch, np.int64) for batch in self.counts)])
        return scores(counts, np.ones((1, len(counts)), np.int64))


def scores(counts: np.ndarray, weights: np.ndarray) -> Figures:
    """Figures of weighted sets of images: groups, resampled sets, the set itself.

    Args:
        counts: (N, K, 7) integers of each image and class, as in `boundary.COUNTS`.
        weights: (R, N), not negative: how often each image is in each of R sets.

    Returns:
        Figures (R,): `boundary_f1_per_image_macro`, for each image the mean F1 over its defined
        classes, then the mean over images (Csurka's per-image score);
        `boundary_f1_by_class_macro`, for each class the mean F1 over the images where it is
        defined, then the mean over classes; `boundary_iou_pooled_macro`, the mean IoU over
        classes; `boundary_images_counted` and `boundary_classes_counted`, the images with a
        boundary and the classes with one. NaN where nothing is defined.

        And per class (R, K): `boundary_f1`, the mean over images; `boundary_iou`, pooled.
    """
    # Whole numbers below 2^53 are exact in float64, whose products are far faster.
    weights = np.asarray(weights, np.float64)
    f1 = image_f1(counts)
    defined = ~np.isnan(f1)
    shown = defined.any(axis=1)
    each_image = base.ratio(np.where(defined, f1, 0).sum(axis=1), defined.sum(axis=1))
    images = weights @ shown
    occurrences = weights @ defined.astype(np.float64)
    by_class = base.ratio(weights @ np.where(defined, f1, 0), occurrences, occurrences > 0)

    pooled = [weights @ np.asarray(counts[..., _of(name)], np.float64) for name in BANDS]
    hits, predicted, reference = pooled
    union = predicted + reference - hits
    iou = base.ratio(hits, union, union > 0)
    figures = {
        "boundary_f1_per_image_macro": base.ratio(weights @ each_image, images, images > 0),
        "boundary_f1_by_class_macro": _mean_over_classes(by_class),
        "boundary_iou_pooled_macro": _mean_over_classes(iou),
        "boundary_images_counted": images,
        "boundary_classes_counted": (occurrences > 0).sum(axis=1).astype(np.float64),
    }
    return figures, {"boundary_f1": by_class, "boundary_iou": iou}


BANDS = ("band_hits", "band_predicted", "band_reference")


def image_f1(counts: np.ndarray) -> np.ndarray:
    """Boundary F1 of each image and class.

    Args:
        counts: (N, K, 7) integers, as in `boundary.COUNTS`.

    Returns:
        (N, K) float64: NaN where neither map has a boundary, 0 where only one has.
    """
    predicted, reference = counts[..., _of("predicted")], counts[..., _of("reference")]
    precision = base.ratio(counts[..., _of("predicted_near")], predicted)
    recall = base.ratio(counts[..., _of("reference_near")], reference)
    return base.ratio(2 * precision * recall, precision + recall, predicted + reference > 0)


def _of(name: str) -> int:
    return boundary.COUNTS.index(name)


def _mean_over_classes(values: np.ndarray) -> np.ndarray:
    """(R,) means of (R, K) over what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    number = defined.sum(axis=1)
    return base.ratio(np.where(defined, values, 0).sum(axis=1), number, number > 0)
