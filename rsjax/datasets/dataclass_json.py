"""Dataclasses as JSON and back: fields are keys, and those with a default may be left out."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from typing import Any


def plain(value: Any) -> Any:
    """A dataclass as JSON types, without what has its default."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        pairs = ((f, getattr(value, f.name)) for f in fields)
        return {f.name: plain(v) for f, v in pairs if v != f.default}
    return [plain(one) for one in value] if isinstance(value, tuple) else value


def parse(data: Any, kind: Any, at: str, problems: list[str], example: str) -> Any:
    """A dataclass from a JSON object; notes what does not fit and then returns None.

    Args:
        data: of the JSON file.
        kind: the dataclass; fields without a default must be there.
        at: where the object stands in the file, for messages; empty: it is the file.
        problems: takes the messages.
        example: of a file, for messages.
    """
    if not isinstance(data, dict):
        problems.append(f"{at or 'the file'} is {data!r:.60}, expected an object")
        return None
    kinds = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    before, given = len(problems), {}
    for name, value in data.items():
        here = f"{at}.{name}" if at else name
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            problems.append(f"unknown field {here}; {hint}known: {', '.join(fields)}")
            continue
        given[name] = _value(value, kinds[name], here, problems, example)
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in data:
            problems.append(f"no field {at + '.' if at else ''}{name}, expected e.g. {example}")
    return kind(**given) if len(problems) == before else None


def _value(value: Any, kind: Any, at: str, problems: list[str], example: str) -> Any:
    """One value of a type: text, number, truth, object, list of one of them, or null."""
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        kind = next(one for one in typing.get_args(kind) if one is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        if isinstance(value, list):
            item = typing.get_args(kind)[0]
            return tuple(
                _value(v, item, f"{at}[{i}]", problems, example) for i, v in enumerate(value)
            )
    elif dataclasses.is_dataclass(kind):
        return parse(value, kind, at, problems, example)
    elif kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    words = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false"}
    problems.append(f"{at}={value!r:.60}, expected {words.get(kind, 'a list')}")
    return None
