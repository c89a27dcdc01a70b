import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import (
    draw,
    equals_torch,
    evaluate,
    images,
    parameters,
    quick_jit,
    randomised,
    relative_error,
    shapes_of,
)

from rsjax import models
from rsjax.errors import ConfigError
from rsjax.models.fcn import FCN, VGGFCN, bilinear_init
from rsjax.models.layers import ConvTranspose
from rsjax.models.pretrained.torch_names import from_torch

pytestmark = pytest.mark.once

SIZES = (1, 1, 1, 1, 1)
RESNET = {"encoder_name": "resnet18", "encoder_fields": {"stage_sizes": (1, 1), "width": 8}}


def small(stride, **fields):
    fields = {"stage_sizes": SIZES, "width": 2, "fc_width": 6, "dropout_rate": 0.0} | fields
    return VGGFCN(3, stride, **fields)


def torch_vgg_fcn(bands, stride, width, fc_width, classes, scaled, sizes=SIZES):
    """The authors' networks, by their names; what is cut is what Caffe's crop layer cuts."""
    import torch.nn.functional as F
    from torch import nn

    class Peer(nn.Module):
        def __init__(self):
            super().__init__()
            inputs = bands
            for stage, count in enumerate(sizes, 1):
                for number in range(1, count + 1):
                    outputs = width * min(2 ** (stage - 1), 8)
                    pad = 100 if (stage, number) == (1, 1) else 1
                    layer = nn.Conv2d(inputs, outputs, 3, padding=pad)
                    setattr(self, f"conv{stage}_{number}", layer)
                    inputs = outputs
            self.fc6 = nn.Conv2d(inputs, fc_width, 7)
            self.fc7 = nn.Conv2d(fc_width, fc_width, 1)
            self.score_fr = nn.Conv2d(fc_width, classes, 1)

            def up(factor):
                return nn.ConvTranspose2d(classes, classes, 2 * factor, factor, bias=False)

            if stride == 32:
                self.upscore = up(32)
            else:
                self.upscore2 = up(2)
                self.score_pool4 = nn.Conv2d(width * 8, classes, 1)
            if stride == 16:
                self.upscore16 = up(16)
            if stride == 8:
                self.upscore_pool4 = up(2)
                self.score_pool3 = nn.Conv2d(width * 4, classes, 1)
                self.upscore8 = up(8)

        def forward(self, x):
            rows, cols = x.shape[2:]
            pools = {}
            for stage, count in enumerate(sizes, 1):
                for number in range(1, count + 1):
                    x = F.relu(getattr(self, f"conv{stage}_{number}")(x))
                pools[stage] = x = F.max_pool2d(x, 2, 2, ceil_mode=True)
            y = self.score_fr(F.relu(self.fc7(F.relu(self.fc6(x)))))
            if stride == 32:
                return self.upscore(y)[:, :, 19 : 19 + rows, 19 : 19 + cols]
            y = self.upscore2(y)
            skip = self.score_pool4(pools[4] * (0.01 if scaled else 1))
            y = y + skip[:, :, 5 : 5 + y.shape[2], 5 : 5 + y.shape[3]]
            if stride == 16:
                return self.upscore16(y)[:, :, 27 : 27 + rows, 27 : 27 + cols]
            y = self.upscore_pool4(y)
            skip = self.score_pool3(pools[3] * (0.0001 if scaled else 1))
            y = y + skip[:, :, 9 : 9 + y.shape[2], 9 : 9 + y.shape[3]]
            return self.upscore8(y)[:, :, 31 : 31 + rows, 31 : 31 + cols]

    return Peer()


def test_fcn8s_equals_torch():
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    model = small(8, scale_skips=True, remat=True)
    peer = torch_vgg_fcn(2, 8, 2, 6, 3, True)
    equals_torch(model, peer, images(1, 33, 20, 2))


