"""The devices, the mesh, and where arrays lie on it."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from rsjax.errors import ConfigError

log = logging.getLogger("rsjax")


def set_up(config: ConfigDict) -> None:
    """Compilation cache, and reproducible kernels on GPUs; before the first use of a device."""
    if config.compilation_cache_dir:
        cache = pathlib.Path(config.compilation_cache_dir).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(cache))
    flags = os.environ.get("XLA_FLAGS", "")
    if config.deterministic and "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def run_once(function: Callable[[], Any], placed: Any) -> Any:
    """The result of a function that is compiled to run a single time, laid out as `placed`.

    On a CPU most of the time of an initialisation is spent on optimising its code: not here.
    """
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
    return jax.jit(function, out_shardings=placed, compiler_options=quick)()


def make_mesh(model: int = 1) -> Mesh:
    """All devices of all processes as a mesh ('data', 'model'), `model` of them along 'model'.

    Ordered by process, so that each process has adjacent rows of a batch, and its own devices
    share a row of the mesh as far as they can.

    Raises:
        ConfigError: the devices cannot be laid out so.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    local = jax.local_device_count()
    if len(devices) % model or (local % model and model % local):
        fits = [n for n in range(1, len(devices) + 1) if not len(devices) % n]
        fits = [n for n in fits if not local % n or not n % local]
        raise ConfigError(
            f"mesh.model={model}: {len(devices)} devices, {local} of each process, cannot be laid "
            f"out in rows of {model}; choose of {', '.join(map(str, fits))}"
        )
    grid = np.array(devices).reshape(-1, model)
    return Mesh(grid, ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_data(mesh: Mesh) -> NamedSharding:
    """The first axis split over the mesh axis 'data'."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch(name: str, size: int, mesh: Mesh, parts: int = 1) -> None:
    """Refuses a batch that the devices cannot share evenly.

    Raises:
        ConfigError: names the field, the devices and the nearest sizes that work.
    """
    unit = mesh.shape["data"] * parts
    if size % unit:
        near = sorted({max(unit, size // unit * unit), -(-size // unit) * unit})
        raise ConfigError(
            f"{name}={size}: must be a multiple of {unit} ({mesh.shape['data']} devices along "
            f"'data'{f' x {parts} micro-batches' if parts > 1 else ''}); nearest: "
            f"{' or '.join(map(str, near))}"
        )


def reader_of(split: NamedSharding, batch_size: int) -> tuple[int, int]:
    """Which of how many equal parts of a batch this process has to read, as (index, count).

    It follows from the mesh, not from the number of the process: processes whose devices stand
    side by side along 'model' read the same rows.

    Raises:
        ConfigError: the rows of this process are not one of equal parts.
    """
    indices = split.addressable_devices_indices_map((batch_size,)).values()
    rows = np.unique(np.concatenate([np.arange(batch_size)[index] for index in indices]))
    first, count = int(rows[0]), len(rows)
    if rows[-1] - first + 1 != count or first % count or batch_size % count:
        raise ConfigError(
            f"process {jax.process_index()} would read the rows {rows.tolist()} of a batch of "
            f"{batch_size}, which is no equal part of it; give all processes as many devices"
        )
    return first // count, batch_size // count
