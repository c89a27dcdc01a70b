"""StableHLO by `jax.export`: a zip with `model.bin`, for CPU, CUDA and TPU, and `rsjax.json`.

`model.bin` is what `jax.export.deserialize` takes; it needs JAX and flatbuffers, not rsjax. JAX
promises to read it for six months after the release that wrote it.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import jax
import numpy as np
from jax import export as jax_export

from rsjax.bundle import Model
from rsjax.exporting import graph as graphs

PLATFORMS = ("cpu", "cuda", "tpu")
CONTENT, ABOUT = "model.bin", "rsjax.json"


def make(model: Model, height: int, width: int, step: int) -> tuple[bytes, dict[str, Any]]:
    """See `rsjax.exporting`."""
    graph = graphs.graph(model, height, width, step)
    content = _serialized(graph)
    exported = jax_export.deserialize(bytearray(content))

    def run(batch: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(exported.call(batch))

    about = {
        **graphs.about(model, "stablehlo"),
        **graphs.about_entries(graph),
        "platforms": PLATFORMS,
        "jax": jax.__version__,
        "verified": graphs.compare(graph, run, "StableHLO"),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(CONTENT, content)
        archive.writestr(ABOUT, json.dumps(about, indent=1))
    return file.getvalue(), about


def _serialized(graph: graphs.Graph) -> bytes:
    with graphs.tracing(graph, "StableHLO"):
        function = jax.jit(graph.probabilities)
        exported = jax_export.export(function, platforms=PLATFORMS)(graph.shapes())
    return bytes(exported.serialize())
