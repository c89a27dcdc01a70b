"""Scenes to maps with Apache Beam: the same function, on whatever runner Beam knows.

As of shards, nothing travels back through Beam: a worker leaves the line of its scene beside the
maps, where this process finds it. Workers must reach bundles, scenes and maps by the same paths.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Sequence

from rsjax import sealed
from rsjax.input import on_beam
from rsjax.mapping import many
from rsjax.mapping.many import Job, Row

FOLDER = ".rows"  # beside the maps: the lines of scenes that are done


def rows(jobs: Sequence[Job], folder: pathlib.Path, runner: str, flags: str) -> list[Row]:
    """Maps scenes with Beam.

    Args:
        jobs: a scene each.
        folder: of the maps.
        runner: Beam's name of it, e.g. 'DirectRunner'.
        flags: Beam's own options, as on a command line.

    Returns:
        A line for each job, in their order; 'failed' where Beam left one out.

    Raises:
        ConfigError: Beam is not installed, or does not know the runner or an option.
    """
    options = on_beam.parse(runner, flags, "beam_runner")
    paths = {job.scene: _path(job) for job in jobs}
    with sealed.writing(folder):
        for path in paths.values():
            path.unlink(missing_ok=True)
    found: dict[str, Row] = {}

    def collect() -> None:
        for name, path in paths.items():
            if name not in found and path.is_file():
                found[name] = sealed.read(path)

    broken = on_beam.watch(options, jobs, write, collect) if jobs else ""
    collect()
    for job in jobs:
        if job.scene not in found:
            what = broken or "Beam left it out, see its own messages"
            found[job.scene] = {
                "scene": job.scene, "status": "failed", "map": job.output,
                "error": f"{runner}: {what}", "seconds": 0.0, "pixels": 0, "notes": [],
            }  # fmt: skip
        paths[job.scene].unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other hosts may still be writing
        (folder / FOLDER).rmdir()
    return [found[job.scene] for job in jobs]


def write(job: Job) -> None:
    """Maps one scene on a Beam worker and leaves its line."""
    sealed.write(_path(job), many.one(job))


def _path(job: Job) -> pathlib.Path:
    return pathlib.Path(job.output).parent / FOLDER / f"{job.scene}.json"
