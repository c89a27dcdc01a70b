"""What the commands share: flags checked, errors as one message, options read."""

from __future__ import annotations

import ast
import contextlib
import difflib
import logging
import pathlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from absl import app, flags
from absl import logging as absl_logging

from rsjax.errors import ConfigError, RsjaxError

if TYPE_CHECKING:
    from rsjax.input.manifest import Manifest


# Dependencies that tell as information where they found credentials, or what they also raise.
_TALKATIVE = ("botocore", "rasterio")


def run(main: Callable[[Sequence[str]], Any]) -> None:
    """Runs a command; an error that the user can mend is one message and exit status 1."""

    def guarded(argv: Sequence[str]) -> None:
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            main(argv)
        except RsjaxError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(1)

    app.run(guarded, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses flags; what is wrong with them is one message."""
    try:
        for argument in argv:
            path = argument.removeprefix("--config=").split(":")[0]
            if argument.startswith("--config=") and not pathlib.Path(path).is_file():
                known = ", ".join(sorted(map(str, pathlib.Path("configs").glob("*.py")))) or "none"
                raise ConfigError(f"no config file {path}; in configs/ here: {known}")
        return flags.FLAGS(argv)
    except ConfigError as error:
        message = str(error)
    except flags.Error as error:  # of a config file: its own words are in the last line
        message = str(error).strip().splitlines()[-1].strip()
    except (AttributeError, KeyError, TypeError) as error:
        message = _unknown_field(argv) or str(error)
    print(f"ConfigError: {message}", file=sys.stderr)
    sys.exit(1)


def _unknown_field(argv: Sequence[str]) -> str:
    """Which override names no field of the config, and which one may be meant."""
    from rsjax.config import base, flatten

    known = [name for name, _ in flatten(base())]
    for argument in argv:
        name = argument.removeprefix("--config.").split("=")[0]
        if argument.startswith("--config.") and name not in known:
            last = name.rsplit(".", 1)[-1]
            same = [k for k in known if k.rsplit(".", 1)[-1] == last]
            close = same or difflib.get_close_matches(name, known, 3, 0.5)
            return f"no field '{name}'; did you mean {' or '.join(close)}? --print_config lists all"
    return ""


def log_to_stderr(process: int = 0) -> None:
    """Shows what rsjax has to say, with the time, and of its dependencies nothing.

    What they log as an error, with tracebacks of their threads, they also raise. Of many processes
    the first says all, and the others warn, with their number.
    """
    logger = logging.getLogger("rsjax")
    logger.setLevel(logging.WARNING if process else logging.INFO)
    logger.propagate = False
    who = f"[process {process}] " if process else ""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"%(asctime)s {who}%(message)s", "%H:%M:%S"))
    logger.handlers[:] = [handler]
    absl_logging.set_verbosity(absl_logging.FATAL)


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


@contextlib.contextmanager
def stoppable(advice: str) -> Iterator[None]:
    """Ends a command by SIGTERM or Ctrl-C with one line, after it cleaned up; a second one kills.

    Raises:
        SystemExit: with 128 and the signal's number.
    """

    def stop(number: int, _: Any) -> None:
        for one in before:
            signal.signal(one, signal.SIG_DFL)
        raise _Stopped(number)

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    except _Stopped as stopped:
        print(f"stopped by {signal.Signals(stopped.number).name}. {advice}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Stopped(BaseException):
    """A signal to stop; no Exception, so that nothing on the way takes it for a failure."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def say_prepared(made: Manifest, root: str) -> None:
    """Prints what was prepared, and where it lies."""
    from rsjax.datasets import leakage
    from rsjax.input import notes

    note = " (SIMULATED, not real imagery)" if made.simulated else ""
    print(f"{made.info.title}{note}: {root}")
    for split, entry in made.splits.items():
        size = sum(shard["bytes"] for shard in entry["shards"]) / 1e6
        skipped = f", {len(entry['skipped'])} skipped" if entry["skipped"] else ""
        count = len(entry["shards"])
        print(f"  {split}: {entry['records']} records in {count} shards, {size:.1f} MB{skipped}")
    if found := notes.read(root, leakage.FILE):
        print("\n".join(f"  {line}" for line in leakage.lines(found)))
