"""Where a state lies on the mesh: on every device, or split by rules for its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsjax.errors import ConfigError
from rsjax.training.rules import first_match
from rsjax.training.sharding import replicated

SMALL = 4096  # values; 'fsdp' leaves smaller arrays whole: fetching them costs more than it frees


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

    opt_state = optax.tree_utils.tree_map_params(
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

    if isinstance(layout, NamedSharding):
        return jax.tree.map(lambda x: one(x, layout), tree)
    return jax.tree.map(one, tree, layout)


def to_host(tree: Any, mesh: Mesh) -> Any:
    """Arrays on the mesh as whole numpy arrays, in every process; all processes call it."""
    if not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        tree = jax.jit(_same, out_shardings=replicated(mesh))(tree)
    return jax.device_get(tree)


def _same(tree: Any) -> Any:
    return tree
