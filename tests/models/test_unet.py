import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import (
    equals_torch,
    evaluate,
    images,
    parameters,
    randomised,
    relative_error,
    shapes_of,
)

from rsjax import models
from rsjax.errors import ConfigError
from rsjax.models.layers import BatchNorm
from rsjax.models.unet import UNetDecoder

pytestmark = pytest.mark.once

needs_torch = functools.partial(
    pytest.importorskip, "torch", reason="torch is not installed: pip install torch"
)

PAPER = {"num_classes": 3, "width": 4, "depth": 1}


def small(**fields):
    """Behind a ResNet of one stage: strides 2 (stem) and 4."""
    encoder = {"stage_sizes": (1,), "width": 4} | fields.pop("encoder_fields", {})
    fields = {"decoder_channels": (8, 6), "encoder_name": "resnet18"} | fields
    return models.get("unet", num_classes=3, encoder_fields=encoder, **fields)


def paper_peer(bands, classes, width, depth, bilinear, norm):
    """The network of the paper as milesial/Pytorch-UNet names it, but repeating the edge."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Double(nn.Module):
        def __init__(self, inputs, middle, outputs):
            super().__init__()
            layers = []
            for before, after in ((inputs, middle), (middle, outputs)):
                layers.append(nn.Conv2d(before, after, 3, padding=1, bias=not norm))
                layers += [nn.BatchNorm2d(after) if norm else nn.Identity(), nn.ReLU()]
            self.double_conv = nn.Sequential(*layers)

        def forward(self, x):
            return self.double_conv(x)

    class Down(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), Double(inputs, outputs, outputs))

        def forward(self, x):
            return self.maxpool_conv(x)

    class Up(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            half = inputs // 2
            if bilinear:
                self.up = nn.UpsamplingBilinear2d(scale_factor=2)
                self.conv = Double(inputs, half, outputs)
            else:
                self.up = nn.ConvTranspose2d(inputs, half, 2, 2)
                self.conv = Double(inputs, outputs, outputs)

        def forward(self, x, skip):
            x = self.up(x)
            lacking = (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2])
            return self.conv(torch.cat([skip, F.pad(x, lacking, mode="replicate")], 1))

    class Out(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(width, classes, 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            factor = 2 if bilinear else 1
            self.inc = Double(bands, width, width)
            for level in range(1, depth + 1):
                out = width * 2**level // (factor if level == depth else 1)
                setattr(self, f"down{level}", Down(width * 2 ** (level - 1), out))
            for level in range(1, depth + 1):
                inputs = width * 2 ** (depth - level + 1)
                out = width if level == depth else inputs // 2 // factor
                setattr(self, f"up{level}", Up(inputs, out))
            self.outc = Out()

        def forward(self, x):
            maps = [self.inc(x)]
            for level in range(1, depth + 1):
                maps.append(getattr(self, f"down{level}")(maps[-1]))
            x = maps.pop()
            for level in range(1, depth + 1):
                x = getattr(self, f"up{level}")(x, maps.pop())
            return self.outc.conv(x)

    return Net()


def smp_peer(bands, classes, sizes, width, channels):
    """segmentation-models-pytorch's U-Net on a ResNet of basic blocks."""
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch_resnet import Backbone

    def unit(inputs, outputs):
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

    class Block(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.conv1, self.conv2 = unit(inputs, outputs), unit(outputs, outputs)

        def forward(self, x, size, skip):
            x = F.interpolate(x, size=size, mode="nearest")
            return self.conv2(self.conv1(torch.cat([x, *skip], 1)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Backbone(bands, sizes, False, width)
            finer = [width * 2**stage for stage in reversed(range(len(sizes) - 1))] + [width, 0]
            inputs = (width * 2 ** (len(sizes) - 1), *channels)
            joined = np.add(inputs[:-1], finer)
            blocks = [Block(*pair) for pair in zip(joined, channels, strict=True)]
            self.decoder = nn.Module()
            self.decoder.blocks = nn.ModuleList(blocks)
            self.segmentation_head = nn.Sequential(nn.Conv2d(channels[-1], classes, 3, padding=1))

        def forward(self, image):
            x, *skips = reversed(self.encoder.features(image).values())
            for number, block in enumerate(self.decoder.blocks):
                skip = skips[number : number + 1]
                x = block(x, (skip or [image])[0].shape[2:], skip)
            return self.segmentation_head(x)

    return Net()


# With remat, as that has to change no number; `test_remat` is about whether it is there.
@pytest.mark.parametrize(
    ("depth", "bilinear", "norm", "remat"), [(1, False, "batch", False), (2, True, "none", True)]
)
def test_papers_network_equals_torch(depth, bilinear, norm, remat):
    needs_torch()
    fields = PAPER | {"depth": depth, "bilinear": bilinear, "norm": norm, "remat": remat}
    peer = paper_peer(2, 3, 4, depth, bilinear, norm == "batch")
    equals_torch(models.get("unet2015", **fields), peer, images(2, 17, 14, 2))


def test_unet_equals_torch():
    needs_torch()
    peer = smp_peer(2, 3, (1,), 4, (8, 6))
    equals_torch(small(remat=True), peer, images(4, 33, 44, 2))


def test_parameter_counts():
    torch = needs_torch()
    full = functools.partial(paper_peer, 3, width=64, depth=4, norm=True)
    with torch.device("meta"):
        counts = {
            "unet2015": (31_037_633, full(classes=1, bilinear=False)),
            "unet": (24_436_369, smp_peer(3, 1, (3, 4, 6, 3), 64, (256, 128, 64, 32, 16))),
        }
        wide, bilinear = full(classes=2, bilinear=False), full(classes=1, bilinear=True)
    for name, (count, peer) in counts.items():
        assert parameters(models.get(name, num_classes=1)) == size(peer) == count
    assert parameters(models.get("unet2015", num_classes=2)) == size(wide) == 31_037_698
    found = parameters(models.get("unet2015", num_classes=1, bilinear=True))
    assert found == size(bilinear) == 17_262_977


def size(peer):
    return sum(p.numel() for p in peer.parameters())


@pytest.mark.parametrize(
    ("fields", "inputs"),
    [
        # Stages at 2, 4 and 8: the last block has no map to join.
        ({}, [8 + 4, 8 + 4, 6]),
        # At 1, 1 and 2.
        ({"stem": "small"}, [8 + 4]),
        # The second stage is dilated: of two at 4, the later one.
        ({"output_stride": 4}, [8 + 4, 8]),
    ],
)
def test_joins_the_last_map_of_each_stride(fields, inputs):
    model = small(encoder_fields={"stage_sizes": (1, 1)} | fields, decoder_channels=(8, 6, 4))
    x = jnp.zeros((1, 35, 32, 2))
    blocks = shapes_of(model, x)["params"]["decoder"]
    found = [blocks[f"blocks_{n}"]["conv1_0"]["kernel"].shape[2] for n in range(len(blocks))]
    assert found == inputs
    logits = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), x, False)[0])
    assert logits.shape == (1, 35, 32, 3)


