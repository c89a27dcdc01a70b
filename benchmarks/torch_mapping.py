"""The peer of `benchmarks/mapping.py`: a scene to a map in plain rasterio and PyTorch.

What one would write by hand: read each window, run the network, add its probabilities on the host,
and write the classes at the end. The network is the tiny U-Net of the benchmark with the same
weights, the windows and their weights in the blend are ours, so that both maps must be equal.
"""

from __future__ import annotations

import pathlib
import sys
import time

import numpy as np
import rasterio
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "models"))

import torch_resnet

from rsjax import bundle
from rsjax.mapping import tiling
from rsjax.models.pretrained.torch_names import to_torch


class Encoder(torch_resnet.Backbone):
    """ResNet with a stem of one 3x3 convolution."""

    def __init__(self, bands: int, sizes: tuple[int, ...], width: int):
        super().__init__(bands, sizes, False, width)
        self.conv1 = nn.Conv2d(bands, width, 3, 1, 1, bias=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps of the stages, fine to coarse."""
        x, maps = functional.relu(self.bn1(self.conv1(x))), []
        for stage in self.stages:
            x = getattr(self, stage)(x)
            maps.append(x)
        return maps


class Block(nn.Module):
    """Joined with the finer map, and two convolutions."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Sequential(nn.Conv2d(count, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
            for count in (inputs, outputs)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, H / 2, W / 2) and (B, D, H, W) to (B, outputs, H, W)."""
        x = torch.cat([functional.interpolate(x, size=skip.shape[2:]), skip], 1)
        return functional.relu(self.conv2(functional.relu(self.conv1(x))))


class UNet(nn.Module):
    """The tiny U-Net of `benchmarks/mapping.py`: two stages, one step up."""

    def __init__(self, bands: int, classes: int, width: int = 8):
        super().__init__()
        self.encoder = Encoder(bands, (1, 1), width)
        self.decoder = nn.Module()
        self.decoder.blocks = nn.ModuleList([Block(3 * width, width)])
        self.segmentation_head = nn.Sequential(nn.Conv2d(width, classes, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """(B, bands, H, W) to logits (B, classes, H, W)."""
        fine, coarse = self.encoder.features(image)
        return self.segmentation_head(self.decoder.blocks[0](coarse, fine))


@torch.inference_mode()
def map_scene(
    folder: pathlib.Path,
    scene: str,
    output: pathlib.Path,
    window: int,
    overlap: int,
    batch: int,
    threads: int = 0,
) -> dict[str, float]:
    """Maps a scene of one file; its pixels, and the seconds it took, also of all cores."""
    begun, cpu = time.perf_counter(), time.process_time()
    if threads:
        torch.set_num_threads(threads)
    model = bundle.load(folder)
    classes, inputs = model.classes(), model.inputs
    net = UNet(len(inputs.bands), len(classes)).eval()
    net.load_state_dict({k: torch.tensor(v) for k, v in to_torch(model.variables).items()})
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (inputs.mean, inputs.std))
    with rasterio.open(scene) as raster:
        profile, (height, width) = raster.profile, raster.shape
        order = [raster.descriptions.index(band.split("/")[1]) + 1 for band in inputs.bands]
        rows, columns = (tiling.blended(size, window, overlap) for size in (height, width))
        total = np.zeros((len(classes), rows.end, columns.end), np.float32)
        places = [(i, j) for i in range(len(rows.starts)) for j in range(len(columns.starts))]
        for first in range(0, len(places), batch):
            some = places[first : first + batch]
            images = []
            for i, j in some:
                at = rasterio.windows.Window(columns.starts[j], rows.starts[i], window, window)
                images.append((raster.read(order, window=at) - mean) / std)
            found = net(torch.from_numpy(np.stack(images))).softmax(1).numpy()
            for (i, j), one in zip(some, found, strict=True):
                row, col = rows.starts[i], columns.starts[j]
                weight = rows.weights[i][:, None] * columns.weights[j]
                total[:, row : row + window, col : col + window] += one * weight
    codes = np.array(classes.codes, np.uint8)[total.argmax(0)[:height, :width]]
    profile.update(count=1, dtype="uint8", nodata=0)
    with rasterio.open(output, "w", **profile) as file:
        file.write(codes, 1)
    cpu = time.process_time() - cpu
    return {"pixels": height * width, "seconds": time.perf_counter() - begun, "cpu": cpu}
