import re
import warnings

import jax
import numpy as np
import pytest
from peers import draw, evaluate, flat, images, quick_jit, relative_error

from rsjax import models
from rsjax.errors import WeightsError
from rsjax.models.pretrained import keras_names, read
from rsjax.models.pretrained.fit import fit
from rsjax.models.pretrained.fit import flat as fit_flat
from rsjax.models.pretrained.fit import shapes_of as fit_shapes_of
from rsjax.models.pretrained.renamed import renamed
from rsjax.models.pretrained.torch_names import from_torch
from rsjax.models.resnet import Bottleneck, ResNet


def test_old_densenet_files_and_timm_s_vgg_become_torchvision_s():
    one = np.ones(4, np.float32)
    old = {
        "features.norm0.weight": one,
        "features.denseblock1.denselayer2.norm.1.weight": one,
        "features.denseblock1.denselayer2.conv.2.weight": np.ones((2, 4, 3, 3), np.float32),
    }
    assert list(renamed(old, "densenet")) == [
        "features.norm0.weight",
        "features.denseblock1.denselayer2.norm1.weight",
        "features.denseblock1.denselayer2.conv2.weight",
    ]
    assert list(renamed(old, "resnet")) == list(old)
    both = {**old, "features.denseblock1.denselayer2.norm1.weight": one}
    with pytest.raises(WeightsError, match=r"norm1\.weight"):
        renamed(both, "densenet")

    rng = np.random.default_rng(0)
    conv = rng.normal(size=(5, 3, 7, 7)).astype(np.float32)
    timm = {
        "features.0.weight": rng.normal(size=(3, 2, 3, 3)),
        "pre_logits.fc1.weight": conv,
        "pre_logits.fc2.weight": rng.normal(size=(5, 5, 1, 1)),
        "head.fc.weight": rng.normal(size=(2, 5)),
    }
    params = from_torch(renamed(timm, "vgg"))["params"]
    assert {name: leaf.shape for name, leaf in flat(params).items()} == {
        "features_0/kernel": (3, 3, 2, 3),
        "classifier_0/kernel": (147, 5),
        "classifier_3/kernel": (5, 5),
        "classifier_6/kernel": (5, 2),
    }
    # A convolution over the whole map is a linear layer on it, flattened channels first.
    image = rng.normal(size=(3, 7, 7)).astype(np.float32)
    wanted = np.einsum("ochw,chw->o", conv, image)
    found = image.reshape(-1) @ params["classifier_0"]["kernel"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def weights_of(peer):
    """Arrays of a Keras model, named as `read` names those of its file."""
    return {
        f"{layer.name}/{index}": np.asarray(variable.value)
        for layer in peer.layers
        for index, variable in enumerate(layer.weights)
    }


def quiet_keras():
    pytest.importorskip("h5py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras")


def redraw(peer):
    """Gives a Keras model random weights, those with a name of its own kind as `peers.draw`."""
    rng = np.random.default_rng(0)
    for variable in peer.weights:
        variable.assign(draw(variable.name, tuple(variable.shape), rng))


def predictions(peer, x):
    with (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        values = (
            [v.value for v in vs] for vs in (peer.trainable_variables, peer.non_trainable_variables)
        )
        return np.asarray(quick_jit(lambda t, n, x: peer.stateless_call(t, n, x)[0])(*values, x))


def as_model(path, module, model, x):
    """Our model with the weights of a Keras file; asserts that names and shapes are all of its."""
    variables, fields = keras_names.from_keras(read.read(path).arrays, module)
    model = model.clone(**fields)
    fit(variables, fit_shapes_of(model, x.shape[-1]), str(path))
    return model, variables


@pytest.mark.once
def test_resnet_of_keras_applications(tmp_path):
    quiet_keras()
    from keras.src.applications import resnet

    def stacks(x):
        x = resnet.stack_residual_blocks_v1(x, 64, 1, stride1=1, name="conv2")
        return resnet.stack_residual_blocks_v1(x, 128, 1, name="conv3")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = resnet.ResNet(
            stacks, False, True, weights=None, input_shape=(33, 33, 3), classes=5,
            classifier_activation=None,
        )  # fmt: skip
    redraw(peer)
    x = images(2, 33, 33, 3)
    wanted = predictions(peer, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.save_weights(tmp_path / "a.weights.h5")
        peer.save(tmp_path / "a.h5")
    model = ResNet(5, (1, 1), Bottleneck)
    ours, variables = as_model(tmp_path / "a.weights.h5", "resnet", model, x)
    assert ours.stride_in_1x1
    assert relative_error(evaluate(ours, variables, x), wanted) < 1e-4
    _, again = as_model(tmp_path / "a.h5", "resnet", model, x)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    for older in ("probs", "fc1000"):
        old = {k.replace("predictions", older): v for k, v in weights_of(peer).items()}
        again = keras_names.from_keras(old, "resnet")[0]
        jax.tree.map(np.testing.assert_array_equal, again, variables)


@pytest.mark.once
def test_vgg_of_keras_applications():
    """Layers of VGG-11's plan, named as keras.applications names them."""
    keras = quiet_keras()
    kl = keras.layers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = inputs = keras.Input((224, 224, 3))
        for block, count in enumerate((1, 1, 2, 2, 2), 1):
            for number in range(1, count + 1):
                name = f"block{block}_conv{number}"
                x = kl.Conv2D(2 ** min(block, 4), 3, padding="same", activation="relu", name=name)(
                    x
                )
            x = kl.MaxPooling2D(2)(x)
        x = kl.Flatten()(x)  # 7 x 7 pixels, channels last
        for name in ("fc1", "fc2"):
            x = kl.Dense(5, activation="relu", name=name)(x)
        peer = keras.Model(inputs, kl.Dense(4, name="predictions")(x))
    redraw(peer)
    x = images(1, 224, 224, 3)
    wanted = predictions(peer, x)
    model = models.get("vgg11", num_classes=4, width=2, fc_width=5)
    variables, fields = keras_names.from_keras(weights_of(peer), "vgg")
    assert fields == {}
    fit(variables, fit_shapes_of(model, 3), "vgg")
    assert relative_error(evaluate(model, variables, x), wanted) < 1e-4


@pytest.mark.once
def test_densenet_of_keras_applications():
    quiet_keras()
    from keras.src.applications import densenet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = densenet.DenseNet(
            [1, 2, 1, 1], weights=None, input_shape=(33, 33, 3), classes=5,
            classifier_activation=None,
        )  # fmt: skip
    redraw(peer)
    x = images(2, 33, 33, 3)
    wanted = predictions(peer, x)
    variables, fields = keras_names.from_keras(weights_of(peer), "densenet")
    model = models.get("densenet121", num_classes=5, stage_sizes=(1, 2, 1, 1), **fields)
    fit(variables, fit_shapes_of(model, 3), "densenet")
    # The names of the first releases.
    older = {"conv1_": "conv1/", "predictions": "fc1000"}
    old = {re.sub("^(conv1_|predictions)", lambda m: older[m[1]], k): v
           for k, v in weights_of(peer).items()}  # fmt: skip
    assert {"conv1/conv/0", "conv1/bn/3", "fc1000/1"} <= set(old)
    again = keras_names.from_keras(old, "densenet")[0]
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    assert relative_error(evaluate(model, variables, x), wanted) < 1e-4


def test_xception_of_keras_applications_has_all_of_ours():
    """The layers and channels of keras.applications' Xception, a sixteenth as wide."""
    arrays = {}

    def conv(name, size, inputs, outputs):
        arrays[f"{name}/0"] = np.ones((size, size, inputs, outputs), np.float32)

    def norm(name, channels):
        for index in range(4):
            arrays[f"{name}/{index}"] = np.ones(channels, np.float32)

    def separable(name, inputs, outputs):
        arrays[f"{name}/0"] = np.ones((3, 3, inputs, 1), np.float32)
        arrays[f"{name}/1"] = np.ones((1, 1, inputs, outputs), np.float32)
        norm(f"{name}_bn", outputs)

    def scaled(channels):
        return round(channels / 16)

    conv("block1_conv1", 3, 3, 2)
    norm("block1_conv1_bn", 2)
    conv("block1_conv2", 3, 2, 4)
    norm("block1_conv2_bn", 4)
    plan = [(128, 128), (256, 256), (728, 728), *[(728,) * 3] * 8, (728, 1024), (1536, 2048)]
    inputs, shortcuts = 4, 0
    for block, channels in enumerate(plan, 2):
        entered = inputs
        for number, outputs in enumerate(map(scaled, channels), 1):
            separable(f"block{block}_sepconv{number}", inputs, outputs)
            inputs = outputs
        if block in (2, 3, 4, 13):
            ending = f"_{shortcuts}" if shortcuts else ""
            conv(f"conv2d{ending}", 1, entered, inputs)
            norm(f"batch_normalization{ending}", inputs)
            shortcuts += 1
    arrays["predictions/0"] = np.ones((inputs, 5), np.float32)
    arrays["predictions/1"] = np.ones(5, np.float32)
    variables, fields = keras_names.from_keras(arrays, "xception")
    model = models.get("xception", num_classes=5, width=1 / 16, **fields)
    fit(variables, fit_shapes_of(model, 3), "xception")


def test_inception_of_keras_applications_has_all_of_ours():
    arrays = {"predictions/0": np.ones((1, 1)), "predictions/1": np.ones(1)}
    for index in range(94):
        arrays[f"conv2d_{index}/0"] = np.ones((1, 1, 1, 1), np.float32)
        arrays |= {f"batch_normalization_{index}/{i}": np.ones(1, np.float32) for i in range(3)}
    variables, fields = keras_names.from_keras(arrays, "inception")
    model = models.get("inception_v3", num_classes=5, width=1 / 16, **fields)
    assert set(fit_flat(variables)) == set(fit_flat(fit_shapes_of(model, 3)))


def test_unknown_layers_and_families_are_named():
    with pytest.raises(WeightsError, match=r"layers conv9_block1_1_conv are none"):
        keras_names.from_keras({"conv9_block1_1_conv/0": np.ones((1, 1, 2, 2))}, "resnet")
    with pytest.raises(WeightsError, match=r"'unet'; there are for resnet, vgg"):
        keras_names.from_keras({}, "unet")
    with pytest.raises(WeightsError, match=r"'conv1_conv' has variables of \[5\] axes"):
        keras_names.from_keras({"conv1_conv/0": np.ones((1,) * 5)}, "resnet")


def test_inception_s_layers_are_counted_from_any_number():
    arrays = {}
    for index in range(94):
        arrays[f"conv2d_{index + 7}/0"] = np.full((1, 1, 1, 1), index, np.float32)
        arrays |= {
            f"batch_normalization_{index + 7}/{i}": np.full(1, index, np.float32) for i in range(3)
        }
    variables, fields = keras_names.from_keras(arrays, "inception")
    params = variables["params"]
    assert params["Conv2d_1a_3x3"]["conv"]["kernel"] == 0
    assert params["Mixed_5b"]["branch1x1"]["bn"]["bias"] == 5
    assert params["Mixed_6a"]["branch3x3"]["conv"]["kernel"] == 26
    assert params["Mixed_7c"]["branch_pool"]["conv"]["kernel"] == 93
    assert params["Mixed_7c"]["branch_pool"]["bn"]["scale"] == 1  # the file has none
    assert fields["count_padding"] is False
    del arrays["conv2d_7/0"]
    with pytest.raises(WeightsError, match="93 layers 'conv2d', Inception-v3 has 94"):
        keras_names.from_keras(arrays, "inception")
