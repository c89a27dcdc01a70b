"""The report's figures as matplotlib objects, and pictures of samples as small image files.

Nothing here touches pyplot, so that no figure stays in memory and no window system is asked for.
"""

from __future__ import annotations

import io
import pathlib
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import imagecodecs
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from rsjax.input import manifest as manifests
from rsjax.input.source import ShardSource
from rsjax.landcover import Nomenclature

ACCENT, SECOND, GRID = "#0b5fa5", "#c2571a", "#dddddd"
FIT_PX = 256  # side to which images of varying size are cropped or padded
PNG_PX = 128  # larger pictures are JPEG: 36 of them must stay small
RANGE_SAMPLES = 64  # from which the range of a grey picture is taken


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    file = io.BytesIO()
    with warnings.catch_warnings():  # a script without a font: the table beside it has the name
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return file.getvalue()


def series(rows: Sequence[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one figure of `metrics.jsonl`; what was not finite is NaN."""
    found = [(row["step"], row[name]) for row in rows if name in row]
    values = [np.nan if value is None else value for _, value in found]
    return np.array([step for step, _ in found], float), np.array(values, float)


def curves(
    rows: Sequence[dict[str, Any]], headline: str, best: tuple[int, float] | None
) -> Figure | None:
    """Figures over the steps of training, one panel each; None if there is nothing to draw.

    Args:
        rows: of `metrics.jsonl`.
        headline: the validation figure that chooses the model.
        best: (step, headline figure) of the chosen model, to be marked.
    """
    panels = {
        "loss": {"train": "train/loss", "validation": "validation/loss"},
        f"validation {headline}": {"": f"validation/{headline}"},
        "learning rate": {"": "train/learning_rate"},
        "images a second": {"": "train/images_per_s"},
        "input wait, share of the time": {"": "train/input_wait_share"},
        "gradient norm": {"": "train/grad_norm"},
    }
    drawn = {
        title: {
            label: line for label, name in lines.items() if len((line := series(rows, name))[0])
        }
        for title, lines in panels.items()
    }
    drawn = {title: lines for title, lines in drawn.items() if lines}
    if not drawn:
        return None
    columns = min(3, len(drawn))
    height = -(-len(drawn) // columns)
    figure = Figure((3.4 * columns, 2.4 * height), layout="constrained")
    for number, (title, lines) in enumerate(drawn.items()):
        axes = figure.add_subplot(height, columns, number + 1)
        for colour, (label, (steps, values)) in zip((ACCENT, SECOND), lines.items(), strict=False):
            mark = "o" if len(steps) < 30 else None
            axes.plot(steps, values, color=colour, label=label, lw=1.3, marker=mark, ms=3)
        if len(lines) > 1:
            axes.legend(fontsize=7, frameon=False)
        if title in ("images a second", "input wait, share of the time"):
            axes.set_ylim(bottom=0)
        if title.endswith(headline) and best:
            axes.axvline(best[0], color=SECOND, lw=0.8, ls="--")
            axes.plot(*best, color=SECOND, marker="*", ms=11, ls="")
        axes.set_title(title, fontsize=9, parse_math=False)
        axes.set_xlabel("step", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(color=GRID, lw=0.6)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def confusion(matrix: np.ndarray, nomenclature: Nomenclature) -> Figure:
    """Confusion matrix (C, C): colour is the share of the row (the reference), text the count."""
    count = len(nomenclature)
    cell = 0.55 if count <= 12 else 0.42 if count <= 25 else 0.34
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    figure = Figure((cell * count + 3.2, cell * count + 2.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("#eeeeee")  # of classes that do not occur in the reference
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    digits = len(str(matrix.max(initial=0)))
    size = min(8.0, cell * 72 / (0.7 * max(digits, 3)))
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center",
                  fontsize=size, color=colour)  # fmt: skip
    _class_ticks(figure, axes, nomenclature, "x")
    _class_ticks(figure, axes, nomenclature, "y")
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("reference", fontsize=9)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30)
    bar.set_label("share of the reference", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _class_ticks(figure: Figure, axes: Axes, nomenclature: Nomenclature, which: str) -> None:
    """Names along an axis of a matrix, each with a square in the colour of its class."""
    at = np.arange(len(nomenclature))
    names = [textwrap.fill(name, 30) for name in nomenclature.names]
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(at, names, fontsize=7.5)
    if which == "x":
        axes.set_xticks(at, names, rotation=45, ha="right", rotation_mode="anchor")
    for label in axis.get_ticklabels():
        label.set_parse_math(False)
    axis.set_tick_params(length=0, pad=13)
    to = axes.get_xaxis_transform() if which == "x" else axes.get_yaxis_transform()
    shift = (0, -7) if which == "x" else (-7, 0)  # points
    to = offset_copy(to, figure, *shift, units="points")
    x, y = (at, 0 * at) if which == "x" else (0 * at, at)
    axes.scatter(x, y, c=nomenclature.colours, s=34, marker="s", transform=to,
                 clip_on=False, edgecolors="#555555", linewidths=0.5)  # fmt: skip


def average_precision(
    values: np.ndarray, prevalence: np.ndarray, nomenclature: Nomenclature
) -> Figure:
    """Average precision (C,) of each label, sorted, against its share of the samples (C,)."""
    shown = [int(i) for i in np.argsort(values, kind="stable") if np.isfinite(values[i])]
    figure = Figure((9.5, 0.32 * len(shown) + 1.0), layout="constrained")
    axes = figure.add_subplot()
    at = np.arange(len(shown))
    axes.barh(at, values[shown], color=[nomenclature.colours[i] for i in shown], height=0.72,
              edgecolor="#555555", linewidth=0.5, label="_bars")  # fmt: skip
    axes.scatter(prevalence[shown], at, marker="|", s=150, color="black", linewidths=2,
                 path_effects=[withStroke(linewidth=5, foreground="white")],
                 label="prevalence: the average precision of a constant score")  # fmt: skip
    for row, i in enumerate(shown):
        axes.text(values[i] + 0.006, row, f"{values[i]:.3f}", va="center", fontsize=7.5)
    labels = [textwrap.fill(nomenclature.names[i], 48) for i in shown]
    axes.set_yticks(at, labels, fontsize=7.5)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_xlim(0, 1.06)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xlabel("average precision", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if shown:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8, frameon=False)
    return figure


def pictures(
    shards: pathlib.Path, split: str, indices: np.ndarray
) -> tuple[list[tuple[str, bytes, int]], list[str], str]:
    """Samples as colour pictures, all with one linear stretch.

    Args:
        shards: folder of the shards.
        split: the split, or several joined by '+'.
        indices: (B,) records.

    Returns:
        (media type, file, width in pixels) of each picture; the ids; and a sentence that says
        which bands are drawn and how.
    """
    info = manifests.load(shards).info
    entry, bands = info.rgb
    colour = entry in info.images and set(bands) <= set(info.images[entry].bands)
    if not colour:  # e.g. radar alone: its first band in grey
        entry = next(iter(info.images))
        bands = (info.images[entry].bands[0],) * 3
    spec = info.images[entry]
    height, width = spec.height or FIT_PX, spec.width or FIT_PX
    fit = {entry: (height, width)} if 0 in (spec.height, spec.width) else {}
    source = ShardSource(shards, split, columns=[entry], fit=fit)
    channels = [spec.bands.index(band) for band in bands]

    low, high = info.rgb_range
    origin = "one range for all pictures of this dataset"
    if not colour:
        some = np.unique(np.linspace(0, len(source) - 1, RANGE_SAMPLES).round().astype(int))
        pixels = source.read(some)[entry]
        valid = (pixels != spec.nodata).any(-1) if spec.nodata is not None else ...
        values = pixels[..., channels[0]][valid]
        low, high = np.percentile(values, (2, 98)) if values.size else (0.0, 1.0)
        origin = f"percentiles 2 and 98 of the band over {len(some)} samples across the split"

    step = max(1, -(-max(height, width) // FIT_PX))
    span = max(float(high) - float(low), 1e-12)
    files = []
    for image in source.read(indices)[entry][:, ::step, ::step, channels]:
        shade = np.clip((image.astype(np.float32) - np.float32(low)) / np.float32(span), 0, 1)
        pixels = np.ascontiguousarray((shade * 255).round().astype(np.uint8))
        small = max(pixels.shape[:2]) <= PNG_PX
        encoded = (
            imagecodecs.png_encode(pixels, level=9)
            if small
            else imagecodecs.jpeg8_encode(pixels, level=88)
        )
        files.append(("image/png" if small else "image/jpeg", bytes(encoded), pixels.shape[1]))

    what = f"{', '.join(bands)} as red, green, blue" if colour else f"{bands[0]} in grey"
    said = f"{spec.sensor} {what}, linear from {low:.4g} (black) to {high:.4g} (white): {origin}."
    said += "" if colour else " These shards hold no bands for a colour picture."
    said += f" Cropped or padded by reflection to {height} × {width} pixels." if fit else ""
    said += f" Every {step}th row and column is drawn." if step > 1 else ""
    return files, source.ids(indices), said
