"""Reference and predicted maps side by side: which are shown, how they are coloured, what differs.

An evaluation of segmentation keeps the maps of some records. Here they meet their reference masks
and become small pictures and sentences; `maps_page` lays them out.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from rsjax import landcover
from rsjax.errors import ShardError
from rsjax.input import manifest as manifests
from rsjax.input.source import ShardSource
from rsjax.landcover import IGNORE, Nomenclature

SHOWN = 6  # records in each group
RIGHT, WRONG = 240, 25  # greys of the map of errors
STRIPE, GROUND = 110, 200  # greys of pixels that are ignored: a hatch, on no class's colour


@dataclasses.dataclass(frozen=True)
class Compared:
    """One record's maps.

    Attributes:
        reference: (H, W) uint8 class indices, 255 ignored.
        predicted: (H, W) uint8 class indices.
        confidence: (H, W) uint8, probability of the predicted class × 255.
        miou: of the record, as `miou` has it.
    """

    reference: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    miou: float

    @property
    def counted(self) -> np.ndarray:
        """(H, W) bool: pixels with a reference."""
        return self.reference != IGNORE

    @property
    def accuracy(self) -> float:
        """Share of the counted pixels that are right; NaN if none counts."""
        right = (self.reference == self.predicted)[self.counted]
        return float(right.mean()) if right.size else float("nan")


def miou(samples: Mapping[str, np.ndarray]) -> np.ndarray:
    """The mIoU of each record (N,): mean over the classes in its reference or its prediction.

    NaN where no pixel counts.
    """
    hits = samples["hits"].astype(float)
    union = samples["reference"] + samples["predicted"] - hits
    there = union > 0
    each = np.where(there, hits / np.where(there, union, 1), 0.0).sum(axis=1)
    return np.where(there.any(axis=1), each / np.maximum(there.sum(axis=1), 1), np.nan)


def choose(samples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Positions among `shown` of the worst, the typical and the best, no record twice.

    Worst and best have the lowest and the highest mIoU of the shown records, the typical are those
    of the rest that lie nearest to the median of all records of the split.
    """
    every = miou(samples)
    shown = every[samples["shown"]]
    order = np.argsort(shown, kind="stable")
    order = order[np.isfinite(shown[order])]  # without a counted pixel there is nothing to see
    each = min(SHOWN, max(1, round(len(order) / 3)))
    best = order[each:][::-1][:each]
    rest = order[each : len(order) - len(best)]
    middle = np.nanmedian(every) if len(order) else np.nan
    typical = rest[np.argsort(np.abs(shown[rest] - middle), kind="stable")][:SHOWN]
    groups = {"worst": order[:each], "typical": typical, "best": best}
    return {name: members for name, members in groups.items() if len(members)}


def references(
    shards: pathlib.Path, split: str, indices: np.ndarray, nomenclature: str
) -> np.ndarray:
    """Reference masks (B, H, W) uint8 in the task's classes, 255 ignored.

    Args:
        shards: folder of the shards.
        split: the split, or several joined by '+'.
        indices: (B,) records.
        nomenclature: name of the task's classes; empty: those of the shards.

    Raises:
        ShardError: the shards hold no masks.
        NomenclatureError: no crosswalk to `nomenclature`.
    """
    source = manifests.load(shards).mask_nomenclature
    if source is None:
        raise ShardError(
            f"{shards}: the shards hold no reference maps, so predicted maps cannot be compared "
            "with any. Give the shards that the evaluation was made on"
        )
    masks = ShardSource(shards, split, columns=["mask"]).read(indices)["mask"]
    return source.crosswalk(landcover.load(nomenclature))[masks] if nomenclature else masks


def _hatch(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(where.shape)
    grey = np.where((rows + columns) % 6 < 2, STRIPE, GROUND).astype(np.uint8)
    return np.where(where[..., None], grey[..., None], image)


def coloured(classes: np.ndarray, nomenclature: Nomenclature) -> np.ndarray:
    """A map (H, W) as (H, W, 3) uint8 in the colours of its classes; ignored pixels are hatched."""
    table = np.zeros((IGNORE + 1, 3), np.uint8)
    table[: len(nomenclature)] = [tuple(bytes.fromhex(c[1:])) for c in nomenclature.colours]
    return _hatch(table[classes], classes == IGNORE)


def errors(one: Compared) -> np.ndarray:
    """(H, W, 3) uint8: right pixels light, wrong ones dark, ignored ones hatched."""
    grey = np.where(one.reference == one.predicted, RIGHT, WRONG).astype(np.uint8)
    return _hatch(np.repeat(grey[..., None], 3, axis=-1), ~one.counted)


def confused(one: Compared, nomenclature: Nomenclature, most: int = 3) -> list[str]:
    """The largest confusions in words, with their share of the counted pixels."""
    counted, count = one.counted, len(nomenclature)
    pairs = one.reference[counted].astype(int) * count + one.predicted[counted]
    found = np.bincount(pairs, minlength=count * count).reshape(count, count)
    np.fill_diagonal(found, 0)
    order = np.argsort(-found, axis=None, kind="stable")[:most]
    return [
        f"{percent(found.flat[i] / max(len(pairs), 1))} of the pixels: "
        f"{nomenclature.names[i // count]} taken for {nomenclature.names[i % count]}"
        for i in order.tolist()
        if found.flat[i]
    ]


def percent(share: float) -> str:
    """A share in per cent, with as many digits as it bears; no line breaks within it."""
    if 0 < share < 0.001:
        return "below 0.1\u00a0%"
    digits = 1 if 0 < share < 0.0995 else 0
    return f"{100 * share:.{digits}f}\u00a0%"


def occurring(one: Compared) -> list[tuple[int, float, float]]:
    """(class, share in the reference, share in the prediction) of each class of the record.

    Shares of the counted pixels; the largest in the reference first.
    """
    counted = one.counted
    total = max(int(counted.sum()), 1)
    reference, predicted = (
        np.bincount(classes[counted], minlength=IGNORE + 1) / total
        for classes in (one.reference, one.predicted)
    )
    there = np.flatnonzero((reference[:IGNORE] > 0) | (predicted[:IGNORE] > 0))
    order = sorted(there.tolist(), key=lambda k: (-reference[k], -predicted[k], k))
    return [(k, float(reference[k]), float(predicted[k])) for k in order]
