"""Tiny prepared shards with something to learn, and a config that trains on them in seconds."""

import dataclasses
import os

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from rsjax import config as configs
from rsjax import landcover
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.input import manifest as manifests
from rsjax.input import records, statistics
from rsjax.input.manifest import digest

S2 = ImageSpec("sentinel2_l2a", ("B02", "B03", "B04"), 8, 8, "uint16", "reflectance_1e4", 10.0, 0)
S1 = ImageSpec("sentinel1", ("VV", "VH"), 8, 8, "float32", "db", 10.0)
TINY = {"stem": "small", "width": 4, "stage_sizes": (1, 1)}  # seconds to compile
CLASSES = landcover.load("bigearthnet19")


def info(label, maps=False):
    return DatasetInfo(
        name="bigearthnet", version="1.0.0", title="Toy", page="https://example.org",
        licence="CC0", citation="none", images={"s2": S2, "s1": S1}, label=label,
        nomenclature="bigearthnet19", mask=(8, 8) if maps else None,
        mask_nomenclature="corine_l2" if maps else None,
        metadata=("country",) if maps else (),
        splits={"train": 0, "validation": 0, "test": 0}, rgb=("s2", ("B04", "B03", "B02")),
        rgb_range=(0, 3000),
    )  # fmt: skip


def example(rng, label, number, maps=False):
    kind = rng.integers(0, 3)
    s2 = rng.integers(400, 900, (8, 8, 3)).astype(np.uint16)
    s2[..., kind] += 1500  # the class shows in one band
    target = np.zeros(len(CLASSES), np.uint8)
    target[[kind, 3 + number % 2]] = 1
    s1 = rng.normal(-12, 1, (8, 8, 2)).astype(np.float32) + (number % 2) * 8
    found = {"id": f"toy_{number:04d}", "s2": s2, "s1": s1.astype(np.float32),
             "label": int(kind) if label == "index" else target}  # fmt: skip
    if maps:  # the right half is of another class; one row is not labelled
        s2[:, 4:] = 700
        found["mask"] = np.full((8, 8), kind, np.uint8)
        found["mask"][:, 4:] = 7
        wrong = rng.random((8, 8)) < 0.05  # no model can be right everywhere
        found["mask"][wrong] = np.where(found["mask"][wrong] == 7, kind, 7)
        found["mask"][number % 8] = 255
        found["country"] = ("Austria", "Finland", "Ireland")[number % 3]
    return found


SIZES = (("train", 96), ("validation", 40), ("test", 40))


def write(data_dir, label="multihot", sizes=SIZES, maps=False):
    """Writes the shards and returns their folder."""
    card = info(label, maps)
    root = data_dir / card.name / card.version
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    features = records.features(card, CLASSES.names)
    splits, sums, number = {}, {"s2": [], "s1": []}, 0
    for split, size in sizes:
        shards, counts = [], np.zeros(len(CLASSES), np.int64)
        pixels = np.zeros(256, np.int64)
        for index in range(2):
            file = f"{card.name}-{split}.array_record-{index:05d}-of-00002"
            writer = ArrayRecordWriter(str(root / file), "group_size:1,uncompressed")
            for _ in range(size // 2):
                one = example(rng, label, number, maps)
                if maps:
                    pixels += np.bincount(one["mask"].ravel(), minlength=256)
                number += 1
                writer.write(features.serialize_example(one))
                counts += (
                    one["label"] if label == "multihot" else np.eye(19, dtype=int)[one["label"]]
                )
                if split == "train":
                    sums["s2"].append(statistics.of_image(one["s2"], S2))
                    sums["s1"].append(statistics.of_image(one["s1"], S1))
            writer.close()
            shards.append({"file": file, "records": size // 2,
                           "bytes": (root / file).stat().st_size,
                           "sha256": digest(root / file),
                           "ends_sha256": manifests.ends_digest(root / file)})  # fmt: skip
        splits[split] = {"records": size, "class_counts": counts.tolist(),
                         "mask_counts": pixels.tolist() if maps else None,
                         "skipped": [], "shards": shards}  # fmt: skip
    table = {
        spec.sensor: statistics.finish(statistics.merge(sums[name]), spec.bands)
        for name, spec in card.images.items()
    }
    made = manifests.Manifest(
        root, card, {}, "toy", True, CLASSES, landcover.load("corine_l2") if maps else None,
        splits, table, "toy",
    )  # fmt: skip
    manifests.save(made)
    return root


def config(data_dir, **changes):
    """A config that trains for 12 steps of 16 samples; changes are 'a.b' keys."""
    c = configs.base().unlock()
    c.data.dataset = "bigearthnet"
    c.data.data_dir = str(data_dir)
    c.data.bands = (
        *(f"sentinel2_l2a/{b}" for b in S2.bands),
        "sentinel1/VV",
        "sentinel1/VH",
    )
    c.data.grid_px = 8
    c.eval.bootstrap = 20
    c.model.name = "resnet18"
    c.model.fields = dict(TINY)
    c.batch_size = c.eval_batch_size = 16
    c.total_steps = 12
    c.eval_every_epochs = 0.0
    c.eval_every_steps = 6
    c.checkpoint_every_steps = 4
    c.log_every_steps = 2
    c.tensorboard = False
    c.compilation_cache_dir = os.environ.get("RSJAX_TEST_CACHE", "")  # of subprocesses, too
    c.optimizer.learning_rate = 5e-3
    c.schedule.warmup_steps = 2
    for key, value in changes.items():
        part = c
        *path, last = key.split(".")
        for name in path:
            part = part[name]
        part[last] = value
    return c.lock()


def weights(state):
    """All leaves of a state as one list of numpy arrays."""
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def rewrite(root, **changes):
    """Rewrites fields of the manifest."""
    manifests.save(dataclasses.replace(manifests.load(root), **changes))
