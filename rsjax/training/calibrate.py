"""After training: a temperature and thresholds from the validation split, kept in the bundle.

Neither touches the weights. The temperature makes probabilities fit how often the model is right,
and leaves the order of the classes as it was; it is fitted without symmetries. Thresholds of labels
are chosen for the largest F1 of each, of probabilities as the test takes them (`eval.tta`).
"""

from __future__ import annotations

import dataclasses
import logging
import math
import pathlib

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rsjax import bundle, metrics, tasks
from rsjax.input.manifest import Manifest
from rsjax.metrics import thresholds
from rsjax.training import data, hosts
from rsjax.training.examine import make_examiner, members_of

log = logging.getLogger("rsjax")


def calibrate(config: ConfigDict, workdir: pathlib.Path, made: Manifest, mesh: Mesh) -> None:
    """Fits what `config.task` asks for, and writes it into the bundle of `workdir`."""
    split = config.data.validation_split
    tuned = config.task.thresholds == "tuned"
    best = bundle.load(workdir)
    # Of an earlier end of this run, whose config may have asked for others.
    about = {k: v for k, v in best.about.items() if k not in ("temperature", "calibration")}
    about["task"] = {**about["task"], "threshold": config.task.threshold}
    if config.task.temperature != "fitted" and not tuned and about == best.about:
        return
    classes = data.read_classes(config.task, made)
    count = len(classes.nomenclature)
    options = {**config.task.to_dict(), **classes.options, "class_weights": "none"}
    task = tasks.make(config.task.name, options, count)
    members = members_of(config, [best], mesh)
    if config.task.temperature == "fitted":
        fit = metrics.get("temperature").for_classes(count, task.kind)
        alone = dataclasses.replace(
            task, metrics={"temperature": fit}, samples=lambda logits, labels, counted: {}
        )
        examine = make_examiner(config, made, alone, members, classes.counts, mesh)
        found = examine([best.variables], split).scalars
        told = {k: v for k, v in found.items() if k.startswith(("temp", "nll"))}
        about["calibration"] = {"split": split, **told}
        if found["temperature_at_edge"] or not math.isfinite(found["temperature"]):
            log.warning(
                "no temperature: none fits %s, which is too small, or where all is right or "
                "nothing counts",
                split,
            )
        else:
            about["temperature"] = found["temperature"]
            log.info(
                "temperature %.3f fitted on %s: negative log-likelihood %.4f, %.4f without",
                found["temperature"],
                split,
                found["nll_after"],
                found["nll_before"],
            )
    if tuned:
        examine = make_examiner(config, made, task, members, classes.counts, mesh, config.eval.tta)
        samples = examine([best.variables], split, [about.get("temperature", 1.0)]).samples
        chosen, f1 = thresholds.best_f1(
            samples["probabilities"], samples["labels"], config.task.threshold
        )
        about["task"] = {**about["task"], "threshold": [float(value) for value in chosen]}
        about["calibration"] = {"split": split, **about.get("calibration", {})}
        log.info(
            "thresholds from %.2f to %.2f tuned on %s: mean F1 there %.4f",
            chosen.min(),
            chosen.max(),
            split,
            f1[f1 == f1].mean(),
        )
    if jax.process_index() == 0:
        bundle.save(dataclasses.replace(best, about=about), workdir / "bundle")
    hosts.barrier("calibrated")