@pytest.mark.parametrize("stride", [32, 16])
def test_vgg_fcn_gives_torchs_logits(stride):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    x = images(1, 33, 20, 2)
    peer = torch_vgg_fcn(2, stride, 2, 6, 3, False)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, value in peer.state_dict().items():
            value.copy_(torch.tensor(draw(name.rsplit(".", 1)[-1], tuple(value.shape), rng)))
        wanted = peer(torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    variables = from_torch({name: value.numpy() for name, value in peer.state_dict().items()})
    found = evaluate(small(stride), jax.tree.map(jnp.asarray, variables), x)
    assert relative_error(found, wanted.numpy()) < 1e-4


def test_fcn_equals_torch():
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    import torch.nn.functional as F
    from torch import nn
    from torch_resnet import Backbone

    def head(inputs, classes):
        return nn.Sequential(
            nn.Conv2d(inputs, inputs // 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(inputs // 4), nn.ReLU(), nn.Dropout(0.0),
            nn.Conv2d(inputs // 4, classes, 1),
        )  # fmt: skip

    class Peer(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Backbone(2, (1, 1), False, 8, dilated=(2,))
            self.classifier = head(16, 3)
            self.aux_classifier = head(8, 3)

        def forward(self, x):
            maps = self.backbone.features(x)
            heads = {"layer2": self.classifier, "layer1": self.aux_classifier}
            found = [
                F.interpolate(layer(maps[name]), x.shape[2:], mode="bilinear")
                for name, layer in heads.items()
            ]
            return found if self.training else found[0]

    model = FCN(3, output_stride=4, dropout_rate=0.0, **RESNET)
    equals_torch(model, Peer(), images(2, 33, 26, 2))


def test_parameter_counts():
    # torchvision's published models, with auxiliary scores, 21 classes.
    for name, count in (("fcn_resnet50", 35_322_218), ("fcn_resnet101", 54_314_346)):
        assert parameters(models.get(name, num_classes=21)) == count
    # VGG-16's convolutions, fc6 as 7x7 and fc7 as 1x1 convolution, the scores, the up-scorings.
    vgg = 14_714_688 + (49 * 512 * 4096 + 4096) + (4096**2 + 4096) + (4096 * 21 + 21)
    pool4, pool3 = 512 * 21 + 21, 256 * 21 + 21
    wanted = {
        "fcn32s": vgg + 64**2 * 21**2,
        "fcn16s": vgg + pool4 + (4**2 + 32**2) * 21**2,
        "fcn8s": vgg + pool4 + pool3 + (4**2 + 4**2 + 16**2) * 21**2,
    }
    for name, count in wanted.items():
        assert parameters(models.get(name, num_classes=21)) == count


def test_bilinear_start_interpolates_each_channel_alone():
    kernel = bilinear_init(jax.random.key(0), (4, 4, 3, 3))
    taps = np.array([0.25, 0.75, 0.75, 0.25])
    for i in range(3):
        for o in range(3):
            np.testing.assert_allclose(kernel[:, :, o, i], np.outer(taps, taps) * (i == o))
    up = ConvTranspose(1, 16, 8, use_bias=False, kernel_init=bilinear_init)
    plane = jnp.arange(4.0).reshape(1, 4, 1, 1) * 8 + jnp.arange(5.0).reshape(1, 1, 5, 1) * 16
    found, _ = quick_jit(up.init_with_output)(jax.random.key(0), plane)
    # Pixel i of the coarse map lies at 8 i + 7.5 of the fine one: linear between the centres.
    rows, cols = np.arange(8, 32) - 7.5, np.arange(8, 40) - 7.5
    wanted = rows.reshape(-1, 1) + 2 * cols.reshape(1, -1)
    np.testing.assert_allclose(found[0, 8:32, 8:40, 0], wanted, rtol=1e-5)


def test_scores_start_at_zero():
    model = small(8)
    variables = quick_jit(model.init, static_argnums=2)(
        jax.random.key(0), images(1, 32, 32, 2), False
    )
    for name in ("score_fr", "score_pool4", "score_pool3"):
        assert not np.any(variables["params"][name]["kernel"])
    assert np.any(variables["params"]["fc7"]["kernel"])


@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s"])
def test_any_size(name):
    model = models.get(name, num_classes=2, width=2, fc_width=4)
    for height, width in ((1, 32), (57, 58), (59, 63), (90, 121)):
        logits, _ = jax.eval_shape(
            lambda h=height, w=width: model.init_with_output(
                jax.random.key(0), jnp.zeros((1, h, w, 5)), False
            )
        )
        assert (logits.shape, logits.dtype) == ((1, height, width, 2), jnp.float32)


def test_receptive_fields_are_the_papers():
    # All weights positive, and an image that rises down or up: the maxima of all windows lie at
    # their lower or upper edge, so that the gradients reach the ends of the receptive field.
    model = small(32, stage_sizes=(2, 2, 3, 3, 3), width=1, fc_width=1)
    rows = 600
    ramp = jnp.arange(1.0, rows + 1).reshape(1, rows, 1, 1) * jnp.ones((1, 1, 7, 1))
    variables = jax.tree.map_with_path(
        lambda path, leaf: jnp.full(
            leaf.shape, float(path[-1].key == "kernel") / np.prod(leaf.shape[:3])
        ),
        shapes_of(model, ramp),
    )

    @quick_jit
    def gradient(x, pool5, fc7):  # of these rows
        def value(x):
            maps = model.apply(variables, x, False, method="features")
            middle = maps["fc7"].shape[2] // 2
            return sum(
                jnp.sum(jnp.where(jnp.arange(y.shape[1]) == row, y[0, :, middle, 0], 0.0))
                for y, row in ((maps["pool5"], pool5), (maps["fc7"], fc7))
            )

        return jax.grad(value)(x)[0, :, 3, 0] > 0

    ends = {}
    for name, row in (("pool5", (8, -1)), ("fc7", (-1, 8)), ("next", (-1, 9))):
        first = np.argmax(gradient(ramp[:, ::-1], *row))
        last = rows - 1 - np.argmax(gradient(ramp, *row)[::-1])
        ends[name] = (first, last)
    fields = {key: last - first + 1 for key, (first, last) in ends.items()}
    assert fields == {"pool5": 212, "fc7": 404, "next": 404}
    assert ends["next"][0] - ends["fc7"][0] == 32


def test_auxiliary_scores_in_training_only_and_only_where_wanted():
    fields = {"output_stride": 0, **RESNET, "encoder_fields": {"stage_sizes": (1,), "width": 8}}
    model = FCN(3, **fields)
    assert model.aux_weight == 0.5
    x = images(2, 32, 32, 2)
    variables = randomised(model, x)

    @quick_jit
    def train(variables, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, x, True, mutable=["batch_stats", "auxiliary"], rngs=rngs)

    (first, updates), (second, _) = train(variables, 1), train(variables, 2)
    assert not np.array_equal(first, second)  # dropout
    (extra,) = updates["auxiliary"]["logits"]
    assert extra.shape == first.shape == (2, 32, 32, 3)
    assert not np.allclose(extra, first)
    assert not jax.eval_shape(lambda: model.apply(variables, x, False, mutable=["auxiliary"])[1])
    assert "auxiliary" not in shapes_of(model, x, True)

    names = {name for name in variables["params"] if not name.startswith("aux_classifier")}
    assert len(names) == len(variables["params"]) - 3
    assert set(shapes_of(FCN(3, aux_weight=0.0, **fields), x, True)["params"]) == names


def test_vgg_fcn_drops_values_in_training():
    model = small(32, dropout_rate=0.5)
    x = images(1, 32, 32, 2)
    variables = randomised(model, x)

    @quick_jit
    def fc7(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, x, True, rngs=rngs, method="features")["fc7"]

    assert not np.array_equal(fc7(1), fc7(2))


@pytest.mark.parametrize(
    ("encoder", "stride"), [("vgg11", 8), ("resnet18", 16), ("resnext50_32x4d", 0)]
)
def test_other_backbones(encoder, stride):
    model = models.get(
        "fcn", num_classes=4, encoder_name=encoder, encoder_fields={"width": 32},
        output_stride=stride, norm="group", dtype="bfloat16", remat=True,
    )  # fmt: skip
    logits, variables = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), jnp.zeros((1, 47, 33, 5)), False)
    )
    assert (logits.shape, logits.dtype) == ((1, 47, 33, 4), jnp.float32)
    assert set(variables) == {"params"}  # group normalisation everywhere


def test_unknown_stride_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"stride 4.*32, 16, 8"):
        shapes_of(small(4), jnp.zeros((1, 32, 32, 3)))
