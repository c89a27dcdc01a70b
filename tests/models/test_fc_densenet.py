import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import (
    equals_torch,
    images,
    parameters,
    quick_jit,
    randomised,
    shapes_of,
    train_step,
)

from rsjax import models
from rsjax.errors import ConfigError
from rsjax.models.fc_densenet import FCDenseNet, Layer
from rsjax.models.layers import BatchNorm

pytestmark = pytest.mark.once

GROWTH = {"fc_densenet56": 12, "fc_densenet67": 16, "fc_densenet103": 16}
SIZES = {
    "fc_densenet56": [4] * 11,
    "fc_densenet67": [5] * 11,
    "fc_densenet103": [4, 5, 7, 10, 12, 15, 12, 10, 7, 5, 4],
}
# With 11 classes; the paper's table 3 says 1.5, 3.5 and 9.4 million.
PARAMETERS = {
    "fc_densenet56": 1_376_795,
    "fc_densenet67": 3_463_243,
    "fc_densenet103": 9_322_091,
}
SMALL = {"stage_sizes": (2, 1, 1, 2, 1), "growth_rate": 4, "width": 6}


def small(**fields):
    return FCDenseNet(**{"num_classes": 3, "dropout_rate": 0.0} | SMALL | fields)


def torch_fc_densenet(bands, classes, sizes, growth, width):
    """The authors' network in torch, written from their code: one growing stack per level."""
    import torch
    from torch import nn

    class Layer(nn.Module):
        def __init__(self, inputs, outputs, size):
            super().__init__()
            self.norm = nn.BatchNorm2d(inputs, eps=1e-4)
            self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)

        def forward(self, x):
            return self.conv(torch.relu(self.norm(x)))

    class Block(nn.Module):
        def __init__(self, inputs, count):
            super().__init__()
            self.layers = nn.ModuleList(Layer(inputs + i * growth, growth, 3) for i in range(count))

    def centre(x, rows, cols):
        top, left = (x.shape[2] - rows) // 2, (x.shape[3] - cols) // 2
        return x[:, :, top : top + rows, left : left + cols]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv0 = nn.Conv2d(bands, width, 3, padding=1)
            depth, channels, skips = len(sizes) // 2, width, []
            self.down, self.pool = nn.ModuleList(), nn.ModuleList()
            for count in sizes[:depth]:
                self.down.append(Block(channels, count))
                channels += count * growth
                skips.append(channels)
                self.pool.append(Layer(channels, channels, 1))
            self.bottleneck = Block(channels, sizes[depth])
            self.upsample, self.up = nn.ModuleList(), nn.ModuleList()
            for before, count in zip(sizes[depth:], sizes[depth + 1 :], strict=False):
                made = before * growth
                self.upsample.append(nn.ConvTranspose2d(made, made, 3, 2))
                channels = made + skips.pop()
                self.up.append(Block(channels, count))
            self.classifier = nn.Conv2d(channels + sizes[-1] * growth, classes, 1)

        @staticmethod
        def dense(stack, block):
            new = []
            for layer in block.layers:
                new.append(layer(stack))
                stack = torch.cat([stack, new[-1]], 1)
            return stack, torch.cat(new, 1)

        def forward(self, x):
            stack, skips = self.conv0(x), []
            for block, pool in zip(self.down, self.pool, strict=True):
                stack, _ = self.dense(stack, block)
                skips.append(stack)
                stack = nn.functional.max_pool2d(pool(stack), 2)
            _, new = self.dense(stack, self.bottleneck)
            for upsample, block in zip(self.upsample, self.up, strict=True):
                skip = skips.pop()
                stack = torch.cat([centre(upsample(new), *skip.shape[2:]), skip], 1)
                stack, new = self.dense(stack, block)
            return self.classifier(stack)

    return Net()


def test_equals_torch():
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    # 19 is odd once and 14 twice: 7 becomes 3, and 3 becomes 7 again.
    peer = torch_fc_densenet(2, 3, *SMALL.values())
    equals_torch(small(), peer, images(2, 19, 14, 2))


@pytest.mark.parametrize("name", SIZES)
def test_parameter_count(name):
    growth, sizes = GROWTH[name], SIZES[name]

    def convolution(inputs, outputs, size):
        return inputs * outputs * size**2 + outputs

    def block(inputs, count):
        channels = [inputs + i * growth for i in range(count)]
        return sum(2 * c + convolution(c, growth, 3) for c in channels)

    channels, total, skips = 48, convolution(3, 48, 3), []
    for count in sizes[:5]:
        total += block(channels, count)
        channels += count * growth
        total += 2 * channels + convolution(channels, channels, 1)
        skips.append(channels)
    total += block(channels, sizes[5])
    for i in range(5):
        made = sizes[5 + i] * growth
        total += convolution(made, made, 3) + block(made + skips[4 - i], sizes[6 + i])
    channels = sizes[9] * growth + skips[0] + sizes[10] * growth
    total += convolution(channels, 11, 1)
    assert parameters(models.get(name, num_classes=11), 32) == total == PARAMETERS[name]


def test_any_size_from_32_pixels_and_types():
    model = small(stage_sizes=(1,) * 11, dtype="bfloat16")
    for rows, cols in ((32, 32), (33, 61)):
        x = jnp.zeros((1, rows, cols, 4))
        variables = shapes_of(model, x)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        logits = jax.eval_shape(lambda v, x=x: model.apply(v, x, False), variables)
        assert (logits.shape, logits.dtype) == ((1, rows, cols, 3), jnp.dtype("float32"))
    assert "batch_stats" not in shapes_of(small(norm="group"), jnp.zeros((1, 8, 8, 2)))


def test_remat_changes_no_number():
    fields = {"stage_sizes": (2,)}
    x = images(2, 9, 8, 2)
    variables = randomised(small(**fields), x)
    weights = jnp.linspace(-1, 1, 2 * 9 * 8 * 3).reshape(2, 9, 8, 3)
    plain = train_step(small(**fields), variables, x, weights)
    again = train_step(small(remat=True, **fields), variables, x, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, again)


def test_layer_starts_as_lasagnes_and_drops_what_it_makes():
    layer = Layer(48, 3, 0.2, BatchNorm, jnp.float32)
    maps = (images(2, 6, 6, 20), images(2, 6, 6, 12, seed=2))

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
    kernel = np.abs(variables["params"]["conv"]["kernel"])
    bound = np.sqrt(6 / (9 * 32))  # uniform, of variance 2 / inputs
    assert 0.98 * bound < kernel.max() <= bound
    assert abs(kernel.mean() / (bound / 2) - 1) < 0.03
    kept = np.asarray(dropped != 0)
    assert abs(kept.mean() - 0.8) < 0.03
    np.testing.assert_allclose(dropped[kept], whole[kept] / 0.8, rtol=1e-5)


def test_an_even_number_of_blocks_is_refused():
    with pytest.raises(ConfigError, match=r"4 stage_sizes \(1, 1, 1, 1\).*odd"):
        shapes_of(small(stage_sizes=(1, 1, 1, 1)), jnp.zeros((1, 8, 8, 2)))
