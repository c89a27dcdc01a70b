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
    recomputed,
    relative_error,
    shapes_of,
)

from rsjax import models
from rsjax.errors import ConfigError
from rsjax.models.vgg import VGG

pytestmark = pytest.mark.once

# torchvision's models, 3 bands and 1000 classes: https://pytorch.org/vision/stable/models.html
PARAMETERS = {
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
}


def small(**fields):
    """Fields that a case does not name are those of a network of three convolutions."""
    fields = {
        "num_classes": 5, "stage_sizes": (1, 2), "width": 4, "fc_width": 6, "dropout_rate": 0.0,
    } | fields  # fmt: skip
    return VGG(**fields)


def keras_vgg(shape, sizes, width, fc_width, classes):
    """keras.applications' VGG, smaller, and its layers named as ours."""
    import keras

    kl = keras.layers
    inputs = x = keras.Input(shape)
    number = 0
    for stage, count in enumerate(sizes):
        for _ in range(count):
            x = kl.Conv2D(
                width * 2**stage, 3, padding="same", activation="relu", name=f"features_{number}"
            )(x)
            number += 2
        x = kl.MaxPooling2D(2, strides=2)(x)
        number += 1
    x = kl.Flatten()(x)
    for number in (0, 3):
        x = kl.Dense(fc_width, activation="relu", name=f"classifier_{number}")(x)
    return keras.Model(inputs, kl.Dense(classes, name="classifier_6")(x))


def test_equals_keras():
    def leaves(layer):
        def values(tree):
            found = keras_leaves(layer)(tree)
            if layer.name == "classifier_0":  # flattened rows, columns, channels there
                kernel = found[0].reshape(-1, 7, 7, found[0].shape[1])
                found[0] = kernel.transpose(1, 2, 0, 3).reshape(found[0].shape)
            return found

        return values

    x = images(3, 28, 28, 2)
    model = small(stage_sizes=(1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = keras_vgg(x.shape[1:], (1, 1), 4, 6, 5)
    equals_keras(model, peer, randomised(model, x), leaves, x)


def torch_vgg(bands, sizes, norm, width, fc_width, classes, strides):
    """torchvision's VGG; a pool that does not stride is DeepLab's, dilated from there on."""
    from torch import nn

    class Peer(nn.Module):
        def __init__(self):
            super().__init__()
            layers, inputs, dilation = [], bands, 1
            for stage, (count, step) in enumerate(zip(sizes, strides, strict=True)):
                outputs = width * min(2**stage, 8)
                for _ in range(count):
                    layers.append(nn.Conv2d(inputs, outputs, 3, 1, dilation, dilation))
                    layers += [nn.BatchNorm2d(outputs)] if norm else []
                    layers.append(nn.ReLU())
                    inputs = outputs
                layers.append(nn.MaxPool2d(2, 2) if step == 2 else nn.MaxPool2d(3, 1, 1))
                dilation *= 2 // step
            self.features = nn.Sequential(*layers)
            self.avgpool = nn.AdaptiveAvgPool2d(7)
            self.classifier = nn.Sequential(
                nn.Linear(inputs * 49, fc_width), nn.ReLU(), nn.Dropout(0.0),
                nn.Linear(fc_width, fc_width), nn.ReLU(), nn.Dropout(0.0),
                nn.Linear(fc_width, classes),
            )  # fmt: skip

        def forward(self, x):
            return self.classifier(self.avgpool(self.features(x)).flatten(1))

    return Peer()


@pytest.mark.parametrize(
    ("sizes", "norm", "strides", "fields", "size"),
    [
        ((1, 2), True, (2, 2), {}, (37, 33)),
        ((1, 1, 1), False, (2, 1, 1), {"output_stride": 2}, (19, 13)),
    ],
)
def test_equals_torch(sizes, norm, strides, fields, size):
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    model = small(stage_sizes=sizes, use_norm=norm, remat=norm, **fields)
    peer = torch_vgg(2, sizes, norm, 4, 6, 5, strides)
    equals_torch(model, peer, images(4, *size, 2))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_torchvisions(name):
    assert parameters(models.get(name, num_classes=1000)) == PARAMETERS[name]


# Read off the names in torchvision's published weights.
@pytest.mark.parametrize(
    ("name", "convolutions"),
    [
        ("vgg16", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
        ("vgg16_bn", (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)),
    ],
)
def test_names_are_torchvisions(name, convolutions):
    params = shapes_of(models.get(name, num_classes=7, width=8), jnp.zeros((1, 32, 32, 3)))
    wanted = {f"features_{number}" for number in convolutions}
    if name.endswith("bn"):
        wanted |= {f"features_{number + 1}" for number in convolutions}
    assert set(params["params"]) == wanted | {"classifier_0", "classifier_3", "classifier_6"}


@pytest.mark.parametrize(
    ("stride", "sides"), [(0, (47, 23, 11, 5, 2, 1)), (8, (47, 23, 11, 5, 5, 5))]
)
def test_features_by_stage(stride, sides):
    model = models.get("vgg11_bn", num_classes=3, width=4, output_stride=stride)
    x = jnp.zeros((1, 47, 47, 2))
    maps, _ = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), x, False, method=model.features)
    )
    names = ("block1", "block2", "block3", "block4", "block5", "pool5")
    channels = (4, 8, 16, 32, 32, 32)
    assert {k: v.shape for k, v in maps.items()} == {
        name: (1, side, side, c) for name, side, c in zip(names, sides, channels, strict=True)
    }
    assert {name: 47 // step for name, step in model.strides.items()} == dict(
        zip(names, sides, strict=True)
    )


