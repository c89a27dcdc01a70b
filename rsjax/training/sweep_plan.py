"""The runs of a sweep: overrides of one config, checked before the first run starts."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import re
import runpy
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from rsjax import config as configs
from rsjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run of a sweep.

    Attributes:
        number: its position in the list, from 0.
        overrides: {dotted field: value}.
        config: the resolved config.
    """

    number: int
    overrides: dict[str, Any]
    config: ConfigDict

    @property
    def folder(self) -> str:
        """Name of its folder: the number and the overrides in short."""
        parts = (f"{key.rsplit('.', 1)[-1]}_{value}" for key, value in self.overrides.items())
        short = re.sub(r"[^\w.-]+", "_", "-".join(parts))[:60].strip("_-.")
        return f"{self.number:03d}-{short or 'as_it_is'}"


def grid(**values: Iterable[Any]) -> list[dict[str, Any]]:
    """Every combination of the values: `grid(**{'seed': range(3), 'batch_size': (32, 64)})`.

    Returns:
        Overrides; the last field varies fastest.

    Raises:
        ConfigError: a field without values, or with a text in place of a list of values.
    """
    rows = itertools.product(*_lists(values).values())
    return [dict(zip(values, row, strict=True)) for row in rows]


def zipped(**values: Iterable[Any]) -> list[dict[str, Any]]:
    """The first values together, then the second ones, and so on.

    Raises:
        ConfigError: as `grid`, or the fields have different numbers of values.
    """
    lists = _lists(values)
    lengths = {key: len(row) for key, row in lists.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ConfigError(f"zipped: {said}; give each field as many values")
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _lists(values: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    found = {}
    for key, row in values.items():
        if isinstance(row, str) or not isinstance(row, Iterable) or not (items := list(row)):
            raise ConfigError(f"{key}={row!r}: give a list of values, e.g. [{row!r}]")
        found[key] = items
    return found


def load(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """The overrides that a sweep file's `get_sweep()` returns.

    Raises:
        ConfigError: the file is missing, fails, or returns something else than a list of dicts.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ConfigError(f"no sweep file {path}; it is Python with `def get_sweep()`")
    try:
        found = runpy.run_path(str(path))["get_sweep"]()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except KeyError as error:
        what = "has no get_sweep()" if error.args == ("get_sweep",) else f"KeyError: {error}"
        raise ConfigError(f"{path}: {what}; define get_sweep() -> list of overrides") from error
    except Exception as error:  # it is the user's own code
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    good = isinstance(found, list) and all(
        isinstance(one, dict) and all(isinstance(key, str) for key in one) for one in found
    )
    if not good or not found:
        raise ConfigError(
            f"{path}: get_sweep() returned {str(found)[:80]!r}; expected a list of dicts such as "
            "[{'seed': 0}, {'seed': 1}]"
        )
    return found


def plan(config: ConfigDict, overrides: list[dict[str, Any]]) -> list[Planned]:
    """The runs, each with its resolved config.

    Raises:
        ConfigError: lists every override that names no field, has another type, is given twice or
            makes a config that cannot work.
    """
    runs: list[Planned] = []
    problems: dict[str, list[str]] = {}  # message -> runs
    first: dict[str, int] = {}
    for number, one in enumerate(overrides):
        try:
            resolved = resolve(config, one)
            configs.validate(resolved)
            if resolved.mode != "train":
                raise ConfigError("mode: a sweep trains")
            whole = json.dumps(configs.to_json(resolved), sort_keys=True)
            if whole in first:
                raise ConfigError(f"the same config as run {first[whole]}")
            first[whole] = number
            runs.append(Planned(number, one, resolved))
        except ConfigError as error:
            problems.setdefault(str(error), []).append(f"run {number} ({said(one)})")
    if problems:
        lines = (f"{', '.join(which)}: {error}" for error, which in problems.items())
        raise ConfigError("the sweep cannot work:\n" + "\n".join(lines))
    return runs


def resolve(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A copy of a config with some fields replaced.

    Raises:
        ConfigError: a field is unknown, or a value has another type than the field.
    """
    copy = ConfigDict(config.copy_and_resolve_references())
    free = [key for key, value in configs.flatten(configs.base()) if isinstance(value, ConfigDict)]
    for key, value in overrides.items():
        *path, last = key.split(".")
        part: Any = copy
        for name in path:
            part = part.get(name) if isinstance(part, ConfigDict) else None
        is_free = any(key.startswith(f"{name}.") for name in free)  # e.g. model.fields.width
        if not isinstance(part, ConfigDict) or not (last in part or is_free):
            raise ConfigError(f"no field '{key}'; --print_config of rsjax.main lists all")
        try:
            with part.unlocked():
                part[last] = ConfigDict(value) if isinstance(value, dict) else value
        except TypeError as error:
            raise ConfigError(f"{key}={value!r}: {error}") from None
    return copy.lock()


def said(overrides: Mapping[str, Any]) -> str:
    """Overrides in one line."""
    return ", ".join(f"{key}={value!r}" for key, value in overrides.items()) or "no overrides"