def test_a_stride_that_the_encoder_lacks_has_a_block_without_a_map():
    decoder = UNetDecoder((4, 4, 4, 4), BatchNorm, False, jnp.float32)
    maps = {4: jnp.zeros((1, 9, 8, 5)), 16: jnp.zeros((1, 3, 2, 6))}
    y, variables = jax.eval_shape(
        lambda: decoder.init_with_output(jax.random.key(0), maps, 35, 30, False)
    )
    params = variables["params"]
    found = [params[f"blocks_{n}"]["conv1_0"]["kernel"].shape[2] for n in range(4)]
    assert (y.shape, found) == ((1, 35, 30, 4), [6, 4 + 5, 4, 4])


@pytest.mark.parametrize(
    ("make", "x"),  # shapes of the tests above, which have compiled the float32 model
    [
        (small, images(4, 33, 44, 2)),
        (functools.partial(models.get, "unet2015", **PAPER), images(2, 17, 14, 2)),
    ],
)
def test_bfloat16_computes_low_and_returns_float32(make, x):
    variables = randomised(make(), x)
    found, wanted = (evaluate(make(dtype=dtype), variables, x) for dtype in ("bfloat16", "float32"))
    assert found.dtype == jnp.float32
    assert 1e-4 < relative_error(found, wanted) < 0.05


@pytest.mark.parametrize(
    ("make", "blocks"),
    [
        (small, 1 + 2),
        (functools.partial(models.get, "unet2015", **PAPER), 1 + 1 + 1),
    ],
)
def test_remat(make, blocks):
    x = jnp.zeros((2, 32, 32, 3))

    def count(model):
        return str(
            jax.make_jaxpr(lambda v: model.apply(v, x, True, mutable=["batch_stats"]))(
                shapes_of(model, x)
            )
        ).count("prevent_cse=True")  # the convolutions' own have False

    assert count(make(remat=True)) - count(make()) == blocks


def test_what_the_encoder_is_given():
    fields = {"norm": "group", "remat": True, "dtype": jnp.bfloat16}
    encoder = small(**fields, norm_epsilon=0.1).bind({}).encoder
    assert {key: getattr(encoder, key) for key in fields} == fields
    assert encoder.norm_epsilon == 1e-5  # its own, as its published weights need
    for name, epsilon in (("inception_v3", 1e-3), ("densenet121", 1e-5), ("xception", 1e-3)):
        encoder = models.get("unet", num_classes=2, encoder_name=name).bind({}).encoder
        assert encoder.norm_epsilon == epsilon
        assert not getattr(encoder, "rectify_last", False)  # as smp's encoders
    assert small(encoder_fields={"norm": "group"}).bind({}).encoder.norm == "group"
    # What a decoder would like is left out where there is no such field; a user's is an error.
    models.backbone("resnet18", pad=True)
    with pytest.raises(ConfigError, match="unknown pad"):
        models.backbone("resnet18", {"pad": True})


def test_errors_name_the_remedy():
    x = jnp.zeros((1, 32, 32, 3))
    with pytest.raises(ConfigError, match=r"1 decoder_channels.*resnet18 reduces 4.*give 2"):
        shapes_of(small(decoder_channels=(8,)), x)
    with pytest.raises(ConfigError, match=r"unknown encoder 'vit'.*resnet18"):
        shapes_of(small(encoder_name="vit"), x)
