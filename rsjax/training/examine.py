"""Evaluates models on splits of prepared shards: during a run, at its end, and on their own.

One path for all: one model or an ensemble, with its temperature, over the symmetries of the square
or not, the moving average where there is one.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rsjax import averaging, bundle, tasks
from rsjax import config as configs
from rsjax.config import to_json
from rsjax.errors import ConfigError, RsjaxError, SensorError
from rsjax.input import pipeline
from rsjax.input.manifest import Manifest
from rsjax.input.preprocess import Inputs
from rsjax.tasks import Task
from rsjax.training import data, held_out, layout, report, sharding, shown, step
from rsjax.training.describe import source_of
from rsjax.training.evaluate import Results, analyse, evaluate

log = logging.getLogger("rsjax")
Member = tuple[Any, Inputs, Any]  # Linen module, its input, shardings of its parameters
Examiner = Callable[..., Results]


def make_examiner(
    config: ConfigDict,
    made: Manifest,
    task: Task,
    members: Sequence[Member],
    counts: Callable[[str], list[int]],
    mesh: Mesh,
    tta: str = "none",
) -> Examiner:
    """A function (states, split, temperatures=1 each) -> results.

    A state has 'params' and 'batch_stats', and the moving average 'ema' in place of the parameters
    where that is not empty. There is one for each member.

    Args:
        config: batch size and threads of the evaluation.
        made: the shards.
        task: labels, loss and metrics.
        members: the models; of several, probabilities are averaged.
        counts: split -> samples of each class, for the baseline.
        mesh: the devices.
        tta: see `rsjax.averaging`.

    Raises:
        ConfigError: the devices cannot share eval_batch_size evenly.
    """
    sharding.check_batch("eval_batch_size", config.eval_batch_size, mesh)
    same, over_data = sharding.replicated(mesh), sharding.over_data(mesh)
    reader = sharding.reader_of(over_data, config.eval_batch_size)
    inputs = [one for _, one, _ in members]
    layouts = tuple({"params": placed, "batch_stats": same} for _, _, placed in members)
    logits_of = averaging.logits_of([(m, one) for m, one, _ in members], task.kind, tta)
    eval_step = jax.jit(
        step.make_eval_step(logits_of, task),
        in_shardings=(layouts, same, over_data),
        out_shardings=same,
    )

    def examine(
        states: Sequence[dict[str, Any]], split: str, temperatures: Sequence[float] | None = None
    ) -> Results:
        batches = pipeline.eval_batches(
            data.open_split(config, made.root, split, inputs, task.name),
            config.eval_batch_size,
            config.data.threads,
            config.data.buffer,
            *reader,
            stall_s=config.data.stall_s,
        )
        variables = put(states, members, same)
        each = np.asarray(temperatures or [1.0] * len(members), np.float32)
        return evaluate(
            eval_step,
            variables,
            layout.put(each, same),
            pipeline.OnMesh(batches, over_data),
            task,
            counts(split),
        )

    return examine


def put(states: Sequence[dict[str, Any]], members: Sequence[Member], same: Any) -> tuple[Any, ...]:
    """The variables of each member on the mesh."""
    return tuple(
        {
            "params": layout.put(state.get("ema") or state["params"], placed),
            "batch_stats": layout.put(state["batch_stats"], same),
        }
        for state, (_, _, placed) in zip(states, members, strict=True)
    )


def evaluate_bundles(
    config: ConfigDict,
    made: Manifest,
    trained: Sequence[bundle.Model],
    split: str,
    mesh: Mesh,
    compiled: Examiner | None = None,
    choose: shown.Chooser = shown.choose,
) -> Results:
    """Everything that a report says: figures with intervals, groups, pictures' maps.

    Args:
        config: its `eval` part says how.
        made: the shards.
        trained: the model, or the members of an ensemble; classes and task are of the first.
        split: the split, or several joined by '+'.
        mesh: the devices.
        compiled: of the same model and task, to be used again where nothing else is asked for.
        choose: which records of a segmentation keep their maps.

    Raises:
        RsjaxError: the models and the shards have other classes.
        SensorError: they have other bands, units or sizes.
    """
    first = trained[0]
    options = task_of(config, first)
    classes = data.read_classes(options, made)
    check_fit(made, trained, classes.nomenclature.names)
    data.check_texts(config, made)
    task = tasks.make(
        first.task.name,
        {**options, **classes.options, "class_weights": "none"},
        len(classes.nomenclature),
    )
    members = members_of(config, trained, mesh)
    plain = config.eval.tta == "none" and config.task.thresholds == "fixed"
    examine = (plain and compiled) or make_examiner(
        config, made, task, members, classes.counts, mesh, config.eval.tta
    )
    states = [one.variables for one in trained]
    temperatures = [one.temperature for one in trained]
    found = examine(states, split, temperatures)
    if "temperature" in first.about and len(trained) == 1:
        found.scalars["temperature"] = first.temperature
    if isinstance(options["threshold"], list | tuple):
        found.per_class["threshold"] = np.asarray(options["threshold"], float)
    if task.name == "segmentation":
        maps = shown.predict(
            config, made, task, members, put, states, temperatures, split, found, mesh, choose
        )
        found = dataclasses.replace(found, samples={**found.samples, **maps})
    if jax.process_index() == 0:
        source = data.open_split(config, made.root, split, [first.inputs], task.name)
        records = found.samples["index"]
        found = analyse(
            found, task, lambda name: data.texts(source, records, name), config.eval.to_dict()
        )
    return found


def task_of(config: ConfigDict, model: bundle.Model) -> dict[str, Any]:
    """The options of a model's task; how boundaries are scored is said by the config."""
    given = config.task.to_dict()
    own = {**configs.base().task.to_dict(), **model.about["task"]}
    return {**own, **{name: given[name] for name in ("boundary_tolerance", "boundary_unit")}}


