import functools
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from peers import (
    equals_keras,
    equals_torch,
    images,
    keras_leaves,
    parameters,
    quick_jit,
    randomised,
    relative_error,
    shapes_of,
    train_step,
)

from rsjax import models
from rsjax.errors import ConfigError
from rsjax.models.resnet import BasicBlock, Bottleneck, ResNet

pytestmark = pytest.mark.once

# torchvision's models, 3 bands and 1000 classes: https://pytorch.org/vision/stable/models.html
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "wide_resnet50_2": 68_883_240,
}


def small(**fields):
    fields = {"num_classes": 5, "stage_sizes": (1, 1), "block": BasicBlock, "width": 8} | fields
    return ResNet(**fields)


@functools.cache
def compiled(model, train, method):
    def call(variables, x, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, x, train, mutable=["batch_stats"], rngs=rngs, method=method)

    return quick_jit(call)


def apply(model, variables, x, train, seed=0, method=None):
    """What the model returns, and the statistics after it."""
    return compiled(model, train, method)(variables, x, seed)


def by_torch_name(tree):
    return {
        "/".join(entry.key for entry in path): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def keras_resnet(shape, sizes, bottleneck, width, stem, classes):
    """The same network written in Keras' functional form; layers named as ours with '-'."""
    import keras

    kl = keras.layers

    def conv(x, features, size, strides, name):
        if size > 1:
            x = kl.ZeroPadding2D(size // 2)(x)
        return kl.Conv2D(
            features, size, strides, use_bias=False, name=name, kernel_initializer="zeros"
        )(x)

    def norm(x, name):
        return kl.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)

    def block(x, features, strides, name):
        short = x
        out = features * (4 if bottleneck else 1)
        plan = (
            [(features, 1, 1), (features, 3, strides), (out, 1, 1)]
            if bottleneck
            else [(features, 3, strides), (out, 3, 1)]
        )
        for number, (channels, size, step) in enumerate(plan, 1):
            x = norm(conv(x, channels, size, step, f"{name}-conv{number}"), f"{name}-bn{number}")
            if number < len(plan):
                x = kl.ReLU()(x)
        if strides > 1 or short.shape[-1] != out:
            short = conv(short, out, 1, strides, f"{name}-downsample_0")
            short = norm(short, f"{name}-downsample_1")
        return kl.ReLU()(kl.Add()([x, short]))

    inputs = x = keras.Input(shape)
    x = conv(x, width, *((7, 2) if stem == "standard" else (3, 1)), "conv1")
    x = kl.ReLU()(norm(x, "bn1"))
    if stem == "standard":
        # Zeros pad like -inf behind a ReLU.
        x = kl.MaxPooling2D(3, 2)(kl.ZeroPadding2D(1)(x))
    for stage, count in enumerate(sizes):
        for index in range(count):
            strides = 2 if stage and not index else 1
            x = block(x, width * 2**stage, strides, f"layer{stage + 1}_{index}")
    x = kl.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, kl.Dense(classes, name="fc")(x))


