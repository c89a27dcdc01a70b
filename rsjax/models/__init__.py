"""Architectures by name, one a file.

Contract: `Model(num_classes, ...)(x, train) -> logits` is a Linen module; `x` is (B, H, W, C)
standardised bands, any C and any H and W from 32 pixels (Inception-v3 without padding: 75); logits
are float32, (B, num_classes) per image or (B, H, W, num_classes) per pixel. Parameters and
statistics are float32, `dtype` is the compute type; statistics live in 'batch_stats', randomness
comes from the rng 'dropout'. Where a published architecture has an auxiliary classifier, its logits
are sown as 'logits' in the collection 'auxiliary' in training, and the field `aux_weight` is their
weight in the loss. No model knows a dataset, task or sensor.

Backbones (`BACKBONES`) have `features(x, train) -> {stage: map}`, fine to coarse, and `strides`,
the pixels of the image for each of a map; a map has ceil or floor of side / stride pixels, and
decoders fit it to the finer one. Decoders make theirs by `backbone(encoder_name, ...)`.

Module names follow the reference implementation (each file says which), so that its weights load
by a rule: what torch calls `layer1.0.conv1.weight` is `layer1_0/conv1/kernel` here.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rsjax.errors import ConfigError

if TYPE_CHECKING:
    import flax.linen as nn

# module: the constructors in it, which are the names; imported when asked for.
BACKBONE_MODULES = {
    "aligned_xception": ("xception41", "xception65", "xception71"),
    "densenet": ("densenet121", "densenet161", "densenet169", "densenet201"),
    "inception": ("inception_v3",),
    "resnet": (
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        *("resnext50_32x4d", "wide_resnet50_2"),
    ),
    "vgg": (
        *("vgg11", "vgg13", "vgg16", "vgg19"),
        *("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    ),
    "xception": ("xception",),
}
DECODER_MODULES: dict[str, tuple[str, ...]] = {
    "deeplab": ("deeplabv3", "deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3plus"),
    "dynamicworld": ("dynamicworld",),
    "fc_densenet": ("fc_densenet56", "fc_densenet67", "fc_densenet103"),
    "fc_siam": ("fc_ef", "fc_siam_conc", "fc_siam_diff", "siam_unet"),
    "fcn": ("fcn", "fcn_resnet50", "fcn_resnet101", "fcn32s", "fcn16s", "fcn8s"),
    "segnet": ("segnet",),
    "temporal_unet": ("temporal_unet",),
    "unet": ("unet2015", "unet"),
}
# Fitted by scikit-learn (`rsjax.classic`), not trained in steps; their parameters are of any size.
CLASSIC_MODULES = {"centroids": ("kmeans",), "trees": ("random_forest", "gradient_boosting")}
BACKBONES = {name: module for module, names in BACKBONE_MODULES.items() for name in names}
CLASSIC = {name: module for module, names in CLASSIC_MODULES.items() for name in names}
TABLE = (
    BACKBONES
    | {name: module for module, names in DECODER_MODULES.items() for name in names}
    | CLASSIC
)


def get(name: str, **fields: Any) -> nn.Module:
    """The model of this name with these fields, e.g. `get('resnet50', num_classes=19)`.

    Raises:
        ConfigError: the name is not in the table, a field is unknown, or one without a default
            is missing.
    """
    if name not in TABLE:
        raise ConfigError(f"unknown model {name!r}; known models: {', '.join(TABLE)}")
    build, parameters = _constructor(name)
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
    return build(**{key: _hashable(value) for key, value in fields.items()})


def backbone(name: str, fields: Mapping[str, Any] | None = None, **defaults: Any) -> nn.Module:
    """The backbone of this name for a decoder, without a classifier.

    Args:
        name: name in `BACKBONES`.
        fields: fields that its user chose; they win over the defaults.
        defaults: what the decoder wants it to have, e.g. `dtype`, `norm` or `output_stride`; those
            that this backbone has no field for are left out.

    Raises:
        ConfigError: no backbone has this name, or a field is unknown.
    """
    if name not in BACKBONES:
        raise ConfigError(f"unknown encoder {name!r}; known encoders: {', '.join(BACKBONES)}")
    known = _constructor(name)[1]
    defaults = {key: value for key, value in defaults.items() if key in known}
    return get(name, **{"num_classes": 0, **defaults, **dict(fields or {})})


def _constructor(name: str) -> tuple[Callable[..., nn.Module], dict[str, inspect.Parameter]]:
    """The constructor of this name in the table, and its fields."""
    build = getattr(importlib.import_module(f"{__name__}.{TABLE[name]}"), name)
    parameters = inspect.signature(build).parameters.items()
    return build, {k: p for k, p in parameters if k not in ("parent", "name")}  # Linen's own


def _hashable(value: Any) -> Any:
    """What a module can hold as a field: JSON and configs know no tuples, Linen wants hashes."""
    from flax.core import freeze

    if isinstance(value, (list, tuple)):
        return tuple(_hashable(item) for item in value)
    if hasattr(value, "items"):  # a ConfigDict is no Mapping
        return freeze({key: _hashable(item) for key, item in value.items()})
    return value
