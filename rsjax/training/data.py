"""The shards that a config asks for, opened split by split."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import pathlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rsjax import config as configs
from rsjax import datasets, landcover, models, sensors
from rsjax.errors import CheckpointError, ConfigError, RsjaxError, ShardError
from rsjax.input import build, manifest, sampling
from rsjax.input.preprocess import Inputs, make_inputs
from rsjax.input.source import ShardSource
from rsjax.landcover import IGNORE, Nomenclature
from rsjax.metrics import boundary
from rsjax.training import hosts

log = logging.getLogger("rsjax")
UNMATCHED = "(no match)"


def find_shards(config: ConfigDict) -> pathlib.Path:
    """The folder of the shards; a config that simulates its data prepares them first.

    Raises:
        ShardError: no shards; names the folder, the dataset's page and the commands to run.
    """
    d = config.data
    if d.simulate_samples:
        if jax.process_index() == 0:
            _simulate(config)
        hosts.barrier("data simulated")
    try:
        return manifest.find(d.data_dir, d.dataset, d.version)
    except manifest.NoShards as error:
        source = d.source or f"/path/to/{d.dataset}"
        try:
            page = datasets.get(d.dataset)(source).info.page
        except RsjaxError:  # a dataset whose card lies in the download
            page = "its publisher"
        raise ShardError(
            f"{error}. Download it from {page}, then run\n"
            f"  python -m rsjax.prepare --dataset={d.dataset} --source={source} "
            f"--data_dir={d.data_dir}\n"
            "and this command again (with --config.data.data_dir=... if it lies elsewhere)"
        ) from None


def _simulate(config: ConfigDict) -> None:
    """Simulates a download and prepares it, unless there are shards already."""
    from rsjax.datasets.simulate import simulate

    d = config.data
    with contextlib.suppress(manifest.NoShards):
        made = manifest.load(manifest.find(d.data_dir, d.dataset, d.version))
        count = sum(split["records"] for split in made.splits.values())
        if count != d.simulate_samples:
            log.warning("using the %d samples in %s, not data.simulate_samples", count, made.root)
        return
    source = pathlib.Path(d.data_dir) / f"download-{d.dataset}-{d.simulate_samples}"
    if not source.exists():
        log.info("simulating a download of %d samples in %s", d.simulate_samples, source)
        partial = source.with_name(f".{source.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        simulate(d.dataset, partial, d.simulate_samples, seed=0)
        partial.rename(source)
    build.build(d.dataset, source, d.data_dir, d.options.to_dict())


def fit_of(config: ConfigDict) -> tuple[int, int, int]:
    """(steps, rows, columns) that series and images of varying size are brought to."""
    return config.data.fit_steps, config.data.fit_px, config.data.fit_px


def open_split(
    config: ConfigDict, root: pathlib.Path, split: str, inputs: Sequence[Inputs], task: str
) -> ShardSource:
    """The records of a split, with the entries that the models and the task need."""
    images = sorted({name for one in inputs for name in one.images})
    target = "mask" if task == "segmentation" else "label"
    return ShardSource(root, split, columns=[*images, target], fit=fit_of(config))


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes of a task on these shards.

    Attributes:
        nomenclature: of the task.
        options: of the task that follow from the shards, for `rsjax.tasks.make`.
        counts: split, or several joined by '+', -> samples (segmentation: pixels) of each class.
    """

    nomenclature: Nomenclature
    options: dict[str, Any]
    counts: Callable[[str], list[int]]


def read_classes(task: Mapping[str, Any], made: manifest.Manifest) -> Classes:
    """Which classes a task has on these shards, and how many samples of each.

    Args:
        task: the `task` part of a config.
        made: the shards.

    Raises:
        ConfigError: the task needs labels or masks that the shards do not have.
        NomenclatureError: no crosswalk to `task.nomenclature`.
    """
    info, wanted = made.info, task.get("nomenclature", "")
    kind = {"classification": "index", "multilabel": "multihot"}.get(task["name"])
    if kind is not None:
        if info.label != kind or wanted:
            has = {"index": "one label a scene", "multihot": "several labels a scene"}
            problem = (
                "task.nomenclature is for segmentation"
                if wanted
                else f"{info.title} has {has.get(str(info.label), 'no labels of scenes')}"
            )
            raise ConfigError(f"task.name={task['name']!r}: {problem}. Choose another task.name")
        return Classes(made.nomenclature, {}, lambda split: _counts(made, split, "class_counts"))
    source = made.mask_nomenclature
    if source is None or info.mask is None:
        raise ConfigError(
            f"task.name={task['name']!r}: {made.root} holds no reference maps. Prepare the "
            "dataset with them, or choose another task.name"
        )
    target = landcover.load(wanted) if wanted else source
    merge = source.crosswalk(target)

    def counts(split: str) -> list[int]:
        found = np.asarray(_counts(made, split, "mask_counts"), np.int64)
        merged = np.zeros(256, np.int64)
        np.add.at(merged, merge, found)
        return merged[: len(target)].tolist()

    gsd = next((s.gsd_m for s in info.images.values() if (s.height, s.width) == info.mask), None)
    task = {**configs.base().task.to_dict(), **task}
    tolerance, unit = task["boundary_tolerance"], task["boundary_unit"]
    options = {
        "merge": None if target is source else merge,
        "boundary_radius_px": boundary.radius_of(tolerance, unit, info.mask, gsd),
    }
    return Classes(target, options, counts)


