"""A bar for the mapped area of each class, and beside it the adjusted area with its interval."""

from __future__ import annotations

import io
import textwrap

import numpy as np
from matplotlib.figure import Figure

from rsjax.landcover import Nomenclature
from rsjax.mapping.area_estimate import Accuracy
from rsjax.mapping.area_table import Tally


def png(counted: Tally, nomenclature: Nomenclature, accuracy: Accuracy | None) -> bytes:
    """The chart as a PNG file.

    Args:
        counted: the whole map.
        nomenclature: names and colours.
        accuracy: in hectares; None draws the mapped areas alone.

    Returns:
        The file; classes that neither the map nor the sample has are left out.
    """
    seen = counted.hectares > 0
    if accuracy is not None:
        seen = seen | accuracy.counts.any(axis=0)
    order = np.flatnonzero(seen)
    values = counted.hectares[order]
    top = float(values.max())
    if accuracy is not None:
        top = max(top, float(np.nanmax(np.append(accuracy.area.high[order], accuracy.area.value))))
    unit, scale = next(((u, s) for u, s in (("million ha", 1e6), ("thousand ha", 1e3))
                        if top >= 10 * s), ("ha", 1.0))  # fmt: skip
    figure = Figure((7.5, 1.3 + 0.5 * len(order)), layout="constrained")
    axes = figure.add_subplot()
    at = np.arange(len(order))
    shift = 0.0 if accuracy is None else 0.2
    axes.barh(at - shift, values / scale, 0.36 if shift else 0.6,
              color=[nomenclature.colours[c] for c in order], edgecolor="#444444",
              linewidth=0.6, label="mapped (pixels counted)")  # fmt: skip
    if accuracy is not None:
        area = accuracy.area
        known = np.isfinite(area.low[order])
        label = f"adjusted by the sample, {100 * accuracy.level:g} % interval"
        below = np.where(known, area.value[order] - area.low[order], 0)
        above = np.where(known, area.high[order] - area.value[order], 0)
        axes.errorbar(area.value[order] / scale, at + shift, xerr=np.stack([below, above]) / scale,
                      fmt="o", color="black", markersize=4, capsize=4, linewidth=1.2,
                      label=label)  # fmt: skip
        for i in np.flatnonzero(~known):
            axes.annotate(" no variation in the sample: no interval",
                          (area.value[order[i]] / scale, at[i] + shift), fontsize=7,
                          va="center", xytext=(4, 0), textcoords="offset points")  # fmt: skip
        legend = figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        legend.get_patches()[0].set_facecolor("#bbbbbb")  # of any class, not of the first
    names = [textwrap.fill(nomenclature.names[c], 28) for c in order]
    axes.set_yticks(at, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, top / scale * 1.05)
    axes.set_xlabel(f"area ({unit})", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()
