"""A map's style for QGIS: `map.qml` beside `map.tif` is used when the map is opened."""

from __future__ import annotations

from xml.sax import saxutils

from rsjax.landcover import Nomenclature


def style(classes: Nomenclature) -> str:
    """A paletted style: each code with its colour and name.

    Args:
        classes: of the map.

    Returns:
        The text of a .qml file (format of QGIS 3).
    """
    entries = "".join(
        f'        <paletteEntry value="{code}" color="{colour}" alpha="255" '
        f"label={saxutils.quoteattr(name)}/>\n"
        for code, name, colour in zip(classes.codes, classes.names, classes.colours, strict=True)
    )
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.16" styleCategories="Symbology">\n  <pipe>\n'
        '    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" '
        'nodataColor="">\n      <colorPalette>\n'
        f"{entries}"
        "      </colorPalette>\n    </rasterrenderer>\n  </pipe>\n</qgis>\n"
    )
