"""From the classes of one nomenclature to those of another: by file, by parent, by override."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsjax.errors import NomenclatureError
from rsjax.landcover import tables
from rsjax.landcover.nomenclature import IGNORE, Nomenclature, load

_FOLDER = tables.FOLDER / "crosswalks"


def table(
    source: Nomenclature, target: Nomenclature, overrides: Mapping[int, int | None]
) -> np.ndarray:
    """Lookup table from class indices to class indices; see `Nomenclature.crosswalk`."""
    found = _code_map(source, target.name)
    mapping = {**(found or {}), **overrides}
    if found is None and not mapping.keys() >= set(source.codes):
        raise NomenclatureError(
            f"no crosswalk from {source.name!r} to {target.name!r}; from {source.name!r} there "
            f"are: {', '.join(sorted(_targets(source))) or 'none'}. Give `overrides` for every "
            f"class, or add {_path(source.name, target.name).name} to rsjax/landcover/crosswalks"
        )
    problems: dict[str, set[Any]] = {
        "classes without an entry": set(source.codes) - mapping.keys(),
        f"codes that are not in {source.name!r}": mapping.keys() - set(source.codes),
        f"codes that are not in {target.name!r}": set(mapping.values()) - {*target.codes, None},
    }
    if any(problems.values()):
        raise NomenclatureError(
            f"crosswalk from {source.name!r} to {target.name!r}: "
            + "; ".join(
                f"{what}: {', '.join(sorted(map(str, codes)))}"
                for what, codes in problems.items()
                if codes
            )
            + f". Mend the overrides or the file {_path(source.name, target.name).name}"
        )
    position: dict[int | None, int] = {code: index for index, code in enumerate(target.codes)}
    position[None] = IGNORE
    lookup = np.full(IGNORE + 1, IGNORE, np.uint8)
    lookup[: len(source)] = [position[mapping[code]] for code in source.codes]
    return lookup


def read(path: pathlib.Path) -> dict[int, int | None]:
    """Code -> code (None: ignore) of a crosswalk file; a repeated code is a NomenclatureError."""
    mapping: dict[int, int | None] = {}
    for line, row in tables.read(path, ["from_code", "to_code"])[1]:
        code = tables.integer(row["from_code"], path, line)
        if code in mapping:
            raise NomenclatureError(f"{path}:{line}: class code {code} given more than once")
        mapping[code] = tables.integer(row["to_code"], path, line) if row["to_code"] else None
    return mapping


def _path(source: str, target: str) -> pathlib.Path:
    return _FOLDER / f"{source}_to_{target}.csv"


def _code_map(source: Nomenclature, target: str) -> dict[int, int | None] | None:
    """Code -> code: the same nomenclature, a crosswalk file, or by way of the parent."""
    if source.name == target:
        return {code: code for code in source.codes}
    if _path(source.name, target).is_file():
        return read(_path(source.name, target))
    if not source.parent:
        return None
    onward = _code_map(load(source.parent), target)
    if onward is None:
        return None
    return {
        code: onward[up]
        for code, up in zip(source.codes, source.parents, strict=True)
        if up is not None and up in onward
    }


def _targets(source: Nomenclature) -> set[str]:
    """Names of the nomenclatures that `_code_map` reaches."""
    prefix = f"{source.name}_to_"
    found = {path.stem.removeprefix(prefix) for path in _FOLDER.glob(f"{prefix}*.csv")}
    if source.parent:
        found |= {source.parent} | _targets(load(source.parent))
    return found - {source.name}
