"""Training from given weights: `config.init_from`, a bundle or a workdir.

Arrays are taken by name and shape, all or nothing; bands by (sensor, band) name, in any order;
a classifier only for the same classes. `config.init_new` has regexes of the arrays that start new.
Weights of a backbone go into the encoder of a decoder, its classifier left out.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from rsjax import bundle
from rsjax.errors import ConfigError, SensorError, WeightsError
from rsjax.input.preprocess import Inputs
from rsjax.landcover import Nomenclature
from rsjax.models.pretrained import fit as fitting
from rsjax.models.pretrained import stem

log = logging.getLogger("rsjax")
OPTIONS = ("init_new", "")
# Fields that may differ: of training only, by which the same weights see more finely, or that
# names and shapes of arrays tell.
FREE = (
    *("num_classes", "dtype", "parent", "name"),
    *("dropout_rate", "drop_path_rate", "remat", "zero_init_residual", "aux", "aux_weight"),
    *("output_stride", "dilate_first", "pad", "stride"),
)
# And of a backbone that goes into a decoder: of its classifier, or what follows its last weights.
FREE_INSIDE = ("head", "fc_width", "rectify_last")
ENCODERS = ("encoder", "backbone")  # names of the part of a decoder that is a backbone


def given(
    config: ConfigDict, make: Callable[..., Any], inputs: Inputs, classes: Nomenclature
) -> tuple[fitting.Tree, dict[str, Any]]:
    """The arrays to start from, and what a bundle tells of them.

    Args:
        config: `init_from` and `init_new`.
        make: model of the run, for `num_classes`.
        inputs: the run's input.
        classes: the run's classes.

    Raises:
        BundleError: there is no bundle, or it is damaged.
        WeightsError: arrays or classes are others than the model's.
        SensorError: the bands are others.
        ConfigError: the model is another, or has other fields.
    """
    source = bundle.load(config.init_from)
    count, outputs = len(inputs.bands), len(classes)
    wanted = fitting.shapes_of(make(num_classes=outputs), count)
    arrays = fitting.flat(fitting.unflat(fitting.flat(source.variables)))
    under = _under(source, make(num_classes=outputs), config)
    arrays = {_below(name, under): value for name, value in arrays.items()}
    left_out = _without_counterpart(arrays, wanted) if under else ()
    arrays = {name: value for name, value in arrays.items() if name not in left_out}
    squashed = config.model.fields.get("percentiles")  # a pair for each band: no others can come
    if squashed and inputs.bands != source.inputs.bands:
        raise ConfigError(
            f"init_from={config.init_from}: its percentiles are of {', '.join(source.inputs.bands)}"
            f"; the run has {', '.join(inputs.bands)}. Set data.bands to the same, in that order"
        )
    for name in () if squashed else fitting.stem_of(lambda: make(num_classes=outputs), count):
        if name in arrays and not _is_new(name, config):
            arrays[name] = _by_band(arrays[name], source.inputs, inputs, config.init_from)
    head = [
        n for n in fitting.head_of(lambda n: make(num_classes=n), outputs, count) if n in arrays
    ]
    kept = [name for name in head if not _is_new(name, config)]
    theirs = source.nomenclature
    if kept and (theirs is None or theirs.names != classes.names):
        raise WeightsError(
            f"{config.init_from}: its classifier is for other classes "
            f"({theirs.name if theirs else source.about['trained_on']['title']}) than the run's "
            f"({classes.name}): {', '.join(kept)}. Start it new, with "
            f"--config.init_new=\"('{_regex(kept[0])}',)\""
        )
    fitted = fitting.fit(
        fitting.unflat(arrays),
        wanted,
        str(config.init_from),
        new=tuple(config.init_new),
        options=OPTIONS,
    )
    not_taken = [*left_out, *fitted.ignored]
    log.info(
        "starts from %s: %d arrays taken%s%s",
        config.init_from,
        len(fitting.flat(fitted.variables)),
        f"; new: {', '.join(fitted.new)}" if fitted.new else "",
        f"; not taken: {', '.join(not_taken)}" if not_taken else "",
    )
    told = {
        "from": str(config.init_from),
        "trained_on": source.about.get("trained_on"),
        "converted": source.about.get("converted"),
        "new": list(fitted.new),
        "not_taken": not_taken,
    }
    return fitted.variables, told


def start(state: dict[str, Any], variables: fitting.Tree) -> dict[str, Any]:
    """The state at step 0 with these arrays in place of its own, laid out as they were."""

    def replaced(own: Any, theirs: dict[str, Any]) -> Any:
        flat, found = fitting.flat(own), fitting.flat(theirs)
        return unflatten_dict({n: _place(found.get(n), v) for n, v in flat.items()}, sep="/")

    params = replaced(state["params"], variables["params"])
    return {
        **state,
        "params": params,
        "batch_stats": replaced(state["batch_stats"], variables["batch_stats"]),
        "ema": jax.tree.map(lambda array: array.copy(), params) if state["ema"] else {},
    }


def _place(value: np.ndarray | None, own: jax.Array) -> jax.Array:
    if value is None:
        return own
    whole = np.asarray(value, own.dtype)
    return jax.make_array_from_callback(own.shape, own.sharding, lambda index: whole[index])


def _is_new(name: str, config: ConfigDict) -> bool:
    return fitting.matches(name, tuple(config.init_new), OPTIONS[0])


def _regex(name: str) -> str:
    """'params/fc/kernel' is new by '^fc/'."""
    return f"^{name.partition('/')[2].rpartition('/')[0]}/"


def _below(name: str, under: str) -> str:
    collection, _, rest = name.partition("/")
    return f"{collection}/{under}{rest}"


def _under(source: bundle.Model, module: Any, config: ConfigDict) -> str:
    """Where in the run's model the bundle's lies: 'encoder/', or '' if it is the model.

    Refuses other networks, and fields that change what the same weights compute, as shapes do not
    tell them.
    """
    theirs, name = source.module, source.about["model"]["name"]
    if type(theirs) is type(module):
        part, chosen, wrong = "", config.model.name, _differing(theirs, module)
    else:
        part, ours = _inside(module)
        chosen = module.encoder_name if part else config.model.name
        if type(ours) is type(theirs):
            wrong = _unequal(theirs, ours, (*FREE, *FREE_INSIDE), "encoder_fields.")
        else:
            wrong = {"": (None, None)}
    if not wrong:
        return f"{part}/" if part else ""
    if name != chosen:
        remedy = f"Choose the same model, or a decoder with encoder_name='{name}'"
        told = f"; they differ in {', '.join(wrong)}" if all(wrong) else ""
        raise ConfigError(
            f"init_from={config.init_from}: weights of {name}, and the run's model is "
            f"{config.model.name} with {config.model.fields.to_dict()}{told}. {remedy}"
        )
    fields = config.model.fields.to_dict()
    for key, (value, _) in wrong.items():
        *outer, last = key.split(".")
        inner = fields
        for step in outer:
            inner[step] = inner = dict(inner.get(step, {}))
        inner[last] = value
    raise ConfigError(
        f"init_from={config.init_from}: its weights are for a model with "
        f"{', '.join(f'{key}={value!r}' for key, (value, _) in wrong.items())}, and the run's has "
        f"{', '.join(f'{key}={value!r}' for key, (_, value) in wrong.items())}; set in the config "
        f"file: c.model.fields = ConfigDict({fields})"
    )


def _inside(module: Any) -> tuple[str, Any]:
    """The backbone of a decoder: its name there and itself; ('', None) for another model."""
    if hasattr(module, "encoder_name"):
        bound = module.bind({})
        for part in ENCODERS:
            if found := getattr(bound, part, None):
                return part, found
    return "", None


def _differing(theirs: Any, ours: Any) -> dict[str, tuple[Any, Any]]:
    """Fields of two models of one class whose values differ, through the backbones inside."""
    one, other = _inside(theirs)[1], _inside(ours)[1]
    if one is None:
        return _unequal(theirs, ours, FREE)
    wrong = _unequal(theirs, ours, (*FREE, "encoder_name", "encoder_fields"))
    inner = _unequal(one, other, FREE, "encoder_fields.") if type(one) is type(other) else None
    if inner is None or (inner and theirs.encoder_name != ours.encoder_name):
        return {**wrong, "encoder_name": (theirs.encoder_name, ours.encoder_name)}
    return wrong | inner


def _unequal(
    theirs: Any, ours: Any, free: tuple[str, ...], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    pairs = {
        field.name: (getattr(theirs, field.name), getattr(ours, field.name))
        for field in dataclasses.fields(ours)
        if field.name not in free
    }
    return {f"{prefix}{key}": pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _without_counterpart(arrays: dict[str, Any], wanted: fitting.Tree) -> tuple[str, ...]:
    """Arrays of modules of a backbone that encoders do not have: its classifiers."""

    def module(name: str) -> str:
        return "/".join(name.split("/")[1:3])

    known = {module(name) for name in fitting.flat(wanted)}
    return tuple(name for name in arrays if module(name) not in known)


def _by_band(kernel: np.ndarray, theirs: Inputs, ours: Inputs, where: str) -> np.ndarray:
    try:
        return stem.adapt(np.asarray(kernel), theirs.bands, ours.bands, "strict")[0]
    except SensorError:
        raise SensorError(
            f"init_from={where}: its weights are for the bands {', '.join(theirs.bands)}, and "
            f"data.bands are {', '.join(ours.bands)}. Choose those bands, or convert the weights "
            f"for yours: python -m rsjax.convert ... --stem=by_name --bands={','.join(ours.bands)}"
        ) from None
