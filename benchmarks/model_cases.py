"""The published architectures at full size, each with the PyTorch network that the tests compare.

`benchmarks/models.py` times them, `benchmarks/model_table.py` counts and compares them.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "models"))

import test_deeplab
import test_densenet
import test_fc_densenet
import test_fcn
import test_segnet
import test_unet
import test_vgg
import torch_inception
import torch_resnet
import torch_xception

from rsjax import models


@dataclasses.dataclass(frozen=True)
class Case:
    """One architecture.

    Attributes:
        name: name in `rsjax.models`.
        title: what a table calls it.
        peer: (bands, classes) -> the same network in PyTorch, classes second.
        fields: fields of ours that differ from the defaults.
        timed: whether `benchmarks/models.py` runs it by default.
    """

    name: str
    title: str
    peer: Callable[[int, int], nn.Module]
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    timed: bool = False

    @property
    def pixels(self) -> bool:
        """Whether its logits are of pixels."""
        return self.name not in models.BACKBONES


def resnet(name: str, sizes: tuple[int, ...], bottleneck: bool, **options: Any) -> Case:
    """A residual network."""

    def peer(bands: int, classes: int) -> nn.Module:
        return torch_resnet.ResNet(classes, bands, sizes, bottleneck, 64, **options)

    return Case(name, name, peer, timed=name == "resnet50")


def vgg(name: str, sizes: tuple[int, ...]) -> Case:
    """A VGG with its fully connected layers."""
    norm = name.endswith("_bn")

    def peer(bands: int, classes: int) -> nn.Module:
        return test_vgg.torch_vgg(bands, sizes, norm, 64, 4096, classes, (2,) * 5)

    return Case(name, name, peer, timed=name == "vgg16_bn")


def densenet(name: str, sizes: tuple[int, ...], width: int, growth: int) -> Case:
    """A DenseNet."""

    def peer(bands: int, classes: int) -> nn.Module:
        return test_densenet.torch_densenet(bands, classes, sizes, width, growth, "standard")

    return Case(name, name, peer, timed=name == "densenet121")


def fc_densenet(name: str, sizes: tuple[int, ...], growth: int) -> Case:
    """An FC-DenseNet; without dropout, which the PyTorch network does not have."""

    def peer(bands: int, classes: int) -> nn.Module:
        return test_fc_densenet.torch_fc_densenet(bands, classes, sizes, growth, 48)

    return Case(name, name, peer, {"dropout_rate": 0.0}, timed=name == "fc_densenet56")


def aligned(name: str, middle: int, *entry: tuple[int, int]) -> Case:
    """Aligned Xception as timm's."""

    def peer(bands: int, classes: int) -> nn.Module:
        return torch_xception.AlignedXception(classes, bands, 1.0, middle, 2, entry)

    return Case(name, name, peer)


