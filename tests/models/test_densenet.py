import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
from rsjax.models.densenet import DenseLayer, DenseNet
from rsjax.models.layers import BatchNorm

pytestmark = pytest.mark.once

# torchvision's models, 3 bands and 1000 classes: https://pytorch.org/vision/stable/models.html
PARAMETERS = {
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
}


def small(**fields):
    return DenseNet(
        **{"num_classes": 5, "stage_sizes": (2, 1), "width": 6, "growth_rate": 4, "stem": "small"}
        | fields
    )


def torch_densenet(bands, classes, sizes, width, growth, stem, dilated=()):
    """DenseNet in torch, named as torchvision's; blocks in `dilated` do not follow a pool."""
    import torch
    from torch import nn

    def layer(inputs, dilation):
        modules = {
            "norm1": nn.BatchNorm2d(inputs),
            "relu1": nn.ReLU(),
            "conv1": nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            "norm2": nn.BatchNorm2d(4 * growth),
            "relu2": nn.ReLU(),
            "conv2": nn.Conv2d(
                4 * growth, growth, 3, padding=dilation, dilation=dilation, bias=False
            ),
        }
        return named(modules)

    def named(modules):
        made = nn.Sequential()
        for name, module in modules.items():
            made.add_module(name, module)
        return made

    class Block(nn.Sequential):
        def forward(self, x):
            for part in self:
                x = torch.cat([x, part(x)], 1)
            return x

    parts = {
        "conv0": nn.Conv2d(bands, width, 7, 2, 3, bias=False)
        if stem == "standard"
        else nn.Conv2d(bands, width, 3, 1, 1, bias=False),
        "norm0": nn.BatchNorm2d(width),
        "relu0": nn.ReLU(),
    }
    if stem == "standard":
        parts["pool0"] = nn.MaxPool2d(3, 2, 1)
    channels, dilation = width, 1
    for number, count in enumerate(sizes, 1):
        block = Block()
        for index in range(count):
            block.add_module(f"denselayer{index + 1}", layer(channels, dilation))
            channels += growth
        parts[f"denseblock{number}"] = block
        if number < len(sizes):
            transition = {
                "norm": nn.BatchNorm2d(channels),
                "relu": nn.ReLU(),
                "conv": nn.Conv2d(channels, channels // 2, 1, bias=False),
            }
            if number + 1 in dilated:
                dilation *= 2
            else:
                transition["pool"] = nn.AvgPool2d(2, 2)
            parts[f"transition{number}"] = named(transition)
            channels //= 2
    parts["norm5"] = nn.BatchNorm2d(channels)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = named(parts)
            self.classifier = nn.Linear(channels, classes)

        def forward(self, x):
            return self.classifier(torch.relu(self.features(x)).mean((2, 3)))

    return Net()


def test_equals_torch_and_gives_the_maps_of_smp():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    model = small(stage_sizes=(2, 2, 1), stem="standard")
    peer = torch_densenet(2, 5, (2, 2, 1), 6, 4, "standard")
    x = images(4, 47, 33, 2)  # 24, 12, 6 and 3 rows; 17, 9, 4 and 2 columns
    variables = equals_torch(model, peer, x)

    parts = peer.features
    wanted = {}
    for stage, module in {
        "stem": parts.relu0,
        "block1": parts.transition1.relu,
        "block2": parts.transition2.relu,
        "block3": parts.norm5,
    }.items():
        module.register_forward_hook(lambda _, __, y, stage=stage: wanted.update({stage: y}))
    # The training step of `equals_torch` changed the statistics of the peer: ours, again.
    for name, module in peer.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            stats = variables["batch_stats"]
            for key in name.split("."):
                stats = stats[key]
            module.running_mean.copy_(torch.tensor(np.asarray(stats["mean"])))
            module.running_var.copy_(torch.tensor(np.asarray(stats["var"])))
    with torch.no_grad():
        peer.eval()(torch.tensor(np.asarray(x)).permute(0, 3, 1, 2))
    call = quick_jit(lambda v, x: model.apply(v, x, False, method="features"))
    found = call(variables, x)
    assert found.keys() == wanted.keys() == model.strides.keys()
    for stage, y in found.items():
        assert relative_error(y, torch.relu(wanted[stage]).permute(0, 2, 3, 1)) < 1e-4, stage


def test_dilated_equals_torch():
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    model = small(stage_sizes=(1, 1, 2), width=12, output_stride=1)
    peer = torch_densenet(2, 5, (1, 1, 2), 12, 4, "small", dilated=(2, 3))
    equals_torch(model, peer, images(4, 11, 9, 2))


def test_equals_keras():
    import keras
    from keras.src.applications.densenet import DenseNet as Peer  # the blocks are free there

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = Peer(
            [1, 0, 1, 0],
            weights=None,
            input_shape=(33, 33, 2),
            classes=5,
            classifier_activation=None,
        )
    for layer in peer.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # ours; Keras' is 0.99
    names = {"predictions": "classifier"}
    names |= {"conv1_conv": "features-conv0", "conv1_bn": "features-norm0", "bn": "features-norm5"}
    parts = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}
    for stage in range(1, 5):
        names[f"pool{stage + 1}_bn"] = f"features-transition{stage}-norm"
        names[f"pool{stage + 1}_conv"] = f"features-transition{stage}-conv"
        for theirs, ours in parts.items():
            path = f"features-denseblock{stage}-denselayer1-{ours}"
            names[f"conv{stage + 1}_block1_{theirs}"] = path

    def leaves(layer):
        return keras_leaves(
            types.SimpleNamespace(name=names[layer.name], variables=layer.variables)
        )

    model = DenseNet(5, (1, 0, 1, 0), norm_epsilon=1.001e-5)
    x = images(8, 33, 33, 2)
    equals_keras(model, peer, randomised(model, x), leaves, x)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_torchvisions(name):
    assert parameters(models.get(name, num_classes=1000)) == PARAMETERS[name]


