import re
import shutil

import jax
import numpy as np
import pytest
import toy

import rsjax
from rsjax import bundle, landcover, models
from rsjax.errors import ConfigError, SensorError, WeightsError
from rsjax.input import manifest as manifests
from rsjax.input.preprocess import make_inputs
from rsjax.models.pretrained.fit import flat, shapes_of, unflat
from rsjax.training import initial, loop

BANDS = ("sentinel1/VH", "sentinel2_l2a/B04", "sentinel2_l2a/B02", "sentinel2_l2a/B03",
         "sentinel1/VV")  # fmt: skip


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    toy.write(path)
    return path


def save(folder, data_dir, *, bands=BANDS, classes=None, name="resnet18", outputs=7, seed=0,
         fields=toy.TINY):  # fmt: skip
    """A bundle of random weights; without classes unless they are given."""
    made = manifests.load(next(data_dir.rglob("manifest.json")).parent)
    inputs = make_inputs(made.info.images, bands, made.statistics, (8, 8))
    outputs = len(classes) if classes else outputs
    shapes = shapes_of(models.get(name, num_classes=outputs, **fields), len(bands))
    rng = np.random.default_rng(seed)
    arrays = {k: rng.uniform(0.5, 1.5, s.shape).astype(np.float32) for k, s in flat(shapes).items()}
    about = {
        "model": {"name": name, "dtype": "float32", "fields": fields}, "outputs": outputs,
        "task": {"name": "multilabel", "threshold": 0.5, "label_smoothing": 0.0},
        "trained_on": {"title": "Toy"}, "lacks": "" if classes else "classes of land cover",
    }  # fmt: skip
    bundle.save(bundle.Model(unflat(arrays), inputs, classes, about), folder)
    return arrays


def given(data_dir, folder, **changes):
    config = toy.config(data_dir, init_from=str(folder), **changes)
    made = manifests.load(next(data_dir.rglob("manifest.json")).parent)
    bands = tuple(config.data.bands)
    inputs = make_inputs(made.info.images, bands, made.statistics, (8, 8))

    def make(num_classes):
        return models.get(config.model.name, num_classes=num_classes, **config.model.fields)

    return initial.given(config, make, inputs, toy.CLASSES)


def test_training_starts_from_given_weights_and_resuming_does_not(data_dir, tmp_path, caplog):
    arrays = save(tmp_path / "given", data_dir)
    config = toy.config(
        data_dir,
        init_from=str(tmp_path / "given"),
        init_new=("^fc/",),
        ema_decay=0.5,
        total_steps=1,
        **{
            "schedule.warmup_steps": 0,
            "optimizer.factors": ((".", 0.0),),
            "data.validation_split": "",
            "data.test_split": "",
        },
    )
    caplog.set_level("INFO", "rsjax")
    loop.train_and_evaluate(config, tmp_path / "run")
    assert "new: params/fc/bias, params/fc/kernel" in caplog.text
    first = rsjax.load(tmp_path / "run")
    # From here on the weights are those of the checkpoint; the given ones may be gone.
    shutil.rmtree(tmp_path / "given")
    shutil.rmtree(tmp_path / "run" / "bundle")
    loop.train_and_evaluate(config, tmp_path / "run")
    assert "resumed from step 1" in caplog.text
    trained = rsjax.load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, trained.variables, first.variables)
    # Every learning rate was 0: the weights are as they were given, bands by name.
    found = flat(trained.variables)
    order = [BANDS.index(band) for band in trained.inputs.bands]
    assert order != sorted(order)
    for name, value in arrays.items():
        if name.startswith("batch_stats"):
            assert not np.array_equal(found[name], value), name  # they follow the data
        elif "/fc/" in name:
            assert found[name].shape[-1] == len(toy.CLASSES)
        else:
            wanted = value[:, :, order] if name == "params/conv1/kernel" else value
            np.testing.assert_array_equal(found[name], wanted, err_msg=name)
    assert np.abs(found["params/fc/kernel"]).max() < 1  # a fresh one; given were 0.5 to 1.5
    told = trained.about["init"]
    assert (told["from"], told["new"]) == (
        str(tmp_path / "given"), ["params/fc/bias", "params/fc/kernel"],
    )  # fmt: skip


