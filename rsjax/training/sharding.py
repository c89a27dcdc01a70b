"""The devices, the mesh, and where arrays lie on it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from rsjax.errors import ConfigError


def set_up(config: ConfigDict) -> None:
    """Compilation cache, and reproducible kernels on GPUs; before the first use of a device."""
    if config.compilation_cache_dir:
        cache = pathlib.Path(config.compilation_cache_dir).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(cache))
    flags = os.environ.get("XLA_FLAGS", "")
    if config.deterministic and "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def barrier(name: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def agree(value: bool) -> bool:
    """What the first process says, on all of them."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def run_once(function: Callable[[], Any], placed: NamedSharding) -> Any:
    """The result of a function that is compiled to run a single time, laid out as `placed`.

    On a CPU most of the time of an initialisation is spent on optimising its code: not here.
    """
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
    return jax.jit(function, out_shardings=placed, compiler_options=quick)()


def make_mesh() -> Mesh:
    """All devices of all processes as a mesh ('data', 'model'); all of them along 'data' so far."""
    shape = (jax.device_count(), 1)
    return jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2)


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


def abstract(tree: Any, sharding: NamedSharding) -> Any:
    """Shapes and dtypes of `tree`, laid out as `sharding`: the target of a restore."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