def read_shards(config: ConfigDict) -> manifest.Manifest:
    """The manifest of the shards of a config; see `find_shards`."""
    return manifest.load(find_shards(config))


def check_texts(config: ConfigDict, made: manifest.Manifest) -> None:
    """Refuses text entries that the shards do not have, and patterns that have no group.

    Raises:
        ConfigError: names them, and what there is.
    """
    known = ("id", *made.info.metadata)
    asked = [*config.eval.group_by, *filter(None, [config.eval.blocks])]
    if unknown := [name for name in asked if name.partition(":")[0] not in known]:
        raise ConfigError(
            f"eval.group_by and eval.blocks: {made.root} has no text entries {unknown}; it has "
            f"{', '.join(known)}"
        )
    for name in asked:
        _, _, pattern = name.partition(":")
        try:
            groups = re.compile(pattern).groups if pattern else 1
        except re.error as error:
            raise ConfigError(f"eval.group_by, eval.blocks: {name!r}: {error}") from None
        if groups != 1:
            raise ConfigError(
                f"eval.group_by, eval.blocks: {name!r}: the pattern has {groups} groups, expected "
                "one in parentheses, e.g. 'id:_T(\\w{5})_'"
            )


def texts(source: ShardSource, records: np.ndarray, name: str) -> list[str]:
    r"""A text entry of records, or the part of it that a pattern finds (else UNMATCHED).

    Args:
        source: the records of a split.
        records: (N,) indices.
        name: 'country', or 'id:_T(\w{5})_', the entry and a regex with one group.
    """
    entry, _, pattern = name.partition(":")
    values = source.texts(records, entry)
    if not pattern:
        return values
    found = [re.search(pattern, value) for value in values]
    if missing := found.count(None):
        example = values[found.index(None)]
        log.warning("%s does not match %d records, e.g. %r", name, missing, example)
    return [match[1] if match else UNMATCHED for match in found]


def read_inputs(config: ConfigDict, root: pathlib.Path) -> tuple[manifest.Manifest, Inputs]:
    """What the shards are, and the model's input as the config chooses it.

    Raises:
        ConfigError: published statistics are asked for and the dataset has none.
        SensorError: a band is not in the shards.
    """
    made = manifest.load(root)
    statistics: Any = made.statistics
    if config.data.statistics == "published":
        if not made.info.published_statistics:
            raise ConfigError(f"data.statistics='published': {made.info.title} has none")
        statistics = {
            sensor: {band: {"mean": mean, "std": std} for band, (mean, std) in bands.items()}
            for sensor, bands in made.info.published_statistics.items()
        }
    grid = (config.data.grid_px,) * 2
    if config.task.name == "segmentation" and made.info.mask not in (None, grid):
        rows, columns = made.info.mask
        raise ConfigError(
            f"data.grid_px={config.data.grid_px}: the reference maps of {made.info.title} have "
            f"{rows} x {columns} pixels, and are not resampled. Set data.grid_px={rows}"
        )
    images = dict(made.info.images)
    made_of = make_inputs(
        images, config.data.bands, statistics, grid, config.data.resample, fit_of(config)
    )
    _check_series(_steps(config), made_of.bands)
    if config.model.fields.get("percentiles"):
        made_of = as_reflectance(made_of)
    return made, made_of


def as_reflectance(inputs: Inputs) -> Inputs:
    """Inputs that are reflectances times 10000, for a model that squashes bands itself.

    Mean and standard deviation stay those of the data: missing values become the mean of their
    band, and augmentation is in standard deviations, as for every model.

    Raises:
        ConfigError: an entry holds another quantity.
    """
    pairs = []
    for name, mean, std in zip(inputs.bands, inputs.mean, inputs.std, strict=True):
        units = {s.unit for s in inputs.images.values() if s.sensor == name.partition("/")[0]}
        scale, offset, quantity = sensors.UNITS[units.pop()]
        if quantity != "reflectance" or units:
            raise ConfigError(
                f"model.fields.percentiles: they are of reflectances, and {name} is {quantity}. "
                "Leave the bands or the percentiles out"
            )
        pairs.append((1e4 * (scale * mean + offset), 1e4 * scale * std))
    return dataclasses.replace(inputs, rescale=tuple(pairs))


def _steps(config: ConfigDict) -> int:
    """Steps of a series that the model has in its channels, all bands of one after another's."""
    default = getattr(models.get(config.model.name, num_classes=1), "steps", 1)
    return int(config.model.fields.get("steps", default))


