"""Trains the runs of a sweep one after another, each in a process and a folder of its own.

A run that fails does not end the others. What is told of the sweep, `results.jsonl` and
`results.md`, is read from the folders of its runs whenever one ends, so that any number of jobs may
share a sweep. `sweep_plan` says which runs there are, `sweep_results` how they ended.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from rsjax import sealed
from rsjax.config import base, to_json
from rsjax.errors import ConfigError
from rsjax.training import recipes, reproduce
from rsjax.training.sweep_plan import Planned, grid, said, zipped
from rsjax.training.sweep_results import ABOUT, FINISHED, about_of, read_results, write_results

__all__ = ["grid", "zipped"]  # for sweep files

LOG = "sweep.log"  # what the run printed
CONFIG = "config_file.py"
TRAINED = "config.json"  # which the loop writes once nothing speaks against training


def folder_of(workdir: pathlib.Path, run: Planned) -> pathlib.Path:
    """The folder of a run: the one where its number was trained, else the one that it will get."""
    there = (path.parent for path in sorted(workdir.glob(f"{run.number:03d}-*/{ABOUT}")))
    return next((path for path in there if (path / TRAINED).is_file()), workdir / run.folder)


def check(workdir: pathlib.Path, runs: Sequence[Planned]) -> None:
    """Refuses runs whose folder has a run of another config.

    Raises:
        ConfigError: names each number that changed, and its differences.
    """
    problems, defaults = [], dict(recipes.flat(to_json(base())))
    for run in runs:
        folder = folder_of(workdir, run)
        about = about_of(folder)
        if not about or not (folder / TRAINED).is_file():
            continue  # it failed before it began: its config may be mended
        changed = recipes.differences([about["config"], to_json(run.config)])
        for key, (old, new) in changed.items():
            if old == recipes.MISSING and defaults.get(key, recipes.MISSING) == new:
                continue  # a field that a newer rsjax added
            problems.append(f"run {run.number}: {key} was {old!r} and is now {new!r}")
    if problems:
        raise ConfigError(
            f"{workdir} has runs of another sweep or config under the same numbers:\n  "
            + "\n  ".join(problems)
            + "\nGive another --workdir, or append new runs at the end of the sweep"
        )


# -- Running -----------------------------------------------------------------------------------


def run_all(
    workdir: pathlib.Path, runs: Sequence[Planned], say: Callable[[str], None] = print
) -> list[str]:
    """Runs what is not finished, and writes the results after each.

    Args:
        workdir: of the sweep.
        runs: those to run; the results are of all that lie in `workdir`.
        say: takes one line at a time.

    Returns:
        The names of the folders whose run is not finished.

    Raises:
        ConfigError: see `check`.
    """
    check(workdir, runs)
    left = []
    for run in runs:
        folder = folder_of(workdir, run)
        if not (folder / FINISHED).is_file():
            say(f"{folder.name}: starts; see {folder / LOG}")
            code = _run(folder, run)
            if not (folder / FINISHED).is_file():
                left.append(folder.name)
                why = f"exit status {code}" if code else "asked to stop"
                say(f"{folder.name}: not finished ({why}). {_last_line(folder / LOG)}")
                write_results(workdir)
                continue
        say(f"{folder.name}: finished")
        write_results(workdir)
    return left


def _run(folder: pathlib.Path, run: Planned) -> int:
    """Trains in a process of its own, resuming what is there; its exit status."""
    for old in folder.parent.glob(f"{run.number:03d}-*/{ABOUT}"):
        if old.parent != folder:  # failed before it began, under other overrides
            old.unlink()
    config = to_json(run.config)
    sealed.replace(folder / CONFIG, reproduce.run_sheet(config).encode())
    about = {"number": run.number, "overrides": json.loads(json.dumps(run.overrides, default=str)),
             "config": config, "seconds": about_of(folder).get("seconds", 0.0),
             "exit_status": None}  # fmt: skip
    sealed.write(folder / ABOUT, about)
    write_results(folder.parent)
    began = time.monotonic()
    command = [sys.executable, "-m", "rsjax.main", f"--config={folder / CONFIG}",
               f"--workdir={folder}"]  # fmt: skip
    code = 1
    with sealed.writing(folder / LOG):
        log = open(folder / LOG, "ab")  # noqa: SIM115
    with log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        finally:
            if process.poll() is None:  # this process is asked to stop: so is the run, and it saves
                process.terminate()
                code = process.wait()
            about["seconds"] = round(about["seconds"] + time.monotonic() - began, 1)
            sealed.write(folder / ABOUT, {**about, "exit_status": code})
    return code


def _last_line(path: pathlib.Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1].strip()[:300] if lines else ""


def listed(workdir: pathlib.Path, runs: Sequence[Planned]) -> str:
    """The runs of a sweep and where each stands, one a line."""
    status = {row.number: row.status for row in read_results(workdir)}
    return "\n".join(
        f"{run.number:3d}  {status.get(run.number, 'not started'):11s}  {said(run.overrides)}"
        for run in runs
    )
