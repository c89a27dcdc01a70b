"""What a model says of images: probabilities, the names of classes, maps."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Predictions for a batch of images.

    Attributes:
        classes: names of all classes.
        probabilities: (B, K) float32; of pixels (B, H, W, K).
        labels: for each image the names of its predicted classes: the most probable one, or all
            above the threshold in a multi-label task, most probable first; in segmentation those
            that have pixels, largest share first.
        maps: segmentation only: the class index of each pixel, (B, H, W) uint8.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    labels: list[list[str]]
    maps: np.ndarray | None = None

    def __str__(self) -> str:
        rows = self.probabilities if self.maps is None else shares(self.maps, len(self.classes))
        lines = []
        for row, names in zip(rows, self.labels, strict=True):
            told = (f"{n} {row[self.classes.index(n)]:.2f}" for n in names)
            lines.append(", ".join(told) or "no class above the threshold")
        return "\n".join(lines)


def shares(maps: np.ndarray, classes: int) -> np.ndarray:
    """The share of the pixels that each class has in each map, (B, K)."""
    flat = maps.reshape(len(maps), -1)
    counts = np.stack([np.bincount(row, minlength=classes) for row in flat])
    return counts / flat.shape[1]
