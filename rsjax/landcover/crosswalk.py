"""From the classes of one nomenclature to those of another: by file, by parent, by override."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsjax.errors import NomenclatureError
from rsjax.landcover import tables
from rsjax.landcover.nomenclature import IGNORE, NAMES, Nomenclature, load

_FOLDER = tables.FOLDER / "crosswalks"


def table(
    source: Nomenclature, target: Nomenclature, overrides: Mapping[int, int | None]
) -> np.ndarray:
    """Lookup table from class indices to class indices; see `Nomenclature.crosswalk`."""
    found = _code_map(source, target)
    mapping = {**(found or {}), **overrides}
    if found is None and not mapping.keys() >= set(source.codes):
        raise NomenclatureError(
            f"no crosswalk from {source.name!r} to {target.name!r}{_namesakes(source, target)}; "
            f"from {source.name!r} there are: {', '.join(sorted(_targets(source))) or 'none'}. "
            "Give `overrides` for every class, or add "
            f"{_path(source.name, target.name).name} to rsjax/landcover/crosswalks"
        )
    where = f"the overrides or the file {_path(source.name, target.name).name}"
    return _lookup(source, target, mapping, where)


def of_file(path: pathlib.Path, source: Nomenclature, target: Nomenclature) -> np.ndarray:
    """Lookup table from class indices to class indices, by a user's file alone.

    Args:
        path: a crosswalk file with every class of `source`, and no other.
        source: classes that it translates.
        target: classes that it leads to.

    Raises:
        NomenclatureError: a file that cannot be read, or codes that are missing or unknown.
    """
    return _lookup(source, target, read(path), f"the file {path} (an empty to_code: no class)")


def _lookup(
    source: Nomenclature, target: Nomenclature, mapping: Mapping[int, int | None], where: str
) -> np.ndarray:
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
            + f". Mend {where}"
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


def _same(one: Nomenclature, other: Nomenclature) -> bool:
    """Whether both have the same classes under the same codes, whatever they are called."""
    return dict(zip(one.codes, one.names, strict=True)) == dict(
        zip(other.codes, other.names, strict=True)
    )


def _packaged(one: Nomenclature) -> bool:
    """Whether it is the package's of its name, which alone the package's crosswalks are for."""
    return one.name in NAMES and _same(one, load(one.name))


def _namesakes(source: Nomenclature, target: Nomenclature) -> str:
    """What to say where names fit but classes do not."""
    if source.name == target.name:
        return ", two nomenclatures of one name with other codes or names of classes"
    other = [one.name for one in (source, target) if one.name in NAMES and not _packaged(one)]
    return f" ({other[0]!r} has not the classes of rsjax's of this name)" if other else ""


def _code_map(source: Nomenclature, target: Nomenclature) -> dict[int, int | None] | None:
    """Code -> code: the same classes, a crosswalk file, or by way of the parent."""
    if _same(source, target):
        return {code: code for code in source.codes}
    file = _path(source.name, target.name)
    if file.is_file() and _packaged(source) and _packaged(target):
        return read(file)
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
    files = _FOLDER.glob(f"{prefix}*.csv") if _packaged(source) else ()
    found = {path.stem.removeprefix(prefix) for path in files}
    if source.parent:
        found |= {source.parent} | _targets(load(source.parent))
    return found - {source.name}
