"""ResNet in plain torch, named and dilated as torchvision's: the peer of our backbones."""

import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """A basic or a bottleneck block."""

    def __init__(self, inputs, planes, bottleneck, stride, dilation, groups=1, per_group=64):
        super().__init__()
        self.bottleneck = bottleneck
        width = int(planes * per_group / 64) * groups
        out = planes * (4 if bottleneck else 1)
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(
                width, width, 3, stride, dilation[0], dilation[0], groups, bias=False
            )
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, out, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(out)
        else:
            self.conv1 = nn.Conv2d(inputs, out, 3, stride, dilation[0], dilation[0], bias=False)
            self.bn1 = nn.BatchNorm2d(out)
            self.conv2 = nn.Conv2d(out, out, 3, 1, dilation[1], dilation[1], bias=False)
            self.bn2 = nn.BatchNorm2d(out)
        if stride > 1 or inputs != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Backbone(nn.Module):
    """ResNet without its classifier; `dilated` says which of the last stages do not stride."""

    def __init__(self, bands, sizes, bottleneck, width=64, dilated=(), groups=1, per_group=64):
        super().__init__()
        self.conv1 = nn.Conv2d(bands, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs, dilation = width, 1
        self.stages = []
        for stage, count in enumerate(sizes):
            planes, blocks, before = width * 2**stage, [], dilation
            stride = 2 if stage else 1
            if stage + 1 in dilated:
                dilation, stride = dilation * stride, 1
            for index in range(count):
                pair = (dilation if index else before, dilation)
                blocks.append(
                    Block(inputs, planes, bottleneck, stride if index == 0 else 1, pair, groups,
                          per_group)
                )  # fmt: skip
                inputs = planes * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            self.stages.append(f"layer{stage + 1}")
        self.channels = inputs

    def features(self, x):
        """Maps by stage."""
        maps = {"stem": F.relu(self.bn1(self.conv1(x)))}
        x = F.max_pool2d(maps["stem"], 3, 2, 1)
        for stage in self.stages:
            maps[stage] = x = getattr(self, stage)(x)
        return maps


class ResNet(Backbone):
    """With a linear classifier."""

    def __init__(self, classes, *args, **options):
        super().__init__(*args, **options)
        self.fc = nn.Linear(self.channels, classes)

    def forward(self, x):
        return self.fc(self.features(x)[self.stages[-1]].mean((2, 3)))
