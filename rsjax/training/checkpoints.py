"""Training checkpoints: Orbax, sealed with checksums, the latest and the best kept.

A step holds `state`, and `rsjax`: a JSON description (config, inputs, classes, data position).
Orbax has no checksums over array data, so a step is sealed with the sha256 of its files, synced to
the disk, before Orbax renames it to its final name: a step that can be seen is whole, wherever the
run was killed. All steps are checked at the start; one that was damaged later is named and moved
aside, so that the run goes on from the newest sound one.
"""

from __future__ import annotations

import logging
import math
import os
import pathlib
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from rsjax import sealed
from rsjax.errors import CheckpointError
from rsjax.input.manifest import digest
from rsjax.training import hosts

log = logging.getLogger("rsjax")

SEAL = "sha256.json"
TEMPORARY = ".orbax-checkpoint-tmp"  # in the name of a step while it is written


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
        self.saving: list[int] = []
        self.fault: Exception | None = None  # of the thread that saves

        def score(metrics: Any) -> tuple[float, int]:
            metrics = metrics or {}
            value = metrics.get(headline, math.nan)
            # A NaN never displaces a number, nor a later step an equal one.
            return value if math.isfinite(value) else -math.inf, -metrics.get("step", 0)

        self.score = score
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
        if self.writes:  # before Orbax reads any of it
            _purge(self.directory)
            for folder in _steps(self.directory):
                if fault := check(folder):
                    log.warning(
                        "checkpoint step %s is damaged (%s); it is moved aside", folder.name, fault
                    )
                    _move_aside(folder)
        hosts.barrier("checkpoints checked")
        self.manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                create=True,
                cleanup_tmp_directories=True,
                todelete_subdir="_trash",
                preservation_policy=keep,
                best_fn=score,
                best_mode="max",
                async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, error: Any, *_: Any) -> None:
        if self.fault and jax.process_count() > 1:
            return
        failed: CheckpointError | None = None
        try:
            self.finish()
        except CheckpointError as one:
            failed = one
        try:
            self.manager.close()
        except Exception as other:  # Orbax says once more what was said
            if not (failed or error):
                raise self._failed(other) from other
        if failed:
            raise failed

    def save(
        self, step: int, state: Any, about: dict[str, Any], metrics: dict[str, float] | None = None
    ) -> None:
        """Begins to save a step in the background, after the one before is on disk.

        Raises:
            CheckpointError: the one before, or this one, could not be written.
        """
        self.finish()
        if step in self.manager.all_steps():
            return
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), rsjax=ocp.args.JsonSave(about)
        )
        self.saving = [step]
        metrics = {**metrics, "step": step} if metrics else None
        try:
            self.manager.save(step, args=args, metrics=metrics, force=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._failed(error) from error

    def _seal(self) -> None:
        """Seals the step that is being saved; Orbax calls it when all is written but the name."""
        try:
            (folder,) = self.directory.glob(f"{self.saving[-1]}{TEMPORARY}*")
            for path in folder.rglob("*"):
                with sealed.writing(path):
                    sealed.sync(path)
            sealed.write(folder / SEAL, _digests(folder))
        except Exception as error:
            self.fault = error
            raise

    def _failed(self, error: Exception) -> CheckpointError:
        steps, self.saving = self.saving, []
        if self.writes:  # room for what the user may want to save instead
            for folder in self.directory.glob(f"*{TEMPORARY}*"):
                shutil.rmtree(folder, ignore_errors=True)
        kept = max((int(p.name) for p in _steps(self.directory)), default=0)
        reason = re.search(
            r"No space left on device|Disk quota exceeded|Permission denied", str(error)
        )
        said = reason[0] if reason else (str(error) or repr(error)).splitlines()[0]
        return CheckpointError(
            f"{self.directory}: step {steps[-1] if steps else '?'} could not be saved ({said})"
            f"{sealed.free(self.directory)} from step {kept}"
        )

    def finish(self) -> None:
        """Waits until what was saved is on disk.

        Raises:
            CheckpointError: it could not be written, e.g. because the disk is full.
        """
        while jax.process_count() > 1 and self.manager.is_saving_in_progress():
            self._raise_fault()
            time.sleep(0.01)
        try:
            self.manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error
        self.saving = []
        if self.writes:
            shutil.rmtree(self.directory / "_trash", ignore_errors=True)

    def _raise_fault(self) -> None:
        """Of many processes: Orbax would wait for the others, which wait for this one."""
        if self.fault and jax.process_count() > 1:
            raise self._failed(self.fault) from self.fault

    def poll(self) -> None:
        """Raises what went wrong in the background, without waiting for what is not done."""
        self._raise_fault()
        if self.saving and not self.manager.is_saving_in_progress():
            self.finish()

    def restore(self, target: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest step as (state, description), or None if there is none.

        Args:
            target: shapes, dtypes and shardings of the state.

        Raises:
            CheckpointError: it does not fit `target`; lists names, shapes and dtypes.
        """
        step = self.manager.latest_step()
        if step is None:
            return None
        folder = self.directory / str(step)
        differences = list(diff(folder, target))
        if differences:
            raise CheckpointError(
                f"{folder} does not fit the model and optimizer of this config:\n  "
                + "\n  ".join(differences[:20])
                + "\nChange the config back, or use another --workdir"
            )
        return self._read(step, target)

    def restore_best(self, target: Any, headline: float) -> tuple[Any, int, dict[str, Any]] | None:
        """The best step as (state, step, its figures), or None if it is not there.

        Args:
            target: shapes, dtypes and shardings of the state.
            headline: the figure that the best step must have.
        """
        step = self.manager.best_step()
        figures = dict(self.manager.metrics(step) or {}) if step is not None else {}
        if step is None or self.score(figures) != (headline, -step):
            return None
        del figures["step"]
        return self._read(step, target)[0], step, figures

    def _read(self, step: int, target: Any) -> tuple[Any, dict[str, Any]]:
        restored = self.manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(target), rsjax=ocp.args.JsonRestore()
            ),
        )
        return restored["state"], restored["rsjax"]


def check(folder: pathlib.Path) -> str:
    """What is wrong with a checkpoint step on disk; empty if it is whole."""
    try:
        wanted = sealed.read(folder / SEAL)
    except FileNotFoundError:
        return f"{SEAL}: missing"
    except (OSError, ValueError) as error:
        return f"{SEAL}: {error}"
    found = _digests(folder)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            return f"{name}: " + (
                "changed"
                if name in wanted and name in found
                else "missing"
                if name in wanted
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
    unsealed = [folder / name for name in (SEAL, "commit_success.txt", "_CHECKPOINT_METADATA")]
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob("*"))
        # Orbax writes these two once more when the step has its name; restoring reads neither.
        if path.is_file() and path not in unsealed
    }


def _steps(directory: pathlib.Path) -> list[pathlib.Path]:
    return [p for p in directory.glob("[0-9]*") if p.name.isdigit()]


def _move_aside(folder: pathlib.Path) -> None:
    aside = folder.with_name(f"damaged-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    os.utime(aside)  # when it was moved, for the next purge


def _purge(directory: pathlib.Path) -> None:
    """Removes what runs left that were killed, and all damaged steps but the newest."""
    shutil.rmtree(directory / "_trash", ignore_errors=True)
    asides = sorted(directory.glob("damaged-*"), key=lambda p: p.stat().st_mtime)
    for folder in [*asides[:-1], *directory.glob(f"*{TEMPORARY}*")]:
        shutil.rmtree(folder, ignore_errors=True)
