"""A file of published weights -> a bundle: read, named, fitted, adapted, written, and compared."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax
import jax
import numpy as np

import rsjax
from rsjax import bundle, models, sensors, tasks
from rsjax.datasets.info import ImageSpec
from rsjax.errors import ConfigError, WeightsError
from rsjax.input.preprocess import Inputs
from rsjax.models.pretrained import (
    dynamicworld,
    keras_names,
    read,
    renamed,
    sources,
    stem,
    torch_names,
)
from rsjax.models.pretrained import fit as fitting
from rsjax.models.pretrained.fit import Tree

# Fields that are no choice here: why.
GIVEN = {
    "num_classes": "the weights, or the classes of the source, say how many there are",
    "dtype": "weights are kept in float32; --config.model.dtype is what a run computes in",
}


def convert(
    weights: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str,
    source: str,
    task: str = "",
    fields: Mapping[str, Any] | None = None,
    statistics: str = "",
    prefix: str = "",
    ignore: Sequence[str] = (),
    bands: Sequence[str] = (),
    rule: str = "strict",
    fill: str = "",
) -> dict[str, Any]:
    """Writes published weights as a bundle.

    Args:
        weights: the file.
        output: folder of the bundle, which may replace another bundle.
        model: name in `rsjax.models`.
        source: name in `sources.SOURCES`, or a JSON file.
        task: name in `rsjax.tasks`; empty: that of the source.
        fields: fields of the model.
        statistics: name of the source's statistics; empty: its default.
        prefix: see `read.read`.
        ignore: regexes of names of arrays in the file that the model does not have.
        bands: 'sensor/band' that the model shall see; empty: those of the source.
        rule: what to do where these are others; see `stem`.
        fill: see `stem`.

    Returns:
        The report that the bundle keeps under 'converted'.

    Raises:
        WeightsError: the file cannot be read or is not of this model.
        SensorError: bands that the rule does not provide for.
        ConfigError: no such model, a field that it does not have or that is no choice here, or a
            folder of other content.
    """
    if model not in models.TABLE:
        models.get(model)  # says which there are
    for name in fields or {}:
        if name in GIVEN:
            raise ConfigError(f"--field={name}=...: {GIVEN[name]}. Leave it out")
    folder = pathlib.Path(output)
    if folder.exists() and not (folder / bundle.ABOUT).is_file():
        raise ConfigError(f"{folder} is there and no bundle, so it is not replaced; name another")
    module = models.TABLE[model]
    told = sources.find(source, module)
    told = dataclasses.replace(told, task=task or told.task)
    inputs, used = told.inputs(statistics)
    classes = told.order()
    content = read.read(weights, prefix)
    given, fields = to_variables(content, model, fields)
    count = len(inputs.bands)

    def make(outputs: int) -> Any:
        return models.get(model, **{**fields, "num_classes": outputs})

    head = fitting.head_of(make, 3, count)
    outputs, missing = _outputs(given, head, len(classes[0]) if classes else None, weights)
    shapes = fitting.flat(fitting.shapes_of(make(outputs or 1), count))
    wanted = fitting.unflat({name: a for name, a in shapes.items() if name not in missing})
    fitted = fitting.fit(given, wanted, os.fspath(weights), ignore=ignore, options=("", "--ignore"))
    arrays = fitting.flat(fitted.variables)
    if classes:
        for name, axes in head.items():
            for axis in axes:
                arrays[name] = arrays[name].take(classes[1], axis)
    lines: list[str] = []
    lacks = "" if classes else "classes of land cover"
    if bands and tuple(bands) != inputs.bands:
        if fields.get("percentiles"):
            raise ConfigError(
                f"model '{model}' squashes each band by percentiles of its own; leave --bands out, "
                "predict takes bands by name in any order"
            )
        for name in fitting.stem_of(lambda: make(outputs or 1), count):
            arrays[name], lines = stem.adapt(arrays[name], inputs.bands, bands, rule, fill)
        if strange := [band for band in bands if band not in inputs.bands]:
            lacks = lacks or f"statistics of {', '.join(strange)}"
        inputs = _other_bands(inputs, bands)
    elif rule != "strict" or fill:
        raise ConfigError("--stem or --fill, but no other bands; name them with --bands")
    report = {
        "file": pathlib.Path(weights).name,
        "sha256": hashlib.sha256(pathlib.Path(weights).read_bytes()).hexdigest(),
        "framework": content.framework,
        "source": source,
        "page": told.page,
        "licence": told.licence,
        "arrays": len(arrays),
        "prefix": content.prefix,
        "ignored": [*content.left_out, *fitted.ignored],
        "without_classifier": bool(missing),
        "statistics": used,
        "stem": lines,
    }
    options = {"name": told.task, "threshold": 0.5, "label_smoothing": 0.0}
    about = {
        "rsjax": rsjax.__version__,
        "versions": {"jax": jax.__version__, "flax": flax.__version__},
        "model": {"name": model, "fields": fields, "dtype": "float32"},
        "outputs": outputs,
        "task": options,
        "headline": _headline(options, outputs) if classes else "",
        "trained_on": {
            "title": told.title,
            "dataset": source,
            "version": "as published",
            "split": "see its page",
            "fingerprint": "none",
            "simulated": False,
        },
        "step": 0,
        "converted": report,
        "lacks": lacks,
    }
    variables = fitting.unflat(arrays)
    made = bundle.Model(variables, inputs, classes[0] if classes else None, about)
    _ = made.module  # whoever opens the bundle can make the model of its fields
    bundle.save(made, folder)
    _compare(variables, bundle.load(folder).variables, folder)
    return report


def _headline(options: Mapping[str, Any], outputs: int) -> str:
    return tasks.make(options["name"], {**options, "class_weights": "none"}, outputs).headline


def to_variables(
    content: read.Weights, model: str, fields: Mapping[str, Any] | None = None
) -> tuple[Tree, dict[str, Any]]:
    """Variables in the names of a model of ours, and the fields that the weights need.

    Args:
        content: the file.
        model: name in `rsjax.models`.
        fields: fields that the user chose; they win.

    Raises:
        WeightsError: entries that no rule names.
        ConfigError: no such field.
    """
    module, chosen = models.TABLE[model], dict(fields or {})
    if content.framework == "keras":
        variables, needed = keras_names.from_keras(content.arrays, module)
        return variables, {**needed, **chosen}
    if content.framework == "tensorflow":
        if module != "dynamicworld":
            raise WeightsError(
                f"no rules for TensorFlow's weights of models in '{module}'; there are for "
                "'dynamicworld'"
            )
        variables, needed = dynamicworld.from_tensorflow(content.arrays)
        return variables, {**needed, **chosen}
    state = renamed.renamed(content.arrays, module)
    needed = dict(renamed.FIELDS.get(model, {}))
    encoder = getattr(models.get(model, num_classes=1, **chosen), "encoder_name", "")
    if inside := renamed.FIELDS.get(encoder):
        chosen["encoder_fields"] = {**inside, **chosen.get("encoder_fields", {})}
    return torch_names.from_torch(state), {**needed, **chosen}


def convert_keras(model: str, weights: str | os.PathLike[str]) -> tuple[Tree, dict[str, Any]]:
    """Variables and fields of a model of `keras.applications` from its file of weights.

    Args:
        model: name in `rsjax.models`, e.g. 'resnet50'.
        weights: `.weights.h5`, `.keras` or `.h5`.

    Returns:
        ({'params': ..., 'batch_stats': ...}, fields for `models.get` with `num_classes`).

    Raises:
        WeightsError: the file is damaged or not of this model.
    """
    variables, fields = to_variables(read.read(weights), model)
    bands = 3

    def make(outputs: int) -> Any:
        return models.get(model, **fields, num_classes=outputs)

    head = fitting.head_of(make, 3, bands)
    outputs, missing = _outputs(variables, head, None, weights)
    if missing:
        raise WeightsError(f"{weights}: without the classifier (include_top=False)")
    wanted = fitting.shapes_of(make(outputs), bands)
    taken = fitting.fit(variables, wanted, os.fspath(weights)).variables
    return taken, {**fields, "num_classes": outputs}


def _outputs(
    given: Tree, head: Collection[str], classes: int | None, where: Any
) -> tuple[int, tuple[str, ...]]:
    """The length of the logits; and the arrays of the classifier, if all of them are missing."""
    arrays = fitting.flat(given)
    missing = tuple(name for name in head if name not in arrays)
    if classes is not None:
        if len(missing) == len(head):
            raise WeightsError(
                f"{where}: without a classifier ({', '.join(head)}), which this source has. Take "
                "the file of the whole model"
            )
        return classes, ()
    if len(missing) == len(head):
        return 0, missing
    there = next(name for name in head if name in arrays)
    return int(arrays[there].shape[-1]), ()


def _other_bands(inputs: Inputs, bands: Sequence[str]) -> Inputs:
    """Inputs of other bands, one entry a sensor; bands without statistics get 0 and 1."""
    known = dict(zip(inputs.bands, zip(inputs.mean, inputs.std, strict=True), strict=True))
    images, pairs = {}, []
    for band in bands:
        name, _, short = band.partition("/")
        sensor = sensors.get(name)
        sensor.band(short)
        names = tuple(b.partition("/")[2] for b in bands if b.startswith(f"{name}/"))
        before = [spec for spec in inputs.images.values() if spec.sensor == name]
        unit = before[0].unit if before else sensor.units[0]
        dtype = before[0].dtype if before else "float32"
        gsd = min(sensor.band(b).gsd_m for b in names)
        images[name] = ImageSpec(name, names, *inputs.grid, dtype, unit, gsd)
        pairs.append(known.get(band, (0.0, 1.0)))
    mean, std = zip(*pairs, strict=True)
    return Inputs(images, tuple(bands), mean, std, inputs.grid, inputs.resample)


def _compare(written: Tree, found: Tree, where: Any) -> None:
    """Refuses a bundle that does not give back what was written."""
    one, other = fitting.flat(written), fitting.flat(fitting.unflat(fitting.flat(found)))
    same = one.keys() == other.keys() and all(
        np.array_equal(value, np.asarray(other[name])) for name, value in one.items()
    )
    if not same:
        raise WeightsError(f"{where}: reads back as other numbers than were written; disk failing?")
