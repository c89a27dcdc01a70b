"""What of a model was chosen on the very split that it is evaluated on.

Weights are fitted to the training split; the step, the temperature and the thresholds are chosen on
the validation split, and stay in the bundle. Figures of those splits are no independent test, and
an evaluation of them says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rsjax import bundle
from rsjax.datasets import folder_card, scene_list
from rsjax.input.manifest import Manifest

UNTITLED = (folder_card.Card.title, scene_list.SceneList.title)


def seen(model: bundle.Model, made: Manifest, split: str) -> list[str]:
    """What of a model comes from a split: of 'weights', 'step', 'temperature', 'thresholds'.

    Args:
        model: says what it was trained and calibrated on; published weights say nothing.
        made: the shards of the evaluation.
        split: the split, or several joined by '+'.
    """
    about, parts = model.about, set(split.split("+"))
    trained: Mapping[str, Any] = about.get("trained_on") or {}
    if not _same(trained, made):
        return []
    config: Mapping[str, Any] = about.get("config") or {}
    chosen_on = config.get("data", {}).get("validation_split", "")
    fitted_on = about.get("calibration", {}).get("split", chosen_on)
    found = {
        "weights": trained.get("split", ""),
        "step": chosen_on if about.get("validation") else "",
        "temperature": fitted_on if "temperature" in about else "",
        "thresholds": fitted_on if isinstance(about["task"].get("threshold"), list) else "",
    }
    return [what for what, source in found.items() if parts & set(filter(None, source.split("+")))]


def _same(trained: Mapping[str, Any], made: Manifest) -> bool:
    """Whether a model was trained on a dataset of the same name, version and title.

    Shards that are prepared anew have another fingerprint, but the same data; it decides where
    the title is the one that all data without a title of their own have.
    """
    info = made.info
    here = {"title": info.title, "dataset": info.name, "version": info.version,
            "simulated": made.simulated}  # fmt: skip
    if any(trained.get(key, value) != value for key, value in here.items()) or not trained:
        return False
    return info.title not in UNTITLED or trained.get("fingerprint") in (None, made.fingerprint())


def said(found: Sequence[str], split: str) -> str:
    """The sentence for the report; empty if nothing was chosen there."""
    if not found:
        return ""
    listed = f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else found[0]
    return (
        f"No independent test: the model's {listed} {'were' if len(found) > 1 else 'was'} "
        f"fitted to, or chosen on, the split {split} itself. Its figures here tend to be better "
        "than those of data it never met."
    )
