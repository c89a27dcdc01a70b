"""Every dataset the whole way: simulated, prepared, looked at, trained on for two steps, tested."""

import json
import math

import numpy as np
import pytest
import toy
from PIL import Image
from reported import undrawn

from rsjax import datasets
from rsjax.datasets import base
from rsjax.input import build, manifest
from rsjax.input.source import ShardSource
from rsjax.training import gallery, loop

pytestmark = pytest.mark.once

COUNT = 24  # samples over all splits
COUNTS = {"bigearthnet": 30}  # where a split would have none, or the files are large
OPTIONS: dict[str, dict] = {}  # of the dataset, where the default needs too much time
STEPS = 2  # of a series that varies
# The least that the loop takes; sizes of images are the official ones, so few and narrow layers.
UNET = {"model.name": "unet2015", "model.fields": {"width": 4, "depth": 1}}
NET = {"model.name": "resnet18", "model.fields": {**toy.TINY, "stem": "standard"}}


def names():
    return [name for name in datasets.names() if name != "folder"]  # test_folder.py


@pytest.fixture(scope="module", params=names())
def prepared(request, tmp_path_factory, downloads):
    name = request.param
    source = downloads(name, COUNTS.get(name, COUNT))
    data_dir = tmp_path_factory.mktemp(f"{name}-shards")
    return source, build.build(name, source, data_dir, OPTIONS.get(name, {}), workers=1), data_dir


def some_bands(info):
    """The first and last band of every entry, of a series at two steps."""
    found = []
    for spec in info.images.values():
        bands = dict.fromkeys((spec.bands[0], spec.bands[-1]))
        steps = range(STEPS) if spec.steps == 0 else range(spec.steps or 1)
        ends = ("",) if spec.steps is None else tuple(f"@{k}" for k in (steps[0], steps[-1]))
        found += [f"{spec.sensor}/{band}{at}" for band in bands for at in ends]
    return tuple(found)


def test_every_dataset_the_whole_way(prepared, tmp_path):
    source, made, data_dir = prepared
    info, root = made.info, manifest.find(data_dir, made.info.name)
    assert made.simulated

    # What was prepared is what the dataset reads, in its order.
    dataset = datasets.get(info.name)(source, **OPTIONS.get(info.name, {}))
    for split, entry in made.splits.items():
        keys = dataset.keys(split)
        assert entry["records"] == len(keys)
        varying = {k for k, s in info.images.items() if 0 in s.shape}
        records = ShardSource(root, split, fit=(3, 40, 40))
        example: base.Example = dataset.read(keys[-1])
        assert records.ids([len(keys) - 1]) == [example["id"]]
        block = records.read(np.array([len(keys) - 1]))
        for entry_name in block:
            if entry_name not in varying:
                np.testing.assert_array_equal(block[entry_name][0], example[entry_name])
    assert sum(entry["records"] for entry in made.splits.values())

    # Every band was seen, and has statistics to standardise it with.
    for sensor, bands in made.statistics.items():
        for band, found in bands.items():
            assert math.isfinite(found["mean"]), (sensor, band)
            assert found["std"] > 0, (sensor, band)

    # The page, and the sheet of patches beside it.
    page = gallery.write(root, tmp_path / "gallery", "train", samples=4)
    assert "SIMULATED" in page.read_text()
    for picture in (tmp_path / "gallery").glob("*.png"):
        with Image.open(picture) as image:
            assert image.convert("L").getextrema()[1] > 0

    # Two steps, then the figures of the test split.
    segmentation = info.mask is not None
    kinds = {"index": "classification", "multihot": "multilabel"}
    validation = "validation" if made.splits.get("validation", {}).get("records") else ""
    test = next(s for s in ("test", "validation", "train") if made.splits.get(s))
    config = toy.config(
        data_dir,
        **(UNET if segmentation else NET),
        **{
            "data.dataset": info.name,
            "data.bands": some_bands(info),
            "data.grid_px": info.mask[0] if segmentation else 64,
            "data.fit_px": 64 if any(0 in s.shape[-3:-1] for s in info.images.values()) else 0,
            "data.fit_steps": STEPS if any(s.steps == 0 for s in info.images.values()) else 0,
            "data.validation_split": validation,
            "data.test_split": test,
            "task.name": "segmentation" if segmentation else kinds[info.label],
            "total_steps": 2,
            "schedule.warmup_steps": 0,
            "batch_size": 4,
            "eval_batch_size": 4,
            "eval_every_steps": 2 if validation else 0,
            "checkpoint_every_steps": 2,
            "eval.bootstrap": 0,
        },
    )
    with undrawn():
        scalars = loop.train_and_evaluate(config, tmp_path / "run")
    assert np.isfinite(scalars["loss"])
    told = json.loads((tmp_path / "run" / "eval" / f"{test}.json").read_text())
    records = ShardSource(root, test, columns=["mask" if segmentation else "label"])
    block = records.read(np.arange(len(records)))
    if segmentation:
        counted = int((block["mask"] != 255).sum())
        assert counted
        assert np.sum(told["confusion_matrix"]) == scalars["samples_counted"] == counted
        by_class = np.bincount(block["mask"].ravel(), minlength=256)[: len(made.mask_nomenclature)]
        np.testing.assert_array_equal(np.sum(told["confusion_matrix"], axis=1), by_class)
    else:
        assert scalars["samples_counted"] == len(records)
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
