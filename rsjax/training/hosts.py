"""Many processes as one run: joining them, waiting for each other, ending together.

Waiting and agreeing go through JAX's coordination service rather than the devices: on CPUs a first
collective of the devices gives up after a minute, and the others may wait for an hour until the
first process has prepared the data. The client of that service has no public name in JAX; it is
used in this file only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax

from rsjax.errors import ConfigError, RsjaxError

log = logging.getLogger("rsjax")

HEARTBEAT_S = 20  # a peer that is silent for so long is dead, and the run ends; JAX's own: 100
WAIT_S = 24 * 3600  # at a barrier: the first process may prepare a whole dataset meanwhile
CLUSTERS = "a Cloud TPU slice, Slurm, Open MPI, or a GKE/Kubernetes job (needs jax[k8s])"
ENDED = "rsjax/ended"  # key: who ended, and why; empty: all did, in peace
NAMES = ("coordinator_address", "num_processes", "process_id")
_numbers = itertools.count()  # a barrier and a key serve only once


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this process stands among all of them; None is for JAX to detect."""

    coordinator_address: str | None
    num_processes: int | None
    process_id: int | None


def find_place(
    flags: Mapping[str, Any], environment: Mapping[str, str], detect: bool
) -> Place | None:
    """This process's place as flags, or else JAX_... variables, give it; None: it runs alone.

    Args:
        flags: values of the flags in `NAMES`, None where not given.
        environment: has JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID, or not.
        detect: whether JAX is to detect, in its cluster, what is not given.

    Raises:
        ConfigError: some are given and others are not, or they contradict each other.
    """
    given: dict[str, Any] = {}
    for name in NAMES:
        variable = f"JAX_{name.upper()}"
        value = flags[name] if flags[name] is not None else environment.get(variable) or None
        if name != "coordinator_address" and isinstance(value, str):
            if not value.isdecimal():
                raise ConfigError(f"{variable}={value}: must be a whole number")
            value = int(value)
        given[name] = value
    missing = [name for name in NAMES if given[name] is None]
    if missing and not detect:
        if len(missing) == len(NAMES):
            return None
        there = ", ".join(f"{n}={given[n]}" for n in NAMES if n not in missing)
        raise ConfigError(
            f"only {there} is given; give also "
            + " and ".join(f"--{n} (or JAX_{n.upper()})" for n in missing)
            + ", or --distributed to detect the rest in a cluster"
        )
    place = Place(**given)
    _check(place)
    return place


def _check(place: Place) -> None:
    address, count, index = dataclasses.astuple(place)
    host, _, port = (address or "host:1").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"coordinator_address={address}: write host:port, e.g. 10.0.0.1:8476")
    if count is not None and count < 1:
        raise ConfigError(f"num_processes={count}: must be at least 1")
    if count is not None and index is not None and not 0 <= index < count:
        raise ConfigError(
            f"process_id={index}: must lie in [0, {count - 1}], num_processes={count}"
        )


def join(place: Place, timeout_s: int) -> int:
    """Makes this process one of many; its number, when all of them are here.

    Raises:
        ConfigError: no cluster is detected, the coordinator's port is taken, or the processes
            were told different numbers of processes.
    """
    address, count, index = dataclasses.astuple(place)
    whole = None not in (address, count, index)
    if whole and index == 0:
        _check_port(address)
    who = f"process {index} of {count}: joining at {address}" if whole else "looking for a cluster"
    log.info("%s, for at most %d s", who, timeout_s)
    watchdog = threading.Timer(timeout_s, _give_up, (place, timeout_s))
    watchdog.daemon = True
    watchdog.start()
    try:
        jax.distributed.initialize(
            address,
            count,
            index,
            # What was given in full is not to be mixed with what a cluster says besides.
            cluster_detection_method="deactivate" if whole else None,
            initialization_timeout=timeout_s + 60,  # JAX aborts with a stack trace: after us
            heartbeat_timeout_seconds=HEARTBEAT_S,
        )
    except Exception as error:
        if whole:
            raise
        raise ConfigError(
            f"no cluster that JAX can join ({error}). It detects {CLUSTERS}. Elsewhere give "
            + ", ".join(f"--{name}=..." for name in NAMES)
        ) from error
    finally:
        watchdog.cancel()
    return _compare_counts()


