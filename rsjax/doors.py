"""What the commands share: flags checked, errors as one message, options read."""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from absl import app
from absl import logging as absl_logging

from rsjax.errors import ConfigError, RsjaxError

if TYPE_CHECKING:
    from rsjax.input.manifest import Manifest


def run(main: Callable[[Sequence[str]], Any]) -> None:
    """Runs a command; an error that the user can mend is one message and exit status 1."""

    def guarded(argv: Sequence[str]) -> None:
        try:
            main(argv)
        except RsjaxError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(1)

    app.run(guarded)


def log_to_stderr() -> None:
    """Shows what rsjax has to say, with the time, and of its dependencies errors only."""
    logger = logging.getLogger("rsjax")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.handlers[:] = [handler]
    absl_logging.set_verbosity(absl_logging.ERROR)


def refuse_arguments(argv: Sequence[str]) -> None:
    """Refuses arguments that are no flags; absl would ignore them.

    Raises:
        ConfigError: names them.
    """
    if len(argv) > 1:
        raise ConfigError(f"unknown arguments {argv[1:]}; options start with --, see --help")


def require(flag: str, value: str | None, example: str) -> str:
    """The value of a flag; refuses one that was not given.

    Raises:
        ConfigError: with an example.
    """
    if not value:
        raise ConfigError(f"--{flag} is missing, e.g. --{flag}={example}")
    return value


def options(pairs: Sequence[str]) -> dict[str, Any]:
    """Reads 'name=value' pairs; values are Python literals, comma lists or plain text.

    Raises:
        ConfigError: a pair has no '='.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--option={pair}: write name=value")
        value: Any = {"true": True, "false": False}.get(text.lower(), text)
        if isinstance(value, str):
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                value = tuple(text.split(",")) if "," in text else text
        found[name] = value
    return found


def say_prepared(made: Manifest) -> None:
    """Prints what was prepared, and where it lies."""
    note = " (SIMULATED, not real imagery)" if made.simulated else ""
    print(f"{made.info.title}{note}: {made.root}")
    for split, entry in made.splits.items():
        size = sum(shard["bytes"] for shard in entry["shards"]) / 1e6
        skipped = f", {len(entry['skipped'])} skipped" if entry["skipped"] else ""
        count = len(entry["shards"])
        print(f"  {split}: {entry['records']} records in {count} shards, {size:.1f} MB{skipped}")