@pytest.mark.parametrize(
    ("sizes", "block", "size", "stem"),
    [
        ((2, 1, 1, 1), BasicBlock, 33, "standard"),
        ((1, 2, 1), Bottleneck, 32, "standard"),
        ((1, 2), Bottleneck, 17, "small"),
    ],
)
def test_equals_keras(sizes, block, size, stem):
    shape = (size, size, 2)
    x = images(4, *shape)
    model = ResNet(5, sizes, block, width=4, stem=stem)
    variables = randomised(model, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = keras_resnet(shape, sizes, block is Bottleneck, 4, stem, 5)
    equals_keras(model, peer, variables, keras_leaves, x)


@pytest.mark.parametrize(
    ("sizes", "block", "dilated", "fields", "size"),
    [
        ((2, 1), BasicBlock, (), {}, 33),
        ((1, 2, 2), Bottleneck, (2, 3), {"output_stride": 4}, 17),
        ((1, 2), Bottleneck, (2,), {"output_stride": 4, "groups": 4, "group_width": 16}, 20),
    ],
)
def test_equals_torch(sizes, block, dilated, fields, size):
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from torch_resnet import ResNet as Peer

    model = ResNet(5, sizes, block, width=8, **fields)
    options = {"groups": fields.get("groups", 1), "per_group": fields.get("group_width", 64)}
    peer = Peer(5, 2, sizes, block is Bottleneck, 8, dilated, **options)
    equals_torch(model, peer, images(4, size, size, 2))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_torchvisions(name):
    assert parameters(models.get(name, num_classes=1000)) == PARAMETERS[name]


def test_output_stride_keeps_the_map_fine_and_says_so():
    x = jnp.zeros((1, 64, 64, 2))
    for stride in (8, 16, 32):
        model = models.get("resnet18", num_classes=3, width=4, output_stride=stride)
        maps, _ = jax.eval_shape(
            lambda m=model: m.init_with_output(jax.random.key(0), x, False, method=m.features)
        )
        assert {k: 64 // v.shape[1] for k, v in maps.items()} == model.strides
        assert model.strides["layer4"] == stride
    with pytest.raises(ConfigError, match="output_stride 12"):
        _ = models.get("resnet18", num_classes=3, output_stride=12).strides


def test_remat_keeps_less_for_the_gradient():
    x = jnp.zeros((4, 64, 64, 3))
    sizes = []
    for remat in (False, True):
        model = models.get("resnet50", num_classes=3, width=8, remat=remat)
        variables = shapes_of(model, x)

        def forward(variables, x, model=model):
            return model.apply(variables, x, True, mutable=["batch_stats"])

        def pull(variables, x, forward=forward):
            return jax.vjp(functools.partial(forward, x=x), variables)[1]

        kept = jax.tree.leaves(jax.eval_shape(pull, variables, x))
        parameters = jax.tree.leaves(variables)
        sizes.append(sum(v.size for v in kept) - sum(v.size for v in parameters))
    assert sizes[1] < 0.4 * sizes[0]


def test_remat_changes_no_number():
    x = images(2, 16, 16, 3)
    variables = randomised(small(), x)
    weights = jnp.ones((2, 5))
    plain = train_step(small(), variables, x, weights)
    again = train_step(small(remat=True), variables, x, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, again)


def test_names_are_torchvisions():
    x = jnp.zeros((1, 64, 64, 3))
    variables = jax.eval_shape(
        lambda: models.get("resnet50", num_classes=7).init(jax.random.key(0), x, False)
    )
    params = by_torch_name(variables["params"])
    expected = {"conv1/kernel", "bn1/scale", "bn1/bias", "fc/kernel", "fc/bias"}
    for stage, count in enumerate((3, 4, 6, 3), 1):
        for index in range(count):
            block = f"layer{stage}_{index}"
            convs, norms = ["conv1", "conv2", "conv3"], ["bn1", "bn2", "bn3"]
            if index == 0:
                convs, norms = [*convs, "downsample_0"], [*norms, "downsample_1"]
            expected |= {f"{block}/{conv}/kernel" for conv in convs}
            expected |= {f"{block}/{norm}/{p}" for norm in norms for p in ("scale", "bias")}
    assert set(params) == expected
    # v1.5: the 3x3 convolution strides, the first 1x1 does not.
    assert params["layer2_0/conv1/kernel"].shape == (1, 1, 256, 128)
    assert params["layer2_0/conv2/kernel"].shape == (3, 3, 128, 128)
    assert params["layer2_0/downsample_0/kernel"].shape == (1, 1, 256, 512)
    stats = by_torch_name(variables["batch_stats"])
    assert {name.rsplit("/", 1)[0] for name in stats} == {
        name.rsplit("/", 1)[0] for name in expected if name.endswith("scale")
    }


@pytest.mark.parametrize("bands", [1, 3, 12])
def test_any_number_of_bands(bands):
    x = images(2, 16, 16, bands)
    model = small(stage_sizes=(1,))
    variables = randomised(model, x)
    assert variables["params"]["conv1"]["kernel"].shape == (7, 7, bands, 8)
    call = quick_jit(lambda x: model.apply(variables, x, False))
    logits = call(x)
    assert logits.shape == (2, 5)
    for band in range(bands):
        assert relative_error(call(x.at[..., band].add(1.0)), logits) > 1e-3


@pytest.mark.parametrize(
    ("stem", "size", "sides"),
    [
        ("standard", 33, (17, 9, 5, 3, 2)),
        ("standard", 120, (60, 30, 15, 8, 4)),
        ("small", 32, (32, 32, 16, 8, 4)),
    ],
)
def test_features_by_stage(stem, size, sides):
    model = models.get("resnet50", num_classes=3, width=4, stem=stem)
    x = jnp.zeros((1, size, size, 2))
    maps, _ = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), x, False, method=model.features)
    )
    channels = (4, 16, 32, 64, 128)
    names = ("stem", "layer1", "layer2", "layer3", "layer4")
    assert {k: v.shape for k, v in maps.items()} == {
        name: (1, side, side, c) for name, side, c in zip(names, sides, channels, strict=True)
    }


