"""Values for parameters by regex: the first rule whose regex is found in a name decides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax

from rsjax.errors import ConfigError


def first_match(field: str, params: Any, rules: Sequence[tuple[str, Any]], default: Any) -> Any:
    """The value of each parameter: that of the first rule whose regex is found in its name.

    Args:
        field: of the config, for the messages.
        params: tree of parameters; names are paths such as 'layer1_0/conv1/kernel'.
        rules: (regex, value) pairs.
        default: value of the parameters that none matches.

    Raises:
        ConfigError: a regex is invalid or matches no parameter.
    """
    matched = set()

    def value_of(path: Any, _: Any) -> Any:
        for regex, value in rules:
            if re.search(regex, name_of(path)):
                matched.add(regex)
                return value
        return default

    try:
        tree = jax.tree_util.tree_map_with_path(value_of, params)
    except re.error as error:
        raise ConfigError(f"{field}: {error.pattern!r} is no regex ({error})") from None
    for regex, _ in rules:
        if regex not in matched:
            names = [name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
            raise ConfigError(
                f"{field}: {regex!r} matches no parameter that an earlier rule left; there are "
                f"{', '.join(names[:8])}, ..."
            )
    return tree


def name_of(path: Any) -> str:
    """A path in the tree of parameters as 'layer1_0/conv1/kernel'."""
    return "/".join(str(key.key) for key in path)