def test_statistics_and_the_moving_average_start_from_given_weights_too(data_dir, tmp_path):
    arrays = save(tmp_path / "given", data_dir, classes=toy.CLASSES)
    variables, told = given(data_dir, tmp_path / "given")
    own = jax.tree.map(
        lambda s: jax.numpy.zeros(s.shape, s.dtype), unflat({k: v for k, v in arrays.items()})
    )
    state = {**own, "ema": own["params"], "step": 0}
    started = initial.start(state, variables)
    for tree in (started["params"], started["ema"]):
        np.testing.assert_array_equal(tree["fc"]["kernel"], arrays["params/fc/kernel"])
    np.testing.assert_array_equal(
        started["batch_stats"]["bn1"]["var"], arrays["batch_stats/bn1/var"]
    )
    assert started["params"]["fc"]["bias"] is not started["ema"]["fc"]["bias"]
    assert told["new"] == []


def test_other_classes_bands_and_models_are_refused(data_dir, tmp_path):
    folder = tmp_path / "given"
    save(folder, data_dir)
    with pytest.raises(WeightsError, match=r"other classes \(Toy\).*init_new=\"\('\^fc/',\)\""):
        given(data_dir, folder)
    # The same number of classes is not enough.
    names = tuple(reversed(toy.CLASSES.names))
    save(folder, data_dir, classes=landcover.Nomenclature.from_json(
        {**toy.CLASSES.to_json(), "name": "mine", "names": names}))  # fmt: skip
    with pytest.raises(WeightsError, match=r"other classes \(mine\)"):
        given(data_dir, folder)
    save(folder, data_dir, bands=BANDS[:3], classes=toy.CLASSES)
    with pytest.raises(SensorError, match=r"data\.bands are .*--stem=by_name --bands=sentinel2"):
        given(data_dir, folder)
    save(folder, data_dir, classes=toy.CLASSES)
    for field, value in (("stage_sizes", (1, 1, 1)), ("width", 8), ("stem", "standard")):
        with pytest.raises(ConfigError, match=rf"{field}=.*the run's has {field}=.*model\.fields"):
            given(data_dir, folder, **{"model.fields": {**toy.TINY, field: value}})
    given(data_dir, folder, **{"model.fields": {**toy.TINY, "dropout_rate": 0.5}})
    with pytest.raises(ConfigError, match=r"width=4, and the run's has width=64; set"):
        given(data_dir, folder, **{"model.fields": {"stem": "small", "stage_sizes": (1, 1)}})
    with pytest.raises(ConfigError, match="weights of resnet18, and the run's model is resnet50"):
        given(data_dir, folder, **{"model.name": "resnet50"})
    with pytest.raises(WeightsError, match=re.escape("init_new: 'head' matches no array")):
        given(data_dir, folder, init_new=("head",))


def test_a_part_can_be_taken(data_dir, tmp_path):
    arrays = save(tmp_path / "given", data_dir, classes=toy.CLASSES)
    variables, told = given(data_dir, tmp_path / "given", init_new=("conv1", "^fc/bias"))
    assert "params/fc/bias" in told["new"]
    assert "conv1" not in variables["params"]
    np.testing.assert_array_equal(variables["params"]["fc"]["kernel"], arrays["params/fc/kernel"])


def test_a_backbone_s_weights_go_into_the_encoder_of_a_decoder(data_dir, tmp_path):
    arrays = save(tmp_path / "given", data_dir)
    fields = {"encoder_name": "resnet18", "encoder_fields": toy.TINY, "decoder_channels": (4, 4)}
    changes = {"model.name": "unet", "model.fields": fields}
    with pytest.raises(WeightsError, match="params/decoder"):
        given(data_dir, tmp_path / "given", **changes)
    variables, told = given(
        data_dir, tmp_path / "given", init_new=("^decoder", "^segmentation_head"), **changes
    )
    found = variables["params"]["encoder"]
    np.testing.assert_array_equal(
        found["layer2_0"]["conv1"]["kernel"], arrays["params/layer2_0/conv1/kernel"]
    )
    order = [BANDS.index(band) for band in toy.config(data_dir).data.bands]
    np.testing.assert_array_equal(
        found["conv1"]["kernel"], arrays["params/conv1/kernel"][:, :, order]
    )
    assert set(told["not_taken"]) == {"params/encoder/fc/bias", "params/encoder/fc/kernel"}
    fields |= {"encoder_fields": {**toy.TINY, "stem": "standard"}, "decoder_channels": (4, 4, 4)}
    with pytest.raises(ConfigError, match=r"stem='small'.*'encoder_fields': \{.*'stem': 'small'"):
        given(data_dir, tmp_path / "given", **changes)


