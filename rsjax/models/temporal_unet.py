"""U-Net for time series: one encoder for every step, its maps pooled over time, one decoder.

The spatial encoder shared between the dates follows U-TAE (Garnot and Landrieu 2021,
arXiv:2107.07933), with a mean or maximum over time in place of its attention. The modules are
named as those of `rsjax.models.unet.UNet`, so that an encoder or a whole U-Net of one date can be
loaded.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rsjax.errors import ConfigError
from rsjax.models.unet import UNet

Array = jax.Array

POOLS: dict[str, Callable[..., Array]] = {"mean": jnp.mean, "max": jnp.max}


class TemporalUNet(UNet):
    """The U-Net of `rsjax.models.unet` on a series; attributes as there, and two.

    With one step, or with equal steps, it is that U-Net. The order of the steps does not matter:
    only that all bands of one step stand together, in the same order in each. A step that is
    missing altogether is an image of band means, which the pooling does not leave out.

    Attributes:
        steps: number of steps; the channels are all bands of the first step, then of the second.
        pool: 'mean' or 'max' over the steps.

    Raises:
        ConfigError: as `UNet`; channels that the steps do not divide, or another pooling.
    """

    steps: int = 1
    pool: str = "mean"

    def __call__(self, x: Array, train: bool) -> Array:
        """Logits, (B, H, W, num_classes) float32, of series (B, H, W, steps * bands)."""
        batch, height, width, channels = x.shape
        if self.steps < 1 or channels % self.steps:
            raise ConfigError(
                f"temporal_unet: {channels} channels are not those of steps={self.steps}; choose "
                "the same bands at each step, step by step"
            )
        if self.pool not in POOLS:
            raise ConfigError(f"temporal_unet: pool={self.pool!r}, expected one of {list(POOLS)}")
        series = x.reshape(batch, height, width, self.steps, channels // self.steps)
        images = jnp.moveaxis(series, 3, 1).reshape(-1, height, width, channels // self.steps)
        found = self.encoder.features(images, train)
        maps = {}
        for stride, stage in self.stages.items():
            each = found[stage].reshape(batch, self.steps, *found[stage].shape[1:])
            maps[stride] = POOLS[self.pool](each, axis=1)
        return self.segmentation_head_0(self.decoder(maps, height, width, train))


temporal_unet = TemporalUNet
