"""Evaluates models on splits of prepared shards: during a run, at its end, and on their own."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rsjax import bundle
from rsjax.config import to_json
from rsjax.errors import RsjaxError, SensorError
from rsjax.input import pipeline
from rsjax.input.manifest import Manifest
from rsjax.input.preprocess import Inputs
from rsjax.tasks import Task
from rsjax.training import data, layout, report, sharding, step
from rsjax.training.describe import source_of
from rsjax.training.evaluate import Results, evaluate

log = logging.getLogger("rsjax")
Examiner = Callable[[dict[str, Any], str], Results]


def make_examiner(
    config: ConfigDict,
    made: Manifest,
    model: Any,
    task: Task,
    inputs: Inputs,
    mesh: Mesh,
    placed: Any,
) -> Examiner:
    """A function (state, split) -> results; it uses the moving average where the state has one.

    Args:
        config: batch size and threads of the evaluation.
        made: the shards.
        model: the Linen module.
        task: labels, loss and metrics.
        inputs: the model's input.
        mesh: the devices.
        placed: shardings of the parameters.

    Raises:
        ConfigError: the devices cannot share eval_batch_size evenly.
    """
    sharding.check_batch("eval_batch_size", config.eval_batch_size, mesh)
    same, over_data = sharding.replicated(mesh), sharding.over_data(mesh)
    reader = sharding.reader_of(over_data, config.eval_batch_size)
    eval_step = jax.jit(
        step.make_eval_step(model, task, inputs),
        in_shardings=(placed, same, over_data),
        out_shardings=same,
    )

    def examine(state: dict[str, Any], split: str) -> Results:
        batches = pipeline.eval_batches(
            data.open_split(config, made.root, split, inputs),
            config.eval_batch_size,
            config.data.threads,
            config.data.buffer,
            *reader,
            stall_s=config.data.stall_s,
        )
        return evaluate(
            eval_step,
            layout.put(state.get("ema") or state["params"], placed),
            layout.put(state["batch_stats"], same),
            pipeline.OnMesh(batches, over_data),
            task,
            data.class_counts(made, split),
        )

    return examine


def test_best(
    workdir: pathlib.Path, examine: Examiner, made: Manifest, split: str
) -> dict[str, float]:
    """Figures of the model in the bundle, the best of the run, on a split; and the report."""
    best = bundle.load(workdir)
    found = examine(best.variables, split)
    if jax.process_index() == 0:
        found.save(workdir / "eval", split, {**best.about, "evaluated_on": source_of(made)})
        log.info("report: %s", report.write(workdir, split, made.root))
    return found.scalars


def evaluate_checkpoint(config: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
    """Evaluates a trained model (`config.eval.checkpoint`, else that of `workdir`) on a split.

    Bands, statistics and task are those of the model; the shards are those of the config.

    Raises:
        BundleError: there is no model, or one that cannot predict.
        RsjaxError: the model and the shards have other classes.
        SensorError: they have other bands, units or sizes.
        ShardError: the split, or an entry that the model needs, is not in the shards.
    """
    sharding.set_up(config)
    trained = bundle.load(config.eval.checkpoint or workdir)
    made, _ = data.read_inputs(config, data.find_shards(config))
    known = trained.classes()
    if made.nomenclature.names != known.names:
        raise RsjaxError(
            f"the model knows the classes of '{known.name}', the shards in "
            f"{made.root} are labelled with '{made.nomenclature.name}'"
        )
    for name, spec in trained.inputs.images.items():
        if made.info.images.get(name) != spec:
            raise SensorError(
                f"entry '{name}': the model takes {spec}, the shards in {made.root} have "
                f"{made.info.images.get(name)}"
            )
    mesh = sharding.make_mesh(config.mesh.model)
    placed = layout.lay_out_params(trained.variables["params"], mesh, config.mesh.rules)
    examine = make_examiner(
        config, made, trained.module, trained.task, trained.inputs, mesh, placed
    )
    found = examine(trained.variables, config.eval.split)
    if jax.process_index() == 0:
        # Published weights come without the config of their training.
        about = {"config": to_json(config), **trained.about, "evaluated_on": source_of(made)}
        found.save(workdir / "eval", config.eval.split, about)
        # The page of the run itself stays: it is about the split that the run ends with.
        own = config.eval.split == config.data.test_split
        file = "report.html" if own else f"report_{config.eval.split}.html"
        log.info("report: %s", report.write(workdir, config.eval.split, made.root, file))
    return found.scalars
