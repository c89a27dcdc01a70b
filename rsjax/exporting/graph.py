"""What is exported: raw entries to probabilities, at open sizes; and the comparison afterwards.

Sides are multiples of one unit, so that entries at 10, 20 and 60 m and the model's grid keep their
ratio: with 120, 60 and 20 pixels they are 6, 3 and 1 units, whatever a unit is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

import rsjax
from rsjax import sensors
from rsjax.bundle import Model
from rsjax.datasets.info import ImageSpec
from rsjax.errors import ConfigError, ExportError
from rsjax.input.preprocess import preprocess, steps_of

SMALLEST = 32  # pixels of the model's grid that every architecture takes
# compute type: largest difference of a probability, and of its logarithm. The first alone would
# say little where a model is sure of itself: its 0 and 1 come out right by accident.
LIMITS = {"float32": (1e-4, 1e-2), "bfloat16": (5e-2, 0.5), "float16": (1e-2, 0.1)}

Run = Callable[[dict[str, np.ndarray]], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A function to export, and the sizes that it takes.

    Attributes:
        model: the model at the size that is exported, which may be symbolic.
        samples: the model at sizes to compare at.
        step: the sides are any multiple of so many pixels of the model's grid; 0: one size.
    """

    model: Model
    samples: tuple[Model, ...]
    step: int

    def probabilities(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Float32 probabilities of raw entries {name: (B, h, w, c)}."""
        image = preprocess(self.model.inputs)(batch)
        model = self.model
        logits = model.module.apply(model.variables, image, False).astype(jnp.float32)
        if model.temperature != 1.0:
            logits = logits / jnp.float32(model.temperature)
        found: jax.Array = model.task.probabilities(logits)
        return found

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and type of each raw entry; the batch is symbolic."""
        sides = [side for spec in self.model.inputs.images.values() for side in _sides(spec)]
        scopes = [side.scope for side in sides if not isinstance(side, int)]
        (batch,) = jax_export.symbolic_shape("b", scope=scopes[0] if scopes else None)
        return {
            name: jax.ShapeDtypeStruct((batch, *_shape(spec)), spec.dtype)
            for name, spec in self.model.inputs.images.items()
        }


def graph(model: Model, height: int, width: int, step: int) -> Graph:
    """The function of a model at a size, or at every size that `step` divides.

    Raises:
        BundleError: the model cannot predict.
        ConfigError: a side is no whole number of pixels in one of the entries.
    """
    model.classes()
    model = _closed(model)
    grid = model.inputs.grid
    units = _units(model)
    pixels = [grid[axis] // units[axis] for axis in (0, 1)]  # of the grid in each unit
    counts = []
    for name, wanted, axis in (("height", height, 0), ("width", width, 1)):
        wanted = wanted or grid[axis]
        if wanted < 1 or wanted % pixels[axis]:
            raise ConfigError(
                f"{name} {wanted}: the entries of this model ({_say(model)}) need a multiple of "
                f"{pixels[axis]} pixels"
            )
        counts.append(wanted // pixels[axis])
    own = _sized(model, *counts)
    if not step:
        return Graph(own, (own,), 0)
    steps = [step // math.gcd(step, side) for side in pixels]  # in units
    least = [-(-min(SMALLEST, grid[i]) // (steps[i] * pixels[i])) for i in (0, 1)]
    rows, cols = jax_export.symbolic_shape(
        "h, w", constraints=[f"h >= {least[0]}", f"w >= {least[1]}"]
    )
    near = [max(counts[i] // steps[i], least[i]) for i in (0, 1)]
    sizes = [(near[0] * steps[0], near[1] * steps[1])]
    sizes += [((near[0] + 2) * steps[0], (near[1] + 1) * steps[1])]
    samples = tuple(_sized(model, *size) for size in sizes)
    return Graph(_sized(model, rows * steps[0], cols * steps[1]), samples, step)


@contextlib.contextmanager
def tracing(graph: Graph, what: str) -> Iterator[None]:
    """Turns what JAX raises where a model needs to know its size into one message.

    Raises:
        ExportError: the model has a part that open sizes do not pass.
    """
    try:
        yield
    except Exception as error:
        if not graph.step:
            raise
        said = str(error).strip().splitlines()[0]
        finer = f"step={SMALLEST}, or " if graph.step % SMALLEST else ""
        raise ExportError(
            f"{graph.model.about['model']['name']} to {what} with open sizes: "
            f"{type(error).__name__}: {said} Give {finer}no step: then it takes one size"
        ) from error


def compare(graph: Graph, run: Run, what: str) -> dict[str, Any]:
    """Runs both on random input of each sample size, in batches of 2, 3, ...

    Returns:
        The largest difference of a probability and of its logarithm, how far the probabilities
        of the inputs lie apart, and the shapes compared.

    Raises:
        ExportError: they differ by more than rounding.
    """
    dtype = graph.model.about["model"]["dtype"]
    found, spread = np.zeros(2), 0.0
    shapes = []
    for count, model in enumerate(graph.samples, 2):
        batch = random_batch(model, count)
        wanted = model.predict(batch).probabilities
        values = np.asarray(run(batch))
        shape = {name: list(value.shape) for name, value in batch.items()}
        if values.shape != wanted.shape:
            raise ExportError(
                f"the {what} gives {values.shape} for entries {shape}, the bundle {wanted.shape}; "
                "nothing was written. Please report this, with the model's fields"
            )
        near_zero = np.float32(1e-30)
        logarithms = np.abs(np.log(values + near_zero) - np.log(wanted + near_zero))
        both = np.array([np.abs(values - wanted).max(), logarithms.max()])
        if not (both <= LIMITS[dtype]).all():
            where = np.unravel_index(np.abs(values - wanted).argmax(), wanted.shape)
            raise ExportError(
                f"the {what} differs from the bundle for entries {shape}: by {both[0]:.2g} at "
                f"{tuple(map(int, where))} of the probabilities, {values[where]:.6g} for "
                f"{wanted[where]:.6g}, and by {both[1]:.2g} in a logarithm; allowed are "
                f"{LIMITS[dtype]} in {dtype}. Nothing was written; please report this"
            )
        found = np.maximum(found, both)
        spread = max(spread, float(np.ptp(wanted, axis=0).max()))
        shapes.append(shape)
    return {
        "largest_difference": float(found[0]),
        "largest_difference_of_logarithm": float(found[1]),
        "spread_over_inputs": spread,
        "entries": shapes,
    }


def random_batch(model: Model, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Raw entries drawn at random, as bright as the data that the model was trained on.

    Half of the variance is between images: means over many pixels would be alike otherwise.
    """
    rng = np.random.default_rng(seed)
    inputs = model.inputs
    known = dict(zip(inputs.bands, zip(inputs.mean, inputs.std, strict=True), strict=True))
    batch = {}
    for name, spec in inputs.images.items():
        low, high = sensors.valid_range(spec.sensor, spec.unit)
        usual = next(known[b] for b in inputs.bands if b.startswith(f"{spec.sensor}/"))
        base = {band.partition("@")[0]: moments for band, moments in known.items()}
        mean, std = np.array([base.get(f"{spec.sensor}/{b}", usual) for b in spec.bands]).T
        steps = () if spec.steps is None else (spec.steps,)
        values = mean + std / np.sqrt(2) * sum(
            rng.normal(size=(count, *steps, *sides, len(spec.bands)))
            for sides in ((1, 1), _sides(spec))
        )
        values = np.clip(values, low, high)
        if spec.missing_is_nan:
            values[rng.random(values.shape) < 0.05] = np.nan
        if np.dtype(spec.dtype).kind in "iu":
            limits = np.iinfo(spec.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        batch[name] = values.astype(spec.dtype)
    return batch


def about(model: Model, format: str) -> dict[str, Any]:
    """What a file says about itself: all that is needed to use it, as plain JSON types."""
    told: dict[str, Any] = {
        k: model.about[k] for k in ("model", "task", "trained_on") if k in model.about
    }
    classes = model.nomenclature
    if classes is not None:
        told["nomenclature"] = {"name": classes.name, "title": classes.title}
        columns = zip(classes.names, classes.codes, classes.colours, strict=True)
        told["classes"] = [{"name": n, "code": code, "colour": c} for n, code, c in columns]
    if model.temperature != 1.0:  # thresholds are of probabilities with it
        told["temperature"] = model.temperature
        told["temperature_applied"] = format != "safetensors"  # which has weights alone
    return {
        "rsjax": rsjax.__version__,
        "format": format,
        **told,
        "bands": model.inputs.bands,
        "mean": model.inputs.mean,
        "std": model.inputs.std,
        **({"rescale": model.inputs.rescale} if model.inputs.rescale else {}),
    }


def about_entries(graph: Graph) -> dict[str, Any]:
    """What the file says about its inputs and its output."""
    return {
        "inputs": {
            name: {
                **spec.to_json(),
                "height": spec.height if isinstance(spec.height, int) else str(spec.height),
                "width": spec.width if isinstance(spec.width, int) else str(spec.width),
                "layout": "batch, rows, columns, bands"
                if spec.steps is None
                else "batch, steps, rows, columns, bands",
            }
            for name, spec in graph.model.inputs.images.items()
        },
        "step": graph.step,
        "output": "probabilities float32, classes last",
    }


def _shape(spec: ImageSpec) -> tuple[Any, ...]:
    return (*spec.shape[:-3], *_sides(spec), len(spec.bands))


def _sides(spec: ImageSpec) -> tuple[Any, Any]:
    return spec.height, spec.width


def _say(model: Model) -> str:
    return ", ".join(f"{k} {s.height}x{s.width}" for k, s in model.inputs.images.items())


def _closed(model: Model) -> Model:
    """The model with a size for every entry: that of the grid, where images vary."""
    grid, bands = model.inputs.grid, model.inputs.bands
    images = {
        name: dataclasses.replace(
            s,
            height=s.height or grid[0],
            width=s.width or grid[1],
            steps=None if s.steps is None else steps_of(s, bands),
        )
        for name, s in model.inputs.images.items()
    }
    return dataclasses.replace(model, inputs=dataclasses.replace(model.inputs, images=images))


def _units(model: Model) -> list[int]:
    """Units along both axes of the size that the model was trained at."""
    sides = [_sides(spec) for spec in model.inputs.images.values()]
    return [math.gcd(model.inputs.grid[i], *(side[i] for side in sides)) for i in (0, 1)]


def _sized(model: Model, rows: Any, cols: Any) -> Model:
    """The model for images of so many units."""
    units = _units(model)

    def scaled(sides: tuple[int, int]) -> tuple[Any, Any]:
        return sides[0] // units[0] * rows, sides[1] // units[1] * cols

    images = {}
    for name, spec in model.inputs.images.items():
        height, width = scaled(_sides(spec))
        images[name] = dataclasses.replace(spec, height=height, width=width)
    inputs = dataclasses.replace(model.inputs, images=images, grid=scaled(model.inputs.grid))
    return dataclasses.replace(model, inputs=inputs)