def _check_port(address: str) -> None:
    """JAX's coordinator crashes without a message where its port is taken."""
    port = int(address.rpartition(":")[2])
    for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6 here
                continue
            raise ConfigError(
                f"coordinator_address={address}: process 0 cannot listen on port {port} "
                f"({error.strerror}). Another run may use it; choose another port, on all processes"
            ) from None


def _give_up(place: Place, timeout_s: int) -> None:
    """Says who did not come, and ends this process."""
    from jax._src import distributed

    state = distributed.global_state
    address = place.coordinator_address or state.coordinator_address
    count = place.num_processes or state.num_processes
    index = place.process_id if place.process_id is not None else state.process_id
    if address is None:
        why = f"JAX is still detecting the cluster ({CLUSTERS})"
    elif index == 0:
        why = f"not all of the processes 1 to {count - 1} have joined process 0 at {address}"
    elif _answers(address):
        why = f"the coordinator {address} answers, but not all of the {count} processes are there"
    else:
        why = f"no answer from the coordinator {address}, which process 0 runs"
    _end(
        f"RsjaxError: process {index} of {count} waited for {timeout_s} s: {why}. Start the same "
        "command on every host, with the same --coordinator_address and --num_processes and its "
        "own --process_id, and open that port between the hosts"
    )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except OSError:
        return False
    return True


def _compare_counts() -> int:
    """A wrong --num_processes on one host would otherwise show as a hang."""
    from jax._src import distributed

    client, count = _client(), distributed.global_state.num_processes
    index = distributed.global_state.process_id
    if index == 0:
        client.key_value_set("rsjax/num_processes", str(count))
    first = int(client.blocking_key_value_get("rsjax/num_processes", HEARTBEAT_S * 1000))
    if first != count:
        raise ConfigError(
            f"num_processes={count} here, but {first} for process 0; give all the same number"
        )
    return index


def _client() -> Any:
    from jax._src import distributed

    return distributed.global_state.client


def barrier(name: str) -> None:
    """Waits until all processes are here, or until JAX ends this one because another died."""
    if jax.process_count() > 1:
        _client().wait_at_barrier(f"rsjax/{next(_numbers)}/{name}", WAIT_S * 1000)


def agree(value: bool) -> bool:
    """What the first process says, on all of them; all call it, and `barrier`, in one order."""
    if jax.process_count() == 1:
        return value
    key = f"rsjax/{next(_numbers)}/agree"
    if jax.process_index() == 0:
        _client().key_value_set(key, str(int(value)))
    return _client().blocking_key_value_get(key, WAIT_S * 1000) == "1"


@contextlib.contextmanager
def joined(place: Place | None, timeout_s: int) -> Iterator[int]:
    """A `with` block in which this process is one of many, with its number; alone if no place.

    Where one of them fails, it says so to the others and ends at once, and they end as well: an
    ordinary exit would wait for the others, which wait for this one.

    Raises:
        ConfigError: as `join`.
    """
    if place is None:
        yield 0
        return
    try:
        index = join(place, timeout_s)
        follower = threading.Thread(target=_follow, daemon=True)
        follower.start()
        yield index
        barrier("end")  # the first process may still have written the report
        if index == 0:
            _client().key_value_set(ENDED, "")
        follower.join()
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        if isinstance(error, RsjaxError):
            why = f"{type(error).__name__}: {error}"
            print(why, file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
            why = f"{type(error).__name__}, see its output"
        _tell(why)


def _tell(why: str) -> NoReturn:
    """Says to the other processes that this one ends, and ends it."""
    who = _who()
    with contextlib.suppress(Exception):  # another process came first, or the first is gone
        _client().key_value_set(ENDED, f"{who}: {why}")
    if who.startswith("process 0 "):
        time.sleep(2)  # the others hear it from here
    _end(f"{who} ends; the same command on all hosts resumes from the newest checkpoint")


def _follow() -> None:
    """Ends this process when another one says that it ends."""
    who = _who()
    try:
        told = _client().blocking_key_value_get(ENDED, WAIT_S * 1000)
    except Exception:  # the first process is gone: JAX ends this one
        return
    if told and not told.startswith(f"{who}:"):
        _end(f"{who} ends because another did. {told}")


def _who() -> str:
    from jax._src import distributed

    state = distributed.global_state
    return f"process {state.process_id} of {state.num_processes}"


def _end(message: str) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)
