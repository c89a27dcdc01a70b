"""Segmentation on the spine: from shards with maps to a report, by the same loop."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import toy

import rsjax
from rsjax import landcover
from rsjax.bundle import Ensemble
from rsjax.errors import BundleError, ConfigError
from rsjax.input import manifest as manifests
from rsjax.input.source import ShardSource
from rsjax.training import calibrate, data, examine, loop, sharding
from rsjax.training.evaluate import Results

pytestmark = pytest.mark.once

CHANGES = {
    "task.name": "segmentation",
    "task.nomenclature": "corine_l1",  # the maps of the shards are in corine_l2
    "model.name": "unet2015",
    "model.fields": {"width": 8, "depth": 1},
    "augment.d4": True,
    "augment.cutmix_alpha": 1.0,
    "total_steps": 40,
    "optimizer.learning_rate": 1e-2,
    "task.losses": (("cross_entropy", 1.0), ("dice", 0.5)),
    "task.class_weights": "inverse",
    "task.temperature": "fitted",
    "task.boundary_tolerance": 1.0,
    "task.boundary_unit": "px",
    "eval.group_by": ("country", r"id:toy_\d{3}(\d)"),
    "eval.blocks": r"id:toy_\d(\d\d)",
    "eval.bootstrap": 50,
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("maps")
    toy.write(path, maps=True)
    return path


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, loop.train_and_evaluate(toy.config(data_dir, **CHANGES), workdir)


def by_hand(data_dir, workdir, **how):
    """Reference and prediction of every test pixel that counts, from the bundle alone."""
    source = ShardSource(manifests.find(data_dir, "bigearthnet"), "test")
    batch = source.read(np.arange(len(source)))
    model = rsjax.load(workdir)
    found = model.predict({"s2": batch["s2"], "s1": batch["s1"]}, **how)
    mask = source.manifest.mask_nomenclature.crosswalk(model.nomenclature)[batch["mask"]]
    keep = mask != 255
    return mask, found, keep


def test_figures_equal_those_of_scikit_learn_on_predicted_maps(data_dir, trained):
    from sklearn import metrics as sk

    workdir, scalars = trained
    mask, found, keep = by_hand(data_dir, workdir)
    reference, predicted = mask[keep], found.maps[keep]
    assert scalars["samples_counted"] == keep.sum() == 40 * 7 * 8
    assert scalars["overall_accuracy"] == pytest.approx(sk.accuracy_score(reference, predicted))
    labels = np.union1d(reference, predicted)
    assert scalars["iou_macro"] == pytest.approx(
        sk.jaccard_score(reference, predicted, labels=labels, average="macro")
    )
    assert scalars["iou_macro"] > 0.7  # there is something to learn
    told = json.loads((workdir / "eval" / "test.json").read_text())
    matrix = np.asarray(told["confusion_matrix"])
    np.testing.assert_array_equal(
        matrix, sk.confusion_matrix(reference, predicted, labels=range(len(matrix)))
    )
    # The loss is over the pixels that count, of the probabilities that the bundle gives: that of
    # the training (cross-entropy and dice) without class weights, here by torch's definition.
    rows = found.probabilities[keep]
    entropy = -np.log(rows[np.arange(len(rows)), reference])
    assert 0 < entropy.mean() < scalars["loss"] < entropy.mean() + 0.5
    # The temperature is part of the probabilities, and of the bundle.
    assert told["temperature"] == rsjax.load(workdir).temperature != 1.0
    right = found.probabilities.argmax(-1) == mask
    assert found.probabilities.max(-1)[keep].mean() == pytest.approx(right[keep].mean(), abs=0.1)


def test_intervals_groups_and_maps_belong_to_the_figures(data_dir, trained):
    workdir, scalars = trained
    told = json.loads((workdir / "eval" / "test.json").read_text())
    for name in ("iou_macro", "overall_accuracy", "boundary_f1_per_image_macro"):
        low, high = told["intervals"][name]
        assert low <= scalars[name] <= high
    groups = told["groups"]["country"]
    assert set(groups) == {"Austria", "Finland", "Ireland"}
    assert sum(group["samples"] for group in groups.values()) == 40
    assert [v["samples"] for v in told["groups"][r"id:toy_\d{3}(\d)"].values()] == [4] * 10
    source = ShardSource(manifests.find(data_dir, "bigearthnet"), "test")
    here = np.array(source.texts(np.arange(40), "country")) == "Finland"
    mask, found, keep = by_hand(data_dir, workdir)
    counted = keep & here[:, None, None]
    assert groups["Finland"]["overall_accuracy"] == pytest.approx(
        (found.maps == mask)[counted].mean()
    )
    with np.load(workdir / "eval" / "test.npz") as kept:
        shown = kept["index"][kept["shown"]]
        np.testing.assert_array_equal(kept["maps"], found.maps[shown])
        best = np.round(found.probabilities.max(-1)[shown] * 255)
        assert np.abs(kept["confidence"].astype(int) - best).max() <= 1
        np.testing.assert_array_equal(kept["reference"].sum(1), keep.sum((1, 2)))


def test_classes_are_merged_as_the_config_says(data_dir, trained):
    model = rsjax.load(trained[0])
    assert model.nomenclature.name == "corine_l1"
    made = manifests.load(manifests.find(data_dir, "bigearthnet"))
    mask, _, keep = by_hand(data_dir, trained[0])
    counts = data.read_classes(toy.config(data_dir, **CHANGES).task, made).counts("test")
    np.testing.assert_array_equal(counts, np.bincount(mask[keep], minlength=5))
    assert np.count_nonzero(counts) == 2  # three kinds of artificial areas, and one of fields


def test_symmetries_and_ensembles_are_evaluated_on_the_same_path(data_dir, trained, tmp_path):
    workdir, _ = trained
    changes = {
        **CHANGES,
        "mode": "eval",
        "eval.checkpoint": str(workdir),
        "eval.ensemble": (str(workdir),),
        "eval.tta": "d4",
    }
    scalars = examine.evaluate_checkpoint(toy.config(data_dir, **changes), tmp_path)
    mask, found, keep = by_hand(data_dir, workdir, tta="d4")
    model = rsjax.load(workdir)
    warm = dataclasses.replace(model, about={**model.about, "temperature": 5.0})
    batch = ShardSource(manifests.find(data_dir, "bigearthnet"), "test").read(np.arange(4))
    raw = {"s2": batch["s2"], "s1": batch["s1"]}
    both = Ensemble((model, warm)).predict(raw).probabilities
    alone = [one.predict(raw).probabilities for one in (model, warm)]
    np.testing.assert_allclose(both, (alone[0] + alone[1]) / 2, rtol=1e-6)
    other = dataclasses.replace(model, nomenclature=landcover.load("eurosat"))
    with pytest.raises(BundleError, match="one task and the same classes"):
        Ensemble((model, other))
    assert scalars["overall_accuracy"] == pytest.approx((found.maps == mask)[keep].mean())
    # It is told apart from the evaluation that the run ended with.
    page = (tmp_path / "report_test_ensemble2_d4.html").read_text()
    assert "mean of 2 models, mean over the symmetries" in page
    told = json.loads((tmp_path / "eval" / "test_ensemble2_d4.json").read_text())
    assert told["split"] == "test"
    assert told["evaluation"] == {"models": 2, "tta": "d4", "seen": []}


@pytest.mark.parametrize("asked", ["fitted", "none"])
def test_a_temperature_that_does_not_fit_or_is_not_asked_for_is_not_kept(
    data_dir, trained, tmp_path, monkeypatch, asked
):
    shutil.copytree(trained[0] / "bundle", tmp_path / "bundle")
    assert rsjax.load(tmp_path).temperature != 1.0
    edge = {"temperature": 0.05, "temperature_at_edge": 1.0, "nll_before": 0.1, "nll_after": 0.0}
    found = Results(edge, {}, None, {})
    monkeypatch.setattr(calibrate, "make_examiner", lambda *_: lambda *_: found)
    config = toy.config(data_dir, **{**CHANGES, "task.temperature": asked})
    made = manifests.load(manifests.find(data_dir, "bigearthnet"))
    calibrate.calibrate(config, tmp_path, made, sharding.make_mesh())
    assert "temperature" not in rsjax.load(tmp_path).about
    assert rsjax.load(tmp_path).temperature == 1.0


def test_what_cannot_be_segmented_is_refused_before_training(data_dir, tmp_path):
    with pytest.raises(ConfigError, match=r"grid_px=16.*8 x 8 pixels.*data.grid_px=8"):
        loop.train_and_evaluate(toy.config(data_dir, **{**CHANGES, "data.grid_px": 16}), tmp_path)
    with pytest.raises(ConfigError, match=r"no text entries \['season'\].*country"):
        loop.train_and_evaluate(
            toy.config(data_dir, **{**CHANGES, "eval.group_by": ("season",)}), tmp_path
        )
    with pytest.raises(ConfigError, match="'id:x': the pattern has 0 groups"):
        loop.train_and_evaluate(
            toy.config(data_dir, **{**CHANGES, "eval.blocks": "id:x"}), tmp_path
        )
    toy.write(tmp_path / "scenes")
    with pytest.raises(ConfigError, match="holds no reference maps"):
        loop.train_and_evaluate(toy.config(tmp_path / "scenes", **{**CHANGES, "eval.group_by": ()}),
                                tmp_path)  # fmt: skip
