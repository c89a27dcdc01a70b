import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import (
    equals_keras,
    equals_torch,
    evaluate,
    flat,
    images,
    keras_leaves,
    parameters,
    quick_jit,
    randomised,
    relative_error,
)

from rsjax import models
from rsjax.errors import ConfigError
from rsjax.models.aligned_xception import AlignedXception
from rsjax.models.xception import Block, Xception

pytestmark = pytest.mark.once

WIDTH = 1 / 32

# Keras: 22,910,480 with 54,528 moving statistics. timm's results/model_metadata: 26.97, 39.92 and
# 42.34 million.
PARAMETERS = {
    "xception": 22_910_480 - 54_528,
    "xception41": 26.97e6,
    "xception65": 39.92e6,
    "xception71": 42.34e6,
}


def small(model=Xception, **fields):
    return model(**{"num_classes": 5, "width": WIDTH, "middle_blocks": 1} | fields)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_the_references(name):
    found = parameters(models.get(name, num_classes=1000))
    assert abs(found - PARAMETERS[name]) <= (0 if name == "xception" else 5000)


def test_equals_torch():
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from torch_xception import Xception as Peer

    model = small(pool_padding=1, norm_epsilon=1e-5, output_stride=16)
    # Even and odd maps before the pools.
    equals_torch(model, Peer(5, 2, WIDTH), images(4, 48, 39, 2))


def test_aligned_equals_torch():
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from torch_xception import AlignedXception as Peer

    entry = ((128, 2), (128, 2), (728, 2))
    model = small(AlignedXception, entry=entry, output_stride=16)
    equals_torch(model, Peer(5, 2, WIDTH), images(4, 48, 39, 2))


def keras_xception(shape, classes, width):
    """As `keras.applications.Xception`, with one block in the middle; layers named as ours."""
    import keras

    kl = keras.layers

    def norm(x, name):
        return kl.BatchNormalization(momentum=0.9, epsilon=1e-3, name=name)(x)

    def conv(x, channels, size, name, norm_name, **options):
        options |= {"use_bias": False, "kernel_initializer": "zeros", "name": name}
        return norm(kl.Conv2D(round(channels * width), size, **options)(x), norm_name)

    def separable(x, channels, name, norm_name):
        x = kl.SeparableConv2D(
            round(channels * width), 3, padding="same", use_bias=False, name=name
        )(x)
        return norm(x, norm_name)

    def block(x, channels, name, relu_first=True, pool=True):
        short, number = x, 0
        for features in channels:
            if relu_first or number:
                x = kl.Activation("relu")(x)
                number += 1
            x = separable(x, features, f"{name}-rep_{number}", f"{name}-rep_{number + 1}")
            number += 2
        if pool:
            x = kl.MaxPooling2D(3, 2, padding="same")(x)
            same = {"strides": 2, "padding": "same"}
            short = conv(short, channels[-1], 1, f"{name}-skip", f"{name}-skipbn", **same)
        return kl.add([x, short])

    inputs = keras.Input(shape)
    x = kl.Activation("relu")(conv(inputs, 32, 3, "conv1", "bn1", strides=2))
    x = kl.Activation("relu")(conv(x, 64, 3, "conv2", "bn2"))
    x = block(x, (128, 128), "block1", relu_first=False)
    x = block(x, (256, 256), "block2")
    x = block(x, (728, 728), "block3")
    x = block(x, (728, 728, 728), "block4", pool=False)
    x = block(x, (728, 1024), "block5")
    x = kl.Activation("relu")(separable(x, 1536, "conv3", "bn3"))
    x = kl.Activation("relu")(separable(x, 2048, "conv4", "bn4"))
    x = kl.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, kl.Dense(classes, name="fc")(x))


