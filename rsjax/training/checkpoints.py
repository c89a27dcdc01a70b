"""Training checkpoints: Orbax, sealed with checksums, the latest and the best kept.

A step holds `state`, and `rsjax`: a JSON description (config, inputs, classes, data position).
Orbax has no checksums over array data, so a step is sealed with the sha256 of its files once it
is committed. Restoring tries the newest step first; one that is unsealed, damaged or incomplete is
named, moved aside and the next older one is used.
"""

from __future__ import annotations

import json
import logging
import math
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from rsjax.errors import CheckpointError
from rsjax.input.manifest import write_json
from rsjax.input.shards import digest
from rsjax.training import hosts

log = logging.getLogger("rsjax")

SEAL = "sha256.json"


class Checkpoints:
    """The checkpoints of a workdir; use it in a `with` block, or the last save is lost.

    Args:
        directory: the folder of the steps.
        headline: the metric that says which step is best; larger is better.
        keep_latest: steps to keep for resuming.
        keep_best: steps to keep for their metric.
    """

    def __init__(self, directory: pathlib.Path, headline: str, keep_latest: int, keep_best: int):
        self.directory = directory.absolute()
        self.writes = jax.process_index() == 0
        self.unsealed: list[int] = []

        def score(metrics: Any) -> float:  # a NaN never displaces a number
            value = (metrics or {}).get(headline)
            return value if value is not None and math.isfinite(value) else -math.inf

        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep_latest),
                checkpoint_managers.BestN(
                    get_metric_fn=score,
                    reverse=False,
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        if self.writes:
            shutil.rmtree(self.directory / "_trash", ignore_errors=True)
        self.manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                create=True,
                cleanup_tmp_directories=True,
                todelete_subdir="_trash",
                preservation_policy=keep,
                best_fn=score,
                best_mode="max",
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: Any) -> None:
        try:
            self.finish()
        finally:
            self.manager.close()

    def save(
        self, step: int, state: Any, about: dict[str, Any], metrics: dict[str, float] | None = None
    ) -> None:
        """Begins to save a step in the background, after the one before is sealed."""
        self.finish()
        if step in self.manager.all_steps():
            return
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), rsjax=ocp.args.JsonSave(about)
        )
        if self.manager.save(step, args=args, metrics=metrics, force=True):
            self.unsealed.append(step)

    def finish(self) -> None:
        """Waits until what was saved is on disk and sealed.

        Raises:
            CheckpointError: it could not be written, e.g. because the disk is full.
        """
        try:
            self.manager.wait_until_finished()
        except Exception as error:
            steps, self.unsealed = self.unsealed, []
            raise CheckpointError(
                f"{self.directory}: step {steps} could not be saved ({error}). Free disk space and "
                "run the same command again: it resumes from the newest whole step"
            ) from error
        while self.unsealed:
            folder = self.directory / str(self.unsealed.pop())
            if self.writes and folder.is_dir():  # it may have been superseded already
                write_json(folder / SEAL, _digests(folder))
        if self.writes:
            shutil.rmtree(self.directory / "_trash", ignore_errors=True)

    def poll(self) -> None:
        """Seals what is on disk, without waiting for what is not."""
        if self.unsealed and not self.manager.is_saving_in_progress():
            self.finish()

    def restore(self, target: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest sound step as (state, description), or None if there is none.

        Args:
            target: shapes, dtypes and shardings of the state.

        Raises:
            CheckpointError: a sound step does not fit `target`; lists names, shapes and dtypes.
        """
        for step in sorted(self.manager.all_steps(), reverse=True):
            folder = self.directory / str(step)
            fault = check(folder) if self.writes else ""
            if hosts.agree(bool(fault)):
                log.warning("checkpoint step %d is damaged (%s); using an older one", step, fault)
                if self.writes:
                    _move_aside(folder)
                hosts.barrier("checkpoint moved")
                self.manager.reload()
                continue
            differences = list(diff(folder, target))
            if differences:
                raise CheckpointError(
                    f"{folder} does not fit the model and optimizer of this config:\n  "
                    + "\n  ".join(differences[:20])
                    + "\nChange the config back, or use another --workdir"
                )
            restored = self.manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target), rsjax=ocp.args.JsonRestore()
                ),
            )
            return restored["state"], restored["rsjax"]
        return None


def check(folder: pathlib.Path) -> str:
    """What is wrong with a checkpoint step on disk; empty if it is whole."""
    try:
        sealed = json.loads((folder / SEAL).read_text())
    except FileNotFoundError:
        return "it was not sealed: the run ended while it was saved"
    except (OSError, ValueError) as error:
        return f"{SEAL}: {error}"
    found = _digests(folder)
    for name in sorted(sealed.keys() | found.keys()):
        if sealed.get(name) != found.get(name):
            return f"{name}: " + (
                "changed"
                if name in sealed and name in found
                else "missing"
                if name in sealed
                else "not part of it"
            )
    return ""


def diff(folder: pathlib.Path, target: Any) -> Iterator[str]:
    """Names, shapes and dtypes in which a saved state differs from `target`, one a line."""
    with ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.metadata(folder / "state").item_metadata.tree
    have, want = _flat(saved), _flat(target)
    # Parameters first: what else differs follows from them.
    for name in sorted(have.keys() | want.keys(), key=lambda n: (not n.startswith("params"), n)):
        if name not in have:
            yield f"- {name}: not in the checkpoint, expected {want[name]}"
        elif name not in want:
            yield f"+ {name}: {have[name]} in the checkpoint, not in this run"
        elif have[name] != want[name]:
            yield f"! {name}: {have[name]} in the checkpoint, expected {want[name]}"


def _flat(tree: Any) -> dict[str, str]:
    names = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = "/".join(jax.tree_util.keystr((key,), simple=True) for key in path)
        names[name] = f"{leaf.dtype}{tuple(leaf.shape)}"
    return names


def _digests(folder: pathlib.Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SEAL
    }


def _move_aside(folder: pathlib.Path) -> None:
    aside = folder.with_name(f"damaged-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
