"""What a checkpoint and a bundle say about themselves: all that a reader needs besides them."""

from __future__ import annotations

import pathlib
from typing import Any

import flax
import jax
from ml_collections import ConfigDict

import rsjax
from rsjax import bundle
from rsjax.config import to_json
from rsjax.input.manifest import Manifest
from rsjax.input.preprocess import Inputs
from rsjax.landcover import Nomenclature
from rsjax.tasks import Task
from rsjax.training import hosts, layout


def describe(
    config: ConfigDict, made: Manifest, inputs: Inputs, task: Task, classes: Nomenclature
) -> dict[str, Any]:
    """Model, task, inputs, classes, data, config and versions of a run, as plain JSON types."""
    return {
        "rsjax": rsjax.__version__,
        "versions": {"jax": jax.__version__, "flax": flax.__version__},
        "model": to_json(config.model),
        "outputs": task.outputs,
        "task": to_json(config.task),
        "headline": task.headline,
        "inputs": inputs.to_json(),
        "nomenclature": classes.to_json(),
        "trained_on": {**source_of(made), "split": config.data.train_split},
        "config": to_json(config),
    }


def source_of(made: Manifest) -> dict[str, Any]:
    """Which data: title, version, place and fingerprint, and whether it is simulated."""
    return {
        "title": made.info.title,
        "dataset": made.info.name,
        "version": made.info.version,
        "shards": str(made.root),
        "fingerprint": made.fingerprint(),
        "simulated": made.simulated,
    }


def save_bundle(
    workdir: pathlib.Path,
    state: dict[str, Any],
    inputs: Inputs,
    about: dict[str, Any],
    step: int,
    figures: dict[str, float],
) -> None:
    """Writes the model of this state, the moving average if there is one, as `workdir/bundle`."""
    variables = {"params": state["ema"] or state["params"], "batch_stats": state["batch_stats"]}
    variables = layout.to_host(variables, state["step"].sharding.mesh)
    if jax.process_index() == 0:
        told = {**about, "step": step, "validation": figures}
        classes = Nomenclature.from_json(told.pop("nomenclature"))
        model = bundle.Model(variables, inputs, classes, told)
        bundle.save(model, workdir / "bundle")
    hosts.barrier("bundle saved")