def fcn_resnet(name: str, sizes: tuple[int, ...]) -> Case:
    """FCN on a dilated ResNet as torchvision's, with its auxiliary classifier."""

    def head(inputs: int, classes: int) -> nn.Module:
        conv = nn.Conv2d(inputs, inputs // 4, 3, padding=1, bias=False)
        last = nn.Conv2d(inputs // 4, classes, 1)
        return nn.Sequential(conv, nn.BatchNorm2d(inputs // 4), nn.ReLU(), nn.Dropout(0.1), last)

    class Net(nn.Module):
        def __init__(self, bands: int, classes: int):
            super().__init__()
            self.backbone = torch_resnet.Backbone(bands, sizes, True, 64, (3, 4))
            self.classifier, self.aux_classifier = head(2048, classes), head(1024, classes)

        def forward(self, x: Tensor) -> Tensor | list[Tensor]:
            maps = self.backbone.features(x)
            heads = [(self.classifier, "layer4"), (self.aux_classifier, "layer3")]
            found = [
                functional.interpolate(part(maps[stage]), x.shape[2:], mode="bilinear")
                for part, stage in heads[: 1 + self.training]
            ]
            return found if self.training else found[0]

    return Case(name, name, Net, timed=name == "fcn_resnet50")


def fcn(name: str, stride: int) -> Case:
    """FCN on VGG-16."""

    def peer(bands: int, classes: int) -> nn.Module:
        return test_fcn.torch_vgg_fcn(bands, stride, 64, 4096, classes, False, (2, 2, 3, 3, 3))

    return Case(name, name, peer, timed=name == "fcn8s")


def deeplabv3(name: str, sizes: tuple[int, ...]) -> Case:
    """DeepLab v3 as torchvision's, with its auxiliary classifier."""

    def peer(bands: int, classes: int) -> nn.Module:
        return test_deeplab.torchvision_peer(
            bands, classes, sizes, True, 64, (3, 4), (12, 24, 36), 256
        )

    return Case(name, name, peer, {"aux_weight": 0.5}, timed=name == "deeplabv3_resnet50")


def deeplabv3plus(bands: int, classes: int) -> nn.Module:
    """DeepLab v3+ as segmentation-models-pytorch builds it on ResNet-34."""
    return test_deeplab.smp_peer(
        bands, classes, (3, 4, 6, 3), 64, {"layer4": 2}, (12, 24, 36), 256, 48
    )


def unet(bands: int, classes: int) -> nn.Module:
    """The U-Net of segmentation-models-pytorch on ResNet-34."""
    return test_unet.smp_peer(bands, classes, (3, 4, 6, 3), 64, (256, 128, 64, 32, 16))


def unet2015(bands: int, classes: int) -> nn.Module:
    """The U-Net of the paper, with batch normalisation."""
    return test_unet.paper_peer(bands, classes, 64, 4, False, True)


def segnet(bands: int, classes: int) -> nn.Module:
    """SegNet on VGG-16 with batch normalisation."""
    return test_segnet.torch_segnet(bands, (2, 2, 3, 3, 3), 64, classes)


def inception(bands: int, classes: int) -> nn.Module:
    """Inception-v3 as torchvision's."""
    names = [
        f"Mixed_{name}"
        for name in ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]
    ]
    return torch_inception.Inception3(classes, bands, 1.0, names)


def xception(bands: int, classes: int) -> nn.Module:
    """Xception as timm's `legacy_xception`."""
    return torch_xception.Xception(classes, bands, 1.0, middle=8, stride=2)


CASES = [
    vgg("vgg11", (1, 1, 2, 2, 2)),
    vgg("vgg11_bn", (1, 1, 2, 2, 2)),
    vgg("vgg13", (2,) * 5),
    vgg("vgg13_bn", (2,) * 5),
    vgg("vgg16", (2, 2, 3, 3, 3)),
    vgg("vgg16_bn", (2, 2, 3, 3, 3)),
    vgg("vgg19", (2, 2, 4, 4, 4)),
    vgg("vgg19_bn", (2, 2, 4, 4, 4)),
    resnet("resnet18", (2, 2, 2, 2), False),
    resnet("resnet34", (3, 4, 6, 3), False),
    resnet("resnet50", (3, 4, 6, 3), True),
    resnet("resnet101", (3, 4, 23, 3), True),
    resnet("resnet152", (3, 8, 36, 3), True),
    resnet("resnext50_32x4d", (3, 4, 6, 3), True, groups=32, per_group=4),
    resnet("wide_resnet50_2", (3, 4, 6, 3), True, per_group=128),
    densenet("densenet121", (6, 12, 24, 16), 64, 32),
    densenet("densenet161", (6, 12, 36, 24), 96, 48),
    densenet("densenet169", (6, 12, 32, 32), 64, 32),
    densenet("densenet201", (6, 12, 48, 32), 64, 32),
    Case("inception_v3", "inception_v3", inception, timed=True),
    Case("xception", "xception", xception, {"pool_padding": 1, "norm_epsilon": 1e-5}, timed=True),
    aligned("xception41", 8, (128, 2), (256, 2), (728, 2)),
    aligned("xception65", 16, (128, 2), (256, 2), (728, 2)),
    aligned("xception71", 16, (128, 2), (256, 1), (256, 2), (728, 1), (728, 2)),
    Case("unet2015", "unet2015", unet2015, timed=True),
    Case("unet", "unet", unet, timed=True),
    Case("segnet", "segnet", segnet, timed=True),
    fcn("fcn32s", 32),
    fcn("fcn16s", 16),
    fcn("fcn8s", 8),
    fcn_resnet("fcn_resnet50", (3, 4, 6, 3)),
    fcn_resnet("fcn_resnet101", (3, 4, 23, 3)),
    deeplabv3("deeplabv3_resnet50", (3, 4, 6, 3)),
    deeplabv3("deeplabv3_resnet101", (3, 4, 23, 3)),
    Case("deeplabv3plus", "deeplabv3plus", deeplabv3plus, timed=True),
    fc_densenet("fc_densenet56", (4,) * 11, 12),
    fc_densenet("fc_densenet67", (5,) * 11, 16),
    fc_densenet("fc_densenet103", (4, 5, 7, 10, 12, 15, 12, 10, 7, 5, 4), 16),
]
