"""Which samples of a segmentation are shown, and their predicted maps.

An evaluation keeps counts of each record, not its map: millions of maps would not fit. After it,
the records with the lowest, the highest and the most typical mIoU are predicted once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rsjax import averaging
from rsjax.input import pipeline
from rsjax.input.manifest import Manifest
from rsjax.tasks import Task
from rsjax.training import data, layout, sharding
from rsjax.training.evaluate import Results
from rsjax.training.maps import miou

EACH = 12  # records of each kind
BATCH = 8  # records predicted at once, rounded up to what the devices share evenly


Chooser = Callable[[dict[str, np.ndarray]], np.ndarray]  # samples -> positions of records


def choose(samples: dict[str, np.ndarray]) -> np.ndarray:
    """Positions of the records to show: worst, best, and nearest to the median, up to 12 each."""
    figure = miou(samples)
    known = np.flatnonzero(~np.isnan(figure))
    if not len(known):
        return known
    order = known[np.argsort(figure[known], kind="stable")]
    middle = order[np.argsort(np.abs(figure[order] - np.median(figure[known])), kind="stable")]
    return np.unique(np.concatenate([order[:EACH], order[-EACH:], middle[:EACH]]))


def predict(
    config: ConfigDict,
    made: Manifest,
    task: Task,
    members: Sequence[Any],
    put: Callable[..., Any],
    states: Sequence[Any],
    temperatures: Sequence[float],
    split: str,
    found: Results,
    mesh: Mesh,
    choose: Chooser = choose,
) -> dict[str, np.ndarray]:
    """The maps of the records that `choose` takes.

    Returns:
        `shown` (M,), positions among the samples; `maps` (M, H, W) uint8, the predicted classes;
        `confidence` (M, H, W) uint8, the probability of each, of 255.
    """
    same, over_data = sharding.replicated(mesh), sharding.over_data(mesh)
    logits_of = averaging.logits_of([(m, one) for m, one, _ in members], task.kind, config.eval.tta)

    def to_maps(variables: Any, each: jax.Array, batch: Any) -> dict[str, jax.Array]:
        probabilities = task.probabilities(logits_of(variables, each, batch))
        best = jnp.round(probabilities.max(axis=-1) * 255).astype(jnp.uint8)
        maps = jnp.argmax(probabilities, axis=-1).astype(jnp.uint8)
        return {"maps": maps, "confidence": best, "valid": batch["valid"]}

    apply = jax.jit(
        to_maps,
        in_shardings=(
            tuple({"params": placed, "batch_stats": same} for _, _, placed in members),
            same,
            over_data,
        ),
        out_shardings=same,
    )
    unit = mesh.shape["data"]
    size = -(-BATCH // unit) * unit
    chosen = choose(found.samples)
    source = data.open_split(config, made.root, split, [one for _, one, _ in members], task.name)
    batches = pipeline.eval_batches(
        source,
        size,
        0,
        1,
        *sharding.reader_of(over_data, size),
        stall_s=config.data.stall_s,
        records=found.samples["index"][chosen],
    )
    variables = put(states, members, same)
    each = layout.put(np.asarray(temperatures, np.float32), same)
    parts = [
        jax.device_get(apply(variables, each, batch))
        for batch in pipeline.OnMesh(batches, over_data)
    ]
    if not parts:
        return {}
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    keep = joined.pop("valid")
    return {"shown": chosen, **{name: values[keep] for name, values in joined.items()}}
