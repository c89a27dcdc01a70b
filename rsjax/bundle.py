"""A trained model with all that it needs to predict: training writes it, mapping reads it.

A bundle is a folder with `weights.safetensors` (parameters and batch statistics, no pickle) and
`rsjax.json`: the model and its fields, the bands, their units and statistics, the classes with
their colours, the task, and what it was trained on. `rsjax.load(path)` takes a bundle, or a
workdir that has one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rsjax import averaging, prediction, sealed
from rsjax.errors import BundleError, ConfigError
from rsjax.input import given
from rsjax.input.preprocess import Inputs
from rsjax.landcover import Nomenclature

FORMAT = 2  # 2: sealed
ABOUT, WEIGHTS = "rsjax.json", "weights.safetensors"
REMEDY = "in a workdir, the training command writes it anew from the best checkpoint"


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model; `predict` is all that most users need.

    Attributes:
        variables: {'params': ..., 'batch_stats': ...} float32.
        inputs: bands, units, statistics and grid of the input.
        nomenclature: the classes; None for weights that are only to start training from.
        about: everything else, as in `rsjax.json`: model, task, temperature, trained_on, metrics,
            config, and 'lacks': what such weights have not, so that they cannot predict.
    """

    variables: dict[str, Any]
    inputs: Inputs
    nomenclature: Nomenclature | None
    about: dict[str, Any]

    @functools.cached_property
    def module(self) -> Any:
        """The Linen module."""
        from rsjax import models

        model = self.about["model"]
        return models.get(
            model["name"],
            num_classes=self.about["outputs"],
            dtype=jax.numpy.dtype(model["dtype"]).type,
            **model["fields"],
        )

    @functools.cached_property
    def task(self) -> Any:
        """The task, with its threshold."""
        from rsjax import tasks

        task = self.about["task"]
        classes = len(self.classes())
        return tasks.make(task["name"], {**task, "class_weights": "none"}, classes)

    @property
    def temperature(self) -> float:
        """What the logits are divided by; 1 where none was fitted."""
        return float(self.about.get("temperature", 1.0))

    def classes(self) -> Nomenclature:
        """The nomenclature of a model that can predict; for another one a BundleError."""
        lacks = self.about.get("lacks")
        if lacks or self.nomenclature is None:
            raise BundleError(
                f"this model cannot predict: it has no {lacks or 'classes'}. Train from its "
                "weights first, with --config.init_from"
            )
        return self.nomenclature

    def predict(
        self,
        images: Mapping[str, np.ndarray] | np.ndarray,
        *,
        bands: Sequence[str] | None = None,
        unit: str | None = None,
        batch_size: int = 64,
        tta: str = "none",
    ) -> prediction.Prediction:
        """Class names and probabilities of images.

        Args:
            images: either the entries of a dataset, {'s2_10m': (B, h, w, c), ...}, with the bands
                of `self.inputs.images` in their order; or one array (B, H, W, C), or (H, W, C),
                on the model's grid, its channels named by `bands`.
            bands: names of the channels, 'B02' or 'sentinel2_l2a/B02', in any order; more than
                the model takes is fine. None: the model's own, `self.inputs.bands`.
            unit: unit of the values of an array (`rsjax.sensors.UNITS`); None: that of training.
            batch_size: images computed at once.
            tta: 'd4': probabilities are the mean over the symmetries of the square.

        Raises:
            ConfigError: an unknown `tta`.
            BundleError: sizes, dtypes or values that do not fit, or a model that cannot predict.
            SensorError: bands are missing or cannot be told apart, or the unit does not fit.
        """
        self.classes()  # before the values are looked at
        if tta not in averaging.TTA:
            raise ConfigError(f"tta={tta!r}: choose one of {', '.join(averaging.TTA)}")
        if isinstance(images, Mapping):
            inputs, batch = self.inputs, given.entries(self.inputs, images)
        else:
            inputs, batch = given.array(self.inputs, np.asarray(images), bands, unit)
        return self._run(inputs, batch, batch_size, tta)

    def _run(
        self, inputs: Inputs, batch: dict[str, np.ndarray], batch_size: int, tta: str
    ) -> prediction.Prediction:
        apply = _apply(self.module, self.task.kind, _Frozen(inputs), tta)
        temperature = np.full(1, self.temperature, np.float32)
        count = len(next(iter(batch.values())))
        parts = []
        for start in range(0, count, batch_size):
            part = {k: v[start : start + batch_size] for k, v in batch.items()}
            short = min(batch_size, count) - len(next(iter(part.values())))
            if short > 0:  # one shape, one compilation
                part = {
                    k: np.concatenate([v, np.repeat(v[-1:], short, 0)]) for k, v in part.items()
                }
            found = np.asarray(apply((self.variables,), temperature, part))
            parts.append(found[: len(found) - short] if short > 0 else found)
        return self.decided(np.concatenate(parts))

    def decided(self, probabilities: np.ndarray) -> prediction.Prediction:
        """The prediction that follows from probabilities (B, K), or of pixels (B, H, W, K)."""
        names, rows, maps = self.classes().names, probabilities, None
        if probabilities.ndim == 4:
            maps = probabilities.argmax(axis=-1).astype(np.uint8)
            rows = prediction.shares(maps, len(names))
            chosen = rows > 0
        else:
            chosen = self.task.decide(probabilities)
        labels = [
            [names[i] for i in np.argsort(-row) if yes[i]]
            for row, yes in zip(rows, chosen, strict=True)
        ]
        return prediction.Prediction(tuple(names), probabilities, labels, maps)


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Several models as one: the mean of their probabilities, the first one's thresholds.

    Each takes the bands that it needs from the same images, with its own temperature.

    Attributes:
        models: of one task and the same classes.

    Raises:
        BundleError: there is none, or they have other tasks or classes.
    """

    models: tuple[Model, ...]

    def __post_init__(self) -> None:
        kinds = {(one.task.name, one.classes().names) for one in self.models}
        if len(kinds) != 1:
            told = ", ".join(f"{name} of {len(names)} classes" for name, names in kinds)
            raise BundleError(
                f"an ensemble of {told or 'no models'}: give models of one task and the same "
                "classes in the same order"
            )

    def predict(
        self,
        images: Mapping[str, np.ndarray] | np.ndarray,
        *,
        bands: Sequence[str] | None = None,
        unit: str | None = None,
        batch_size: int = 64,
        tta: str = "none",
    ) -> prediction.Prediction:
        """As `Model.predict`; an array needs `bands` where the models take different ones."""
        how: dict[str, Any] = {"bands": bands, "unit": unit, "batch_size": batch_size, "tta": tta}
        each = [one.predict(images, **how).probabilities for one in self.models]
        return self.models[0].decided(np.mean(each, axis=0))


class _Frozen:
    """Hashes `Inputs` by content, so that equal inputs share one compiled function."""

    def __init__(self, inputs: Inputs):
        self.inputs = inputs
        self.key = json.dumps(inputs.to_json(), sort_keys=True)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and other.key == self.key


@functools.lru_cache(maxsize=16)
def _apply(module: Any, kind: str, inputs: _Frozen, tta: str) -> Callable[..., Any]:
    logits = averaging.logits_of([(module, inputs.inputs)], kind, tta)
    probabilities = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}[kind]
    return jax.jit(lambda *arguments: probabilities(logits(*arguments)))


def save(model: Model, folder: str | os.PathLike[str]) -> None:
    """Writes a bundle; an older one there is replaced as a whole.

    Raises:
        DiskError: it cannot be written; the older one stays.
    """
    from flax.traverse_util import flatten_dict
    from safetensors.numpy import save as to_bytes

    folder = pathlib.Path(folder)
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    flat = flatten_dict(jax.device_get(model.variables), sep="/")
    try:
        content = to_bytes({k: np.ascontiguousarray(v) for k, v in flat.items()})
        sealed.replace(temporary / WEIGHTS, content)
        about = {
            "format": FORMAT,
            **model.about,
            "inputs": model.inputs.to_json(),
            "nomenclature": model.nomenclature.to_json() if model.nomenclature else None,
            "weights_sha256": hashlib.sha256(content).hexdigest(),
        }
        sealed.write(temporary / ABOUT, about)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    recover(folder)
    old = _aside(folder)
    with sealed.writing(folder):
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    sealed.sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _aside(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f".{folder.name}.old")


def recover(folder: pathlib.Path) -> None:
    """Brings back the bundle that a process killed between the two renames left aside.

    For the process that writes there; readers find it where it is.
    """
    old = _aside(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def is_sound(folder: pathlib.Path) -> bool:
    """Whether a whole bundle is there."""
    try:
        load(folder)
    except BundleError:
        return False
    return True


def load(path: str | os.PathLike[str]) -> Model:
    """Opens a bundle, or the bundle of a workdir.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    from flax.traverse_util import unflatten_dict
    from safetensors.numpy import load as from_bytes

    folder = pathlib.Path(path)
    own = folder / "bundle"
    for place in (own, _aside(own), folder, _aside(folder)):  # aside: replaced at this moment
        if (place / ABOUT).is_file():
            folder = place
            break
    if not (folder / ABOUT).is_file():
        raise BundleError(
            f"{folder}: no bundle ({ABOUT} and {WEIGHTS}) here or in its subfolder 'bundle'. Give "
            "a workdir whose run reached its first evaluation, or a bundle"
        )
    try:
        about = sealed.read(folder / ABOUT)
        if about.pop("format") != FORMAT:
            raise BundleError(f"{folder / ABOUT}: another format than {FORMAT}; update rsjax")
        inputs = Inputs.from_json(about.pop("inputs"))
        classes = about.pop("nomenclature")
        nomenclature = None if classes is None else Nomenclature.from_json(classes)
        expected = about.pop("weights_sha256")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise BundleError(f"{folder / ABOUT}: {error}. Copy the bundle again; {REMEDY}") from None
    try:
        content = (folder / WEIGHTS).read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != expected:
        raise BundleError(
            f"{folder / WEIGHTS}: missing or damaged (its sha256 is not that in {ABOUT}). "
            f"Copy the bundle again; {REMEDY}"
        )
    variables = unflatten_dict(from_bytes(content), sep="/")
    variables.setdefault("batch_stats", {})
    return Model(variables, inputs, nomenclature, about)
