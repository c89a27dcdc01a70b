"""How to repeat a run, from what it left on disk: a run sheet of its config, data, versions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ml_collections import ConfigDict

from rsjax import config as configs
from rsjax.input.manifest import Manifest
from rsjax.training import page, sweep_plan


def run_sheet(config: Mapping[str, Any]) -> str:
    """A config file for `python -m rsjax.main`: all fields that differ from their defaults.

    Args:
        config: a resolved config as JSON types.
    """
    lines = [
        "from ml_collections import ConfigDict",
        "",
        "from rsjax import config",
        "",
        "",
        "def get_config():",
        "    c = config.base()",
        *(f"    c.{key} = {_written(value)}" for key, value in _changed(config, configs.base())),
        "    return c",
    ]
    return "\n".join(lines) + "\n"


def restore(config: Mapping[str, Any]) -> ConfigDict:
    """The config whose JSON types these are.

    Raises:
        ConfigError: a field that this rsjax does not have.
    """
    return sweep_plan.resolve(configs.base(), dict(_changed(config, configs.base())))


def _written(value: Any) -> str:
    return f"ConfigDict({value!r})" if isinstance(value, dict) else repr(value)


def _changed(config: Mapping[str, Any], base: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        default = base.get(key)
        if isinstance(default, ConfigDict) and len(default):
            yield from _changed(value, default, f"{prefix}{key}.")
        elif isinstance(default, ConfigDict):  # free fields, e.g. of the model
            if value:
                yield prefix + key, _tuples(value)
        elif _tuples(value) != default:
            yield prefix + key, _tuples(value)


def _tuples(value: Any) -> Any:
    """JSON knows lists only; configs use tuples."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def training_seconds(rows: Sequence[Mapping[str, Any]], batch_size: int) -> float:
    """Time spent in training steps, from the rate that each row states for the steps before it."""
    seconds, last = 0.0, 0
    for row in rows:
        if rate := row.get("train/images_per_s"):
            seconds += (row["step"] - last) * batch_size / rate
            last = row["step"]
    return seconds


def section(
    split: str, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any], made: Manifest
) -> str:
    """The section of the report."""
    config, trained = about["config"], about["trained_on"]
    commands = "python -m rsjax.main --config=run.py --workdir=runs/again"
    if split != (config["data"]["test_split"] or config["data"]["validation_split"]):
        commands += (
            "\npython -m rsjax.main --config=run.py --workdir=runs/again --config.mode=eval "
            f"--config.eval.split={split}"
        )
    facts = {
        "rsjax": about["rsjax"],
        **about["versions"],
        "trained on": f"{trained['title']} {trained['version']}, split {trained['split']}"
        + (" (SIMULATED)" if trained["simulated"] else ""),
        "shards trained on": trained["fingerprint"],
        "evaluated on": f"{made.info.title} {made.info.version}, split {split}"
        + (" (SIMULATED)" if made.simulated else ""),
        "shards evaluated on": made.fingerprint(),
        "source of the data": made.info.page,
        "licence": made.info.licence,
        "citation": made.info.citation,
        "step of the model": str(about["step"]),
    }
    seconds = training_seconds(rows, config["batch_size"])
    if seconds:
        unit = (3600, "h") if seconds >= 7200 else (60, "min") if seconds >= 120 else (1, "s")
        facts["time in training steps"] = f"{seconds / unit[0]:.1f} {unit[1]}, from images a second"
    table = page.table(("", ""), [(escape(k), escape(v)) for k, v in facts.items()], text=(1,))
    return (
        "<h2>How to reproduce</h2>\n"
        "<p>Save this as <code>run.py</code>; <code>data.data_dir</code> is where the shards lie "
        "or, for a simulation, will lie.</p>\n"
        f"<pre>{escape(run_sheet(config))}</pre>\n<pre>{escape(commands)}</pre>\n{table}\n"
        f"<details><summary>Every field of the config</summary>\n"
        f"<pre>{escape(json.dumps(config, indent=1))}</pre></details>"
    )
