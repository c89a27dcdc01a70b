"""Metrics, found by name, with one contract.

A metric is a `clu.metrics.Metric` made for a number of classes, `get(name).for_classes(C, ...)`,
with `empty()`, `from_model_output(*, logits, labels, mask, **_)`, `merge(other)`, `compute() ->
dict[str, float]` and `per_class() -> dict[str, np.ndarray]`. `mask` has the shape of the positions,
of any number of axes, and is true where a position counts. `from_model_output` runs under jit, on
any sharding, and gives int32 counts of one batch; the evaluation loop moves them to the host with
`to_host` (int64) and merges there, so that counts are exact and no metric of a set is a mean over
batches. Labels or logits that cannot be scored are counted and make `compute` raise. Names state
the averaging (`f1_macro`, `f1_micro`); a class that a metric is not defined for is NaN per class
and left out of its mean, and `classes_counted` says how many classes are in the mean.
"""

from __future__ import annotations

import importlib
from typing import Any

from rsjax.errors import ConfigError

# name -> (module of this package, class).
METRICS = {
    "average_precision": ("ranking", "AveragePrecision"),
    "boundary": ("boundary_score", "BoundaryScore"),
    "calibration": ("calibration", "Calibration"),
    "confusion": ("confusion", "ConfusionMatrix"),
    "multilabel": ("multilabel", "MultilabelCounts"),
    "temperature": ("temperature", "TemperatureFit"),
}


def get(name: str) -> Any:
    """The metric class called `name`, to be made for a number of classes with `for_classes`.

    Raises:
        ConfigError: no metric has this name; the known ones are listed.
    """
    if name not in METRICS:
        raise ConfigError(f"unknown metric {name!r}; known metrics: {', '.join(sorted(METRICS))}")
    module, attribute = METRICS[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def to_host(metrics: Any) -> Any:
    """Metrics (or any tree of them) as numpy arrays, integers as int64: ready to be merged."""
    from rsjax.metrics import base

    return base.to_host(metrics)
