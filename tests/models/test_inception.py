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
    quick_jit,
    randomised,
    relative_error,
    shapes_of,
)

from rsjax import models
from rsjax.errors import ConfigError
from rsjax.models.inception import AuxiliaryClassifier, InceptionV3
from rsjax.models.layers import norm_layer

pytestmark = pytest.mark.once

KINDS = ("Mixed_5b", "Mixed_6a", "Mixed_6b", "Mixed_7a", "Mixed_7b")  # one of each
FEW = ("Mixed_6a", "Mixed_7a")


def small(**fields):
    fields = {"num_classes": 5, "width": 1 / 16, "mixed": KINDS, "dropout_rate": 0.0} | fields
    return InceptionV3(**fields)


def flat_shapes(tree):
    return {
        "/".join(entry.key for entry in path): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def test_equals_torch():
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from torch_inception import Inception3

    # Even and odd maps, of which the auxiliary classifier gets 4 x 2 pixels.
    equals_torch(small(), Inception3(5, 2, 1 / 16, KINDS), images(4, 99, 75, 2))


def test_padded_equals_torch():
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from torch_inception import Inception3

    options = {"pad": True, "count_padding": False}
    peer = Inception3(5, 2, 1 / 16, FEW, **options)
    equals_torch(small(mixed=FEW, **options), peer, images(4, 40, 33, 2))


@pytest.mark.parametrize("shape", [(17, 17), (20, 26), (2, 3)])
def test_auxiliary_classifier_equals_torch(shape):
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from torch_inception import Aux

    peer = Aux(3, 5, lambda channels: channels // 64)
    norm = norm_layer("batch", jnp.float32, 1e-3)
    equals_torch(AuxiliaryClassifier(5, 1 / 64, norm), peer, images(3, *shape, 3))


def keras_inception(shape, classes, width):
    """As `keras.applications.InceptionV3`: its stem and 'mixed 9', here with scales; our names."""
    import keras

    kl = keras.layers

    def conv(x, filters, rows, cols, name, strides=1, padding="same"):
        name = name.replace("/", "-")
        x = kl.Conv2D(
            int(filters * width),
            (rows, cols),
            strides=strides,
            padding=padding,
            use_bias=False,
            name=f"{name}-conv",
            kernel_initializer="zeros",
        )(x)
        x = kl.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}-bn")(x)
        return kl.Activation("relu")(x)

    def chain(x, block, *layers):
        for name, filters, rows, cols in layers:
            x = conv(x, filters, rows, cols, f"{block}/{name}")
        return x

    inputs = keras.Input(shape)
    x = conv(inputs, 32, 3, 3, "Conv2d_1a_3x3", strides=2, padding="valid")
    x = conv(x, 32, 3, 3, "Conv2d_2a_3x3", padding="valid")
    x = conv(x, 64, 3, 3, "Conv2d_2b_3x3")
    x = kl.MaxPooling2D((3, 3), strides=(2, 2))(x)
    x = conv(x, 80, 1, 1, "Conv2d_3b_1x1", padding="valid")
    x = conv(x, 192, 3, 3, "Conv2d_4a_3x3", padding="valid")
    x = kl.MaxPooling2D((3, 3), strides=(2, 2))(x)

    b = "Mixed_7b"
    y = chain(x, b, ("branch3x3_1", 384, 1, 1))
    z = chain(x, b, ("branch3x3dbl_1", 448, 1, 1), ("branch3x3dbl_2", 384, 3, 3))
    pooled = kl.AveragePooling2D((3, 3), strides=(1, 1), padding="same")(x)
    x = kl.concatenate(
        [
            chain(x, b, ("branch1x1", 320, 1, 1)),
            chain(y, b, ("branch3x3_2a", 384, 1, 3)),
            chain(y, b, ("branch3x3_2b", 384, 3, 1)),
            chain(z, b, ("branch3x3dbl_3a", 384, 1, 3)),
            chain(z, b, ("branch3x3dbl_3b", 384, 3, 1)),
            chain(pooled, b, ("branch_pool", 192, 1, 1)),
        ]
    )
    x = kl.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, kl.Dense(classes, name="fc")(x))


