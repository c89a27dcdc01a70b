import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import (
    equals_torch,
    evaluate,
    images,
    parameters,
    quick_jit,
    randomised,
    recomputed,
    shapes_of,
)

from rsjax import models
from rsjax.errors import ConfigError
from rsjax.models.segnet import SegNet

pytestmark = pytest.mark.once

# Inputs and outputs of the convolutions in the authors' segnet_train.prototxt.
ENCODER = (
    *((3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)),
    *((256, 512), (512, 512), (512, 512), (512, 512), (512, 512), (512, 512)),
)
DECODER = (
    *((512, 512), (512, 512), (512, 512), (512, 512), (512, 512), (512, 256)),
    *((256, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64)),
)


def small(sizes=(1, 2), **fields):
    return SegNet(5, encoder_fields={"stage_sizes": sizes, "width": 4}, **fields)


def torch_segnet(bands, sizes, width, classes):
    """Indices are torch's: flat positions in the whole map."""
    import torch.nn.functional as F
    from torch import nn

    class Peer(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Module()
            layers, inputs, self.counts = [], bands, []
            for stage, count in enumerate(sizes):
                for _ in range(count):
                    outputs = width * min(2**stage, 8)
                    layers += [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs)]
                    layers.append(nn.ReLU())
                    inputs = outputs
                layers.append(nn.Identity())  # in the place of torchvision's pool
            self.encoder.features = nn.Sequential(*layers)
            for stage in range(len(sizes), 0, -1):
                for number in range(sizes[stage - 1], 0, -1):
                    name, outputs = f"conv{stage}_{number}_D", inputs
                    if number == 1:
                        outputs = width * min(2 ** (stage - 2), 8) if stage > 1 else classes
                    setattr(self, name, nn.Conv2d(inputs, outputs, 3, 1, 1))
                    if name != "conv1_1_D":
                        setattr(self, f"{name}_bn", nn.BatchNorm2d(outputs))
                    inputs = outputs

        def forward(self, x):
            pools = []
            for layer in self.encoder.features:
                if isinstance(layer, nn.Identity):
                    size = x.shape
                    x, where = F.max_pool2d(x, 2, 2, return_indices=True)
                    pools.append((where, size))
                else:
                    x = layer(x)
            for stage in range(len(sizes), 0, -1):
                where, size = pools.pop()
                x = F.max_unpool2d(x, where, 2, 2, output_size=size)
                for number in range(sizes[stage - 1], 0, -1):
                    x = getattr(self, f"conv{stage}_{number}_D")(x)
                    if (stage, number) != (1, 1):
                        x = F.relu(getattr(self, f"conv{stage}_{number}_D_bn")(x))
            return x

    return Peer()


def test_equals_torch():
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    equals_torch(small(remat=True), torch_segnet(2, (1, 2), 4, 5), images(2, 19, 29, 2))


def test_unpooling_keeps_each_maximum_in_its_place():
    # Convolutions that change nothing: what comes out is the maximum of each 4 x 4 window, where
    # it stood, and zeros.
    x = jnp.abs(images(2, 11, 9, 4)) + 0.1
    fields = {"stage_sizes": (1, 1), "width": 4, "norm_epsilon": 0.0}
    model = SegNet(4, encoder_fields=fields, norm_epsilon=0.0)

    def identity(path, leaf):
        if path[-1].key == "kernel":
            centre = jnp.zeros(leaf.shape).at[1, 1]
            return centre.set(jnp.eye(leaf.shape[2], leaf.shape[3]))
        return jnp.full(leaf.shape, float(path[-1].key in ("scale", "var")))

    variables = jax.tree.map_with_path(identity, shapes_of(model, x))
    found = evaluate(model, variables, x)
    wanted = np.zeros(x.shape, np.float32)
    for row in (0, 4):
        for col in (0, 4):  # the last three rows and the last column make no whole window
            window = np.asarray(x[:, row : row + 4, col : col + 4])
            top = window == window.max((1, 2), keepdims=True)
            wanted[:, row : row + 4, col : col + 4] = np.where(top, window, 0)
    np.testing.assert_array_equal(found, wanted)
    assert (wanted > 0).sum() == 2 * 4 * 4


