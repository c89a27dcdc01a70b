"""How a process becomes one of many: from flags, from the environment, or as its cluster says.

JAX's own ways to fail here are an abort with a stack trace and, where the port is taken, a crash;
what can be checked before is checked before, and a watchdog speaks first where JAX would wait.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any, NoReturn

import jax

from rsjax.errors import ConfigError

log = logging.getLogger("rsjax")

HEARTBEAT_S = 20  # a peer that is silent for so long is dead, and the run ends; JAX's own: 100
CLUSTERS = "a Cloud TPU slice, Slurm, Open MPI, or a GKE/Kubernetes job (needs jax[k8s])"
NAMES = ("coordinator_address", "num_processes", "process_id")


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
    what = f"process {index} of {count}: joining at {address}" if whole else "looking for a cluster"
    log.info("%s, for at most %d s", what, timeout_s)
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
    end(
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

    count, index = distributed.global_state.num_processes, distributed.global_state.process_id
    if index == 0:
        client().key_value_set("rsjax/num_processes", str(count))
    first = int(client().blocking_key_value_get("rsjax/num_processes", HEARTBEAT_S * 1000))
    if first != count:
        raise ConfigError(
            f"num_processes={count} here, but {first} for process 0; give all the same number"
        )
    return index


def client() -> Any:
    """The client of JAX's coordination service: it has no public name."""
    from jax._src import distributed

    return distributed.global_state.client


def who() -> str:
    """This process, in messages."""
    from jax._src import distributed

    state = distributed.global_state
    return f"process {state.process_id} of {state.num_processes}"


def end(message: str) -> NoReturn:
    """Says why, and ends this process without waiting for anything."""
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)
