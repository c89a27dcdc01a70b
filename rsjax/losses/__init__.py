"""Losses, found by name, with one contract.

`f(logits, labels, *, mask, class_weights=None, ...) -> scalar`. Logits are (..., C) with any number
of leading axes: (B, C) for scenes, (B, H, W, C) for pixels; `mask` has the leading axes and is true
where a position counts. The scalar is a float32 mean over the positions that count, whatever the
type of the logits. What stands at a masked position, were it NaN or a label outside the
nomenclature, touches neither the loss nor its gradient; where nothing counts both are 0. A label
outside the nomenclature at a position that counts makes the loss NaN. `class_weights` (C,) weigh
the terms and the mean is divided by the sum of the weights that were applied, so that a common
factor of all weights changes nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from rsjax.errors import ConfigError

# name -> module of this package that defines a function of that name.
LOSSES = {
    "asymmetric": "focal",
    "binary_cross_entropy": "classification",
    "binary_focal": "focal",
    "boundary_cross_entropy": "boundary",
    "cross_entropy": "classification",
    "dice": "regions",
    "focal": "focal",
    "focal_tversky": "regions",
    "jaccard": "regions",
    "lovasz_hinge": "lovasz",
    "lovasz_softmax": "lovasz",
    "tversky": "regions",
}

# name -> 'softmax': one class per position, labels are class indices (...,) or distributions
# (..., C); 'sigmoid': every class on its own, labels are multi-hot (..., C).
KINDS = {
    "asymmetric": "sigmoid",
    "binary_cross_entropy": "sigmoid",
    "binary_focal": "sigmoid",
    "boundary_cross_entropy": "softmax",
    "cross_entropy": "softmax",
    "dice": "softmax",
    "focal": "softmax",
    "focal_tversky": "softmax",
    "jaccard": "softmax",
    "lovasz_hinge": "sigmoid",
    "lovasz_softmax": "softmax",
    "tversky": "softmax",
}

# Losses that take no mixtures (mixup, CutMix): class indices only, or 0 and 1 only.
HARD = frozenset({"boundary_cross_entropy", "lovasz_hinge", "lovasz_softmax"})

# Losses that need pixels: labels (B, H, W).
PIXELS = frozenset({"boundary_cross_entropy"})


def get(name: str) -> Callable:
    """The loss function called `name`.

    Raises:
        ConfigError: no loss has this name; the known ones are listed.
    """
    if name not in LOSSES:
        raise ConfigError(f"unknown loss {name!r}; known losses: {', '.join(sorted(LOSSES))}")
    return getattr(importlib.import_module(f"{__name__}.{LOSSES[name]}"), name)