def test_equals_keras():
    shape = (75, 99, 2)
    x = images(4, *shape)
    model = small(mixed=("Mixed_7b",), aux=False, count_padding=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = keras_inception(shape, 5, 1 / 16)
    equals_keras(model, peer, randomised(model, x), keras_leaves, x)


def test_parameter_count_is_the_references():
    shapes = shapes_of(models.get("inception_v3", num_classes=1000), jnp.zeros((1, 299, 299, 3)))
    sizes = {name: leaf.size for name, leaf in flat_shapes(shapes["params"]).items()}
    # https://pytorch.org/vision/stable/models.html
    assert sum(sizes.values()) == 27_161_264
    # Keras counts 34,432 moving statistics and not the scales, which are half as many.
    rest = sum(size for name, size in sizes.items() if not name.startswith("AuxLogits"))
    assert rest == 23_851_784 - 34_432 + 34_432 // 2


@pytest.mark.parametrize("size", [33, 64])
def test_an_encoders_maps_are_ceil_of_side_over_stride(size):
    model = models.backbone("inception_v3", {"width": 1 / 16, "mixed": KINDS})
    maps = jax.eval_shape(
        lambda: model.init_with_output(
            jax.random.key(0), jnp.zeros((1, size, 75, 4)), False, method="features"
        )[0]
    )
    sides = {name: -(-size // stride) for name, stride in model.strides.items()}
    assert {name: map.shape[1] for name, map in maps.items()} == sides


def test_a_classifier_has_the_papers_maps_and_refuses_what_is_too_small():
    model = small()

    def sides(height, width):
        maps, _ = jax.eval_shape(
            lambda: model.init_with_output(
                jax.random.key(0), jnp.zeros((1, height, width, 3)), False, method="features"
            )
        )
        return [maps[name].shape[1:3] for name in model.strides]

    assert sides(299, 75) == [(147, 35), (71, 15), (35, 7), (17, 3), (8, 1)]
    with pytest.raises(ConfigError, match="75 x 75 pixels, not 75 x 74; set pad=True"):
        sides(75, 74)


def test_auxiliary_parameters_and_logits_are_there_when_wanted():
    x = jnp.zeros((2, 32, 32, 3))
    model, plain = small(pad=True, mixed=FEW), small(pad=True, mixed=FEW, aux=False)
    for train in (False, True):
        shapes = shapes_of(model, x, train)
        assert set(shapes) == {"params", "batch_stats"}
        assert "AuxLogits" in shapes["params"]
    assert "AuxLogits" not in shapes_of(plain, x)["params"]
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)

    def sown(model, train):
        _, found = jax.eval_shape(
            lambda: model.apply(variables, x, train, mutable=["auxiliary", "batch_stats"])
        )
        return [leaf.shape for leaf in jax.tree.leaves(found.get("auxiliary", {}))]

    assert sown(model, True) == [(2, 5)]
    assert sown(model, False) == sown(plain, True) == []


def test_initial_kernels_have_torchvisions_deviations():
    model = AuxiliaryClassifier(64, 0.25)
    init = quick_jit(model.init, static_argnums=2)
    params = init(jax.random.key(0), jnp.zeros((1, 5, 5, 64)), False)["params"]
    for name, wanted in {
        "conv0/conv/kernel": 0.1,
        "conv1/conv/kernel": 0.01,
        "fc/kernel": 0.001,
    }.items():
        np.testing.assert_allclose(flat(params)[name].std(), wanted, rtol=0.05, err_msg=name)


def test_bfloat16_and_remat():
    x = images(2, 32, 32, 3)

    def model(**fields):
        return small(pad=True, mixed=FEW, aux=False, **fields)

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
    assert checkpoints[1] == checkpoints[0] + len(FEW)
