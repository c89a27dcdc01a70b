"""Many processes as one run: waiting for each other, agreeing, ending together.

Waiting and agreeing go through JAX's coordination service rather than the devices: on CPUs a first
collective of the devices gives up after a minute, and the others may wait for an hour until the
first process has prepared the data.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

import jax

from rsjax.errors import ConfigError, RsjaxError
from rsjax.training import join
from rsjax.training.join import client, end, who

WAIT_S = 24 * 3600  # at a barrier: the first process may prepare a whole dataset meanwhile
# A collective of the devices tells of a dead peer, often before the heartbeat does.
LOST = re.compile(r"(gloo|nccl).*(closed|reset|peer|remote|time)", re.IGNORECASE)
ENDED = "rsjax/ended"  # key: who ended, and why; empty: all did, in peace
_numbers = itertools.count()  # a barrier and a key serve only once


def barrier(name: str) -> None:
    """Waits until all processes are here, or until JAX ends this one because another died."""
    if jax.process_count() > 1:
        client().wait_at_barrier(f"rsjax/{next(_numbers)}/{name}", WAIT_S * 1000)


def agree(value: bool) -> bool:
    """What the first process says, on all of them; all call it, and `barrier`, in one order."""
    if jax.process_count() == 1:
        return value
    key = f"rsjax/{next(_numbers)}/agree"
    if jax.process_index() == 0:
        client().key_value_set(key, str(int(value)))
    return client().blocking_key_value_get(key, WAIT_S * 1000) == "1"


def refuse_differences(values: dict[str, Any]) -> None:
    """Compares plain values, by name, with those of the first process.

    Processes that run different programs would wait for each other without end.

    Raises:
        ConfigError: names what differs.
    """
    if jax.process_count() == 1:
        return
    key, own = f"rsjax/{next(_numbers)}/values", {k: repr(v) for k, v in values.items()}
    if jax.process_index() == 0:
        client().key_value_set(key, json.dumps(own))
    first = json.loads(client().blocking_key_value_get(key, WAIT_S * 1000))
    changed = [k for k in {**own, **first} if own.get(k) != first.get(k)]
    if changed:
        raise ConfigError(
            "the processes were given different configs: "
            + "; ".join(f"{k}={own.get(k)} here, {first.get(k)} for process 0" for k in changed)
            + ". Start the same command on every host"
        )


@contextlib.contextmanager
def joined(place: join.Place | None, timeout_s: int) -> Iterator[int]:
    """A `with` block in which this process is one of many, with its number; alone if no place.

    Where one of them fails, it says so to the others and ends at once, and they end as well: an
    ordinary exit would wait for the others, which wait for this one.

    Raises:
        ConfigError: as `join.join`.
    """
    if place is None:
        yield 0
        return
    try:
        index = join.join(place, timeout_s)
        follower = threading.Thread(target=_follow, daemon=True)
        follower.start()
        yield index
        barrier("end")  # the first process may still have written the report
        if index == 0:
            client().key_value_set(ENDED, "")
        follower.join()
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        if isinstance(error, RsjaxError):
            why = f"{type(error).__name__}: {error}"
            print(why, file=sys.stderr, flush=True)
        elif isinstance(error, jax.errors.JaxRuntimeError) and LOST.search(str(error)):
            why = f"the connection to another process is lost ({str(error).splitlines()[0]})"
            print(why, file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
            why = f"{type(error).__name__}, see its output"
        _tell(why)


def _tell(why: str) -> NoReturn:
    """Says to the other processes that this one ends, and ends it."""
    own = who()
    with contextlib.suppress(Exception):  # another process came first, or the first is gone
        client().key_value_set(ENDED, f"{own}: {why}")
    if own.startswith("process 0 "):
        time.sleep(2)  # the others hear it from here
    end(f"{own} ends; the same command on all hosts resumes from the newest checkpoint")


def _follow() -> None:
    """Ends this process when another one says that it ends."""
    own = who()
    while True:
        try:
            told = client().blocking_key_value_get(ENDED, WAIT_S * 1000)
            break
        except Exception as error:
            if "DEADLINE_EXCEEDED" not in str(error):  # the first process is gone: JAX ends this
                return
    if told and not told.startswith(f"{own}:"):
        if own.startswith("process 0 "):
            time.sleep(2)  # the others hear it from here
        end(f"{own} ends because another did. {told}")
