"""The report's figures as matplotlib objects, and pictures of samples as small image files.

Nothing here touches pyplot, so that no figure stays in memory and no window system is asked for.
"""

from __future__ import annotations

import io
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import imagecodecs
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rsjax import sealed
from rsjax.input import manifest as manifests
from rsjax.input.source import ShardSource

ACCENT, SECOND, GRID = "#0b5fa5", "#c2571a", "#dddddd"
FIT_PX = 256  # side to which images of varying size are cropped or padded
SHOWN_STEPS = 4  # of a time series, side by side
PNG_PX = 128  # larger pictures are JPEG: 36 of them must stay small
DPI = 110
RANGE_SAMPLES = 64  # from which the range of a grey picture is taken


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """A figure as PNG."""
    file = io.BytesIO()
    with warnings.catch_warnings():  # a script without a font: the table beside it has the name
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def save(workdir: pathlib.Path, name: str, figure: Figure, dpi: int = DPI) -> bytes:
    """Writes `workdir/figures/name.png`, whole or absent, and returns its content."""
    data = png(figure, dpi)
    sealed.replace(workdir / "figures" / f"{name}.png", data)
    return data


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


def every(height: int, width: int) -> int:
    """Each how-manieth row and column is drawn, so that a picture stays small."""
    return max(1, -(-max(height, width) // FIT_PX))


Picture = tuple[str, bytes, int]  # media type, file, width in pixels


def pictures(
    shards: pathlib.Path, split: str, indices: np.ndarray
) -> tuple[list[Picture], list[str], str]:
    """Samples as colour pictures, all with one linear stretch; steps of a series side by side.

    Args and returns as `steps`, but one picture of each sample.
    """
    found, ids, said = steps(shards, split, indices)
    return [picture(np.concatenate(list(series), axis=1)) for series in found], ids, said


def picture(pixels: np.ndarray) -> Picture:
    """(h, w, 3) uint8 as a small file."""
    small = max(pixels.shape[:2]) <= PNG_PX
    pixels = np.ascontiguousarray(pixels)
    encoded = (
        imagecodecs.png_encode(pixels, level=9)
        if small
        else imagecodecs.jpeg8_encode(pixels, level=88)
    )
    return "image/png" if small else "image/jpeg", bytes(encoded), pixels.shape[1]


def steps(
    shards: pathlib.Path, split: str, indices: np.ndarray
) -> tuple[list[np.ndarray], list[str], str]:
    """Samples in colour, all with one linear stretch.

    Args:
        shards: folder of the shards.
        split: the split, or several joined by '+'.
        indices: (B,) records.

    Returns:
        (T, h, w, 3) uint8 of each sample, with one step unless it is a time series, and at most
        `SHOWN_STEPS`; the ids; and a sentence that says which bands are drawn and how.
    """
    info = manifests.load(shards).info
    entry, bands = info.rgb
    colour = entry in info.images and set(bands) <= set(info.images[entry].bands)
    if not colour:  # e.g. radar alone: its first band in grey
        entry = next(iter(info.images))
        bands = (info.images[entry].bands[0],) * 3
    spec = info.images[entry]
    height, width = spec.height or FIT_PX, spec.width or FIT_PX
    varies = 0 in (spec.height, spec.width)
    fit = (SHOWN_STEPS, height, width)
    source = ShardSource(shards, split, columns=[entry], fit=fit)
    channels = [spec.bands.index(band) for band in bands]

    low, high = info.rgb_range
    origin = "one range for all pictures of this dataset"
    if not colour:
        some = np.unique(np.linspace(0, len(source) - 1, RANGE_SAMPLES).round().astype(int))
        pixels = source.read(some)[entry]
        valid = np.isfinite(pixels).all(-1)
        if spec.nodata is not None and not spec.missing_is_nan:
            valid &= (pixels != spec.nodata).any(-1)
        values = pixels[..., channels[0]][valid]
        low, high = np.percentile(values, (2, 98)) if values.size else (0.0, 1.0)
        origin = f"percentiles 2 and 98 of the band over {len(some)} samples across the split"

    step = every(height, width)
    span = max(float(high) - float(low), 1e-12)
    found = []
    for image in source.read(indices)[entry][..., ::step, ::step, channels]:
        series = image[None] if spec.steps is None else image
        count = min(len(series), SHOWN_STEPS)
        series = series[np.linspace(0, len(series) - 1, count).round().astype(int)]
        if spec.missing_is_nan:
            series = np.where(np.isnan(series), np.asarray(low, series.dtype), series)
        shade = np.clip((series.astype(np.float32) - np.float32(low)) / np.float32(span), 0, 1)
        found.append((shade * 255).round().astype(np.uint8))

    what = f"{', '.join(bands)} as red, green, blue" if colour else f"{bands[0]} in grey"
    said = f"{spec.sensor} {what}, linear from {low:.4g} (black) to {high:.4g} (white): {origin}."
    said += "" if colour else " These shards hold no bands for a colour picture."
    said += " Missing values are black." if spec.missing_is_nan else ""
    if spec.steps is not None:
        said += " Steps of the series from left to right"
        chosen = not 0 < spec.steps <= SHOWN_STEPS
        said += f", {SHOWN_STEPS} of each, evenly spread." if chosen else "."
    said += f" Cropped or padded by reflection to {height} × {width} pixels." if varies else ""
    said += f" Every {step}th row and column is drawn." if step > 1 else ""
    return found, source.ids(indices), said


def pixels(file: Picture) -> np.ndarray:
    """The pixels (h, w, 3) uint8 of one of `pictures`."""
    decode = imagecodecs.png_decode if file[0] == "image/png" else imagecodecs.jpeg8_decode
    return np.asarray(decode(file[1]))
