"""A map as a picture with its legend, drawn from an overview."""

from __future__ import annotations

import pathlib
import textwrap

import numpy as np
import rasterio
from matplotlib import patches
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rasterio.enums import Resampling

from rsjax.landcover import Nomenclature

PIXELS = 1000  # of the longer side


def draw(source: pathlib.Path, classes: Nomenclature, target: pathlib.Path) -> None:
    """Draws a map; the legend has the classes that it shows, largest share first.

    Args:
        source: the map.
        classes: its nomenclature.
        target: PNG file to be written.

    Raises:
        OSError: it cannot be written.
    """
    with rasterio.open(source, driver="GTiff") as opened:
        shrink = max(1.0, max(opened.shape) / PIXELS)
        shape = tuple(max(1, round(side / shrink)) for side in opened.shape)
        codes = opened.read(1, out_shape=shape, resampling=Resampling.nearest)
        absent = codes == opened.nodata
    picture = np.full((*shape, 3), 255, np.uint8)
    shares = []
    for code, name, colour in zip(classes.codes, classes.names, classes.colours, strict=True):
        there = (codes == code) & ~absent
        picture[there] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        if there.any():
            shares.append((there.sum() / max(1, (~absent).sum()), name, colour))
    if shape[0] < PIXELS // 4 and shape[1] < PIXELS // 4:  # pixels stay visible
        factor = PIXELS // 2 // max(shape)
        picture = np.repeat(np.repeat(picture, factor, 0), factor, 1)
    height, width = (side / 100 for side in picture.shape[:2])
    figure = Figure(figsize=(width + 3.2, max(height, 0.25 * len(shares) + 0.6)), dpi=100)
    FigureCanvasAgg(figure)
    share = width / (width + 3.2)
    axes = figure.add_axes((0.01, 0.01, share - 0.02, 0.98))
    axes.imshow(picture, interpolation="nearest", aspect="equal")
    axes.set_axis_off()
    handles = [
        patches.Patch(facecolor=colour, edgecolor="0.4", linewidth=0.5, label=f"{name}  {part:.1%}")
        for part, name, colour in sorted(shares, reverse=True)
    ]
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(share, 0.5), frameon=False, fontsize=9,
        title=textwrap.fill(classes.title, 40) if handles else "no data", title_fontsize=9,
        alignment="left",
    )  # fmt: skip
    figure.savefig(target)
