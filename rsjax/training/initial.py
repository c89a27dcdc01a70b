"""Training from given weights: `config.init_from`, a bundle or a workdir.

Arrays are taken by name and shape, all or nothing; bands by (sensor, band) name, in any order;
a classifier only for the same classes. `config.init_new` has regexes of the arrays that start new.
Weights of a backbone go into the encoder of a decoder, its classifier left out.
"""

from __future__ import annotations

import json
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
# Fields that may differ: of training only, or by which the same weights see more finely.
FREE = (
    *("dropout_rate", "drop_path_rate", "remat", "zero_init_residual", "aux", "aux_weight"),
    *("output_stride", "dilate_first", "pad"),
)
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
    under = _encoder(source, config, wanted)
    module = make(num_classes=outputs).bind({})
    _check_fields(source, getattr(module, under.rstrip("/")) if under else module, config, under)
    arrays = {_below(name, under): value for name, value in arrays.items()}
    left_out = _without_counterpart(arrays, wanted) if under else ()
    arrays = {name: value for name, value in arrays.items() if name not in left_out}
    for name in fitting.stem_of(lambda: make(num_classes=outputs), count):
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


def _encoder(source: bundle.Model, config: ConfigDict, wanted: fitting.Tree) -> str:
    """Where in the run's model the bundle's backbone lies: 'encoder/', or '' if it is the model."""
    name = source.about["model"]["name"]
    if name == config.model.name:
        return ""
    inside = [part for part in ENCODERS if part in wanted["params"]]
    if config.model.fields.get("encoder_name", name) == name and inside:
        return f"{inside[0]}/"
    raise ConfigError(
        f"init_from={config.init_from}: weights of {name}, and the run's model is "
        f"{config.model.name} with {dict(config.model.fields)}. Choose the same model, or a "
        f"decoder with encoder_name='{name}'"
    )


def _check_fields(source: bundle.Model, module: Any, config: ConfigDict, under: str) -> None:
    """Refuses fields that change what the same weights compute, as shapes do not tell."""

    def plain(value: Any) -> Any:
        return json.loads(json.dumps(value, default=dict))

    wrong = {
        key: value
        for key, value in source.about["model"]["fields"].items()
        if key not in FREE and plain(getattr(module, key)) != plain(value)
    }
    if wrong:
        where = "model.fields.encoder_fields" if under else "model.fields"
        raise ConfigError(
            f"init_from={config.init_from}: its weights are for a model with "
            f"{', '.join(f'{key}={value!r}' for key, value in wrong.items())}, and the run's has "
            f"{', '.join(f'{key}={getattr(module, key)!r}' for key in wrong)}; set {where}"
        )


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
