"""Inception-v3 in plain torch, named as torchvision's: the peer of ours, at any width."""

import torch
import torch.nn.functional as F
from torch import nn


class BasicConv2d(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs, outputs, **options):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, bias=False, **options)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


def conv(inputs, outputs, size, stride=1, padding=None):
    """Padded to the same size unless told."""
    rows, cols = (size, size) if isinstance(size, int) else size
    same = (rows // 2, cols // 2)
    return BasicConv2d(
        inputs,
        outputs,
        kernel_size=size,
        stride=stride,
        padding=same if padding is None else padding,
    )


class Block(nn.Module):
    """What the five kinds of blocks share."""

    def __init__(self, edge, count_padding):
        super().__init__()
        self.edge, self.count_padding = edge, count_padding

    def averaged(self, x):
        return self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=self.count_padding))

    def halved(self, x):
        return F.max_pool2d(x, 3, 2, self.edge)


class A(Block):
    def __init__(self, inputs, pooled, n, *options):
        super().__init__(*options)
        self.branch1x1 = conv(inputs, n(64), 1)
        self.branch5x5_1 = conv(inputs, n(48), 1)
        self.branch5x5_2 = conv(n(48), n(64), 5)
        self.branch3x3dbl_1 = conv(inputs, n(64), 1)
        self.branch3x3dbl_2 = conv(n(64), n(96), 3)
        self.branch3x3dbl_3 = conv(n(96), n(96), 3)
        self.branch_pool = conv(inputs, pooled, 1)
        self.outputs = n(64) + n(64) + n(96) + pooled

    def forward(self, x):
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.averaged(x)], 1)


class B(Block):
    def __init__(self, inputs, n, *options):
        super().__init__(*options)
        self.branch3x3 = conv(inputs, n(384), 3, 2, self.edge)
        self.branch3x3dbl_1 = conv(inputs, n(64), 1)
        self.branch3x3dbl_2 = conv(n(64), n(96), 3)
        self.branch3x3dbl_3 = conv(n(96), n(96), 3, 2, self.edge)
        self.outputs = n(384) + n(96) + inputs

    def forward(self, x):
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, self.halved(x)], 1)


class C(Block):
    def __init__(self, inputs, inside, n, *options):
        super().__init__(*options)
        self.branch1x1 = conv(inputs, n(192), 1)
        self.branch7x7_1 = conv(inputs, inside, 1)
        self.branch7x7_2 = conv(inside, inside, (1, 7))
        self.branch7x7_3 = conv(inside, n(192), (7, 1))
        self.branch7x7dbl_1 = conv(inputs, inside, 1)
        self.branch7x7dbl_2 = conv(inside, inside, (7, 1))
        self.branch7x7dbl_3 = conv(inside, inside, (1, 7))
        self.branch7x7dbl_4 = conv(inside, inside, (7, 1))
        self.branch7x7dbl_5 = conv(inside, n(192), (1, 7))
        self.branch_pool = conv(inputs, n(192), 1)
        self.outputs = 4 * n(192)

    def forward(self, x):
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), seven, twice, self.averaged(x)], 1)


class D(Block):
    def __init__(self, inputs, n, *options):
        super().__init__(*options)
        self.branch3x3_1 = conv(inputs, n(192), 1)
        self.branch3x3_2 = conv(n(192), n(320), 3, 2, self.edge)
        self.branch7x7x3_1 = conv(inputs, n(192), 1)
        self.branch7x7x3_2 = conv(n(192), n(192), (1, 7))
        self.branch7x7x3_3 = conv(n(192), n(192), (7, 1))
        self.branch7x7x3_4 = conv(n(192), n(192), 3, 2, self.edge)
        self.outputs = n(320) + n(192) + inputs

    def forward(self, x):
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), self.halved(x)], 1)


class E(Block):
    def __init__(self, inputs, n, *options):
        super().__init__(*options)
        self.branch1x1 = conv(inputs, n(320), 1)
        self.branch3x3_1 = conv(inputs, n(384), 1)
        self.branch3x3_2a = conv(n(384), n(384), (1, 3))
        self.branch3x3_2b = conv(n(384), n(384), (3, 1))
        self.branch3x3dbl_1 = conv(inputs, n(448), 1)
        self.branch3x3dbl_2 = conv(n(448), n(384), 3)
        self.branch3x3dbl_3a = conv(n(384), n(384), (1, 3))
        self.branch3x3dbl_3b = conv(n(384), n(384), (3, 1))
        self.branch_pool = conv(inputs, n(192), 1)
        self.outputs = n(320) + 4 * n(384) + n(192)

    def forward(self, x):
        y, z = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        y = [self.branch3x3_2a(y), self.branch3x3_2b(y)]
        z = [self.branch3x3dbl_3a(z), self.branch3x3dbl_3b(z)]
        return torch.cat([self.branch1x1(x), *y, *z, self.averaged(x)], 1)


class Aux(nn.Module):
    """The auxiliary classifier; maps below 17 pixels as ours takes them."""

    def __init__(self, inputs, classes, n):
        super().__init__()
        self.conv0 = conv(inputs, n(128), 1)
        self.conv1 = conv(n(128), n(768), 5, padding=0)
        self.fc = nn.Linear(n(768), classes)

    def forward(self, x):
        if min(x.shape[2:]) < 17:
            x = F.avg_pool2d(x, [min(side, 5) for side in x.shape[2:]], 3)
            x = self.conv0(x)
            rows, cols = (max(5 - side, 0) for side in x.shape[2:])
            x = F.pad(x, (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2))
        else:
            x = self.conv0(F.avg_pool2d(x, 5, 3))
        x = F.adaptive_avg_pool2d(self.conv1(x), (1, 1))
        return self.fc(torch.flatten(x, 1))


class Inception3(nn.Module):
    """The blocks of these names; logits, in training with the auxiliary ones."""

    def __init__(self, classes, bands, width, names, pad=False, count_padding=True):
        super().__init__()

        def n(channels):
            return int(channels * width)

        edge = self.edge = 1 if pad else 0
        options = (n, edge, count_padding)
        self.Conv2d_1a_3x3 = conv(bands, n(32), 3, 2, edge)
        self.Conv2d_2a_3x3 = conv(n(32), n(32), 3, padding=edge)
        self.Conv2d_2b_3x3 = conv(n(32), n(64), 3)
        self.Conv2d_3b_1x1 = conv(n(64), n(80), 1)
        self.Conv2d_4a_3x3 = conv(n(80), n(192), 3, padding=edge)
        kinds = {
            **{"Mixed_5b": (A, n(32)), "Mixed_5c": (A, n(64)), "Mixed_5d": (A, n(64))},
            **{"Mixed_6a": (B,), "Mixed_6b": (C, n(128)), "Mixed_6c": (C, n(160))},
            **{"Mixed_6d": (C, n(160)), "Mixed_6e": (C, n(192))},
            **{"Mixed_7a": (D,), "Mixed_7b": (E,), "Mixed_7c": (E,)},
        }
        self.names, channels = names, n(192)
        for name in names:
            kind, *inside = kinds[name]
            setattr(self, name, kind(channels, *inside, *options))
            channels = getattr(self, name).outputs
            if name[6] == "6":
                before = channels
        self.AuxLogits = Aux(before, classes, n)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2, self.edge))
        x = F.max_pool2d(self.Conv2d_4a_3x3(x), 3, 2, self.edge)
        for name in self.names:
            x = getattr(self, name)(x)
            if name[6] == "6":
                middle = x
        y = self.fc(x.mean((2, 3)))
        return [y, self.AuxLogits(middle)] if self.training else y
