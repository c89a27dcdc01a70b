"""A look at what a trained model predicts: its mistakes beside what is right, on one page.

The bundle of a workdir is evaluated on a split as `mode=eval` does it, with its own temperature
and thresholds; here some records are chosen by their score. `predictions_page` lays them out.
"""

from __future__ import annotations

import os
import pathlib

import numpy as np

from rsjax import bundle, sealed
from rsjax.errors import BundleError, ConfigError
from rsjax.training import (
    data,
    examine,
    maps,
    page,
    predictions_page,
    report,
    reproduce,
    samples_page,
    sharding,
)

PICKS = {
    "worst": "the worst",
    "best": "the best",
    "random": "drawn at random",
    "typical": "those nearest to the median",
}
MOST = 400  # records of a page: more would make it slow to open


def write(
    workdir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    split: str = "",
    count: int = 24,
    pick: str = "worst",
    data_dir: str = "",
    dataset: str = "",
) -> pathlib.Path:
    """Predicts a split and writes `SPLIT_PICK.html`, and sheets as PNG into `figures`.

    Args:
        workdir: of a run that was trained, or a bundle that has the config of its training.
        output: folder, made if absent.
        split: the split, or several joined by '+'; empty: the one that the run was tested on.
        count: records shown.
        pick: which ones, of `PICKS`, by their loss, or by their mIoU in segmentation; the draw has
            a fixed seed.
        data_dir: where the shards lie; empty: where they lay in training.
        dataset: another one, with the bands and classes of the model.

    Returns:
        The path of the page.

    Raises:
        ConfigError: an unknown `pick`, or a `count` below 1 or above `MOST`.
        BundleError: no bundle, one that cannot predict, or one without the config of its training.
        ShardError: no shards, or none of that split.
        SensorError, RsjaxError: the shards have other bands or classes than the model.
    """
    if pick not in PICKS:
        raise ConfigError(f"--pick={pick}: choose one of {', '.join(PICKS)}")
    if not 1 <= count <= MOST:
        raise ConfigError(f"--count={count}: must lie in [1, {MOST}]")
    best = bundle.load(workdir)
    best.classes()
    if not best.about.get("config"):
        raise BundleError(
            f"{workdir}: the bundle does not say on what data it was trained. Give the workdir of "
            "a run, or look at its predictions in the report of --config.mode=eval"
        )
    config = reproduce.restore(best.about["config"]).unlock()
    config.data.data_dir = data_dir or config.data.data_dir
    if dataset:
        config.data.dataset, config.data.version = dataset, ""
    config.data.simulate_samples = 0  # it looks at data, and makes none
    # Nothing here needs intervals or groups.
    config.eval.bootstrap, config.eval.group_by, config.eval.blocks = 0, (), ""
    split = split or config.data.test_split or config.data.validation_split
    sharding.set_up(config)
    made = data.read_shards(config)
    found = examine.evaluate_bundles(
        config, made, [best], split, sharding.make_mesh(config.mesh.model),
        choose=lambda samples: choose(samples, count, pick),
    )  # fmt: skip
    about = examine.describe_evaluation(config, made, [best], split)
    name = about["config"]["name"] or pathlib.Path(workdir).absolute().name
    chosen = choose(found.samples, count, pick)
    folder, title = pathlib.Path(output), f"{split}_{pick}"
    sections = [
        report.title(name, split, found, about, made),
        predictions_page.section(
            folder, title, PICKS[pick], made, split, found, about, chosen, best.classes()
        ),
    ]
    path = folder / f"{title}.html"
    document = page.document(f"{name}: predictions of {split}", sections)
    sealed.replace(path, document.encode())
    return path


def losses(samples: dict[str, np.ndarray]) -> np.ndarray:
    """What ranks the records (N,), the worst highest: the loss, or -mIoU in segmentation."""
    return -maps.miou(samples) if "hits" in samples else samples["loss"]


def choose(samples: dict[str, np.ndarray], count: int, pick: str) -> np.ndarray:
    """Positions of the records to show, the worst first.

    Records of a segmentation without a counted pixel are left out: there is nothing to compare.
    """
    loss = losses(samples)
    known = np.flatnonzero(~np.isnan(loss)) if "hits" in samples else np.arange(len(loss))
    if not len(known):
        return known
    chosen = known[samples_page.choose(loss[known], count)[pick]]
    rank = np.where(np.isnan(loss[chosen]), np.inf, loss[chosen])
    return chosen[np.argsort(-rank, kind="stable")]
