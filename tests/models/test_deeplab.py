import functools

import flax.linen as nn
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
    relative_error,
    shapes_of,
)

from rsjax import models
from rsjax.errors import ConfigError
from rsjax.models.deeplab import ASPP
from rsjax.models.layers import BatchNorm, GroupNorm, conv_init

pytestmark = pytest.mark.once

needs_torch = functools.partial(
    pytest.importorskip, "torch", reason="torch is not installed: pip install torch"
)


def small(name, **fields):
    """On a ResNet of two stages (v3+: three) whose last one is dilated instead of striding."""
    plus = name == "deeplabv3plus"
    encoder = {"stage_sizes": (1, 1, 1) if plus else (1, 1), "width": 4}
    encoder |= fields.pop("encoder_fields", {})
    fields = {"encoder_name": "resnet18", "output_stride": 8 if plus else 4} | fields
    fields = {"decoder_channels": 6, "rates": (2, 5), "dropout_rate": 0.0} | fields
    return models.get(name, num_classes=3, encoder_fields=encoder, **fields)


def unit(inputs, outputs, size=1, dilation=1, separable=False):
    """Convolution, normalisation and ReLU in torch."""
    from torch import nn

    pad = dilation * (size // 2)
    conv = functools.partial(nn.Conv2d, bias=False)
    first = conv(inputs, outputs, size, padding=pad, dilation=dilation)
    if separable:
        depthwise = conv(inputs, inputs, size, padding=pad, dilation=dilation, groups=inputs)
        first = nn.Sequential(depthwise, conv(inputs, outputs, 1))
    return nn.Sequential(first, nn.BatchNorm2d(outputs), nn.ReLU())


def pyramid(inputs, channels, rates, separable):
    """Atrous spatial pyramid pooling in torch."""
    import torch
    from torch import nn

    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            distant = [unit(inputs, channels, 3, rate, separable) for rate in rates]
            pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), *unit(inputs, channels))
            self.convs = nn.ModuleList([unit(inputs, channels), *distant, pooled])
            self.project = unit(len(self.convs) * channels, channels)

        def forward(self, x):
            ys = [conv(x).expand(-1, -1, *x.shape[2:]) for conv in self.convs]
            return self.project(torch.cat(ys, 1))

    return Pyramid()