def describe_evaluation(
    config: ConfigDict, made: Manifest, trained: Sequence[bundle.Model], split: str
) -> dict[str, Any]:
    """What an evaluation says about itself, for `Results.save`.

    Temperatures and thresholds are those of the bundles, whatever the config says of them: an
    evaluation fits nothing. What of them comes from the split itself is named.
    """
    first, ran = trained[0], to_json(config)
    about = {**first.about, "nomenclature": first.classes().to_json()}
    # Published weights come without the config of their training.
    about["config"] = {**(about.get("config") or ran), "eval": ran["eval"]}
    about["task"] = {**about["task"], **task_of(config, first)}
    seen = dict.fromkeys(what for one in trained for what in held_out.seen(one, made, split))
    about["evaluation"] = {"models": len(trained), "tta": config.eval.tta, "seen": list(seen)}
    about["split"] = split
    return {**about, "evaluated_on": source_of(made)}


def members_of(config: ConfigDict, trained: Sequence[bundle.Model], mesh: Mesh) -> list[Member]:
    """The models with their parameters laid out as the config says."""
    return [
        (
            one.module,
            one.inputs,
            layout.lay_out_params(one.variables["params"], mesh, config.mesh.rules),
        )
        for one in trained
    ]


def check_fit(made: Manifest, trained: Sequence[bundle.Model], names: tuple[str, ...]) -> None:
    """Refuses models that do not fit each other or the shards.

    Raises:
        RsjaxError: other classes or tasks.
        SensorError: other bands, units or sizes.
    """
    for one in trained:
        known = one.classes()
        if known.names != names:
            raise RsjaxError(
                f"the model knows the classes of '{known.name}' ({len(known)}), the shards in "
                f"{made.root} have {len(names)} others: {', '.join(names[:5])}, ..."
            )
        if one.task.name != trained[0].task.name:
            raise RsjaxError(
                f"the models of an ensemble have the tasks {trained[0].task.name} and "
                f"{one.task.name}; give models of one task"
            )
        for name, spec in one.inputs.images.items():
            if made.info.images.get(name) != spec:
                raise SensorError(
                    f"entry '{name}': the model takes {spec}, the shards in {made.root} have "
                    f"{made.info.images.get(name)}"
                )


def test_best(
    config: ConfigDict,
    workdir: pathlib.Path,
    made: Manifest,
    split: str,
    mesh: Mesh,
    examine: Examiner,
) -> dict[str, float]:
    """Figures of the model in the bundle, the best of the run, on a split; and the report."""
    best = bundle.load(workdir)
    found = evaluate_bundles(config, made, [best], split, mesh, examine)
    if jax.process_index() == 0:
        found.save(workdir / "eval", split, describe_evaluation(config, made, [best], split))
        log.info("report: %s", report.write(workdir, split, made.root))
    return found.scalars


def evaluate_checkpoint(config: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
    """Evaluates a trained model (`config.eval.checkpoint`, else that of `workdir`) on a split.

    With `config.eval.ensemble` the mean of it and of further models. Bands, statistics and task
    are those of the model; the shards are those of the config.

    Raises:
        BundleError: there is no model, or one that cannot predict.
        RsjaxError: the models and the shards have other classes.
        SensorError: they have other bands, units or sizes.
        ShardError: the split, or an entry that the model needs, is not in the shards.
    """
    sharding.set_up(config)
    trained = bundle.load(config.eval.checkpoint or workdir)
    trained.classes()
    others = [bundle.load(path) for path in config.eval.ensemble]
    made = data.read_shards(config)
    mesh, split = sharding.make_mesh(config.mesh.model), config.eval.split
    found = evaluate_bundles(config, made, [trained, *others], split, mesh)
    if jax.process_index() == 0:
        # What the run itself ended with stays: another evaluation has files of its own.
        chosen = pathlib.Path(config.eval.checkpoint or workdir).absolute()
        foreign = chosen not in (workdir.absolute(), workdir.absolute() / "bundle")
        name = "_".join(
            [split]
            + ([chosen.name] if foreign and (workdir / "bundle").exists() else [])
            + ([f"ensemble{1 + len(others)}"] if others else [])
            + ([config.eval.tta] if config.eval.tta != "none" else [])
        )
        about = describe_evaluation(config, made, [trained, *others], split)
        if told := held_out.said(about["evaluation"]["seen"], split):
            log.warning("%s", told)
        found.save(workdir / "eval", name, about)
        own = name == config.data.test_split
        file = "report.html" if own else f"report_{name}.html"
        log.info("report: %s", report.write(workdir, name, made.root, file))
    return found.scalars


def fail_early(config: ConfigDict, made: Manifest) -> None:
    """Refuses, before training, what the evaluation at its end would refuse.

    Raises:
        ConfigError: text entries that the shards do not have.
    """
    data.check_texts(config, made)
    if config.eval.ensemble and config.mode == "train":
        raise ConfigError("eval.ensemble is for mode=eval: a run trains one model")