def test_parameter_count_is_that_of_the_authors_layers():
    convolutions = sum(9 * i * o + o for i, o in (*ENCODER, *DECODER, (64, 12)))
    norms = sum(2 * o for _, o in (*ENCODER, *DECODER))
    assert parameters(models.get("segnet", num_classes=12)) == convolutions + norms == 29_449_932


def test_names_are_torchvisions_in_the_encoder_and_the_authors_in_the_decoder():
    x = jnp.zeros((1, 32, 32, 3))
    found = shapes_of(models.get("segnet", num_classes=7), x)
    vgg = shapes_of(models.get("vgg16_bn", num_classes=1000), x)
    for kind in ("params", "batch_stats"):
        features = {k: v for k, v in vgg[kind].items() if k.startswith("features")}
        assert found[kind].pop("encoder") == features
    layers = [
        f"conv{stage}_{number}_D"
        for stage, count in enumerate((2, 2, 3, 3, 3), 1)
        for number in range(1, count + 1)
    ]
    norms = {f"{name}_bn" for name in layers[1:]}
    assert set(found["params"]) == {*layers, *norms}
    assert set(found["batch_stats"]) == norms


@pytest.mark.parametrize("encoder", ["vgg11", "vgg16_bn"])
def test_any_size_and_any_vgg(encoder):
    fields = {"encoder_name": encoder, "encoder_fields": {"width": 2}}
    for height, width in ((32, 33), (47, 90)):
        model = models.get("segnet", num_classes=3, **fields)
        logits, _ = jax.eval_shape(
            lambda m=model, h=height, w=width: m.init_with_output(
                jax.random.key(0), jnp.zeros((1, h, w, 5)), False
            )
        )
        assert (logits.shape, logits.dtype) == ((1, height, width, 3), jnp.float32)


def test_remat_computes_the_blocks_again():
    counts = [recomputed(small(remat=remat), images(1, 9, 10, 3)) for remat in (False, True)]
    assert counts[1] - counts[0] == 2 * 2  # blocks of encoder and decoder


def test_dropout_and_bfloat16():
    x, sizes = images(2, 8, 9, 3), (1, 1)
    model = small(sizes, dropout_rate=0.5, dtype="bfloat16")
    variables = randomised(model, x)

    @quick_jit
    def call(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, x, True, mutable=["batch_stats"], rngs=rngs)

    (first, stats), (second, _) = call(1), call(2)
    assert not np.array_equal(first, second)
    assert {leaf.dtype for leaf in jax.tree.leaves((first, stats))} == {jnp.dtype("float32")}
    assert 0 < np.abs(first).max() < np.inf
    maps = jax.eval_shape(lambda: model.bind(variables).encoder.features(x, False))
    assert {leaf.dtype for leaf in jax.tree.leaves(maps)} == {jnp.dtype("bfloat16")}


def test_other_encoders_are_refused():
    x = jnp.zeros((1, 32, 32, 3))
    with pytest.raises(ConfigError, match=r"mirrors a VGG.*'resnet18'"):
        shapes_of(models.get("segnet", num_classes=2, encoder_name="resnet18"), x)
    with pytest.raises(ConfigError, match=r"output_stride"):
        shapes_of(SegNet(2, encoder_fields={"output_stride": 8}), x)


def test_initial_values_are_the_authors():
    model = SegNet(5, encoder_fields={"stage_sizes": (1,), "width": 32})
    init = quick_jit(model.init, static_argnums=2)
    kernel = init(jax.random.key(0), images(1, 9, 9, 3), False)["params"]["conv1_1_D"]["kernel"]
    np.testing.assert_allclose(kernel.std(), (2 / (9 * 32)) ** 0.5, rtol=0.1)
