"""Whether variables are those of a model: by name and shape, all of them, or a readable refusal."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rsjax.errors import WeightsError

COLLECTIONS = ("params", "batch_stats")
SHOWN = 10
Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What `fit` took.

    Attributes:
        variables: {'params': ..., 'batch_stats': ...} float32; without the new ones.
        new: names of the model's arrays that were not taken, as the regexes asked.
        ignored: names of given arrays that were not taken, as the regexes asked.
    """

    variables: Tree
    new: tuple[str, ...]
    ignored: tuple[str, ...]


def shapes_of(model: Any, bands: int, size: int = 96) -> Tree:
    """Shapes of a model's parameters and statistics for images of so many bands."""

    def init() -> Any:
        image = jnp.zeros((1, size, size, bands), jnp.float32)
        return model.init(jax.random.key(0), image, False)

    found = jax.eval_shape(init)
    return {name: dict(found.get(name, {})) for name in COLLECTIONS}


def differing(one: Tree, other: Tree) -> tuple[str, ...]:
    """Names, 'params/fc/kernel', of the arrays whose shapes differ between two trees."""
    a, b = flat(one), flat(other)
    return tuple(name for name in a if name not in b or a[name].shape != b[name].shape)


def stem_of(make: Callable[[], Any], bands: int) -> tuple[str, ...]:
    """Names of the kernels that see the bands: those whose shape follows their number."""
    model = make()
    return differing(shapes_of(model, bands), shapes_of(model, bands + 1))


def head_of(make: Callable[[int], Any], classes: int, bands: int) -> dict[str, tuple[int, ...]]:
    """Names of the arrays whose shape follows the number of classes, and the axes that do.

    Transposed convolutions from scores to scores have two such axes.

    Args:
        make: number of classes -> model.
        classes: number of classes.
        bands: number of bands.
    """
    one, other = (flat(shapes_of(make(classes + more), bands)) for more in (0, 1))
    axes = {
        name: tuple(i for i, size in enumerate(leaf.shape) if size != other[name].shape[i])
        for name, leaf in one.items()
    }
    return {name: found for name, found in axes.items() if found}


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a tree by name, 'params/layer1_0/conv1/kernel'."""
    return flatten_dict(dict(tree), sep="/")


def unflat(arrays: Mapping[str, Any]) -> Tree:
    """The inverse of `flat`; both collections are there."""
    tree = unflatten_dict(dict(arrays), sep="/")
    return {name: tree.get(name, {}) for name in COLLECTIONS}


def matches(name: str, regexes: Sequence[str], option: str) -> bool:
    """Whether a regex is found in a name, taken without its collection.

    Raises:
        WeightsError: a regex is invalid.
    """
    try:
        return any(re.search(regex, name.partition("/")[2]) for regex in regexes)
    except re.error as error:
        raise WeightsError(f"{option}: {error.pattern!r} is no regex ({error})") from None


def fit(
    given: Tree,
    wanted: Tree,
    where: str,
    *,
    new: Sequence[str] = (),
    ignore: Sequence[str] = (),
    options: tuple[str, str] = ("new", "ignore"),
) -> Fitted:
    """Takes arrays for a model; all or nothing.

    Args:
        given: arrays.
        wanted: the model's shapes, or arrays.
        where: what is given, for the message.
        new: regexes of names of the model; these arrays are not taken, whatever is given.
        ignore: regexes of names of what is given and is not taken.
        options: what the user calls `new` and `ignore`; empty where there is no such option.

    Raises:
        WeightsError: arrays are missing, unexpected or of other shapes, none is common, a number
            is not finite, or a regex matches nothing.
    """
    theirs, ours = flat(given), flat(wanted)
    fresh = {name for name in ours if matches(name, new, options[0])}
    ignored = {
        name
        for name in theirs
        if matches(name, ignore, options[1]) or (matches(name, new, options[0]))
    }
    for option, regexes, names in (
        (options[0], new, [*ours, *theirs]),
        (options[1], ignore, [*theirs]),
    ):
        for regex in regexes:
            if not any(matches(name, [regex], option) for name in names):
                raise WeightsError(
                    f"{option}: {regex!r} matches no array; there are "
                    f"{', '.join(n.partition('/')[2] for n in list(ours)[-SHOWN:])}, ..."
                )
    left, right = set(ours) - fresh, set(theirs) - ignored
    shapes = [n for n in left & right if theirs[n].shape != ours[n].shape]
    if left - right or right - left or shapes:
        how = " and ".join(filter(None, dict.fromkeys(options)))
        raise WeightsError(
            _diff(where, ours, theirs, *map(_sorted, (left - right, right - left, shapes)))
            + "\nNothing was loaded. Choose the model and fields that the weights are of; "
            f"regexes in {how} say what to leave out"
        )
    taken = {}
    for name in ours:
        if name in left:
            value = np.asarray(theirs[name], np.float32)
            if not np.isfinite(value).all():
                raise WeightsError(f"{where}: '{name}' has NaN or infinite numbers: damaged")
            taken[name] = value
    if not taken:
        raise WeightsError(f"{where}: {options[0]} leaves nothing to take")
    return Fitted(unflat(taken), tuple(sorted(fresh)), tuple(sorted(ignored)))


def _sorted(names: Iterable[str]) -> list[str]:
    """Parameters before statistics."""
    return sorted(names, key=lambda name: (name.partition("/")[0] != COLLECTIONS[0], name))


def _diff(
    where: str,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    missing: list[str],
    unexpected: list[str],
    shapes: list[str],
) -> str:
    """What does not fit, first those that have a likely counterpart."""
    lines = [f"{where} are not the weights of this model:"]

    def section(title: str, names: list[str], text: Callable[[str], str]) -> None:
        if names:
            lines.append(f"  {title} ({len(names)}):")
            lines.extend(f"    {text(name)}" for name in names[:SHOWN])
            if len(names) > SHOWN:
                lines.append(f"    ... and {len(names) - SHOWN} more")

    every = {**ours, **theirs}

    def near(name: str, others: list[str]) -> str:
        same = [other for other in others if every[other].shape == every[name].shape]
        close = difflib.get_close_matches(name, same[:1000], 1, 0.6)
        return f" (near: {close[0]})" if close else ""

    section("missing", missing, lambda n: f"{n} {ours[n].shape}{near(n, unexpected)}")
    section("unexpected", unexpected, lambda n: f"{n} {theirs[n].shape}{near(n, missing)}")
    section("of another shape", shapes, lambda n: f"{n} {theirs[n].shape}, wanted {ours[n].shape}")
    return "\n".join(lines)