def test_light_head_is_linear_in_the_global_average():
    x = images(2, 17, 20, 3)
    model = small(head="pool")
    variables = randomised(model, x)
    maps = quick_jit(lambda v: model.apply(v, x, False, method="features"))(variables)
    fc = variables["params"]["fc"]
    wanted = maps["pool2"].mean((1, 2)) @ fc["kernel"] + fc["bias"][None]
    np.testing.assert_allclose(evaluate(model, variables, x), wanted, rtol=1e-5, atol=1e-6)
    assert set(variables["params"]) == {"features_0", "features_3", "features_5", "fc"}


def test_remat_computes_the_blocks_again():
    counts = [recomputed(small(remat=remat), images(1, 17, 17, 3)) for remat in (False, True)]
    assert counts[1] - counts[0] == 2  # blocks


def test_dropout_and_bfloat16():
    x = images(4, 16, 16, 3)
    model = small(stage_sizes=(1,), dropout_rate=0.5, dtype="bfloat16", use_norm=True)
    variables = randomised(model, x)
    call = quick_jit(
        lambda seed: model.apply(
            variables, x, True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(seed)}
        )
    )
    (first, stats), (again, _), (second, _) = (call(seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    assert {leaf.dtype for leaf in jax.tree.leaves((first, stats))} == {jnp.dtype("float32")}
    wanted = evaluate(
        small(stage_sizes=(1,), use_norm=True), variables, x
    )  # evaluation drops nothing
    assert 1e-6 < relative_error(evaluate(model, variables, x), wanted) < 0.05


def test_initial_values_are_torchvisions():
    model = small(width=16, fc_width=64)
    variables = quick_jit(model.init, static_argnums=2)(
        jax.random.key(0), jnp.zeros((1, 16, 16, 3)), False
    )
    found = flat(variables["params"])
    for name, leaf in found.items():
        if name.endswith("bias"):
            assert not leaf.any()
        elif leaf.ndim == 4:  # kaiming_normal_, fan_out
            np.testing.assert_allclose(leaf.std(), (2 / (9 * leaf.shape[-1])) ** 0.5, rtol=0.15)
    np.testing.assert_allclose(found["classifier_0/kernel"].std(), 0.01, rtol=0.05)


def test_unknown_head_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'linear'.*fc, pool"):
        shapes_of(small(head="linear"), jnp.zeros((1, 16, 16, 3)))
