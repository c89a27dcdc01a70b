"""The shards that a config asks for, opened split by split."""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rsjax import datasets
from rsjax.errors import CheckpointError, ConfigError, ShardError
from rsjax.input import build, manifest, sampling
from rsjax.input.preprocess import Inputs, make_inputs
from rsjax.input.source import ShardSource
from rsjax.training import hosts

log = logging.getLogger("rsjax")


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
        page = datasets.get(d.dataset)(source).info.page
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


def open_split(config: ConfigDict, root: pathlib.Path, split: str, inputs: Inputs) -> ShardSource:
    """The records of a split, with the entries that the model and the task need."""
    fit = {name: (config.data.fit_px,) * 2 for name in inputs.images} if config.data.fit_px else {}
    return ShardSource(root, split, columns=[*inputs.images, "label"], fit=fit)


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
    images = dict(made.info.images)
    return made, make_inputs(images, config.data.bands, statistics, grid, config.data.resample)


def class_counts(made: manifest.Manifest, split: str) -> list[int]:
    """Samples of each class in a split, or in several joined by '+'."""
    parts = [made.splits[name]["class_counts"] for name in split.split("+") if name in made.splits]
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
        counts = manifest.histograms(made, d.train_split, "mask")[:, :-1]  # without the ignored
        if lut is not None:
            to = lut[: counts.shape[1]]
            counts = np.stack(
                [counts[:, to == c].sum(axis=1) for c in np.unique(to[to != 255])], axis=1
            )
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