def test_features_take_the_variables_of_the_whole_model():
    model = small()
    x = images(2, 16, 16, 3)
    variables = randomised(model, x)
    last = apply(model, variables, x, False, method="features")[0]["layer2"]
    fc = variables["params"]["fc"]
    wanted = last.mean((1, 2)) @ fc["kernel"] + fc["bias"][None]
    np.testing.assert_allclose(apply(model, variables, x, False)[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, "bfloat16"])
def test_bfloat16_computes_low_and_keeps_float32(block, dtype):
    x = images(4, 16, 16, 3)
    low, high = small(dtype=dtype, block=block), small(block=block)
    initial = jax.eval_shape(lambda: low.init(jax.random.key(0), x, True))
    assert {v.dtype for v in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    variables = randomised(low, x)
    logits, updates = apply(low, variables, x, True)
    assert logits.dtype == jnp.float32
    assert {v.dtype for v in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
    maps = jax.eval_shape(lambda: low.apply(variables, x, False, method="features"))
    assert {v.dtype for v in maps.values()} == {jnp.dtype("bfloat16")}
    wanted, _ = apply(high, variables, x, True)
    assert 1e-6 < relative_error(logits, wanted) < 0.05


def test_sharded_batch_equals_one_device():
    model = small(stage_sizes=(1, 1, 1), block=Bottleneck)
    # Two halves of different brightness: statistics per device would differ.
    x = images(4, 16, 16, 3)
    x = x + jnp.array([0.0, 0.0, 3.0, 3.0]).reshape(4, 1, 1, 1)
    variables = randomised(model, x)

    def loss(params, x):
        logits, updates = model.apply(
            {**variables, "params": params}, x, True, mutable=["batch_stats"]
        )
        return jnp.sum(logits**2), (logits, updates)

    step = quick_jit(jax.grad(loss, has_aux=True))
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    params = jax.device_put(variables["params"], NamedSharding(mesh, PartitionSpec()))
    wanted = step(variables["params"], x)
    found = step(params, split)
    assert found[1][0].sharding.device_set == set(jax.devices()[:2])
    jax.tree.map(
        lambda a, b: np.testing.assert_array_less(relative_error(a, b), 1e-4), found, wanted
    )


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_blocks_start_as_their_shortcut(block):
    x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 4, 4, 2 * block.expansion)))
    for zero, equal in ((True, True), (False, False)):
        start = quick_jit(block(2, zero_init_residual=zero).init_with_output, static_argnums=2)
        out, _ = start(jax.random.key(0), x, False)
        assert np.array_equal(out, x) == equal


def test_drop_path_rises_linearly_and_sleeps_in_evaluation():
    x = images(8, 16, 16, 3)
    model = small(stage_sizes=(2, 3), drop_path_rate=0.8)
    variables = randomised(model, x)
    bound = model.bind(variables)
    rates = [b.drop_path_rate for b in (*bound.layer1, *bound.layer2)]
    np.testing.assert_allclose(rates, [0.0, 0.2, 0.4, 0.6, 0.8])

    plain = small(stage_sizes=(2, 3))
    np.testing.assert_array_equal(
        apply(model, variables, x, False)[0], apply(plain, variables, x, False)[0]
    )
    first, again, second = (apply(model, variables, x, True, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    # Rate 0 asks for no rng.
    logits, _ = quick_jit(lambda v: plain.apply(v, x, True, mutable=["batch_stats"]))(variables)
    assert not np.array_equal(first, logits)


def test_dropout_before_the_classifier():
    x = images(2, 16, 16, 3)
    model = small(dropout_rate=0.5)
    variables = randomised(model, x)
    plain = apply(small(), variables, x, False)[0]
    np.testing.assert_array_equal(apply(model, variables, x, False, 1)[0], plain)
    trained = [apply(model, variables, x, True, seed)[0] for seed in (1, 2)]
    assert not np.array_equal(*trained)


def test_unknown_names_fields_and_stems_list_the_known_ones():
    with pytest.raises(ConfigError, match=r"'resnet20'.*resnet18, resnet34, resnet50"):
        models.get("resnet20", num_classes=2)
    with pytest.raises(ConfigError, match=r"unknown depth.*num_classes.*drop_path_rate"):
        models.get("resnet18", num_classes=2, depth=3)
    with pytest.raises(ConfigError, match=r"missing num_classes"):
        models.get("resnet18")
    with pytest.raises(ConfigError, match=r"'tiny'.*standard, small"):
        models.get("resnet18", num_classes=2, stem="tiny").init(
            jax.random.key(0), jnp.zeros((1, 8, 8, 3)), False
        )


def test_import_loads_no_framework():
    code = "import sys, rsjax.models; print({'flax', 'jax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
