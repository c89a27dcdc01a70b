"""Numbers that are none: gradients, pixels, labels out of range."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from fault.lab import Lab, Row, copy, steps

DIVERGE = (
    "--config.optimizer.name=sgd", "--config.optimizer.learning_rate=1000",
    "--config.optimizer.weight_decay=1000", "--config.ema_decay=0.0",
    "--config.optimizer.momentum=1.0", "--config.max_bad_steps=3", "--config.total_steps=80",
    "--config.data.validation_split=", "--config.schedule.warmup_steps=0",
    "--config.schedule.name=constant",
)  # fmt: skip


def _finite(workdir: pathlib.Path) -> bool:
    """Whether every array of every checkpoint is finite."""
    import jax
    import orbax.checkpoint as ocp

    for step in steps(workdir):
        folder = workdir / "checkpoints" / str(step) / "state"
        reader = ocp.PyTreeCheckpointer()
        tree = reader.metadata(folder).item_metadata.tree
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        leaves = jax.tree.leaves(reader.restore(folder, restore_args=args))
        if not all(np.isfinite(np.asarray(x, float)).all() for x in leaves):
            return False
    return True


def _stops(lab: Lab, row: Row, *flags: str, before: Any = None) -> None:
    workdir = lab.fresh("numbers")
    ended = lab.train(workdir, *flags, before=before).wait()
    row.tries += 1
    row.heard(ended)
    row.wrong += ended.code == 0
    row.unclear += "toy_" not in ended.text
    row.lost += not lab.call(lambda: _finite(workdir))


def diverging(lab: Lab, tries: int) -> Row:
    """A learning rate that cannot work, with several seeds."""
    row = Row("gradients that become NaN or infinite")
    for number in range(max(tries // 4, 1)):
        _stops(lab, row, *DIVERGE, f"--config.seed={number}")
    row.note = "stops with the samples and the last good step; every checkpoint has finite numbers"
    return row


def _toy(lab: Lab, name: str, spoil: Any) -> pathlib.Path:
    """Toy shards of which some records are spoilt, as no prepare would write them."""
    import toy

    data, write = lab.folder / name, toy.example

    def example(rng: Any, label: str, number: int) -> Any:
        return spoil(write(rng, label, number), number)

    def work() -> str:
        toy.example = example
        return str(toy.write(data))

    if not data.exists():
        lab.call(work)
    return data


def _repaired(lab: Lab, data: pathlib.Path) -> pathlib.Path:
    """Gives the manifest the statistics of sound shards: those of NaN are refused at the start."""

    def repair() -> str:
        import toy

        from rsjax.input import manifest

        good = next(lab.data.rglob("manifest.json")).parent
        root = next(data.rglob("manifest.json")).parent
        toy.rewrite(root, statistics=manifest.load(good).statistics)
        return ""

    lab.call(repair)
    return data


def nan_pixels(lab: Lab, tries: int) -> Row:
    """NaN in the radar pixels of shards that no prepare would write."""

    def spoil(one: Any, number: int) -> Any:
        if number < 96:
            one["s1"][3, 3, 0] = np.nan
        return one

    row = Row("NaN pixels in every training record")
    data = _repaired(lab, _toy(lab, "nan-data", spoil))
    for number in range(max(tries // 10, 1)):
        _stops(lab, row, f"--config.data.data_dir={data}", "--config.max_bad_steps=3",
               f"--config.seed={number}")  # fmt: skip
    return row


def one_nan(lab: Lab, tries: int) -> Row:
    """NaN in one training record: its steps are skipped, everything stays finite."""

    def spoil(one: Any, number: int) -> Any:
        if number == 5:
            one["s1"][3, 3, 0] = np.nan
        return one

    row = Row("NaN pixels in one training record")
    data = _repaired(lab, _toy(lab, "one-nan-data", spoil))
    for number in range(max(tries // 10, 1)):
        workdir = lab.fresh("numbers")
        ended = lab.train(workdir, f"--config.data.data_dir={data}",
                          f"--config.seed={number}").wait()  # fmt: skip
        row.tries += 1
        row.seconds.append(ended.seconds)
        row.message = row.message or ended.message
        row.unclear += "Traceback" in ended.text
        row.lost += ended.code != 0 or not lab.call(lambda w=workdir: _finite(w))
    row.note = "steps that contain it change nothing; the run ends with finite numbers"
    row.message = row.message or "(none: it goes on)"
    return row


def labels(lab: Lab, _: int) -> Row:
    """Labels out of range in shards that no prepare would write."""
    row = Row("labels out of range in a shard")
    for value in (2, 255):

        def spoil(one: Any, number: int, value: int = value) -> Any:
            if number == 7:
                one["label"][4] = value
            return one

        data = _toy(lab, f"label-data-{value}", spoil)
        ended = lab.train(lab.fresh("numbers"), f"--config.data.data_dir={data}").wait()
        row.tries += 1
        row.wrong += ended.code == 0
        row.heard(ended)
    return row


def refused_by_prepare(lab: Lab, _: int) -> Row:
    """A code that no class has, NaN and infinity in the pixels of a download."""
    import rasterio

    row = Row("labels or pixels out of range in a download")
    kinds = (
        ("Reference_Maps", "*_reference_map.tif", 998),
        ("BigEarthNet-S1", "*_VV.tif", np.nan),
        ("BigEarthNet-S1", "*_VH.tif", np.inf),
    )
    for part, pattern, value in kinds:
        source = copy(lab.download(), lab.folder / "hostile")
        victim = sorted((source / part).rglob(pattern))[0]
        with rasterio.open(victim, "r+") as file:
            pixels = file.read(1)
            pixels[3, 3] = value
            file.write(pixels, 1)
        ended = lab.prepare(source, lab.fresh("hostile-data")).wait(60)
        row.tries += 1
        row.wrong += ended.code == 0
        row.heard(ended)
        row.unclear += victim.name not in ended.text and "sample " not in ended.text
    return row


CASES = {f.__name__: f for f in (diverging, nan_pixels, one_nan, labels, refused_by_prepare)}
