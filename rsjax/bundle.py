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

from rsjax import averaging, sealed, sensors
from rsjax.datasets.info import ImageSpec
from rsjax.errors import BundleError, ConfigError, SensorError
from rsjax.input import fitting
from rsjax.input.preprocess import Inputs, names_of, steps_of
from rsjax.landcover import Nomenclature

FORMAT = 2  # 2: sealed
ABOUT, WEIGHTS = "rsjax.json", "weights.safetensors"
REMEDY = "in a workdir, the training command writes it anew from the best checkpoint"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Predictions for a batch of images.

    Attributes:
        classes: names of all classes.
        probabilities: (B, K) float32; of pixels (B, H, W, K).
        labels: for each image the names of its predicted classes: the most probable one, or all
            above the threshold in a multi-label task, most probable first; in segmentation those
            that have pixels, largest share first.
        maps: segmentation only: the class index of each pixel, (B, H, W) uint8.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    labels: list[list[str]]
    maps: np.ndarray | None = None

    def __str__(self) -> str:
        rows = self.probabilities if self.maps is None else _shares(self.maps, len(self.classes))
        lines = []
        for row, names in zip(rows, self.labels, strict=True):
            shares = (f"{n} {row[self.classes.index(n)]:.2f}" for n in names)
            lines.append(", ".join(shares) or "no class above the threshold")
        return "\n".join(lines)


def _shares(maps: np.ndarray, classes: int) -> np.ndarray:
    """The share of the pixels that each class has in each map, (B, K)."""
    flat = maps.reshape(len(maps), -1)
    counts = np.stack([np.bincount(row, minlength=classes) for row in flat])
    return counts / flat.shape[1]


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
    ) -> Prediction:
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
            inputs, batch = self.inputs, self._checked(images)
        else:
            inputs, batch = self._from_array(np.asarray(images), bands, unit)
        return self._run(inputs, batch, batch_size, tta)

    def _run(
        self, inputs: Inputs, batch: dict[str, np.ndarray], batch_size: int, tta: str
    ) -> Prediction:
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

    def decided(self, probabilities: np.ndarray) -> Prediction:
        """The prediction that follows from probabilities (B, K), or of pixels (B, H, W, K)."""
        names, rows, maps = self.classes().names, probabilities, None
        if probabilities.ndim == 4:
            maps = probabilities.argmax(axis=-1).astype(np.uint8)
            rows = _shares(maps, len(names))
            chosen = rows > 0
        else:
            chosen = self.task.decide(probabilities)
        labels = [
            [names[i] for i in np.argsort(-row) if yes[i]]
            for row, yes in zip(rows, chosen, strict=True)
        ]
        return Prediction(tuple(names), probabilities, labels, maps)

    def _checked(self, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = {}
        for name, spec in self.inputs.images.items():
            if name not in images:
                raise SensorError(
                    f"no entry '{name}' ({spec.sensor} {', '.join(spec.bands)}); the model needs "
                    f"{sorted(self.inputs.images)}, found {sorted(images)}"
                )
            image = np.asarray(images[name])
            image = image[None] if image.ndim == len(spec.shape) else image
            shape = fitting.wanted(spec.shape, self.inputs.fit)
            if image.ndim == len(shape) + 1 and shape != spec.shape and 0 not in shape:
                image = np.stack([fitting.fit(one, shape) for one in image])  # as in training
            if image.ndim == len(shape) + 1:
                shape = tuple(a or b for a, b in zip(shape, image.shape[1:], strict=True))
            series = "" if spec.steps is None else "steps, "
            least = steps_of(spec, self.inputs.bands) if series else 0
            if image.shape[1:] != shape or (series and shape[0] < least):
                few = f", {least} steps or more" if series and shape[0] < least else ""
                raise BundleError(
                    f"entry '{name}' is {image.shape[1:]}, expected {shape}{few}: {series}rows, "
                    f"columns and bands {', '.join(spec.bands)}"
                )
            _check_values(image, spec, name)
            batch[name] = image
        if len({len(v) for v in batch.values()}) > 1:
            raise BundleError(f"entries of {[len(v) for v in batch.values()]} images; give equal")
        return batch

    def _from_array(
        self, image: np.ndarray, bands: Sequence[str] | None, unit: str | None
    ) -> tuple[Inputs, dict[str, np.ndarray]]:
        image = image[None] if image.ndim == 3 else image
        names = tuple(bands or self.inputs.bands)
        if image.ndim != 4 or image.shape[-1] != len(names):
            raise BundleError(
                f"the image is {image.shape}, expected (rows, columns, {len(names)}) or a batch "
                f"of it; channels {', '.join(names)}. Name yours with bands=[...]"
            )
        sizes = {self.inputs.grid} | {(s.height, s.width) for s in self.inputs.images.values()}
        largest = max(sizes)
        if image.shape[1:3] not in (self.inputs.grid, largest):
            raise BundleError(
                f"the image is {image.shape[1]} x {image.shape[2]} pixels, the model takes "
                f"{largest[0]} x {largest[1]} or {self.inputs.grid[0]} x {self.inputs.grid[1]}; "
                "cut patches of that size, it is not resized silently"
            )
        batch, specs = {}, {}
        for entry, spec in self.inputs.images.items():
            known = names_of(spec, self.inputs.bands)
            wanted = [b for b in known if f"{spec.sensor}/{b}" in self.inputs.bands]
            at = []
            for band in wanted:
                full = f"{spec.sensor}/{band}"
                hits = [i for i, n in enumerate(names) if n in (full, band)]
                if len(hits) != 1:
                    what = "missing" if not hits else "given more than once"
                    raise SensorError(
                        f"band {full} is {what}; the model needs {', '.join(self.inputs.bands)}, "
                        f"found {', '.join(names)}"
                    )
                at.append(hits[0])
            part = image[..., at]
            if unit and unit != spec.unit:
                part = sensors.convert(part, unit, spec.unit)
            height, width = image.shape[1:3]
            specs[entry] = dataclasses.replace(
                spec, bands=tuple(wanted), height=height, width=width, dtype=str(part.dtype),
                steps=None,
            )  # fmt: skip
            _check_values(part, specs[entry], "image")
            batch[entry] = part
        return dataclasses.replace(self.inputs, images=specs, fit=fitting.NONE), batch


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
    ) -> Prediction:
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


def _check_values(image: np.ndarray, spec: ImageSpec, name: str) -> None:
    """Refuses values that cannot be in the unit that the model was trained on."""
    if image.dtype.kind == "f":
        bad = np.isinf(image) if spec.missing_is_nan else ~np.isfinite(image)
        if bad.any():
            raise BundleError(f"'{name}' has NaN or infinite pixels; fill or cut them out first")
        image = image[~np.isnan(image)] if spec.missing_is_nan else image
    if not image.size:
        raise BundleError(f"'{name}' has no pixel that is not missing; leave it out")
    low, high = sensors.valid_range(spec.sensor, spec.unit)
    found = float(image.min()), float(image.max())
    tiny = spec.unit.startswith("reflectance_") and image.size > 1 and 0 <= found[1] <= 2
    if found[0] < low or found[1] > high or (tiny and found[1] > 0):
        raise BundleError(
            f"'{name}' has values from {found[0]:g} to {found[1]:g}, but {spec.sensor} in the "
            f"model's unit '{spec.unit}' lies in [{low:g}, {high:g}]"
            + (" and reaches beyond 2" if tiny else "")
            + f". Say what yours are in: unit=... ({', '.join(sensors.UNITS)})"
        )


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
