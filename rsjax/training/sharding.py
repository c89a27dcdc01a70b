"""The devices, the mesh, and where arrays lie on it."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from rsjax.errors import ConfigError

log = logging.getLogger("rsjax")


def set_up(config: ConfigDict) -> None:
    """Turns on the compilation cache, and says how to be reproducible on a GPU."""
    if config.compilation_cache_dir:
        cache = pathlib.Path(config.compilation_cache_dir).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(cache))
    flag = "--xla_gpu_deterministic_ops=true"
    stated = flag in os.environ.get("XLA_FLAGS", "")
    if config.deterministic and jax.default_backend() == "gpu" and not stated:
        log.warning("runs on this GPU are not reproducible; start with XLA_FLAGS=%s", flag)


def barrier(name: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def run_once(function: Callable[[], Any], placed: NamedSharding) -> Any:
    """The result of a function that is compiled to run a single time, laid out as `placed`.

    On a CPU most of the time of an initialisation is spent on optimising its code: not here.
    """
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
    return jax.jit(function, out_shardings=placed, compiler_options=quick)()


def make_mesh(model_parallel: int = 1) -> Mesh:
    """All devices of all processes as a mesh ('data', 'model').

    Raises:
        ConfigError: the number of devices is no multiple of `model_parallel`.
    """
    count = jax.device_count()
    if count % model_parallel:
        raise ConfigError(f"mesh.model_parallel={model_parallel}: must divide the {count} devices")
    shape = (count // model_parallel, model_parallel)
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
