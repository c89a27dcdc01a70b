"""Xception in plain torch, named as timm's `legacy_xception` and `xception65`: peers of ours."""

import torch.nn.functional as F
from torch import nn


class SeparableConv2d(nn.Module):
    def __init__(self, inputs, outputs, dilation=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 1, dilation, dilation, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x):
        return self.pointwise(self.conv1(x))


class Block(nn.Module):
    """`stride` 0: a block of the middle flow."""

    def __init__(self, inputs, outputs, stride=0, dilation=1, relu_first=True):
        super().__init__()
        layers = []
        for channels in outputs:
            before = layers[-1].num_features if layers else inputs
            layers.append(nn.ReLU())
            layers.append(SeparableConv2d(before, channels, dilation))
            layers.append(nn.BatchNorm2d(channels))
        layers = layers if relu_first else layers[1:]
        if stride:
            layers.append(nn.MaxPool2d(3, stride, 1))
            self.skip = nn.Conv2d(inputs, outputs[-1], 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(outputs[-1])
        self.rep = nn.Sequential(*layers)

    def forward(self, x):
        return self.rep(x) + (self.skipbn(self.skip(x)) if hasattr(self, "skip") else x)


class Xception(nn.Module):
    """`stride` 1: output stride 16, where the last pool does not stride."""

    def __init__(self, classes, bands, width, middle=1, stride=1):
        super().__init__()
        n = [round(c * width) for c in (32, 64, 128, 256, 728, 1024, 1536, 2048)]
        self.conv1 = nn.Conv2d(bands, n[0], 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(n[0])
        self.conv2 = nn.Conv2d(n[0], n[1], 3, bias=False)
        self.bn2 = nn.BatchNorm2d(n[1])
        self.block1 = Block(n[1], [n[2]] * 2, 2, relu_first=False)
        self.block2 = Block(n[2], [n[3]] * 2, 2)
        self.block3 = Block(n[3], [n[4]] * 2, 2)
        self.names = [f"block{number}" for number in range(1, 5 + middle)]
        for name in self.names[3:-1]:
            setattr(self, name, Block(n[4], [n[4]] * 3))
        setattr(self, self.names[-1], Block(n[4], [n[4], n[5]], stride))
        self.conv3 = SeparableConv2d(n[5], n[6], 3 - stride)
        self.bn3 = nn.BatchNorm2d(n[6])
        self.conv4 = SeparableConv2d(n[6], n[7], 3 - stride)
        self.bn4 = nn.BatchNorm2d(n[7])
        self.fc = nn.Linear(n[7], classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        for name in self.names:
            x = getattr(self, name)(x)
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.relu(self.bn4(self.conv4(x)))
        return self.fc(x.mean((2, 3)))


class ConvNormAct(nn.Module):
    def __init__(self, inputs, outputs, size, stride, relu):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.relu = relu

    def forward(self, x):
        x = self.bn(self.conv(x))
        return F.relu(x) if self.relu else x


class AlignedSeparable(nn.Module):
    def __init__(self, inputs, outputs, stride, dilation, relu):
        super().__init__()
        self.conv_dw = nn.Conv2d(
            inputs, inputs, 3, stride, dilation, dilation, groups=inputs, bias=False
        )
        self.bn_dw = nn.BatchNorm2d(inputs, eps=1e-3)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn_pw = nn.BatchNorm2d(outputs, eps=1e-3)
        self.act = nn.ReLU() if relu else nn.Identity()

    def forward(self, x):
        x = self.act(self.bn_dw(self.conv_dw(x)))
        return self.act(self.bn_pw(self.conv_pw(x)))


class Module(nn.Module):
    def __init__(self, inputs, outputs, stride=1, dilation=1, last=False):
        super().__init__()
        self.last = last
        if not last and (inputs != outputs[-1] or stride > 1):
            self.shortcut = ConvNormAct(inputs, outputs[-1], 1, stride, False)
        self.stack = nn.Sequential()
        for number, channels in enumerate(outputs, 1):
            if not last:
                self.stack.add_module(f"act{number}", nn.ReLU())
            step = stride if number == 3 else 1
            conv = AlignedSeparable(inputs, channels, step, dilation, last)
            self.stack.add_module(f"conv{number}", conv)
            inputs = channels

    def forward(self, x):
        y = self.stack(x)
        if self.last:
            return y
        return y + (self.shortcut(x) if hasattr(self, "shortcut") else x)


class Head(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


class AlignedXception(nn.Module):
    """`stride` 1: output stride 16, where the last block is dilated."""

    def __init__(
        self, classes, bands, width, middle=1, stride=1, entry=((128, 2), (128, 2), (728, 2))
    ):
        super().__init__()
        n = {c: round(c * width) for c in (32, 64, 128, 256, 728, 1024, 1536, 2048)}
        self.stem = nn.Sequential(
            ConvNormAct(bands, n[32], 3, 2, True), ConvNormAct(n[32], n[64], 3, 1, True)
        )
        blocks, inputs = [], 64
        for channels, step in (*entry, *((728, 1),) * middle):
            blocks.append(Module(n[inputs], [n[channels]] * 3, step))
            inputs = channels
        blocks.append(Module(n[728], [n[728], n[1024], n[1024]], stride))
        blocks.append(Module(n[1024], [n[1536], n[1536], n[2048]], 1, 3 - stride, last=True))
        self.blocks = nn.Sequential(*blocks)
        self.head = Head(n[2048], classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))
