"""Which patches a simulated BigEarthNet has: scenes, places, splits, classes."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from rsjax.datasets import patches
from rsjax.errors import ConfigError

_CELLS = 91  # patches a side of a Sentinel-2 tile
# A tile's outer ring is for training, the next for validation, the centre for testing.
_RINGS = {"train": (29, 46), "validation": (20, 29), "test": (0, 20)}
_SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
# Training patches with each of the 19 classes, of the real dataset.
_FREQUENCY = (
    33626, 6398, 88236, 15190, 42968, 51034, 60127, 15082, 64164, 76344, 78791, 6984, 6329, 64198,
    738, 11344, 670, 30466, 35914,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Scene:
    """A Sentinel-2 product: satellite, time, orbit, tile and its corner; the Sentinel-1 scene."""

    satellite: str
    time: str
    orbit: str
    tile: str
    epsg: int
    x: float
    y: float
    country: str
    radar: str


_SCENES = (
    Scene("S2A", "20170613T101031", "R022", "33UUP", 32633, 300000, 5400000, "Austria",
           "S1B_IW_GRDH_1SDV_20170612T165809"),
    Scene("S2A", "20170617T113321", "R080", "29UPU", 32629, 600000, 5900040, "Ireland",
           "S1A_IW_GRDH_1SDV_20170617T064724"),
    Scene("S2A", "20171221T112501", "R037", "29SND", 32629, 499980, 4400040, "Portugal",
           "S1A_IW_GRDH_1SDV_20171221T064238"),
    Scene("S2B", "20170924T093020", "R136", "35VPK", 32635, 600000, 7000020, "Finland",
           "S1A_IW_GRDH_1SDV_20170925T043256"),
    Scene("S2A", "20170905T095031", "R079", "34VFH", 32634, 600000, 6200040, "Lithuania",
           "S1B_IW_GRDH_1SDV_20170905T045113"),
    Scene("S2B", "20170802T092029", "R093", "34TCR", 32634, 300000, 5100000, "Serbia",
           "S1A_IW_GRDH_1SDV_20170802T163340"),
    Scene("S2A", "20180506T105031", "R051", "31UGS", 32631, 699960, 5700000, "Belgium",
           "S1B_IW_GRDH_1SDV_20180506T054233"),
    Scene("S2A", "20170818T103021", "R108", "32TMT", 32632, 399960, 5300040, "Switzerland",
           "S1A_IW_GRDH_1SDV_20170818T171455"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Patch:
    """One patch to write: column and row in the tile, and a class that it must have."""

    scene: Scene
    column: int
    row: int
    split: str
    index: int
    wanted: int

    @property
    def product(self) -> str:
        """Name of the Sentinel-2 product."""
        s = self.scene
        return f"{s.satellite}_MSIL2A_{s.time}_N9999_{s.orbit}_T{s.tile}"

    @property
    def name(self) -> str:
        """Name of the patch in version 2."""
        return f"{self.product}_{self.column:02d}_{self.row:02d}"

    @property
    def name_v1(self) -> str:
        """Name of the patch in version 1."""
        # Version 1 pads neither the hour nor the place in the tile.
        day, _, hour = self.scene.time.partition("T")
        return f"{self.scene.satellite}_MSIL2A_{day}T{int(hour)}_{self.column}_{self.row}"

    @property
    def radar_name(self) -> str:
        """Name of the Sentinel-1 patch; its place in the tile is not padded."""
        return f"{self.scene.radar}_{self.scene.tile}_{self.column}_{self.row}"

    @property
    def corner(self) -> tuple[float, float]:
        """Coordinates of the upper left corner."""
        side = patches.EXTENT_M
        return self.scene.x + side * self.column, self.scene.y - side * self.row


def make_plan(count: int, seed: int) -> list[Patch]:
    """Which patches there are: their places, splits and the class each must have."""
    rng = np.random.default_rng([seed, 0])
    sizes = {name: max(int(share * count + 0.5), 1) for name, share in _SHARES.items()}
    sizes["train"] = max(count - sizes["validation"] - sizes["test"], 1)
    column, row = np.meshgrid(np.arange(_CELLS), np.arange(_CELLS))
    ring = np.maximum(abs(column - _CELLS // 2), abs(row - _CELLS // 2))
    common = np.argsort(_FREQUENCY)[::-1]
    plan: list[Patch] = []
    for split, size in sizes.items():
        inner, outer = _RINGS[split]
        cells = np.argwhere((ring >= inner) & (ring < outer))
        places = rng.permutation(len(cells) * len(_SCENES))
        size = min(size, count - len(plan))
        if size > len(places):
            raise ConfigError(
                f"count={count}: the simulated tiles have {len(places)} places for split "
                f"'{split}', {size} are needed; give a smaller count"
            )
        for i, place in enumerate(places[:size].tolist()):
            scene = _SCENES[place % len(_SCENES)]
            y, x = cells[place // len(_SCENES)].tolist()
            # Every class comes first in some patch of each split, the common ones earliest.
            wanted = int(common[i]) if i < len(common) else int(rng.choice(19, p=chances()))
            plan.append(Patch(scene, x, y, split, len(plan), wanted))
    return sorted(plan, key=lambda patch: patch.name)


def pick(plan: list[Patch], extra: int, seed: int) -> set[int]:
    """Indices of the patches with snow or cloud; never those that bring a class into a split."""
    first: dict[str, int] = {}
    for patch in plan:
        first[patch.split] = min(first.get(patch.split, patch.index), patch.index)
    free = [p.index for p in plan if p.index >= first[p.split] + 19]
    free = free if len(free) >= extra else [p.index for p in plan]
    return set(np.random.default_rng([seed, 1]).choice(free, extra, replace=False).tolist())


@functools.cache
def chances() -> np.ndarray:
    """How often each of the 19 classes is drawn: rare ones rarely, but less so than in reality."""
    weights = np.sqrt(_FREQUENCY)
    return weights / weights.sum()
