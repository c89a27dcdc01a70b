"""Published weights to bundles, from files in the official layouts with random numbers."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import toy

import rsjax
from rsjax import bundle, landcover, models
from rsjax.datasets.bigearthnet import BigEarthNet
from rsjax.errors import BundleError, ConfigError, SensorError, WeightsError
from rsjax.input.preprocess import preprocess
from rsjax.input.source import ShardSource
from rsjax.models.pretrained import fit as fitting
from rsjax.models.pretrained import read, sources
from rsjax.models.pretrained.convert import convert, convert_keras, to_variables
from rsjax.models.pretrained.torch_names import to_torch
from rsjax.training import examine

sys.path.append(str(pathlib.Path(__file__).parent / "models"))
from peers import evaluate, images, quick_jit, randomised, relative_error

TINY = {"stage_sizes": (1, 1), "width": 4}


def peer(classes, bands, seed=0):
    """A ResNet named as torchvision's and timm's, in torch, with random weights and statistics."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from torch_resnet import ResNet

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    made = ResNet(classes, bands, (1, 1), False, 4)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return made.eval()


def arrays(model):
    return {name: value.numpy() for name, value in model.state_dict().items()}


def written(path, state, prefix=""):
    from safetensors.numpy import save_file

    save_file({prefix + k: np.ascontiguousarray(v) for k, v in state.items()}, path)
    return path


def scenes(inputs, count=2):
    rng = np.random.default_rng(1)
    bands = [
        rng.normal(-14, 4, (count, *inputs.grid))
        if band.startswith("sentinel1")
        else rng.uniform(10, 4000, (count, *inputs.grid))
        for band in inputs.bands
    ]
    return np.stack(bands, -1).astype(np.float32)


@pytest.fixture(scope="module")
def bigearthnet(tmp_path_factory):
    """The classifier for Sentinel-1 and -2, in torch, and its bundle."""
    model = peer(19, 12)
    folder = tmp_path_factory.mktemp("weights")
    file = written(folder / "model.safetensors", arrays(model), "model.vision_encoder.")
    report = convert(
        file, folder / "bundle", model="resnet18", source="bigearthnet_v2", fields=TINY
    )
    return model, folder / "bundle", report


