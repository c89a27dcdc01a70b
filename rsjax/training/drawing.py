"""A drawing as a PNG file in any folder and as a piece of a page."""

from __future__ import annotations

import pathlib

from matplotlib.figure import Figure

from rsjax import sealed
from rsjax.training import figures, page


def put(folder: pathlib.Path, name: str, figure: Figure, alt: str, caption: str) -> str:
    """Writes `folder/name.png`, whole or absent, and returns the HTML that has it inside.

    Args:
        folder: made if absent.
        name: of the file, without ending.
        figure: the drawing.
        alt: what is drawn, for those who do not see it.
        caption: text below.
    """
    data = figures.png(figure)
    sealed.replace(folder / f"{name}.png", data)
    return page.figure(data, alt, caption)
