"""Trained models for a map: one, or several whose probabilities are averaged.

Each model of an ensemble may take other bands; the scene is opened once, for the bands of all, and
each model sees its own of them, on its own grid, with its own temperature.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

from rsjax import bundle, sealed
from rsjax.bundle import Model
from rsjax.datasets.info import ImageSpec
from rsjax.errors import BundleError
from rsjax.input.preprocess import Inputs, names_of
from rsjax.landcover import Nomenclature
from rsjax.mapping.scene import Scene


@dataclasses.dataclass(frozen=True)
class Members:
    """The models of a map.

    Attributes:
        models: of one task and the same classes; the first one's thresholds and patch size hold.
        folders: where their bundles lie.
        weights: sha256 of each one's weights.
        seals: sha256 of each one's description, which has the former.
        inputs: the entries and bands that any of them takes.
        groups: of each model, the names of its entries in `inputs`.
        networks: those that were compiled, by what they were compiled for.
    """

    models: tuple[Model, ...]
    folders: tuple[pathlib.Path, ...]
    weights: tuple[str, ...]
    seals: tuple[str, ...]
    inputs: Inputs
    groups: tuple[frozenset[str], ...]
    networks: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def classes(self) -> Nomenclature:
        """The nomenclature of all."""
        return self.models[0].classes()

    def patch(self, scene: Scene) -> int:
        """Side of the first model's patches of training, in pixels of a scene.

        Args:
            scene: opened for `inputs`.
        """
        return _patch(self.models[0].inputs) * self.factors(scene)[0]

    def factors(self, scene: Scene) -> list[int]:
        """Of each model, the side of the finest pixels that it takes, in pixels of a scene.

        Args:
            scene: opened for `inputs`.
        """
        return [
            min(
                entry.factor
                for name, entry in scene.entries.items()
                if _takes(model.inputs, groups, name, entry.spec)
            )
            for model, groups in zip(self.models, self.groups, strict=True)
        ]

    def members(self, scene: Scene, window: int) -> list[tuple[Model, Inputs]]:
        """Each model with the entries of a scene that it takes.

        Args:
            scene: opened for `inputs`.
            window: side of a window in pixels of the scene.
        """
        found = []
        each = zip(self.models, self.groups, self.factors(scene), strict=True)
        for model, groups, factor in each:
            trained = model.inputs
            grid = max(1, round(window / factor * trained.grid[0] / _patch(trained)))
            every = scene.inputs(trained, window, grid)
            mine = {n: s for n, s in every.images.items() if _takes(trained, groups, n, s)}
            found.append((model, dataclasses.replace(every, images=mine)))
        return found


def load(checkpoints: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Members:
    """Opens one bundle or workdir, or several as an ensemble.

    Raises:
        BundleError: one is missing, damaged, or cannot predict; or they have other tasks or
            classes.
    """
    given = [checkpoints] if isinstance(checkpoints, (str, os.PathLike)) else list(checkpoints)
    models = tuple(bundle.load(one) for one in given)
    for model in models:
        model.classes()  # that it can predict
    bundle.Ensemble(models)
    codes = {model.classes().codes for model in models}
    if len(codes) > 1:
        raise BundleError(
            f"an ensemble of models with the class codes {' and '.join(map(str, codes))}: give "
            "models of one nomenclature"
        )
    folders = tuple(folder_of(one) for one in given)
    about = [(folder / bundle.ABOUT).read_bytes() for folder in folders]
    weights = tuple(str(sealed.loads(one)["weights_sha256"]) for one in about)
    seals = tuple(hashlib.sha256(one).hexdigest() for one in about)
    inputs, groups = union([model.inputs for model in models])
    return Members(models, folders, weights, seals, inputs, groups)


def folder_of(checkpoint: str | os.PathLike[str]) -> pathlib.Path:
    """The folder of a bundle, of a workdir that has one."""
    folder = pathlib.Path(os.path.abspath(checkpoint))
    return folder / "bundle" if (folder / "bundle" / bundle.ABOUT).is_file() else folder


def union(each: Sequence[Inputs]) -> tuple[Inputs, tuple[frozenset[str], ...]]:
    """The inputs of several models as those of one, for a scene to be opened with.

    Entries of one sensor, unit, pixel size and nodata value become one, with the bands that any
    model takes of it; they are read once.

    Returns:
        The inputs, whose statistics and grid mean nothing, and of each model its entries in them.
    """
    entries: dict[tuple[Any, ...], tuple[str, ImageSpec]] = {}
    bands: dict[str, None] = {}
    groups = []
    for inputs in each:
        mine = set()
        for name, spec in inputs.images.items():
            wanted = [
                b for b in names_of(spec, inputs.bands) if f"{spec.sensor}/{b}" in inputs.bands
            ]
            if not wanted:
                continue
            key = spec.sensor, spec.unit, spec.gsd_m, str(spec.nodata)
            taken = {known for known, _ in entries.values()}
            known, before = entries.get(key, (_unused(name, taken), None))
            both = tuple(dict.fromkeys([*(before.bands if before else ()), *wanted]))
            entries[key] = known, dataclasses.replace(before or spec, bands=both, steps=None)
            mine.add(known)
        bands |= dict.fromkeys(inputs.bands)
        groups.append(frozenset(mine))
    names = tuple(bands)
    zeros = (0.0,) * len(names)
    made = dataclasses.replace(
        each[0], images=dict(entries.values()), bands=names, mean=zeros, std=zeros
    )
    return made, tuple(groups)


def _unused(name: str, taken: Collection[str]) -> str:
    return name if name not in taken else _unused(f"{name}x", taken)


def _takes(inputs: Inputs, groups: Collection[str], name: str, spec: ImageSpec) -> bool:
    """Whether a model takes something of a scene's entry, whose name ends with its factor."""
    wanted = any(f"{spec.sensor}/{band}" in inputs.bands for band in spec.bands)
    return wanted and name.rpartition("_")[0] in groups


def _patch(inputs: Inputs) -> int:
    finest = min(inputs.images.values(), key=lambda spec: spec.gsd_m)
    return finest.height or inputs.grid[0]
