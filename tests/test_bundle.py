import dataclasses
import json

import flax.linen as nn
import jax
import numpy as np
import pytest
import toy

import rsjax
from rsjax import bundle, landcover, models
from rsjax.datasets.info import ImageSpec
from rsjax.errors import BundleError, SensorError
from rsjax.input import manifest as manifests
from rsjax.input.preprocess import Inputs, make_inputs, preprocess
from rsjax.input.source import ShardSource

BANDS = ("sentinel2_l2a/B04", "sentinel1/VV", "sentinel2_l2a/B02")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return toy.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def folder(shards, tmp_path_factory):
    made = manifests.load(shards)
    inputs = make_inputs(made.info.images, BANDS, made.statistics, (8, 8))
    module = models.get("resnet18", num_classes=19, **toy.TINY)
    variables = module.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32), False)
    about = {
        "model": {"name": "resnet18", "dtype": "float32", "fields": toy.TINY},
        "outputs": 19,
        "task": {"name": "multilabel", "threshold": 0.5, "label_smoothing": 0.0},
    }
    path = tmp_path_factory.mktemp("model") / "bundle"
    bundle.save(bundle.Model(dict(variables), inputs, made.nomenclature, about), path)
    return path


@pytest.fixture
def model(folder):
    return rsjax.load(folder)


def patches(shards):
    return ShardSource(shards, "test", columns=["s2", "s1"]).read(np.arange(10))


def test_predictions_equal_the_model_applied_by_hand(model, shards):
    batch = patches(shards)
    found = model.predict(batch, batch_size=4)
    x = preprocess(model.inputs)(batch)
    logits = np.asarray(model.module.apply(model.variables, x, False))
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-4)
    assert found.classes == model.nomenclature.names
    for row, names in zip(found.probabilities, found.labels, strict=True):
        assert set(names) == {found.classes[i] for i in np.flatnonzero(row >= 0.5)}
        values = [row[found.classes.index(n)] for n in names]
        assert values == sorted(values, reverse=True)
    assert len(str(found).splitlines()) == 10


def test_an_array_is_matched_by_band_name_in_any_order(model, shards):
    batch = patches(shards)
    expected = model.predict(batch).probabilities
    columns = {
        "VH": batch["s1"][..., 1],
        "B03": batch["s2"][..., 1],
        "sentinel2_l2a/B02": batch["s2"][..., 0],
        "VV": batch["s1"][..., 0],
        "B04": batch["s2"][..., 2],
    }
    stacked = np.stack([v.astype(np.float64) for v in columns.values()], axis=-1)
    found = model.predict(stacked, bands=list(columns)).probabilities
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    one = model.predict(stacked[3], bands=list(columns)).probabilities
    np.testing.assert_allclose(one[0], expected[3], rtol=1e-4)


def test_units_are_converted_when_named_and_refused_when_they_cannot_be(shards, tmp_path, folder):
    model = rsjax.load(folder)
    made = manifests.load(shards)
    only_s2 = bundle.Model(
        model.variables,
        make_inputs(made.info.images, [f"sentinel2_l2a/{b}" for b in ("B02", "B03", "B04")],
                    made.statistics, (8, 8)),
        model.nomenclature,
        model.about,
    )  # fmt: skip
    dn = patches(shards)["s2"]
    expected = only_s2.predict(dn).probabilities
    reflectance = dn.astype(np.float32) / 10000
    found = only_s2.predict(reflectance, unit="reflectance").probabilities
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    with pytest.raises(BundleError, match=r"reflectance_1e4.*unit="):
        only_s2.predict(reflectance)
    with pytest.raises(SensorError, match="db"):
        only_s2.predict(reflectance, unit="db")


def test_missing_bands_wrong_sizes_and_bad_values_are_named(model, shards):
    batch = patches(shards)
    with pytest.raises(SensorError, match="no entry 's1'"):
        model.predict({"s2": batch["s2"]})
    with pytest.raises(BundleError, match=r"\(8, 8, 2\), expected \(8, 8, 3\)"):
        model.predict({**batch, "s2": batch["s2"][..., :2]})
    stacked = np.full((8, 8, 2), 900.0)
    with pytest.raises(SensorError, match="band sentinel1/VV is missing"):
        model.predict(stacked, bands=["B02", "B04"])
    with pytest.raises(BundleError, match="not resized silently"):
        model.predict(np.full((9, 8, 3), 900.0))
    with pytest.raises(BundleError, match="channels"):
        model.predict(np.full((8, 8, 4), 900.0))
    holes = {**batch, "s1": np.where(batch["s1"] > -12, np.nan, batch["s1"])}
    with pytest.raises(BundleError, match="NaN"):
        model.predict(holes)


