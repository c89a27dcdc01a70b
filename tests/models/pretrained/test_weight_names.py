import warnings

import jax
import numpy as np
import pytest
from peers import draw, evaluate, flat, images, quick_jit, relative_error

from rsjax.errors import WeightsError
from rsjax.models.pretrained import keras_names, read
from rsjax.models.pretrained.fit import fit
from rsjax.models.pretrained.fit import shapes_of as fit_shapes_of
from rsjax.models.pretrained.torch_names import from_torch, renamed
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
