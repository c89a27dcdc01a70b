"""Fits a classic model as a config says, then evaluates and reports like a training."""

from __future__ import annotations

import colorsys
import logging
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rsjax import bundle, lock, models, sealed, tasks
from rsjax.classic import draw, estimators, indices
from rsjax.config import to_json
from rsjax.errors import ConfigError
from rsjax.input.manifest import Manifest
from rsjax.input.preprocess import Inputs
from rsjax.landcover import Nomenclature
from rsjax.losses import weights
from rsjax.models import pixel_features
from rsjax.training import data, sharding
from rsjax.training.calibrate import calibrate
from rsjax.training.describe import describe
from rsjax.training.examine import fail_early, make_examiner, members_of, test_best
from rsjax.training.loop import FINISHED

log = logging.getLogger("rsjax")


def fit_and_evaluate(config: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
    """Draws pixels of the train split, fits, writes the bundle, evaluates and reports.

    The same command again fits anew: with the same seed and data, the same model.

    Args:
        config: a validated config with a model of `rsjax.models.CLASSIC`.
        workdir: folder of bundle, figures and report; made if absent.

    Returns:
        The figures of the test split (of the validation split if there is none); for clusters
        without names, which cannot be scored, what the fit says about itself.

    Raises:
        RsjaxError: anything that the user can mend; see `rsjax.errors`.
    """
    if jax.process_count() > 1:
        raise ConfigError(
            f"model.name={config.model.name!r} is fitted by one process, there are "
            f"{jax.process_count()}. Start it without --distributed"
        )
    sharding.set_up(config)
    with lock.exclusive(workdir):
        bundle.recover(workdir / "bundle")
        sealed.clean(workdir, workdir / "eval")
        made, inputs = data.read_inputs(config, data.find_shards(config))
        fail_early(config, made)
        classes = data.read_classes(config.task, made)
        if made.simulated:
            log.warning("the imagery is SIMULATED: figures say nothing about real scenes")
        fields = fields_of(config, inputs)
        mesh = sharding.make_mesh(config.mesh.model)
        sharding.check_batch("eval_batch_size", config.eval_batch_size, mesh)
        sealed.write_json(workdir / "config.json", to_json(config))
        (workdir / FINISHED).unlink(missing_ok=True)

        best, told = fitted(config, made, inputs, classes, fields)
        bundle.save(best, workdir / "bundle")
        final = config.data.test_split or config.data.validation_split
        if unnamed(config):
            log.info("clusters without names are not scored; map scenes with rsjax.predict")
            scalars = {k: float(v) for k, v in told.items() if isinstance(v, int | float)}
        elif final:
            calibrate(config, workdir, made, mesh)
            task = tasks.make(
                config.task.name,
                {**config.task, **classes.options, "class_weights": "none"},
                len(classes.nomenclature),
            )
            members = members_of(config, [best], mesh)
            examine = make_examiner(config, made, task, members, classes.counts, mesh)
            scalars = test_best(config, workdir, made, final, mesh, examine)
        else:
            scalars = {}
        sealed.write_json(workdir / FINISHED, {"step": 0, "split": final, **scalars})
        return scalars


def unnamed(config: ConfigDict) -> bool:
    """Whether clusters are the classes."""
    return bool(config.model.name == "kmeans" and config.fit.clusters == "unnamed")


def fields_of(config: ConfigDict, inputs: Inputs) -> dict[str, Any]:
    """The model's fields, names of bands and indices resolved for this input.

    Raises:
        ConfigError, SensorError: fields or bands that cannot be.
    """
    given = config.model.fields.to_dict()
    given |= indices.resolve(given.get("indices", ()), inputs)
    given["per_image"] = config.task.name == "classification"
    if config.model.name == "kmeans":
        given["named"] = not unnamed(config)
    pixel_features.of_fields(models.get(config.model.name, num_classes=1, **given))
    return given


def fitted(
    config: ConfigDict,
    made: Manifest,
    inputs: Inputs,
    classes: data.Classes,
    fields: Mapping[str, Any],
) -> tuple[bundle.Model, dict[str, Any]]:
    """The fitted model, ready to predict, and what its fit says about itself."""
    count = len(classes.nomenclature)
    features = pixel_features.of_fields(models.get(config.model.name, num_classes=1, **fields))
    begun = time.perf_counter()
    drawn = draw.draw(config, made, inputs, classes, features, config.data.train_split)
    validation = None
    if config.model.name == "gradient_boosting" and config.data.validation_split:
        held = draw.draw(config, made, inputs, classes, features, config.data.validation_split)
        validation = (held.features, held.labels, row_weights(config, made, classes, held))
    read = time.perf_counter()
    names = features.names(inputs.bands)
    log.info("%d rows of %d features drawn in %.1f s", len(drawn.labels), len(names), read - begun)
    params, told = estimators.fit(
        config.model.name,
        drawn.features,
        drawn.labels,
        row_weights(config, made, classes, drawn),
        count,
        options=config.fit.options.to_dict(),
        seed=config.seed,
        jobs=config.fit.jobs,
        named=not unnamed(config),
        validation=validation,
    )
    seconds = time.perf_counter() - read
    nomenclature = clusters(told["clusters"]) if unnamed(config) else classes.nomenclature
    log.info("%s fitted in %.1f s", config.model.name, seconds)
    if "importance" in told:
        ranked = sorted(zip(told["importance"], names, strict=True), reverse=True)
        told["importance"] = {name: share for share, name in ranked}
        log.info("most important: %s", ", ".join(f"{n} {s:.2f}" for s, n in ranked[:5]))
    task = tasks.make(config.task.name, config.task.to_dict(), len(nomenclature))
    about = describe(config, made, inputs, task, nomenclature)
    about["model"] = {**about["model"], "fields": _plain(fields)}
    told = {
        "features": names,
        "rows_of_class": drawn.counts.tolist(),
        "available_of_class": drawn.available.tolist(),
        "seconds_drawing": read - begun,
        "seconds_fitting": seconds,
        **told,
    }
    about |= {"step": 0, "fit": told}
    del about["nomenclature"]
    return bundle.Model({"params": params, "batch_stats": {}}, inputs, nomenclature, about), told


def row_weights(
    config: ConfigDict, made: Manifest, classes: data.Classes, drawn: draw.Drawn
) -> np.ndarray:
    """Weights of the rows, (N,) with mean 1: as if all pixels of the split had been drawn.

    A class of which fewer were drawn than there are counts as much as all of them; times the
    weights that `task.class_weights` gives it, as in the loss of a network.
    """
    each = drawn.available / np.maximum(drawn.counts, 1)
    chosen = weights.class_weights(
        config.task.class_weights,
        classes.counts(config.data.train_split),
        config.task.effective_beta,
        present_totals=data.presence(config, made, classes).get("present_totals"),
    )
    rows = (each if chosen is None else each * chosen)[drawn.labels]
    return rows / rows.mean()


def clusters(count: int) -> Nomenclature:
    """The classes 'cluster 1' to 'cluster K', with hues all around the circle.

    Raises:
        NomenclatureError: more than 255.
    """
    hues = [colorsys.hsv_to_rgb(i / count, 0.55 + 0.3 * (i % 2), 0.9) for i in range(count)]
    return Nomenclature(
        name="clusters",
        title=f"{count} clusters without names",
        source="K-means",
        codes=tuple(range(1, count + 1)),
        names=tuple(f"cluster {i}" for i in range(1, count + 1)),
        colours=tuple("#" + "".join(f"{round(255 * c):02x}" for c in hue) for hue in hues),
        parents=(None,) * count,
        ignore=(0,),
    )


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    def one(value: Any) -> Any:
        return [one(item) for item in value] if isinstance(value, list | tuple) else value

    return {name: one(value) for name, value in fields.items()}