def leaves(layer):
    """Of a separable convolution: the depthwise kernel is (3, 3, C, 1) in Keras."""
    if "Separable" not in type(layer).__name__:
        return keras_leaves(layer)

    def values(tree):
        params = tree["params"]
        for key in layer.name.split("-"):
            params = params[key]
        return [params["conv1"]["kernel"].transpose(0, 1, 3, 2), params["pointwise"]["kernel"]]

    return values


def test_equals_keras():
    shape = (48, 39, 2)
    x = images(4, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = keras_xception(shape, 5, WIDTH)
    equals_keras(small(), peer, randomised(small(), x), leaves, x)


@pytest.mark.parametrize("name", ["xception", "xception71"])
@pytest.mark.parametrize(("stride", "size"), [(8, 64), (16, 33), (32, 33)])
def test_an_encoders_maps_are_ceil_of_side_over_stride(name, stride, size):
    fields = {"width": WIDTH, "middle_blocks": 1}
    model = models.backbone(name, fields, output_stride=stride)
    maps = jax.eval_shape(
        lambda: model.init_with_output(
            jax.random.key(0), jnp.zeros((1, size, 32, 4)), False, method="features"
        )[0]
    )
    assert list(model.strides) == ["stem", "entry1", "entry2", "middle", "exit"]
    assert model.strides["exit"] == stride
    sides = {name: -(-size // step) for name, step in model.strides.items()}
    assert {name: map.shape[1] for name, map in maps.items()} == sides


def test_a_classifier_has_the_papers_maps():
    maps = jax.eval_shape(
        lambda: small().init_with_output(
            jax.random.key(0), jnp.zeros((1, 299, 32, 3)), False, method="features"
        )[0]
    )
    # Figure 5 has 19 x 19 pixels in the middle flow and 10 x 10 in the end.
    assert [maps[name].shape[1] for name in small().strides] == [147, 74, 37, 19, 10]


@pytest.mark.parametrize("model", [Xception, AlignedXception])
def test_unknown_output_stride(model):
    with pytest.raises(ConfigError, match="Xception cannot have output_stride 12"):
        _ = model(num_classes=2, output_stride=12).strides


def test_pool_padding_moves_the_windows_of_even_maps_only():
    x = images(1, 6, 6, 4)
    blocks = [Block((4,), pool=True, strides=2, pool_padding=p) for p in ("SAME", 1)]
    variables = randomised(blocks[0], x)
    even = [evaluate(block, variables, x) for block in blocks]
    odd = [evaluate(block, variables, x[:, :5, :5]) for block in blocks]
    assert relative_error(*even) > 0.1
    np.testing.assert_array_equal(*odd)


def test_initial_kernels_have_the_deviations_of_the_reference():
    start = quick_jit(Block((64, 64)).init, static_argnums=2)
    params = flat(start(jax.random.key(0), jnp.zeros((1, 4, 4, 64)), False)["params"])
    for name, wanted in {
        "rep_1/conv1/kernel": np.sqrt(2 / (9 * 64 + 9)),  # Keras: fans 9 C and 9
        "rep_4/pointwise/kernel": np.sqrt(2 / (64 + 64)),
    }.items():
        np.testing.assert_allclose(params[name].std(), wanted, rtol=0.1)


@pytest.mark.parametrize("kind", [Xception, AlignedXception])
def test_bfloat16_and_remat(kind):
    x = images(2, 16, 16, 3)

    def model(**fields):
        return small(kind, middle_blocks=0, **fields)

    variables = randomised(model(), x)
    wanted = evaluate(model(), variables, x)
    low = evaluate(model(dtype=jnp.bfloat16), variables, x)
    assert low.dtype == jnp.float32
    assert 1e-6 < relative_error(low, wanted) < 0.05

    assert relative_error(evaluate(model(remat=True), variables, x), wanted) < 1e-5
    checkpoints = [
        str(jax.make_jaxpr(lambda v, m=m: m.apply(v, x, False))(variables)).count("remat2[")
        for m in (model(), model(remat=True))
    ]
    assert checkpoints[1] >= checkpoints[0] + 4, checkpoints