def test_damaged_bundles_are_refused(folder, tmp_path):
    import shutil

    with pytest.raises(BundleError, match=r"rsjax\.json"):
        rsjax.load(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(weights)
    with pytest.raises(BundleError, match="sha256"):
        rsjax.load(copy)
    about = json.loads((folder / "rsjax.json").read_text())
    del about["inputs"]
    (copy / "rsjax.json").write_text(json.dumps(about))
    with pytest.raises(BundleError, match="damaged"):
        rsjax.load(copy)


def test_saving_again_replaces_the_whole_bundle(model, tmp_path):
    path = tmp_path / "bundle"
    bundle.save(model, path)
    (path / "leftover").touch()
    bundle.save(model, path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        "bundle", "rsjax.json", "weights.safetensors"
    ]  # fmt: skip


def test_a_bundle_left_between_two_renames_is_found(model, tmp_path):
    path = tmp_path / "bundle"
    bundle.save(model, path)
    path.rename(tmp_path / ".bundle.old")
    assert rsjax.load(tmp_path).inputs == model.inputs
    assert rsjax.load(path).inputs == model.inputs
    assert not path.exists()  # a reader moves nothing: the run that writes there may still do so
    bundle.recover(path)
    assert path.exists()


@pytest.mark.once
def test_a_segmentation_bundle_predicts_maps_and_the_share_of_each_class(tmp_path):
    spec = toy.S2
    bands = tuple(f"{spec.sensor}/{band}" for band in spec.bands)
    inputs = Inputs({"s2": spec}, bands, (1500.0,) * 3, (900.0,) * 3, (8, 8))
    resnet = {"width": 4, "stage_sizes": (1, 1), "stem": "small"}
    fields = {"encoder_name": "resnet18", "encoder_fields": resnet, "decoder_channels": (4,)}
    classes = landcover.load("worldcover")
    module = models.get("unet", num_classes=len(classes), **fields)
    variables = module.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32), False)
    about = {
        "model": {"name": "unet", "dtype": "float32", "fields": fields},
        "outputs": len(classes),
        "task": {"name": "segmentation", "label_smoothing": 0.0},
    }
    bundle.save(bundle.Model(dict(variables), inputs, classes, about), tmp_path / "bundle")
    model = rsjax.load(tmp_path / "bundle")
    assert model.module == module
    image = np.random.default_rng(0).integers(400, 3000, (3, 8, 8, 3)).astype(np.uint16)
    found = model.predict({"s2": image}, batch_size=2)
    logits = module.apply(variables, preprocess(inputs)({"s2": image}), False)
    np.testing.assert_allclose(found.probabilities, jax.nn.softmax(logits), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.maps, np.asarray(logits).argmax(-1))
    assert found.maps.dtype == np.uint8
    for one, names in zip(found.maps, found.labels, strict=True):
        indices, counts = np.unique(one, return_counts=True)
        assert set(names) == {classes.names[i] for i in indices}
        assert names[0] == classes.names[indices[counts.argmax()]]
    assert str(found).splitlines()[0].startswith(found.labels[0][0])


class Steps(nn.Module):
    """The channels as they come, of the first pixel."""

    @nn.compact
    def __call__(self, x, train):
        return x[:, 0, 0, :]


def test_a_series_of_varying_length_is_brought_to_the_steps_of_training():
    spec = ImageSpec("sentinel2_l2a", ("B02",), 4, 4, "uint16", "reflectance_1e4", 10.0, steps=0)
    bands = [f"sentinel2_l2a/B02@{k}" for k in range(5)]
    statistics = {"sentinel2_l2a": {"B02": {"mean": 0.0, "std": 1.0}}}
    inputs = make_inputs({"s2": spec}, bands, statistics, (4, 4), fit=(5, 0, 0))
    assert Inputs.from_json(json.loads(json.dumps(inputs.to_json()))) == inputs
    task = {"name": "multilabel", "threshold": 0.5, "label_smoothing": 0.0}
    about = {"model": {"name": "", "dtype": "float32", "fields": {}}, "outputs": 5, "task": task}
    model = bundle.Model({}, inputs, landcover.load("corine_l1"), about)
    model.__dict__["module"] = Steps()

    def seen(length):  # the channels, as the model saw them
        series = np.broadcast_to(np.arange(3, 3 + length).reshape(-1, 1, 1, 1), (length, 4, 4, 1))
        p = model.predict({"s2": series.astype(np.uint16)}).probabilities[0].astype(float)
        return np.rint(np.log(p / (1 - p)) - 3).astype(int).tolist()

    assert seen(9) == [0, 2, 4, 6, 8]
    assert seen(5) == [0, 1, 2, 3, 4]
    assert seen(3) == [0, 0, 1, 2, 2]
    more = [*bands, "sentinel2_l2a/B02@5"]
    with pytest.raises(SensorError, match=r"B02@5.*not in the shards; they have .*B02@0 to @4"):
        make_inputs({"s2": spec}, more, statistics, (4, 4), fit=(5, 0, 0))


def test_two_entries_of_one_sensor_and_size_are_both_found_in_an_array(folder):
    model = rsjax.load(folder)
    part = {"height": 8, "width": 8, "dtype": "uint16", "unit": "reflectance_1e4", "gsd_m": 10.0}
    images = {b: ImageSpec("sentinel2_l2a", (b,), **part) for b in ("B02", "B04")}
    images["s1"] = model.inputs.images["s1"]
    apart = dataclasses.replace(model, inputs=dataclasses.replace(model.inputs, images=images))
    array = np.concatenate([np.full((8, 8, 1), v, np.float32) for v in (900, -12, 700)], axis=-1)
    one, two = (m.predict(array.astype(np.float32)) for m in (model, apart))
    np.testing.assert_allclose(one.probabilities, two.probabilities, rtol=1e-5)