def torchvision_peer(bands, classes, sizes, bottleneck, width, dilated, rates, channels):
    """torchvision's DeepLab v3 with its auxiliary classifier."""
    import torch.nn.functional as F
    from torch import nn
    from torch_resnet import Backbone

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Backbone(bands, sizes, bottleneck, width, dilated)
            inputs = self.backbone.channels
            self.classifier = nn.Sequential(
                pyramid(inputs, channels, rates, False),
                *unit(channels, channels, 3),
                nn.Conv2d(channels, classes, 1),
            )
            self.aux_classifier = nn.Sequential(
                *unit(inputs // 2, inputs // 8, 3),
                nn.Identity(),
                nn.Conv2d(inputs // 8, classes, 1),
            )

        def forward(self, x):
            *_, before, last = self.backbone.features(x).values()
            whole = functools.partial(F.interpolate, size=x.shape[2:], mode="bilinear")
            logits = whole(self.classifier(last))
            return [logits, whole(self.aux_classifier(before))] if self.training else logits

    return Net()


def smp_peer(bands, classes, sizes, width, dilations, rates, channels, low):
    """segmentation-models-pytorch's DeepLab v3+ on a ResNet of basic blocks."""
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch_resnet import Backbone

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Backbone(bands, sizes, False, width)
            for stage, dilation in dilations.items():
                for module in getattr(self.encoder, stage).modules():
                    if isinstance(module, nn.Conv2d):
                        module.stride, module.dilation = (1, 1), (dilation, dilation)
                        module.padding = (dilation * (module.kernel_size[0] // 2),) * 2
            self.decoder = nn.Module()
            self.decoder.aspp = nn.Sequential(
                pyramid(self.encoder.channels, channels, rates, True),
                *unit(channels, channels, 3, separable=True),
            )
            self.decoder.block1 = unit(width, low)
            self.decoder.block2 = unit(channels + low, channels, 3, separable=True)
            self.segmentation_head = nn.Sequential(nn.Conv2d(channels, classes, 1))

        def forward(self, x):
            maps = self.encoder.features(x)

            def to(y, size):
                return F.interpolate(y, size=size, mode="bilinear", align_corners=True)

            low = self.decoder.block1(maps["layer1"])
            deep = to(self.decoder.aspp(list(maps.values())[-1]), low.shape[2:])
            y = self.decoder.block2(torch.cat([deep, low], 1))
            return to(self.segmentation_head(y), x.shape[2:])

    return Net()


def test_v3_equals_torch_with_its_auxiliary_classifier():
    needs_torch()
    peer = torchvision_peer(2, 3, (1, 1), False, 4, (2,), (2, 5), 6)
    equals_torch(small("deeplabv3", aux_weight=0.5), peer, images(4, 33, 44, 2))


def test_v3plus_equals_torch():
    needs_torch()
    peer = smp_peer(2, 3, (1, 1, 1), 4, {"layer3": 2}, (2, 5), 6, 5)
    equals_torch(small("deeplabv3plus", skip_channels=5), peer, images(4, 33, 44, 2))


@pytest.mark.parametrize(
    ("name", "fields", "count"),
    [
        # https://pytorch.org/vision/stable/models.html
        ("deeplabv3_resnet50", {"num_classes": 21, "aux_weight": 0.5}, 42_004_074),
        ("deeplabv3_resnet101", {"num_classes": 21, "aux_weight": 0.5}, 60_996_202),
        ("deeplabv3plus", {"num_classes": 1}, 22_437_457),
    ],
)
def test_parameter_counts(name, fields, count):
    torch = needs_torch()
    with torch.device("meta"):
        if name == "deeplabv3plus":
            dilations = {"layer4": 2}
            peer = smp_peer(3, 1, (3, 4, 6, 3), 64, dilations, (12, 24, 36), 256, 48)
        else:
            sizes = (3, 4, 23 if "101" in name else 6, 3)
            peer = torchvision_peer(3, 21, sizes, True, 64, (3, 4), (12, 24, 36), 256)
    wanted = sum(p.numel() for p in peer.parameters())
    assert parameters(models.get(name, **fields)) == wanted == count


def pyramids(model, size):
    """(side of the map, rates) of each pyramid that the model has for images of this size."""
    found = []

    def watch(call, args, options, context):
        if isinstance(context.module, ASPP) and context.method_name == "__call__":
            found.append((args[0].shape[1], context.module.rates))
        return call(*args, **options)

    with nn.intercept_methods(watch):
        logits = jax.eval_shape(
            lambda: model.init_with_output(jax.random.key(0), jnp.zeros((1, size, size, 2)), False)[
                0
            ]
        )
    assert logits.shape == (1, size, size, 3)
    return found


@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus"])
def test_output_strides_rates_and_any_size(name):
    encoder = {"width": 4, "stage_sizes": (1, 1, 1, 1)}
    fields = {"num_classes": 3, "encoder_name": "resnet18", "encoder_fields": encoder}
    fine = (12, 24, 36)
    coarse = fine if name == "deeplabv3plus" else (6, 12, 18)
    model = functools.partial(models.get, name, **fields)
    assert pyramids(model(output_stride=8), 64) == [(8, fine)]
    assert pyramids(model(output_stride=16), 64) == [(4, coarse)]
    assert pyramids(model(output_stride=16), 120) == [(8, coarse)]
    assert pyramids(model(output_stride=16, rates=(2, 3)), 33) == [(3, (2, 3))]


@pytest.mark.parametrize("separable", [False, True])
def test_a_branch_sees_the_taps_of_its_rate_only(separable):
    rates, side, features = (2, 3, 5), 13, 4
    middle = side // 2
    model = ASPP(features, rates, separable, 0.0, BatchNorm, conv_init, jnp.float32)
    x = images(1, side, side, 3)
    variables = randomised(model, x)
    # Behind a large bias no ReLU cuts a gradient off.
    params = {
        name: leaves | {"bias": leaves["bias"] + 50} if "bias" in leaves else leaves
        for name, leaves in variables["params"].items()
    }
    project = params["project_0"]["kernel"]

    @quick_jit
    def slopes(kernel):
        changed = {**params, "project_0": {"kernel": kernel}}
        return jax.grad(
            lambda x: jnp.sum(model.apply({**variables, "params": changed}, x, False)[0, 6, 6])
        )(x)

    for branch, rate in enumerate(rates, 1):
        own = (jnp.arange(project.shape[2]) // features == branch).reshape(1, 1, -1, 1)
        seen = jnp.any(slopes(jnp.where(own, project, 0.0)) != 0, axis=(0, 3))
        wanted = np.zeros((side, side), bool)
        wanted[np.ix_(*[[middle - rate, middle, middle + rate]] * 2)] = True
        np.testing.assert_array_equal(seen, wanted)


def test_auxiliary_logits_only_in_training_and_on_request():
    x = jnp.zeros((2, 32, 32, 2))

    def sown(model, train):
        def call():
            variables = model.init(jax.random.key(0), x, True)
            assert set(variables) == {"params", "batch_stats"}
            return model.apply(variables, x, train, mutable=["batch_stats", "auxiliary"])[1]

        return jax.eval_shape(call).get("auxiliary", {})

    with_aux = small("deeplabv3", aux_weight=0.4)
    (logits,) = sown(with_aux, True)["logits"]
    assert (logits.shape, logits.dtype) == ((2, 32, 32, 3), jnp.float32)
    assert sown(with_aux, False) == sown(small("deeplabv3", aux_weight=0.0), True) == {}


def test_dropout_of_the_pyramid():
    model = ASPP(8, (1,), False, 0.5, GroupNorm, conv_init, jnp.float32)
    x = images(1, 16, 16, 4)
    variables = randomised(model, x)
    run = quick_jit(
        lambda v, x, key: (
            model.apply(v, x, False),
            model.apply(v, x, True, rngs={"dropout": key}),
        )
    )
    whole, dropped = run(variables, x, jax.random.key(0))
    kept = dropped != 0
    np.testing.assert_allclose(dropped, jnp.where(kept, 2 * whole, 0.0), rtol=1e-5, atol=1e-6)
    assert 0.4 < jnp.sum(kept) / jnp.sum(whole != 0) < 0.6


@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus"])
def test_bfloat16_computes_low_and_returns_float32(name):
    x = images(4, 33, 44, 2)  # as above, where the float32 model was compiled
    fields = {"skip_channels": 5} if name == "deeplabv3plus" else {"aux_weight": 0.5}
    variables = randomised(small(name, **fields), x)
    found, wanted = (
        evaluate(small(name, **fields, dtype=dtype), variables, x)
        for dtype in ("bfloat16", "float32")
    )
    assert found.dtype == jnp.float32
    assert 1e-4 < relative_error(found, wanted) < 0.05


@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus"])
def test_what_the_encoder_is_given(name):
    fields = {"norm": "group", "remat": True, "dtype": jnp.bfloat16}
    model = small(name, **fields, norm_epsilon=0.1).bind({})
    encoder = model.backbone if name == "deeplabv3" else model.encoder
    assert {key: getattr(encoder, key) for key in fields} == fields
    assert encoder.norm_epsilon == 1e-5  # its own, as its published weights need
    assert encoder.dilate_first == (name == "deeplabv3plus")


def test_errors_name_the_remedy():
    x = jnp.zeros((1, 32, 32, 3))
    wrong = small("deeplabv3", encoder_fields={"output_stride": 8})
    with pytest.raises(ConfigError, match=r"strides 4 and none.*resnet18 have 2, 4, 8"):
        shapes_of(wrong, x)
    with pytest.raises(ConfigError, match="output_stride 64"):
        shapes_of(small("deeplabv3plus", output_stride=64), x)