def _check_series(steps: int, bands: Sequence[str]) -> None:
    """Refuses channels that a model of series would take for others: it reads them step by step.

    Raises:
        ConfigError: they are not the same bands, in the same order, at each step.
    """
    each = len(bands) // steps
    names = [band.partition("@")[0] for band in bands]
    if steps > 1 and (len(bands) % steps or names != names[:each] * steps):
        raise ConfigError(
            f"model.fields.steps={steps}: data.bands are not the same bands, in the same order, at "
            f"each step: {', '.join(bands)}. List all bands of the first step, then of the second"
        )


def _counts(made: manifest.Manifest, split: str, kind: str) -> list[int]:
    parts = [made.splits[name][kind] for name in split.split("+") if name in made.splits]
    return [sum(values) for values in zip(*parts, strict=True)]


def sampling_weights(
    config: ConfigDict, made: manifest.Manifest, lut: np.ndarray | None = None
) -> np.ndarray | None:
    """How often each record of the train split is drawn an epoch, by `data.sampling`.

    Args:
        config: names the rule, its cap, the task and the split.
        made: the manifest, with the classes of each record.
        lut: of segmentation in other classes than those of the shards: (256,) uint8, the task's
            class of each class of the mask, 255 where it is ignored.

    Returns:
        (N,) float64 with mean 1; None if all are drawn once.

    Raises:
        ShardError: the shards have no such counts, or they are damaged.
    """
    d = config.data
    if d.sampling == "uniform":
        return None
    if config.task.name == "segmentation":
        counts = _pixels(made, d.train_split, lut)
    else:
        counts = manifest.histograms(made, d.train_split, "label")
    weights = sampling.inverse_frequency(counts, d.sampling_cap)
    log.info(
        "sampling by %s: a record is drawn %.2f to %.2f times an epoch",
        d.sampling,
        weights.min(),
        weights.max(),
    )
    return weights


def _pixels(made: manifest.Manifest, split: str, merge: np.ndarray | None) -> np.ndarray:
    """Pixels of each class in each record, (N, K), without the ignored ones."""
    counts = manifest.histograms(made, split, "mask")[:, :-1]
    if merge is None:
        return counts
    to = np.asarray(merge, np.int64)[: counts.shape[1]]
    classes = int(to[to != IGNORE].max(initial=-1)) + 1
    return np.stack([counts[:, to == c].sum(axis=1) for c in range(classes)], axis=1)


def presence(config: ConfigDict, made: manifest.Manifest, classes: Classes) -> dict[str, Any]:
    """What class weights by median frequency need beside the counts, for `rsjax.tasks.make`.

    Raises:
        ShardError: the shards have no counts of each record, or they are damaged.
    """
    if config.task.class_weights != "median_frequency" or config.task.name != "segmentation":
        return {}
    counts = _pixels(made, config.data.train_split, classes.options["merge"])
    counts = counts.astype(np.int64)
    totals = np.zeros(len(classes.nomenclature), np.int64)  # classes that never occur: 0
    totals[: counts.shape[1]] = (counts.sum(axis=1, keepdims=True) * (counts > 0)).sum(axis=0)
    return {"present_totals": totals.tolist()}


def fingerprint(config: ConfigDict, made: manifest.Manifest, inputs: Inputs) -> dict[str, Any]:
    """What must not change for a run to go on: data, its order, and what the channels mean."""
    d = config.data
    chosen = {"rule": d.sampling, "cap": d.sampling_cap, "nomenclature": config.task.nomenclature}
    return {
        "dataset": made.info.name,
        "shards": made.fingerprint(),
        "train_split": config.data.train_split,
        "seed": config.seed,
        "batch_size": config.batch_size,
        "order": "grain index shuffle, 4 rounds",
        # None as in a checkpoint that has no such entry: before there were weights.
        "sampling": None if d.sampling == "uniform" else chosen,
        "inputs": inputs.to_json(),
        "fit_px": config.data.fit_px,
    }


def resume_position(config: ConfigDict, saved: dict[str, Any], current: dict[str, Any]) -> int:
    """The position in the data to go on from, as a checkpoint saved it.

    Args:
        config: `resume_data` says what to do if the data is not what it was.
        saved: the `data` part of the checkpoint: position and fingerprint.
        current: the fingerprint of this run.

    Raises:
        CheckpointError: the data changed; names what.
    """
    before = saved["fingerprint"]
    current = json.loads(json.dumps(current))  # as it comes back from a checkpoint
    if before.get("inputs") != current["inputs"]:
        raise CheckpointError(
            "the checkpoint of this workdir was made with other inputs\n  "
            + "\n  ".join(_changes(before["inputs"], current["inputs"]))
            + "\nChange bands, statistics and grid back, or use another --workdir"
        )
    changed = _changes(before, current)
    if not changed:
        return saved["position"]
    if config.resume_data == "restart":
        log.warning("the data changed, its order restarts: %s", "; ".join(changed))
        return 0
    raise CheckpointError(
        "the checkpoint of this workdir was made with other data\n  "
        + "\n  ".join(changed)
        + "\nChange it back, use another --workdir, or begin a new order of the data with "
        "--config.resume_data=restart"
    )


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [f"{k}: {before.get(k)!r} then, {v!r} now" for k, v in now.items() if before.get(k) != v]
