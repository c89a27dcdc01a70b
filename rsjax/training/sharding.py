"""The devices, the mesh, and where arrays lie on it."""

from __future__ import annotations

import logging
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from rsjax.errors import ConfigError
from rsjax.training.rules import first_match

log = logging.getLogger("rsjax")

SMALL = 4096  # values; 'fsdp' leaves smaller arrays whole: fetching them costs more than it frees


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


# -- Where parameters lie ------------------------------------------------------------------------
def _fsdp(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """The longest axis that the devices along 'data' divide is split over them."""
    fits = [size if size % mesh.shape["data"] == 0 else 0 for size in shape]
    if math.prod(shape) < SMALL or not any(fits):
        return PartitionSpec()
    axis = fits.index(max(fits))
    return PartitionSpec(*[None] * axis, "data")


def _model(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """The last axis, the output features, is split over the devices along 'model'."""
    if not shape or shape[-1] % mesh.shape["model"]:
        return PartitionSpec()
    return PartitionSpec(*[None] * (len(shape) - 1), "model")


HOWS: dict[str, Callable[[tuple[int, ...], Mesh], PartitionSpec]] = {
    "replicate": lambda shape, mesh: PartitionSpec(),
    "fsdp": _fsdp,
    "model": _model,
}


def lay_out_params(params: Any, mesh: Mesh, rules: Sequence[tuple[str, str]]) -> Any:
    """The sharding of every parameter.

    Args:
        params: the parameters, or their shapes.
        mesh: the devices.
        rules: (regex, how), how being 'replicate', 'fsdp' or 'model'; the first regex found in
            the name of a parameter decides, one that none matches is on every device.

    Raises:
        ConfigError: a rule matches no parameter, or splits none of those it matches.
    """
    numbered = [(regex, number) for number, (regex, _) in enumerate(rules)]
    chosen = first_match("mesh.rules", params, numbered, -1)

    def place(array: Any, number: int) -> NamedSharding:
        how = rules[number][1] if number >= 0 else "replicate"
        return NamedSharding(mesh, HOWS[how](array.shape, mesh))

    placed = jax.tree.map(place, params, chosen)
    _check_rules(rules, jax.tree.leaves(chosen), jax.tree.leaves(placed))
    return placed


def lay_out_state(
    shapes: dict[str, Any], tx: optax.GradientTransformation, params: Any, mesh: Mesh
) -> dict[str, Any]:
    """The sharding of every array of a state.

    Moments and the moving average lie as their parameter does, all else on every device.

    Args:
        shapes: the state, or its shapes.
        tx: the optimizer that made its `opt_state`.
        params: shardings of the parameters.
        mesh: the devices.
    """
    same = replicated(mesh)

    def follow(array: Any, parameter: Any, sharding: NamedSharding) -> NamedSharding:
        return sharding if array.shape == parameter.shape else same

    opt_state = optax.tree.map_params(
        tx,
        follow,
        shapes["opt_state"],
        shapes["params"],
        params,
        transform_non_params=lambda _: same,
    )
    ema = params if jax.tree.leaves(shapes["ema"]) else {}
    rest = jax.tree.map(lambda _: same, shapes)
    return {**rest, "params": params, "ema": ema, "opt_state": opt_state}


def _check_rules(
    rules: Sequence[tuple[str, str]], chosen: list[int], placed: list[NamedSharding]
) -> None:
    for number, (regex, how) in enumerate(rules):
        mine = [sharding for n, sharding in zip(chosen, placed, strict=True) if n == number]
        if how != "replicate" and not any(sharding.spec for sharding in mine):
            axis = {"fsdp": "data", "model": "model"}[how]
            raise ConfigError(
                f"mesh.rules: ({regex!r}, {how!r}) splits none of the {len(mine)} parameters that "
                f"it matches over the {mine[0].mesh.shape[axis]} devices along '{axis}': no "
                f"fitting axis{f', or fewer than {SMALL} values' if how == 'fsdp' else ''}"
            )


def abstract(tree: Any, layout: Any) -> Any:
    """Shapes and dtypes of `tree`, laid out as `layout`: the target of a restore."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree, layout
    )


def bytes_on_device(shapes: Any, layout: Any) -> int:
    """What a state takes on each device."""
    return sum(
        math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(layout), strict=True)
    )


def put(tree: Any, layout: Any) -> Any:
    """Host arrays, the same in every process, laid out on the mesh; what lies there stays."""

    def one(x: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(x, jax.Array):
            return x
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(one, tree, jax.tree.broadcast(layout, tree))


def to_host(tree: Any, mesh: Mesh) -> Any:
    """Arrays on the mesh as whole numpy arrays, in every process; all processes call it."""
    if not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        tree = jax.jit(_same, out_shardings=replicated(mesh))(tree)
    return jax.device_get(tree)


def _same(tree: Any) -> Any:
    return tree