def test_bigearthnet_s_classifiers_predict_as_in_torch(bigearthnet):
    import torch

    model, folder, report = bigearthnet
    found = rsjax.load(folder)
    names = [band.rpartition("/")[2] for band in found.inputs.bands]
    assert ",".join(names) == "VV,VH,B02,B03,B04,B05,B06,B07,B08,B8A,B11,B12"
    image = scenes(found.inputs)
    # As the model card has it: standardised, channels VV, VH, B02, ..., classes by alphabet.
    statistics = {**sources._NEAREST["sentinel2_l2a"], **sources._NEAREST["sentinel1"]}
    mean, std = np.array([statistics[name] for name in names], np.float32).T
    x = torch.tensor((image - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        probabilities = torch.sigmoid(model(x)).numpy()
    alphabet = sorted(landcover.load("bigearthnet19").names)
    # The channels in any order, by name.
    order = np.random.default_rng(2).permutation(12)
    predicted = found.predict(image[..., order], bands=[names[i] for i in order])
    assert predicted.classes[0] == "Urban fabric"
    for index, name in enumerate(alphabet):
        ours = predicted.probabilities[:, predicted.classes.index(name)]
        np.testing.assert_allclose(ours, probabilities[:, index], atol=1e-4, err_msg=name)
    # The shards of the dataset itself fit: entries, units and sizes are the same.
    shards = BigEarthNet("").info.images
    assert found.inputs.images == {name: shards[name] for name in ("s2_10m", "s2_20m", "s1")}
    assert found.inputs.resample == "nearest"
    assert report["prefix"] == "model.vision_encoder."
    assert report["arrays"] == sum("num_batches" not in name for name in model.state_dict())
    assert report["statistics"] == "nearest"
    assert found.about["converted"] == report


def test_another_channel_order_number_of_bands_or_model_is_refused(bigearthnet, tmp_path):
    state = arrays(peer(19, 10))
    file = written(tmp_path / "m.safetensors", state)
    options = {"model": "resnet18", "fields": TINY}
    with pytest.raises(WeightsError, match=r"params/conv1/kernel \(7, 7, 10, 4\), wanted"):
        convert(file, tmp_path / "b", source="bigearthnet_v2", **options)
    with pytest.raises(WeightsError, match="layer2_1"):
        convert(file, tmp_path / "b", source="bigearthnet_v2_s2", model="resnet18",
                fields={"width": 4})  # fmt: skip
    assert not (tmp_path / "b").exists()
    old = convert(file, tmp_path / "old", source="bigearthnet_v2_s2_0.1.1", **options)
    new = convert(file, tmp_path / "new", source="bigearthnet_v2_s2", **options)
    assert old["sha256"] == new["sha256"]
    one, other = rsjax.load(tmp_path / "old"), rsjax.load(tmp_path / "new")
    assert sorted(one.inputs.bands) == sorted(other.inputs.bands)
    assert one.inputs.bands != other.inputs.bands
    del state["fc.weight"], state["fc.bias"]
    written(file, state)
    with pytest.raises(WeightsError, match=r"without a classifier.*whole model"):
        convert(file, tmp_path / "b", source="bigearthnet_v2_s2", **options)


def test_imagenet_s_weights_are_a_bundle_that_predicts_nothing(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    model = peer(1000, 3)
    torch.save({"state_dict": model.state_dict(), "epoch": 9}, tmp_path / "m.pth")
    options = {"model": "resnet18", "fields": TINY}
    report = convert(tmp_path / "m.pth", tmp_path / "b", source="imagenet", **options)
    assert (report["ignored"], report["without_classifier"]) == (["epoch"], False)
    found = rsjax.load(tmp_path / "b")
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    with pytest.raises(BundleError, match=r"cannot predict.*no classes of land cover.*init_from"):
        found.predict(image)
    # Its inputs and logits are ImageNet's all the same.
    x = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        wanted = model(torch.tensor(x, dtype=torch.float32).permute(0, 3, 1, 2)).numpy()
    inputs = dataclasses.replace(found.inputs, grid=(64, 64))
    x = preprocess(inputs)({"rgb": image})
    logits = np.asarray(evaluate(found.module, found.variables, x))
    assert np.abs(logits - wanted).max() < 1e-4 * np.abs(wanted).max()
    # Without a classifier, as TorchGeo publishes backbones.
    state = {k: v for k, v in arrays(peer(2, 13)).items() if not k.startswith("fc.")}
    file = written(tmp_path / "m.safetensors", state)
    report = convert(file, tmp_path / "c", source="ssl4eo_s12_all", **options)
    assert report["without_classifier"]
    assert "fc" not in rsjax.load(tmp_path / "c").variables["params"]


def test_other_bands_get_kernels_by_the_rule_that_is_asked_for(tmp_path):
    state = arrays(peer(7, 3))
    file = written(tmp_path / "m.safetensors", state)
    bands = [f"sentinel2_l2a/{b}" for b in ("B02", "B03", "B04", "B08")]
    options = {"model": "resnet18", "source": "imagenet", "fields": TINY, "bands": bands}
    with pytest.raises(SensorError, match="stem=by_name"):
        convert(file, tmp_path / "b", **options)
    report = convert(file, tmp_path / "b", rule="by_name", fill="zero", **options)
    found = rsjax.load(tmp_path / "b")
    kernel = np.asarray(found.variables["params"]["conv1"]["kernel"])
    given = state["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel[:, :, :3], given[:, :, ::-1])
    assert not kernel[:, :, 3].any()
    assert found.inputs.bands == tuple(bands)
    assert found.about["converted"]["stem"] == report["stem"]
    assert report["stem"][0] == "sentinel2_l2a/B02: kernel of rgb/blue"


def test_a_subset_of_the_bands_still_predicts_and_a_new_band_does_not(tmp_path):
    file = written(tmp_path / "m.safetensors", arrays(peer(19, 10)))
    options = {"model": "resnet18", "source": "bigearthnet_v2_s2", "fields": TINY}
    bands = ("sentinel2_l2a/B04", "sentinel2_l2a/B02")
    convert(file, tmp_path / "b", bands=bands, rule="by_name", **options)
    found = rsjax.load(tmp_path / "b")
    assert found.inputs.mean == (588.4096, 438.3721)
    assert found.classes().name == "bigearthnet19"
    more = (*bands, "sentinel2_l2a/B09")
    convert(file, tmp_path / "b", bands=more, rule="by_name", fill="mean", **options)
    found = rsjax.load(tmp_path / "b")
    with pytest.raises(BundleError, match="no statistics of sentinel2_l2a/B09"):
        found.predict(scenes(found.inputs))


def test_a_source_of_one_s_own(tmp_path):
    file = written(tmp_path / "m.safetensors", arrays(peer(10, 2)))
    about = {
        "title": "Mine", "page": "https://example.org", "licence": "CC0",
        "images": {"s1": {"sensor": "sentinel1", "bands": ["VV", "VH"], "height": 32, "width": 32,
                          "dtype": "float32", "unit": "db", "gsd_m": 10.0}},
        "bands": ["sentinel1/VH", "sentinel1/VV"], "grid_px": 32,
        "statistics": {"mine": {"sentinel1": {"VV": [-12, 5], "VH": [-19, 5]}}},
        "task": "classification", "nomenclature": "eurosat",
    }  # fmt: skip
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(about))
    options = {"model": "resnet18", "fields": TINY, "source": str(path)}
    convert(file, tmp_path / "b", **options)
    found = rsjax.load(tmp_path / "b")
    predicted = found.predict(scenes(found.inputs))
    assert predicted.classes == landcover.load("eurosat").names
    np.testing.assert_allclose(predicted.probabilities.sum(-1), 1, rtol=1e-5)
    for change, match in (
        ({"classes": ["Forest"]}, "not those of 'eurosat'"),
        ({"images": {"s1": {"sensor": "sentinel1"}}}, r"mine\.json: no description"),
        ({"colour": "red"}, "colour"),
    ):
        path.write_text(json.dumps({**about, **change}))
        with pytest.raises(WeightsError, match=match):
            convert(file, tmp_path / "b", **options)
    with pytest.raises(WeightsError, match=r"no source 'imagnet'; known: .*bigearthnet_v2"):
        convert(file, tmp_path / "b", model="resnet18", source="imagnet")


def test_the_order_of_the_classes_reaches_up_scorings_too(tmp_path):
    names = landcover.load("corine_l1").names
    order = [3, 0, 1, 4, 2]
    about = {
        "title": "Mine", "page": "https://example.org", "licence": "CC0",
        "images": {"rgb": {"sensor": "rgb", "bands": ["red", "green", "blue"], "height": 32,
                           "width": 32, "dtype": "uint8", "unit": "dn8", "gsd_m": 1}},
        "bands": ["rgb/red", "rgb/green", "rgb/blue"], "grid_px": 32,
        "statistics": {"mine": {"rgb": {b: [0, 1] for b in ("red", "green", "blue")}}},
        "task": "segmentation", "nomenclature": "corine_l1", "classes": [names[i] for i in order],
    }  # fmt: skip
    (tmp_path / "mine.json").write_text(json.dumps(about))
    fields = {"stage_sizes": (1,) * 5, "width": 2, "fc_width": 4}
    model = models.get("fcn8s", num_classes=5, **fields)
    x = images(1, 32, 32, 3)
    variables = randomised(model, x)  # up-scorings that mix the classes, too
    file = written(tmp_path / "m.safetensors", to_torch(variables))
    source = str(tmp_path / "mine.json")
    convert(file, tmp_path / "b", model="fcn8s", source=source, fields=fields)
    found = rsjax.load(tmp_path / "b")
    apply = quick_jit(lambda v: model.apply(v, x, False))
    ours, theirs = np.asarray(apply(found.variables)), np.asarray(apply(variables))
    assert found.classes().names == names
    for index, position in enumerate(order):
        assert relative_error(ours[..., position], theirs[..., index]) < 1e-5, names[position]


def test_published_weights_are_evaluated_on_shards(tmp_path):
    root = toy.write(tmp_path / "data", sizes=(("train", 8), ("validation", 4), ("test", 16)))
    file = written(tmp_path / "m.safetensors", arrays(peer(19, 3)))
    images = {"s2": dataclasses.asdict(toy.S2)}
    about = {
        "title": "Mine", "page": "https://example.org", "licence": "CC0", "images": images,
        "bands": [f"sentinel2_l2a/{b}" for b in ("B04", "B03", "B02")], "grid_px": 8,
        "statistics": {"mine": {"sentinel2_l2a": {b: [900, 700] for b in toy.S2.bands}}},
        "task": "multilabel", "nomenclature": "bigearthnet19",
    }  # fmt: skip
    (tmp_path / "mine.json").write_text(json.dumps(about))
    options = {"model": "resnet18", "fields": TINY, "source": str(tmp_path / "mine.json")}
    convert(file, tmp_path / "b", **options)
    config = toy.config(tmp_path / "data", mode="eval", **{"eval.checkpoint": str(tmp_path / "b")})
    figures = examine.evaluate_checkpoint(config, tmp_path / "run")
    # The same as by hand.
    found = rsjax.load(tmp_path / "b")
    records = ShardSource(root, "test").read(np.arange(16))
    predicted = found.predict({"s2": records["s2"]}).probabilities >= 0.5
    wanted = (predicted == records["label"].astype(bool)).mean()
    assert 1 - figures["hamming_loss"] == pytest.approx(wanted)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Mine as published" in page
    assert "eval.checkpoint" in page


def test_a_folder_of_other_content_is_not_replaced(bigearthnet, tmp_path):
    _, folder, _ = bigearthnet
    options = {"model": "resnet18", "source": "bigearthnet_v2", "fields": TINY}
    file = folder.parent / "model.safetensors"
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no bundle, so it is not replaced"):
        convert(file, tmp_path, **options)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    convert(file, tmp_path / "b", **options)
    convert(file, tmp_path / "b", **options)  # a bundle is replaced


def test_a_decoder_s_encoder_gets_the_fields_that_its_weights_need(tmp_path):
    fields = {"encoder_name": "xception", "decoder_channels": (2,) * 5}
    inside = {"width": 1 / 64}
    model = models.get("unet", num_classes=4, encoder_fields=inside, **fields)
    shapes = fitting.shapes_of(model, 3)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    file = written(tmp_path / "m.safetensors", to_torch(zeros))
    options = {"model": "unet", "source": "imagenet"}
    fields["encoder_fields"] = inside
    convert(file, tmp_path / "b", fields=fields, **options)
    encoder = rsjax.load(tmp_path / "b").module.bind({}).encoder
    assert (encoder.pool_padding, encoder.norm_epsilon) == (1, 1e-5)
    fields["encoder_fields"] = {**inside, "norm_epsilon": 1e-4}  # what is chosen wins
    found = to_variables(read.read(file), "unet", fields)[1]["encoder_fields"]
    assert found == {**inside, "pool_padding": 1, "norm_epsilon": 1e-4}


def test_fcn_starts_from_vgg(tmp_path):
    fields = {"stage_sizes": (1, 2, 1, 1, 1), "width": 2, "fc_width": 3}
    vgg = models.get("vgg16", num_classes=5, **fields)
    shapes, rng = fitting.shapes_of(vgg, 3), np.random.default_rng(0)
    given = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f4"), shapes)
    file = written(tmp_path / "m.safetensors", to_torch(given))
    options = {"model": "fcn32s", "source": "imagenet", "fields": fields}
    report = convert(file, tmp_path / "b", ignore=["^classifier_6/"], **options)
    assert report["ignored"] == ["params/classifier_6/bias", "params/classifier_6/kernel"]
    assert report["without_classifier"]
    found, theirs = rsjax.load(tmp_path / "b").variables["params"], given["params"]
    pairs = {"conv1_1": "features_0", "conv2_1": "features_3", "conv2_2": "features_5",
             "conv3_1": "features_8", "conv4_1": "features_11",
             "conv5_1": "features_14"}  # fmt: skip
    assert found.keys() == {*pairs, "fc6", "fc7"}
    for ours, name in pairs.items():
        np.testing.assert_array_equal(found[ours]["kernel"], theirs[name]["kernel"])
        np.testing.assert_array_equal(found[ours]["bias"], theirs[name]["bias"])
    # The convolutions see of one 7 x 7 map what the linear layers see.
    image = rng.normal(size=(7, 7, 16)).astype("f4")
    y = np.einsum("hwc,hwco->o", image, found["fc6"]["kernel"])
    wanted = image.transpose(2, 0, 1).reshape(-1) @ theirs["classifier_0"]["kernel"]
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found["fc7"]["kernel"][0, 0], theirs["classifier_3"]["kernel"])
    wanted = fitting.shapes_of(models.get("fcn8s", num_classes=4, **fields), 3)
    taken = fitting.fit({"params": found}, wanted, "", new=("^score", "^upscore"))
    assert len(taken.new) == 9
    norms = models.get("vgg16_bn", num_classes=5, **fields)
    given = jax.tree.map(lambda leaf: np.ones(leaf.shape, "f4"), fitting.shapes_of(norms, 3))
    written(file, to_torch(given))
    with pytest.raises(WeightsError, match="with batch normalisation"):
        convert(file, tmp_path / "b", **options)


def test_fields_that_are_no_choice_are_refused(bigearthnet, tmp_path):
    file = bigearthnet[1].parent / "model.safetensors"
    options = {"model": "resnet18", "source": "bigearthnet_v2"}
    for field, match in (("num_classes", "how many there are"), ("dtype", r"config\.model\.dtype")):
        with pytest.raises(ConfigError, match=rf"--field={field}=.*{match}.*Leave it out"):
            convert(file, tmp_path / "b", fields={**TINY, field: 19}, **options)
    with pytest.raises(ConfigError, match="no other bands; name them with --bands"):
        convert(file, tmp_path / "b", fields=TINY, rule="mean", **options)
    assert not (tmp_path / "b").exists()


def test_a_bundle_that_no_model_can_be_made_of_is_no_success(bigearthnet, tmp_path, monkeypatch):
    file = bigearthnet[1].parent / "model.safetensors"
    make = bundle.Model

    def other_fields(variables, inputs, classes, about):
        about["model"]["fields"] = {**TINY, "colour": "red"}
        return make(variables, inputs, classes, about)

    monkeypatch.setattr(bundle, "Model", other_fields)
    with pytest.raises(ConfigError, match="unknown colour"):
        convert(file, tmp_path / "b", model="resnet18", source="bigearthnet_v2", fields=TINY)
    assert not (tmp_path / "b").exists()


def test_the_command(tmp_path):
    file = written(tmp_path / "m.safetensors", arrays(peer(19, 2)), "model.vision_encoder.")
    command = [
        sys.executable, "-m", "rsjax.convert", f"--weights={file}", "--model=resnet18",
        "--source=bigearthnet_v2_s1", f"--output={tmp_path}/b", "--field=stage_sizes=(1,1)",
        "--field=width=4",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "prefix: model.vision_encoder." in done.stdout
    assert rsjax.load(tmp_path / "b").inputs.bands == ("sentinel1/VV", "sentinel1/VH")


def test_every_source_is_consistent():
    for name in sources.SOURCES:
        for module in ("resnet", "vgg", "densenet", "inception", "xception"):
            found = sources.find(name, module)
            for statistics in ("", *found.statistics):
                inputs, _ = found.inputs(statistics)
                assert len(inputs.mean) == len(found.bands)
            if order := found.order():
                assert sorted(order[1]) == list(range(len(order[0])))
    caffe, _ = sources.find("imagenet_keras", "vgg").inputs()
    assert (caffe.bands[0], caffe.mean[0], caffe.std[0]) == ("rgb/blue", 103.939, 1.0)
    half, _ = sources.find("imagenet_keras", "xception").inputs()
    assert (half.bands[0], half.mean[0], half.std[0]) == ("rgb/red", 127.5, 127.5)


def test_keras_weights_need_their_classifier(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1_conv"]
        group = file.create_group("conv1_conv")
        group.attrs["weight_names"] = [b"kernel"]
        group["kernel"] = np.ones((7, 7, 3, 64), np.float32)
    with pytest.raises(WeightsError, match=r"without the classifier \(include_top=False\)"):
        convert_keras("resnet18", tmp_path / "a.h5")
