"""From shards to a report: a classic model is a bundle like any other."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import toy

import rsjax
from rsjax import config as configs
from rsjax.classic import draw, fit_and_evaluate, indices
from rsjax.datasets.info import ImageSpec
from rsjax.errors import ConfigError, SensorError
from rsjax.input import manifest as manifests
from rsjax.input.preprocess import Inputs
from rsjax.input.source import ShardSource
from rsjax.training import compare

FOREST = {
    "task.name": "segmentation",
    "task.nomenclature": "corine_l1",  # the maps of the shards are in corine_l2
    "model.name": "random_forest",
    "model.fields": {"radius_px": 1, "indices": (("B02", "B04"),)},
    "total_steps": 0,
    "fit.per_class": 900,
    "fit.jobs": 1,
    "fit.options": {"n_estimators": 5, "max_depth": 6},
    "eval.blocks": "country",
}
CLUSTERS = {
    **FOREST,
    "model.name": "kmeans",
    "model.fields": {},
    "fit.options": {"n_clusters": 6},
    "fit.clusters": "unnamed",
}


def count(root, kind, classes):
    """Writes the classes of each record, as prepare does."""
    made = manifests.load(root)
    found = {}
    for split in made.splits:
        source = ShardSource(root, split)
        values = source.read(np.arange(len(source)))["mask" if kind == "mask" else "label"]
        if kind == "mask":
            rows = np.stack([np.bincount(one.ravel(), minlength=256) for one in values])
            rows = np.concatenate([rows[:, :classes], rows[:, 255:]], axis=1)
        else:
            rows = np.eye(classes, dtype=int)[values]
        path = root / f"{kind}-{split}.npy"
        np.save(path, rows.astype(np.uint32))
        found[split] = {kind: {"file": path.name, "sha256": manifests.digest(path)}}
    manifests.save(dataclasses.replace(made, histograms=found))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("maps")
    root = toy.write(path, maps=True)
    count(root, "mask", len(manifests.load(root).mask_nomenclature))
    return path


@pytest.fixture(scope="module")
def forest(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("forest")
    config = toy.config(data_dir, **FOREST)
    configs.validate(config)
    return workdir, fit_and_evaluate(config, workdir)


def test_the_workdir_holds_what_a_training_leaves(forest):
    workdir, scalars = forest
    assert scalars["overall_accuracy"] > 0.85
    assert {"bundle", "eval", "report.html", "config.json", "finished.json"} <= {
        path.name for path in workdir.iterdir()
    }
    page = (workdir / "report.html").read_text()
    assert "random_forest" in page
    told = json.loads((workdir / "eval" / "test.json").read_text())
    assert told["intervals"]["iou_macro"][0] <= scalars["iou_macro"]
    assert told["fit"]["trees"] == 5
    drawn = np.array(told["fit"]["rows_of_class"])
    assert (drawn == np.minimum(told["fit"]["available_of_class"], 900)).all()


def test_the_bundle_predicts_what_was_scored_and_needs_no_scikit_learn(forest, data_dir):
    workdir, scalars = forest
    model = rsjax.load(workdir)
    source = ShardSource(manifests.find(data_dir, "bigearthnet"), "test")
    batch = source.read(np.arange(len(source)))
    found = model.predict({name: batch[name] for name in model.inputs.images})
    from rsjax import landcover

    merge = landcover.load("corine_l2").crosswalk(landcover.load("corine_l1"))
    wanted = merge[batch["mask"]]
    right = (found.maps == wanted)[wanted != 255]
    assert np.isclose(right.mean(), scalars["overall_accuracy"])


def test_clusters_without_names_make_a_bundle_that_maps(data_dir, tmp_path):
    scalars = fit_and_evaluate(toy.config(data_dir, **CLUSTERS), tmp_path)
    assert scalars["clusters"] == 6
    model = rsjax.load(tmp_path)
    assert model.classes().names[5] == "cluster 6"
    found = model.predict({"s2": np.full((1, 8, 8, 3), 700, np.uint16),
                           "s1": np.full((1, 8, 8, 2), -12, np.float32)})  # fmt: skip
    assert found.maps.max() < 6
    assert not (tmp_path / "eval").exists()


@pytest.mark.once
def test_scenes_of_one_class_are_told_by_their_statistics_and_compared(tmp_path):
    root = toy.write(tmp_path / "data", label="index")
    count(root, "label", len(toy.CLASSES))
    changes = {**FOREST, "task.name": "classification", "task.nomenclature": "",
               "eval.blocks": ""}  # fmt: skip
    config = toy.config(tmp_path / "data", **changes)
    scalars = fit_and_evaluate(config, tmp_path / "run")
    assert scalars["overall_accuracy"] > 0.9
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    compare.write([tmp_path / "run", tmp_path / "other"], "test", tmp_path / "compared")


def test_pixels_are_drawn_once_each_and_as_many_as_asked_for():
    counts = np.random.default_rng(0).integers(0, 9, (40, 3))
    counts[:, 2] = 0
    counts[7, 2] = 4
    chosen = draw.choose(counts, 50, seed=1)
    totals = [sum(len(one.get(k, ())) for one in chosen) for k in range(3)]
    assert totals == [50, 50, 4]
    for record, one in enumerate(chosen):
        for k, ranks in one.items():
            assert len(set(ranks)) == len(ranks)
            assert ranks.min() >= 0
            assert ranks.max() < counts[record, k]
    again = draw.choose(counts, 50, seed=1)
    assert all(str(a) == str(b) for a, b in zip(chosen, again, strict=True))
    assert any(str(a) != str(b) for a, b in zip(chosen, draw.choose(counts, 50, 2), strict=True))
    assert sum(len(r) for one in draw.choose(counts, 0, 1) for r in one.values()) == counts.sum()


def make_inputs(sensor, unit, bands, steps=None):
    names = tuple(b.partition("@")[0] for b in bands)
    spec = ImageSpec(sensor, tuple(dict.fromkeys(names)), 8, 8, "uint16", unit, 10.0, 0, steps)
    full = tuple(f"{sensor}/{b}" for b in bands)
    count = len(bands)
    return Inputs({"x": spec}, full, (1500.0,) * count, (500.0,) * count, (8, 8))


def test_indices_are_found_by_wavelength_or_by_name():
    l8 = make_inputs("landsat8", "landsat_c2_l2", ("B6", "B5", "B4", "B3"))
    found = indices.resolve(("ndvi", "ndbi", "ndwi", ("B6", "landsat8/B3")), l8)
    assert found["indices"] == ((1, 2), (0, 1), (3, 1), (0, 3))
    np.testing.assert_allclose(found["physical"][0], (2.75e-5 * 500, 2.75e-5 * 1500 - 0.2))
    series = make_inputs(
        "sentinel2_l2a", "reflectance_1e4", ("B04@0", "B08@0", "B04@1", "B08@1"), 2
    )
    assert indices.resolve(("ndvi",), series)["indices"] == ((1, 0), (3, 2))
    edge = make_inputs("sentinel2_l2a", "reflectance_1e4", ("B05", "B08"))
    with pytest.raises(SensorError, match=r"both bands of ndvi \(nir and red\)"):
        indices.resolve(("ndvi",), edge)  # a red edge is not red
    with pytest.raises(ConfigError, match=r"unknown 'nvdi'; known: ndvi"):
        indices.resolve(("nvdi",), l8)
    radar = make_inputs("sentinel1", "db", ("VV", "VH"))
    with pytest.raises(SensorError, match="no meaning"):
        indices.resolve((("VV", "VH"),), radar)


def test_what_has_no_meaning_is_refused_at_once(data_dir):
    changes = {**FOREST, "init_from": "runs/x", "task.losses": (("dice", 1.0),),
               "fit.clusters": "unnamed"}  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        configs.validate(toy.config(data_dir, **changes))
    for part in ("init_from='runs/x' has no meaning", "task.losses", "is for model.name='kmeans'"):
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match=r"is for task.name='segmentation' or 'classification'"):
        configs.validate(toy.config(data_dir, **{**FOREST, "task.name": "multilabel"}))


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch, data_dir):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "sklearn" else real(n, *a)
    )
    with pytest.raises(ConfigError, match=r"pip install 'rsjax\[classic\]'"):
        configs.validate(toy.config(data_dir, **FOREST))