def shapes_of_maps(model, size):
    x = jnp.zeros((1, size, size, 2))
    maps, _ = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), x, False, method="features")
    )
    return {stage: y.shape for stage, y in maps.items()}


def test_maps_by_stage_and_output_stride():
    tiny = {"width": 4, "growth_rate": 2, "bottleneck": 1, "stage_sizes": (1, 1, 1, 1)}
    model = models.backbone("densenet121", tiny)
    # 4 + 2, halved and 2 more, and so on; a transition rounds down.
    names = ("stem", "block1", "block2", "block3", "block4")
    for size, sides in ((33, (17, 9, 4, 2, 1)), (120, (60, 30, 15, 7, 3))):
        assert shapes_of_maps(model, size) == {
            name: (1, side, side, channels)
            for name, side, channels in zip(names, sides, (4, 6, 5, 4, 4), strict=True)
        }
    assert list(model.strides) == list(names)
    for fields in (
        *({"output_stride": stride} for stride in (8, 16, 32)),
        {"stem": "small"},
        {"stem": "small", "output_stride": 2},
    ):
        model = models.backbone("densenet121", tiny, **fields)
        found = {stage: 64 // shape[1] for stage, shape in shapes_of_maps(model, 64).items()}
        assert found == model.strides
        assert model.strides["block4"] == fields.get("output_stride", 8)
    with pytest.raises(ConfigError, match="output_stride 12"):
        _ = small(output_stride=12).strides
    with pytest.raises(ConfigError, match=r"'tiny'.*standard, small"):
        _ = small(stem="tiny").strides


def test_remat_keeps_less_and_changes_no_number():
    fields = {"stage_sizes": (2,)}
    x = images(2, 8, 8, 3)
    variables = randomised(small(**fields), x)
    weights = jnp.linspace(-1, 1, 10).reshape(2, 5)

    def kept(model):
        """Numbers in the maps that the forward pass leaves for the backward pass."""

        def backward(params):
            def logits(params):
                return model.apply(
                    {**variables, "params": params}, x, True, mutable=["batch_stats"]
                )

            return jax.vjp(logits, params, has_aux=True)[1]

        residuals = jax.tree.leaves(jax.eval_shape(backward, variables["params"]))
        return sum(leaf.size for leaf in residuals if leaf.ndim == 4 and leaf.shape[0] == 2)

    plain, again = small(**fields), small(remat=True, **fields)
    assert kept(again) < 0.8 * kept(plain)
    plain, again = (train_step(model, variables, x, weights) for model in (plain, again))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, again)


def test_layer_starts_as_torchvisions_and_drops_what_it_makes():
    layer = DenseLayer(
        growth_rate=32, bottleneck=4, dilation=1, dropout_rate=0.25, remat=False, norm=BatchNorm,
        dtype=jnp.float32,
    )  # fmt: skip
    maps = (images(2, 6, 6, 40), images(2, 6, 6, 24, seed=2))

    @quick_jit
    def outputs(maps):
        variables = layer.init(jax.random.key(0), maps, False)
        rngs = {"dropout": jax.random.key(1)}
        dropped, _ = layer.apply(variables, maps, True, mutable=["batch_stats"], rngs=rngs)
        whole, _ = layer.clone(dropout_rate=0.0).apply(
            variables, maps, True, mutable=["batch_stats"]
        )
        return variables, dropped, whole

    variables, dropped, whole = outputs(maps)
    params = variables["params"]
    for name, inputs in (("conv1", 64), ("conv2", 9 * 128)):
        found = np.std(params[name]["kernel"]) / np.sqrt(2 / inputs)
        assert abs(found - 1) < 0.03, name
    kept = np.asarray(dropped != 0)
    assert abs(kept.mean() - 0.75) < 0.03
    np.testing.assert_allclose(dropped[kept], whole[kept] / 0.75, rtol=1e-5)


def test_types_and_group_normalisation():
    x = jnp.zeros((2, 8, 8, 3))
    for norm, statistics in (("batch", True), ("group", False)):
        model = small(dtype="bfloat16", norm=norm)
        variables = shapes_of(model, x)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        assert ("batch_stats" in variables) == statistics
        maps = jax.eval_shape(lambda v, m=model: m.apply(v, x, False, method="features"), variables)
        assert {y.dtype for y in maps.values()} == {jnp.dtype("bfloat16")}
        logits = jax.eval_shape(lambda v, m=model: m.apply(v, x, False), variables)
        assert (logits.shape, logits.dtype) == ((2, 5), jnp.dtype("float32"))
