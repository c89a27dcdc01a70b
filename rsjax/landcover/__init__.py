"""Nomenclatures as data: the classes of a label, a map and a chart, and how they translate.

A nomenclature is a CSV file in this folder: ordered classes, each with a code as found on disk, a
name and a colour, the codes that mean "not labelled", a source, and optionally a coarser parent.
`load(name)` gives a `Nomenclature`, whose `encode` turns codes into class indices (uint8, 255 =
not labelled) and `decode` turns them back; `crosswalk` gives a lookup table to another one, from
the parents or from a file in `crosswalks/`. A code or name outside the tables is a
`NomenclatureError`, never class 0. To add a nomenclature, add a CSV file; `read_csv` reads one
from anywhere, and `register` takes one that is in no file.
"""

from rsjax.landcover.nomenclature import IGNORE, NAMES, Nomenclature, load, read_csv, register

__all__ = ["IGNORE", "NAMES", "Nomenclature", "load", "read_csv", "register"]