def test_fields_that_either_side_leaves_at_its_default_are_compared(data_dir, tmp_path):
    folder = tmp_path / "given"
    save(folder, data_dir, classes=toy.CLASSES)
    for changed in ({"norm_epsilon": 1e-3}, {"stride_in_1x1": True}):
        field = next(iter(changed))
        with pytest.raises(ConfigError, match=rf"with {field}=.*run's has {field}=.*ConfigDict"):
            given(data_dir, folder, **{"model.fields": {**toy.TINY, **changed}})
    given(data_dir, folder, **{"model.fields": {**toy.TINY, "norm_epsilon": 1e-5}})
    # Of a backbone, as the decoder made it.
    new = ("^decoder", "^segmentation_head")
    fields = {"encoder_name": "resnet18", "encoder_fields": {**toy.TINY, "norm_epsilon": 1e-3},
              "decoder_channels": (4, 4)}  # fmt: skip
    changes = {"model.name": "unet", "model.fields": fields}
    with pytest.raises(ConfigError, match=r"encoder_fields\.norm_epsilon=1e-05, .*=0\.001; set"):
        given(data_dir, folder, init_new=new, **changes)
    # Of a decoder's bundle, through its backbone.
    save(folder, data_dir, classes=toy.CLASSES, name="unet",
         fields={**fields, "encoder_fields": toy.TINY})  # fmt: skip
    with pytest.raises(ConfigError, match=r"encoder_fields\.norm_epsilon=1e-05, .*=0\.001; set"):
        given(data_dir, folder, **changes)
    fields["encoder_fields"] = {**toy.TINY, "dropout_rate": 0.5, "remat": True}
    assert given(data_dir, folder, **changes)[1]["not_taken"] == []
    fields["encoder_name"] = "resnet50"
    with pytest.raises(ConfigError, match=r"encoder_name='resnet18', .*encoder_name='resnet50'"):
        given(data_dir, folder, **changes)


def test_names_that_make_the_same_network_are_the_same(data_dir, tmp_path):
    fields = {"encoder_fields": toy.TINY, "output_stride": 0}
    save(tmp_path / "given", data_dir, classes=toy.CLASSES, name="fcn_resnet50", fields=fields)
    for name in ("fcn", "fcn_resnet50"):
        changes = {"model.name": name, "model.fields": fields}
        assert given(data_dir, tmp_path / "given", **changes)[1]["not_taken"] == []
    changes["model.name"] = "fcn_resnet101"  # of the same blocks here, but of another default
    changes["model.fields"] = {**fields, "encoder_fields": {"width": 4, "stem": "small"}}
    with pytest.raises(
        ConfigError, match=r"of fcn_resnet50, .*fcn_resnet101.* differ in encoder_name\."
    ):
        given(data_dir, tmp_path / "given", **changes)
    # The default of `encoder_name`, which no config names, is as good as its name.
    save(tmp_path / "given", data_dir, name="resnet50")
    changes = {"model.name": "fcn", "model.fields": fields}
    told = given(data_dir, tmp_path / "given", init_new=("classifier",), **changes)[1]
    assert set(told["not_taken"]) == {"params/backbone/fc/bias", "params/backbone/fc/kernel"}
    changes["model.name"] = "fcn_resnet50"
    given(data_dir, tmp_path / "given", init_new=("classifier",), **changes)


def test_fcn_is_trained_in_stages(data_dir, tmp_path):
    fields = {"stage_sizes": (1,) * 5, "width": 2, "fc_width": 2}
    save(tmp_path / "given", data_dir, classes=toy.CLASSES, name="fcn32s", fields=fields)
    told = given(
        data_dir, tmp_path / "given", init_new=("^upscore", "^score_pool4"),
        **{"model.name": "fcn16s", "model.fields": fields},
    )[1]  # fmt: skip
    assert told["new"] == [
        "params/score_pool4/bias", "params/score_pool4/kernel", "params/upscore16/kernel",
        "params/upscore2/kernel",
    ]  # fmt: skip
    assert told["not_taken"] == ["params/upscore/kernel"]


def test_a_classifier_s_last_relu_is_no_matter_of_its_weights(data_dir, tmp_path):
    inside = {"stage_sizes": (1, 1), "width": 4, "growth_rate": 2, "stem": "small"}
    save(tmp_path / "given", data_dir, name="densenet121", fields=inside)
    fields = {"encoder_name": "densenet121", "encoder_fields": inside,
              "decoder_channels": (4,) * 5}  # fmt: skip
    told = given(
        data_dir, tmp_path / "given", init_new=("^decoder", "^segmentation_head"),
        **{"model.name": "unet", "model.fields": fields},
    )[1]  # fmt: skip
    assert set(told["not_taken"]) == {
        "params/encoder/classifier/bias", "params/encoder/classifier/kernel",
    }  # fmt: skip
