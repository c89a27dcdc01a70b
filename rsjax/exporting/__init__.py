"""Trained models for programs without rsjax: formats by name, each verified before it is kept.

A format is a module with `make(model, height, width, step) -> (content of the file, about)`, which
raises `ExportError` where the content does not give what the bundle gives. Adding one is such a
module and a line in `FORMATS`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pathlib
from typing import Any

from rsjax import sealed
from rsjax.bundle import Model
from rsjax.errors import ConfigError

# format: (module, packages that it imports, what installs them).
FORMATS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "stablehlo": ("stablehlo", ("flatbuffers",), "rsjax[stablehlo]"),
    "onnx": ("onnx_file", ("onnx", "onnxruntime"), "rsjax[onnx]"),
    "safetensors": ("weights", (), "rsjax"),
}


def export(
    model: Model,
    format: str,
    output: str | os.PathLike[str],
    *,
    height: int = 0,
    width: int = 0,
    step: int = 0,
) -> dict[str, Any]:
    """Writes a model in another format, once it was found to give what the bundle gives.

    Args:
        model: see `rsjax.load`.
        format: name in `FORMATS`.
        output: the file; an older one is replaced.
        height: rows of the model's grid in pixels; 0: as trained.
        width: columns of it; 0: as trained.
        step: 0: that size only; N: every height and width that is a multiple of N pixels, and a
            whole number of them in every entry.

    Returns:
        What the file says about itself.

    Raises:
        ConfigError: an unknown format, one whose packages are not installed, or a size that
            cannot be.
        BundleError: the model cannot predict; its weights can leave as safetensors.
        ExportError: the format cannot take the model, or what came out differs from the bundle;
            nothing is written.
        DiskError: the file cannot be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}; known formats: {', '.join(FORMATS)}")
    name, packages, extra = FORMATS[format]
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(f"{format} needs {' and '.join(missing)}: pip install '{extra}'")
    module = importlib.import_module(f"{__name__}.{name}")
    content, about = module.make(model, height, width, step)
    sealed.replace(pathlib.Path(output), content)
    found: dict[str, Any] = about
    return found
