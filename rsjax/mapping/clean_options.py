"""What a clean-up does to a map, as the user says it, and what is refused of that."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsjax.errors import ConfigError
from rsjax.landcover import Nomenclature
from rsjax.mapping import crf, majority, mapping_unit
from rsjax.mapping.crf import Crf


@dataclasses.dataclass(frozen=True)
class Options:
    """What is done to a map.

    Attributes:
        crf: parameters of the conditional random field; None: none.
        compatibility: CSV with the costs of neighbouring classes; '': 1 for any two (Potts).
        majority: side of the majority filter's window in pixels; 0: none.
        min_unit: area below which regions are merged, '0.5ha' or '9px'; '': none.
        connectivity: of regions, 4 or 8.
        keep: names of classes whose pixels the filter leaves and whose regions are never merged
            away.
    """

    crf: Crf | None = None
    compatibility: str = ""
    majority: int = 0
    min_unit: str = ""
    connectivity: int = 4
    keep: tuple[str, ...] = ()


def field(wanted: bool, given: Mapping[str, Any]) -> Crf | None:
    """The conditional random field with some parameters set by name; None if it is not wanted.

    Raises:
        ConfigError: an unknown parameter, a value that cannot be, or parameters of no field.
    """
    known = [one.name for one in dataclasses.fields(Crf)]
    if unknown := [name for name in given if name not in known]:
        raise ConfigError(f"--crf_option={unknown[0]}=...: expected one of {', '.join(known)}")
    if given and not wanted:
        raise ConfigError("--crf_option is for --crf; give it, or leave the option out")
    return Crf(**given) if wanted else None


def check(options: Options, scene: Sequence[str]) -> tuple[float, str]:
    """Refuses options that do not go together.

    Returns:
        The least area and its unit, 'ha' or 'px'; 0 and '' for none.

    Raises:
        ConfigError: says which.
    """
    if options.crf is None and not options.majority and not options.min_unit:
        raise ConfigError("nothing to do; give --crf, --majority=3 or --min_unit=0.5ha")
    if options.crf is not None and not scene:
        raise ConfigError("--crf needs the scene that the map was made of, e.g. --scene=scene.tif")
    if options.crf is None and (scene or options.compatibility):
        raise ConfigError("--scene and --compatibility are for --crf; give it, or leave them out")
    if options.keep and not (options.majority or options.min_unit):
        raise ConfigError(
            "--keep is for --majority and --min_unit; give one of them, or leave --keep out"
        )
    if options.majority:
        majority.check(options.majority)
    return mapping_unit.parse(options.min_unit) if options.min_unit else (0.0, "")


def compatibility(path: str, classes: Nomenclature) -> np.ndarray:
    """Costs of neighbouring classes from a CSV whose first row and column have their names.

    Raises:
        ConfigError: other classes, or costs that are not symmetric, negative, or not 0 for a class
            beside itself.
    """
    if not path:
        return crf.potts(len(classes))
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            head, *rows = list(csv.reader(file))
        costs = {row[0]: dict(zip(head[1:], map(float, row[1:]), strict=True)) for row in rows}
        table = np.array([[costs[a][b] for b in classes.names] for a in classes.names])
    except (OSError, ValueError, KeyError, IndexError, csv.Error) as error:
        raise ConfigError(
            f"{path}: {error}; expected a CSV with a row and a column for each of "
            f"{', '.join(classes.names)}, named in the first row and column"
        ) from error
    most = crf.RANGES["appearance"][1]  # likewise: sums have to be finite
    wrong = not ((table >= 0) & (table <= most)).all() or (table != table.T).any()
    if wrong or table.diagonal().any() or len(costs) != len(classes):
        raise ConfigError(
            f"{path}: expected costs from 0 to {most:,.0f}, the same both ways, and 0 for a class "
            "beside itself, for the map's classes alone"
        )
    return table.astype(np.float32)
