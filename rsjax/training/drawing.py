"""A drawing as a PNG file and as a piece of a page that stays readable on a narrow screen."""

from __future__ import annotations

import pathlib
from html import escape

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
    width = min(round(80 * figure.get_figwidth()), 1060)  # CSS pixels at which text is read
    image = page.image(data, "image/png", alt, f' style="min-width:{width}px;max-width:100%"')
    return (
        f"<figure>{scroll(image)}\n<figcaption>{escape(caption)}</figcaption></figure>"
        if caption
        else f"<figure>{scroll(image)}</figure>"
    )


def scroll(content: str) -> str:
    """A box that scrolls sideways where the screen is narrower than its content."""
    return f'<div style="overflow-x:auto" tabindex="0">{content}</div>'
