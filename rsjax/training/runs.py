"""What finished runs left in their workdirs, read from the files alone."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rsjax import bundle, sealed
from rsjax.errors import ConfigError, RsjaxError
from rsjax.training import logging, recipes

# The figure of each class that stands for it, in order of preference, by task.
OF_CLASSES = {
    "classification": ("f1", "recall"),
    "multilabel": ("average_precision", "f1"),
    "segmentation": ("iou", "f1"),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run, evaluated on one split.

    Attributes:
        label: names it among the others: its workdir, as short as is unique.
        name: of its config.
        about: model, task, headline, config, data and classes, as the evaluation says.
        scalars: figures of the split.
        per_class: figures of each class.
        intervals: figure -> (low, high).
        rows: of `metrics.jsonl`; empty where it was trained elsewhere.
        parameters: count of the model's parameters, or None where there is no bundle.
    """

    label: str
    name: str
    about: Mapping[str, Any]
    scalars: Mapping[str, float]
    per_class: Mapping[str, Sequence[float]]
    intervals: Mapping[str, tuple[float, float]]
    rows: list[dict[str, Any]]
    parameters: int | None

    @property
    def headline(self) -> str:
        """The figure that chose the model."""
        return str(self.about["headline"])

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved config."""
        return self.about["config"]

    @property
    def task(self) -> str:
        """Name in `rsjax.tasks`."""
        return str(self.about["task"]["name"])

    @property
    def data(self) -> str:
        """Fingerprint of the shards that it was evaluated on."""
        return str(self.about["evaluated_on"]["fingerprint"])

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None where an older evaluation does not say."""
        found = self.about.get("nomenclature")
        return tuple(found["names"]) if found else None

    @property
    def recipe(self) -> str:
        """Equal for runs that differ in their seed only, evaluated on the same data."""
        return recipes.recipe(self.config) + self.data


def read(workdirs: Sequence[str | os.PathLike[str]], split: str) -> list[Run]:
    """The runs of some workdirs.

    Raises:
        ConfigError: no workdir is given, or one twice.
        RsjaxError: a workdir has no evaluation of the split, or it is damaged.
    """
    paths = [pathlib.Path(path).absolute() for path in workdirs]
    if not paths:
        raise ConfigError("no workdir given, e.g. python -m rsjax.compare runs/one runs/other")
    if twice := sorted({str(path) for path in paths if paths.count(path) > 1}):
        raise ConfigError(f"given twice: {', '.join(twice)}")
    return [_run(path, label, split) for path, label in zip(paths, _labels(paths), strict=True)]


def _labels(paths: Sequence[pathlib.Path]) -> list[str]:
    """The shortest ends of paths that differ from one another."""
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        labels = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            break
    return labels


def _run(workdir: pathlib.Path, label: str, split: str) -> Run:
    path = workdir / "eval" / f"{split}.json"
    remedy = (
        f"python -m rsjax.main --config=CONFIG --workdir={workdir} --config.mode=eval "
        f"--config.eval.split={split}"
    )
    try:
        about = sealed.read(path)
    except FileNotFoundError:
        known = sorted(p.stem for p in path.parent.glob("*.json")) or ["none"]
        missing = "" if workdir.is_dir() else " (there is no such folder)"
        raise RsjaxError(
            f"{path}: not there{missing}; evaluated splits: {', '.join(known)}. Train the run to "
            f"its end, or evaluate it: {remedy}"
        ) from None
    except (ValueError, OSError) as error:
        raise RsjaxError(f"{path}: {error}. Evaluate again: {remedy}") from None
    config = about["config"]
    return Run(
        label=label,
        name=config["name"] or workdir.name,
        about=about,
        scalars=about["scalars"],
        per_class=about["per_class"],
        intervals=about.get("intervals", {}),
        rows=logging.read(workdir),
        parameters=_parameters(workdir / "bundle" / bundle.WEIGHTS),
    )


def _parameters(path: pathlib.Path) -> int | None:
    """Parameters of a bundle, from the header of its weights; batch statistics do not count."""
    from safetensors import safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            names = [name for name in list(file.keys()) if name.startswith("params/")]
            shapes = [file.get_slice(name).get_shape() for name in names]
    except Exception as error:  # its errors are of no common class
        raise RsjaxError(
            f"{path}: damaged ({error}). Copy the bundle again, or train the run again: the same "
            "command writes it anew"
        ) from None
    return sum(math.prod(shape) for shape in shapes)


def figure_of_classes(runs: Sequence[Run]) -> str:
    """Name of the figure of each class that all runs have and that suits their task; or ''."""
    for name in OF_CLASSES.get(runs[0].task, ()):
        if all(name in run.per_class for run in runs):
            return name
    return ""


def mismatches(runs: Sequence[Run]) -> list[str]:
    """Why figures of these runs cannot be compared one with another, as sentences."""
    found = []
    for what, values in (
        ("on different data (the fingerprints of their shards differ)", [r.data for r in runs]),
        ("in different tasks", [r.task for r in runs]),
        ("with different classes", [r.classes for r in runs if r.classes is not None]),
    ):
        kinds = list(dict.fromkeys(values))
        if len(kinds) > 1:
            found.append(f"The runs were evaluated {what}: their figures are not comparable.")
    return found
