"""The peer of `benchmarks/train.py`: ResNet-50 and its training step in plain PyTorch.

torchvision's architecture (v1.5: the bottleneck strides in its 3x3 convolution), written out so
that the benchmark needs no torchvision. Preprocessing and augmentation are on the device, as ours
are: bands to one grid, standardised, one of the eight symmetries for each sample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride > 1 or channels != 4 * width:
            conv = nn.Conv2d(channels, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 4 * width, H / stride, W / stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """ResNet-50 for any number of bands."""

    def __init__(self, bands: int, classes: int, stages: tuple[int, ...] = (3, 4, 6, 3)):
        super().__init__()
        self.conv1 = nn.Conv2d(bands, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        blocks, channels = [], 64
        for stage, count in enumerate(stages):
            for index in range(count):
                width = 64 * 2**stage
                blocks.append(Bottleneck(channels, width, 2 if stage and not index else 1))
                channels = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, classes)."""
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(self.blocks(x).mean((2, 3)))


def train_step(
    batch: dict[str, np.ndarray],
    mean: np.ndarray,
    std: np.ndarray,
    classes: int,
    device: str,
    *,
    channels_last: bool,
    amp: bool,
    compiled: bool,
) -> tuple[Callable[[], float], int]:
    """A training step on a batch that lies on the device, and the number of parameters.

    Args:
        batch: raw entries (B, h, w, c) in the order of the bands, and `label` (B, classes).
        mean: of each band.
        std: of each band.
        classes: number of labels.
        device: 'cpu' or 'cuda'.
        channels_last: memory format of images and weights.
        amp: bfloat16 by autocast.
        compiled: `torch.compile`.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = ResNet(len(mean), classes).to(device).to(memory_format=layout)
    optimizer = torch.optim.AdamW(
        model.parameters(), 1e-3, weight_decay=0.01, fused=device != "cpu"
    )
    shift = torch.tensor(mean, dtype=torch.float32, device=device).reshape(1, -1, 1, 1)
    scale = 1 / torch.tensor(std, dtype=torch.float32, device=device).reshape(1, -1, 1, 1)
    labels = torch.tensor(batch["label"], dtype=torch.float32, device=device)
    raw = [
        torch.tensor(v.astype(np.int32), device=device).to(torch.uint16)
        for k, v in batch.items()
        if k != "label"
    ]
    size = max(image.shape[1] for image in raw)
    count = len(labels)

    def forward() -> Tensor:
        parts = [image.to(torch.float32).permute(0, 3, 1, 2) for image in raw]
        parts = [
            x
            if x.shape[-1] == size
            else functional.interpolate(x, (size, size), mode="bilinear", align_corners=False)
            for x in parts
        ]
        x = (torch.cat(parts, 1) - shift) * scale
        draws = torch.rand((3, count, 1, 1, 1), device=device) < 0.5
        x = torch.where(draws[0], x.flip(2), x)
        x = torch.where(draws[1], x.flip(3), x)
        x = torch.where(draws[2], x.transpose(2, 3), x).contiguous(memory_format=layout)
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            logits = model(x)
        return functional.binary_cross_entropy_with_logits(logits.float(), labels)

    run = torch.compile(forward) if compiled else forward

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = run()
        loss.backward()
        optimizer.step()
        return float(loss.detach())  # waits for the device

    return step, sum(p.numel() for p in model.parameters())
