"""What a clean-up changed: pixels and hectares of each class before and after."""

from __future__ import annotations

import dataclasses

import numpy as np
from rich.markup import escape
from rich.table import Table

from rsjax.landcover import Nomenclature
from rsjax.landcover.nomenclature import IGNORE


@dataclasses.dataclass
class Changes:
    """Counts by class before (rows) and after (columns).

    Attributes:
        pixels: int64 (K, K).
        hectares: float64 (K, K); zeros where pixels have no known area.
        nodata: pixels without a class.
        known: whether areas are known.
    """

    pixels: np.ndarray
    hectares: np.ndarray
    nodata: int = 0
    known: bool = True

    @classmethod
    def none(cls, count: int, known: bool) -> Changes:
        """Nothing counted yet."""
        return cls(np.zeros((count, count), np.int64), np.zeros((count, count)), 0, known)

    def add(self, before: np.ndarray, after: np.ndarray, each: np.ndarray | None) -> None:
        """Counts a block.

        Args:
            before: class indices (rows, columns), 255 where there is none.
            after: likewise; 255 at the same pixels.
            each: hectares of a pixel, broadcasting to these; None where not known.
        """
        count, there = len(self.pixels), before != IGNORE
        pairs = before[there].astype(np.int64) * count + after[there]
        self.pixels += np.bincount(pairs, minlength=count**2).reshape(count, count)
        self.nodata += int((~there).sum())
        if each is not None:
            weights = np.broadcast_to(each, before.shape)[there]
            self.hectares += np.bincount(pairs, weights, count**2).reshape(count, count)

    @property
    def changed(self) -> int:
        """Pixels that have another class than before."""
        return int(self.pixels.sum() - np.trace(self.pixels))


def table(changes: Changes, classes: Nomenclature) -> Table:
    """The table to print: classes that are there before or after."""
    found = Table(title="changed by the clean-up", title_justify="left", show_footer=True)
    changed, hectares = f"{changes.changed:,}", changes.hectares
    columns = [("pixels left", changed), ("pixels joined", changed)]
    if changes.known:
        area = f"{hectares.sum():,.1f}"
        columns += [("ha before", area), ("ha after", area), ("change", "")]
    found.add_column("class", "all classes")
    for name, footer in columns:
        found.add_column(name, footer, justify="right", no_wrap=True)
    left, joined = (changes.pixels.sum(axis=axis) for axis in (1, 0))
    stayed = changes.pixels.diagonal()
    for c, name in enumerate(classes.names):
        if not left[c] and not joined[c]:
            continue
        cells = [escape(name), f"{left[c] - stayed[c]:,}", f"{joined[c] - stayed[c]:,}"]
        if changes.known:
            was, now = float(hectares[c].sum()), float(hectares[:, c].sum())
            cells += [f"{was:,.1f}", f"{now:,.1f}", f"{now - was:+,.1f}"]
        found.add_row(*cells)
    return found
