"""Many scenes to as many maps: one after the other, on several hosts, or with Apache Beam.

Each scene is a job of its own, done by the same function everywhere. A map that is up to date, by
the fingerprint in its provenance, is kept; so an interrupted list goes on where it stopped. A scene
that fails is told and does not keep the others from being mapped.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import pathlib
import time
from collections.abc import Iterable, Sequence
from typing import IO, Any

from rsjax import sealed, storage
from rsjax.bundle import ABOUT
from rsjax.errors import ConfigError, RsjaxError, SceneError
from rsjax.mapping import compute, ensemble, mapper, provenance, scene_names
from rsjax.mapping.mapper import Options

MANIFEST = "manifest.jsonl"
DEFAULT = Options()

logger = logging.getLogger(__name__)

How = tuple[Sequence[str], Sequence[str], Options, bool]  # bands, units, options, download
Row = dict[str, Any]  # a line of the manifest


@dataclasses.dataclass(frozen=True)
class Job:
    """One scene to be mapped.

    Attributes:
        scene: its name.
        given: what it is, as of `scene_files`.
        output: the map.
        checkpoints: bundles or workdirs.
        bands, units, options, download: as of `mapper.write_map`.
    """

    scene: str
    given: str
    output: str
    checkpoints: tuple[str, ...]
    bands: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    options: Options = DEFAULT
    download: bool = False


def is_asked(scenes: str, scene: Sequence[str], shard: str, runner: str) -> bool:
    """Whether many scenes are given, or one.

    Raises:
        ConfigError: both, or one scene with options of many.
    """
    if scenes and scene:
        raise ConfigError("--scene and --scenes are both given; give one")
    if not scenes and (shard or runner):
        raise ConfigError("--shard and --beam_runner are for --scenes; leave them out")
    return bool(scenes)


def map_all(
    checkpoints: Sequence[str],
    scenes: str,
    output: str,
    how: How = ((), (), DEFAULT, False),
    shard: str = "",
    runner: str = "",
    beam: str = "",
) -> list[Row]:
    """Maps every scene of a list; those that are mapped already are kept.

    Args:
        checkpoints: one or more bundles or workdirs; several are an ensemble.
        scenes: see `scene_names.find`.
        output: folder of the maps, each with its scene's name, and of `manifest.jsonl`.
        how: bands, units, options and download, as of `mapper.write_map`.
        shard: 'i/n', see `scene_names.shard`.
        runner: of Apache Beam; '': this process.
        beam: Beam's own options.

    Returns:
        The lines of the manifest: scene, status ('made', 'kept' or 'failed'), map, error, seconds,
        pixels of the scene, and notes.

    Raises:
        SceneError: after all others: a scene failed.
        RsjaxError: a list, model or option that cannot work, or a map that would replace a file
            of a scene of the list; nothing is written.
    """
    folder = pathlib.Path(os.path.abspath(output))
    if storage.is_remote(output):
        raise ConfigError(f"output={output}: expected a local folder, e.g. --output=maps")
    if folder.suffix.lower() in (".tif", ".tiff") or folder.is_file():
        raise ConfigError(f"output={output}: of many scenes expected a folder, e.g. --output=maps")
    bands, units, options, download = how
    found = scene_names.find(scenes)
    scene_names.check_outputs(scenes, folder, [name for name, _ in found])
    jobs = [
        Job(name, given, str(folder / f"{name}.tif"), tuple(checkpoints), tuple(bands),
            tuple(units), options, download)
        for name, given in scene_names.shard(found, shard)
    ]  # fmt: skip
    members = _loaded(tuple(checkpoints), _stamps(checkpoints))  # what is wrong is told once
    compute.check(options.tta, options.confidence, members.models[0].task.kind)
    finished: Iterable[Row] = map(one, jobs)  # each when it is asked for
    if runner:
        from rsjax.mapping import many_beam

        finished = many_beam.rows(jobs, folder, runner, beam)
    path = folder / _manifest(shard)
    with sealed.writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")  # noqa: SIM115
    with file:
        rows = list(_noted(finished, file, len(jobs)))
    failed = [row["scene"] for row in rows if row["status"] == "failed"]
    if failed:
        raise SceneError(
            f"{len(failed)} of {len(jobs)} scenes failed: {', '.join(failed[:10])}; the others are "
            f"mapped. {path} has their errors; mend them and run the same command again"
        )
    return rows


def _noted(rows: Iterable[Row], file: IO[str], count: int) -> Iterable[Row]:
    """Writes each line at once, and tells it."""
    for i, row in enumerate(rows, 1):
        with sealed.writing(file.name):
            file.write(json.dumps(row) + "\n")
            file.flush()
        text = row["error"] or f"{row['pixels'] / 1e6:.3g} Mpixel, {row['seconds']:.1f} s"
        logger.info("%d of %d, %s: %s, %s", i, count, row["scene"], row["status"], text)
        for note in row["notes"]:
            logger.info("%s: note: %s", row["scene"], note)
        yield row


def _manifest(shard: str) -> str:
    """Hosts that share a folder write a file each."""
    return MANIFEST.replace(".", f"-{shard.replace('/', '-of-')}.") if shard else MANIFEST


def one(job: Job) -> Row:
    """Maps a scene, unless its map is up to date; what is wrong with it is in the row."""
    begun = time.perf_counter()
    row: Row = {"scene": job.scene, "status": "failed", "map": job.output, "error": ""}
    row |= {"seconds": 0.0, "pixels": 0, "notes": []}
    try:
        members = _loaded(job.checkpoints, _stamps(job.checkpoints))
        planned = mapper.plan_map(
            members, [job.given], job.output, job.bands, job.units, job.options, job.download
        )
        row["pixels"] = planned.opened.area.height * planned.opened.area.width
        if provenance.is_current(planned.path, planned.provenance):
            row["status"] = "kept"
        else:
            row["notes"] = list(mapper.make(planned).warnings)
            row["status"] = "made"
    except RsjaxError as error:
        row["error"] = f"{type(error).__name__}: {error}"
    except Exception as error:  # whatever it is, other scenes may be sound
        logger.exception("%s", job.scene)
        row["error"] = f"{type(error).__name__}: {error}"
    row["seconds"] = round(time.perf_counter() - begun, 3)
    return row


@functools.lru_cache(maxsize=1)
def _loaded(checkpoints: tuple[str, ...], _: tuple[int, ...]) -> ensemble.Members:
    """The models, and what was compiled of them: once for all scenes of a process."""
    return ensemble.load(checkpoints)


def _stamps(checkpoints: Sequence[str]) -> tuple[int, ...]:
    """When the bundles were written, so that one that was replaced is loaded anew."""
    files = [ensemble.folder_of(one) / ABOUT for one in checkpoints]
    return tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files)
