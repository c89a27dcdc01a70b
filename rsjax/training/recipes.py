"""Which runs are the same but for their seed, and in what configs differ."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Fields that say where a run happens and what it writes down, not what it learns.
PLACE = (
    "name", "data.data_dir", "data.source", "data.threads", "data.buffer", "data.stall_s",
    "compilation_cache_dir", "tensorboard", "wandb_project", "log_every_steps", "keep_latest",
    "profile_start_step", "profile_steps", "resume_data", "eval.checkpoint", "eval.split",
)  # fmt: skip
MISSING = "–"


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every field of a config as JSON types."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The fields in which configs differ, with each one's value; `MISSING` where it has none.

    Where a run happens (`PLACE`) does not count.
    """
    tables = [dict(flat(config)) for config in configs]
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = {key: [table.get(key, MISSING) for table in tables] for key in keys}
    # {} stands for no fields where another config has some: those have rows of their own.
    return {
        key: values
        for key, values in rows.items()
        if key not in PLACE
        and any(value != values[0] for value in values)
        and any(value not in ({}, MISSING) for value in values)
    }


def recipe(config: Mapping[str, Any]) -> str:
    """A text that is equal for configs that differ in their seed and their place only."""
    kept = {k: v for k, v in flat(config) if k not in PLACE and k != "seed"}
    return json.dumps(kept, sort_keys=True)


def groups(keys: Sequence[Any]) -> list[list[int]]:
    """Positions of equal keys, in the order of their first."""
    found: dict[Any, list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, []).append(position)
    return list(found.values())


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float, float]:
    """Mean and sample standard deviation (divided by n - 1).

    NaN for both if any value is NaN or None: a mean over fewer runs would be of another thing. The
    deviation of one value is NaN.
    """
    known = [math.nan if value is None else float(value) for value in values]
    if not known or not all(map(math.isfinite, known)):
        return math.nan, math.nan
    deviation = statistics.stdev(known) if len(known) > 1 else math.nan
    return statistics.fmean(known), deviation


def spread(values: Sequence[float | None]) -> str:
    """'mean ± standard deviation' in four decimals; a dash where it is not defined."""
    mean, deviation = mean_and_deviation(values)
    if math.isnan(mean):
        return MISSING
    return f"{mean:.4f}" if math.isnan(deviation) else f"{mean:.4f} ± {deviation:.4f}"
