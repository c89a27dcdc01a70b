"""Figures of a prepared dataset: class balance, histograms of the bands, where the patches lie."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rsjax.datasets.info import ImageSpec

ACCENT, GRID, GREY = "#0b5fa5", "#dddddd", "#aaaaaa"
UNLABELLED = "not labelled"
SPREAD = 100  # ratio of the largest to the smallest count from which bars are logarithmic
STYLES = (("#0b5fa5", "o"), ("#c2571a", "^"), ("#1a7a3c", "s"), ("#7a3c8f", "D"), ("#555555", "v"))
UNITS = {  # words for the axis
    "reflectance": "reflectance",
    "reflectance_1e4": "reflectance × 10,000",
    "reflectance_1e4_offset1000": "reflectance × 10,000 + 1,000",
    "landsat_c2_l2": "digital number (Collection 2)",
    "modis_sr": "reflectance × 10,000",
    "linear_power": "backscatter, linear",
    "db": "backscatter in dB",
    "dn8": "digital number, 8 bits",
}


def stamp(figure: Figure, simulated: bool) -> Figure:
    """The figure; of simulated imagery it says so, wherever it travels."""
    if simulated:
        figure.suptitle("SIMULATED imagery", fontsize=9, color="#b3261e", weight="bold")
    return figure


def balance(
    counts: Mapping[str, np.ndarray], names: Sequence[str], colours: Sequence[str], what: str,
    totals: Mapping[str, int],
) -> Figure:  # fmt: skip
    """Bars of the classes, one panel a split, with count and share beside each bar.

    Args:
        counts: {split: (C,)}.
        names: of the classes.
        colours: of the bars; a class of pixels without a label is hatched.
        what: is counted, for the axis.
        totals: {split: what 100 % is}.
    """
    every = np.concatenate([values[values > 0] for values in counts.values()] or [np.ones(1)])
    log = bool(every.size) and every.max() / every.min() > SPREAD
    rows = len(names)
    figure = Figure((2.9 + 2.75 * len(counts), 0.235 * rows + 1.1), layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    at = np.arange(rows)
    for axes, (split, values) in zip(panels, counts.items(), strict=True):
        bars = axes.barh(at, values, color=colours, height=0.74, edgecolor="#555555", lw=0.5)
        for bar, name in zip(bars, names, strict=True):
            if name == UNLABELLED:
                bar.set_hatch("////")
        largest = max(float(values.max(initial=0)), 1.0)
        if log:
            low = 0.5 * float(every.min())
            axes.set_xscale("log")
            axes.set_xlim(low, low * (largest / low) ** (1 / 0.6))
        else:
            axes.set_xlim(0, largest / 0.6)
            axes.xaxis.set_major_locator(MaxNLocator(3))
        for row, value in enumerate(values.tolist()):
            axes.text(0.99, row, _counted(value, totals[split]), ha="right", va="center",
                      fontsize=7.5, transform=axes.get_yaxis_transform())  # fmt: skip
        axes.set_title(f"{split}: {totals[split]:,}", fontsize=9, parse_math=False)
        axes.set_xlabel(what + (" (log scale)" if log else ""), fontsize=8)
        axes.set_ylim(rows - 0.4, -0.6)
        axes.tick_params(axis="x", labelsize=7)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    _names(panels[0], at, names)
    return figure


def _counted(value: int, total: int) -> str:
    share = 100 * value / max(total, 1)
    return f"{value:,} · " + (f"{share:.1f} %" if share >= 0.1 else "< 0.1 %") if value else "none"


def _names(axes: Axes, at: np.ndarray, names: Sequence[str]) -> None:
    lines = [textwrap.wrap(name, 48)[:2] for name in names]
    axes.set_yticks(at, ["\n".join(line) for line in lines], fontsize=7.5)
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_parse_math(False)
        if len(line) > 1:
            label.set_fontsize(6.3)


def histograms(
    values: Mapping[str, np.ndarray],
    images: Mapping[str, ImageSpec],
    statistics: Mapping[str, Mapping[str, Mapping[str, Any]]],
    missing: Mapping[str, float],
) -> Figure:
    """One small panel a band: valid values, with the mean and the deviation of the manifest.

    Args:
        values: {entry: (P, bands)}.
        images: the entries' specs.
        statistics: of the manifest.
        missing: share of nodata of each entry.
    """
    panels = [(name, i) for name, spec in images.items() for i in range(len(spec.bands))]
    columns = min(4, len(panels))
    height = -(-len(panels) // columns)
    figure = Figure((2.65 * columns, 2.0 * height), layout="constrained")
    for number, (name, i) in enumerate(panels):
        axes, spec = figure.add_subplot(height, columns, number + 1), images[name]
        band, pixels = spec.bands[i], values[name][:, i]
        title = f"{spec.sensor} {band}\n{100 * missing[name]:.2g} % nodata"
        axes.set_title(title, fontsize=8, parse_math=False)
        if pixels.size:
            axes.hist(pixels, bins=_bins(pixels).tolist(), color=ACCENT, alpha=0.75,
                      histtype="stepfilled",
                      weights=np.full(len(pixels), 100 / len(pixels)))  # fmt: skip
        else:
            axes.text(0.5, 0.5, "no valid pixel", ha="center", transform=axes.transAxes)
        known = statistics.get(spec.sensor, {}).get(band)
        if known:
            mean, std = float(known["mean"]), float(known["std"])
            axes.axvline(mean, color="black", lw=1.4)
            for edge in (mean - std, mean + std):
                axes.axvline(edge, color="black", lw=1.0, ls=":")
        axes.set_xlabel(UNITS.get(spec.unit, spec.unit), fontsize=7)
        axes.set_ylabel("% of pixels", fontsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _bins(pixels: np.ndarray) -> np.ndarray:
    """Edges between percentiles 0.1 and 99.9; of integers each bin has equally many values."""
    low, high = (float(v) for v in np.percentile(pixels, (0.1, 99.9)))
    if pixels.dtype.kind in "iu":
        step = max(1, round((high - low) / 64))
        return np.arange(low - 0.5, high + step, step)
    return np.linspace(low, high if high > low else low + 1, 61)


def places(centres: Mapping[str, np.ndarray]) -> Figure:
    """Centres of patches in degrees: each split in its own colour and with its own marker."""
    every = np.concatenate(list(centres.values()))
    (west, south), (east, north) = every.min(axis=0), every.max(axis=0)
    stretch = 1 / max(np.cos(np.radians((south + north) / 2)), 0.1)
    pad = 0.05 * max(east - west, north - south, 0.02)
    west, east, south, north = west - pad, east + pad, south - pad, north + pad
    more = ((north - south) * stretch / 1.1 - (east - west)) / 2  # a narrow map is widened
    west, east = west - max(more, 0), east + max(more, 0)
    shape = (north - south) * stretch / (east - west)
    figure = Figure((8.0, float(np.clip(6.6 * shape, 2.6, 8.5)) + 1.0), layout="constrained")
    axes = figure.add_subplot()
    size = float(np.clip(6000 / len(every), 6, 40))
    # The largest split lies below, and markers of the others are hollow: none hides another.
    order = sorted(centres, key=lambda name: -len(centres[name]))
    for number, split in enumerate(order):
        colour, marker = STYLES[list(centres).index(split) % len(STYLES)]
        face = colour if number == 0 else "none"
        east_of, north_of = centres[split].T
        axes.scatter(east_of, north_of, s=size * (1 if number == 0 else 1.5), marker=marker,
                     facecolors=face, edgecolors=colour, linewidths=0.0 if number == 0 else 0.9,
                     alpha=0.55 if number == 0 else 0.9,
                     label=f"{split}: {len(centres[split]):,}")  # fmt: skip
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.set_aspect(stretch)
    axes.set_xlabel("longitude in degrees", fontsize=9)
    axes.set_ylabel("latitude in degrees", fontsize=9)
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(labelsize=8)
    axes.grid(color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(4, len(order)),
                fontsize=9, frameon=False, markerscale=(40 / size) ** 0.5)  # fmt: skip
    return figure


def sheet(pictures: Sequence[tuple[np.ndarray, np.ndarray | None, str]]) -> Figure:
    """Pictures with their captions on one sheet.

    Args:
        pictures: (image (h, w, 3) uint8, its coloured map or None, caption) of each sample.
    """
    columns = min(6, len(pictures))
    count = -(-len(pictures) // columns)
    high = 2 if any(drawn is not None for _, drawn, _ in pictures) else 1  # pictures, one a row
    side, gap, text = 1.9, 0.08, 0.4  # inches
    cell = high * (side + gap) + text
    head = 0.3  # for a title
    width, height = columns * (side + gap) + gap, count * cell + gap + head
    figure = Figure((width, height))
    for number, (image, drawn, caption) in enumerate(pictures):
        row, column = divmod(number, columns)
        left, top = gap + column * (side + gap), height - gap - head - row * cell
        for level, shown in enumerate([image] if drawn is None else [image, drawn]):
            low = top - side - level * (side + gap)
            axes = figure.add_axes((left / width, low / height, side / width, side / height))
            axes.imshow(shown, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        axes.set_xlabel("\n".join(textwrap.wrap(caption, 36)[:3]), fontsize=6, parse_math=False)
    return figure
