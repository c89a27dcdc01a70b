"""Architectures by name, one a file.

Contract: `Model(num_classes, ...)(x, train) -> logits` is a Linen module; `x` is (B, H, W, C)
standardised bands, any C; logits are float32, (B, num_classes) per image or
(B, H, W, num_classes) per pixel at the input's resolution. Backbones have a method
`features(x, train) -> {stage: map}`, fine to coarse, that decoders share. Parameters and
statistics are float32, `dtype` is the compute type; statistics live in 'batch_stats', randomness
comes from the rng 'dropout'. Module names follow the reference implementation, so that its
weights load by a rule. No model knows a dataset, task or sensor.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from rsjax.errors import ConfigError

if TYPE_CHECKING:
    import flax.linen as nn

# name: (module, constructor in it); imported when asked for.
TABLE = {
    "resnet18": ("rsjax.models.resnet", "resnet18"),
    "resnet34": ("rsjax.models.resnet", "resnet34"),
    "resnet50": ("rsjax.models.resnet", "resnet50"),
    "resnet101": ("rsjax.models.resnet", "resnet101"),
    "resnet152": ("rsjax.models.resnet", "resnet152"),
}


def get(name: str, **fields: Any) -> nn.Module:
    """The model of this name with these fields, e.g. `get('resnet50', num_classes=19)`.

    Raises:
        ConfigError: the name is not in the table, a field is unknown, or one without a default
            is missing.
    """
    if name not in TABLE:
        raise ConfigError(f"unknown model {name!r}; known models: {', '.join(TABLE)}")
    module, constructor = TABLE[name]
    build = getattr(importlib.import_module(module), constructor)
    parameters = {
        key: parameter
        for key, parameter in inspect.signature(build).parameters.items()
        if key not in ("parent", "name")  # Linen's own
    }
    unknown = sorted(set(fields) - set(parameters))
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and key not in fields
    ]
    if unknown or missing:
        found = [f"unknown {', '.join(unknown)}"] if unknown else []
        found += [f"missing {', '.join(missing)}"] if missing else []
        raise ConfigError(
            f"model {name!r}: {'; '.join(found)}; its fields are: {', '.join(parameters)}"
        )
    return build(**fields)
