"""Writes shards with Apache Beam: the same function, on whatever runner Beam knows.

Nothing travels back through Beam. A worker leaves the note of its shard, or the error, beside the
shards, and this process reads them there: results then do not depend on the runner, a bad sample
is not tried again as a lost machine is, and its message arrives unwrapped.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pathlib
import shlex
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from rsjax import errors, storage
from rsjax.errors import ConfigError, RsjaxError, ShardError, StorageError
from rsjax.input import notes, shards

POLL_S = 2.0  # between two looks for new notes
_QUIET = "--default_sdk_harness_log_level=ERROR"  # of DirectRunner, whose workers tell every step
_JAVA = ("FlinkRunner", "SparkRunner", "PortableRunner")  # take options that only they know


def run(
    todo: Sequence[shards.Job],
    runner: str,
    flags: str,
    done: Callable[[shards.Job, dict[str, Any]], None],
) -> None:
    """Maps `write_shard` over the jobs with Beam; shards that can be written are.

    Args:
        todo: the shards to write.
        runner: Beam's name of it, e.g. 'DirectRunner' or 'DataflowRunner'.
        flags: Beam's own options, as on a command line.
        done: called with each finished shard and its note.

    Raises:
        ConfigError: Beam is not installed, or does not know the runner or an option.
        DatasetError, NomenclatureError, StorageError: of the first shard that failed.
        ShardError: the pipeline broke, or left shards out.
    """
    options = parse(runner, flags)
    for job in todo:
        storage.remove(f"{job.root}/{_error(job)}")
    root, waiting = todo[0].root, {f"{job.file}.json": job for job in todo}

    def collect() -> None:
        for name in storage.names(f"{root}/{notes.FOLDER}"):
            if name in waiting and (note := shards.finished(waiting[name])):
                done(waiting.pop(name), note)

    broken = watch(options, todo, write, collect)
    collect()
    failed = [found for job in waiting.values() if (found := notes.read(root, _error(job)))]
    if failed:
        kind = getattr(errors, failed[0]["error"], ShardError)
        more = f"\n{len(failed)} of {len(todo)} shards failed; the first is shown"
        raise kind(failed[0]["message"] + (more if len(failed) > 1 else ""))
    if broken or waiting:
        what = f": {broken}" if broken else f" and left out {', '.join(sorted(waiting)[:5])}"
        raise ShardError(
            f"{root}: {runner} ended with {len(waiting)} of {len(todo)} shards not written{what}. "
            "Finished shards are kept: see Beam's own messages, and run the same command again"
        )


def parse(runner: str, flags: str, flag: str = "runner") -> Any:
    """Beam's options, checked.

    Args:
        runner: Beam's name of it.
        flags: Beam's own options, as on a command line.
        flag: that the runner was named with, for messages.

    Raises:
        ConfigError: Beam is not installed, or does not know the runner or an option.
    """
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # Beam warns of options and of clients that are not installed
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners import runner as runners
    except ImportError as error:
        raise ConfigError(
            f"--{flag}={runner} needs Apache Beam ({error}): pip install 'rsjax[beam]'"
        ) from None
    finally:
        root.setLevel(level)
    said = io.StringIO()
    try:
        given = shlex.split(flags)
        if runner == "DirectRunner":
            logging.getLogger("apache_beam").setLevel(logging.ERROR)
            given.insert(0, _QUIET)
        with contextlib.redirect_stderr(said):
            options = PipelineOptions([f"--runner={runner}", *given])
            known = options.get_all_options(drop_default=True)
            everything = options.get_all_options(drop_default=True, retain_unknown_options=True)
            runners.create_runner(runner)
    except SystemExit:  # argparse has told stderr what is wrong
        raise ConfigError(f"--beam: {said.getvalue().strip().splitlines()[-1]}") from None
    except Exception as error:
        raise ConfigError(f"--{flag}={runner}: {str(error).splitlines()[0]}") from None
    if (unknown := sorted(set(everything) - set(known))) and runner not in _JAVA:
        raise ConfigError(f"--beam: {runner} knows no option {', '.join(unknown)}")
    return options


def watch(
    options: Any, todo: Sequence[Any], task: Callable[[Any], None], collect: Callable[[], None]
) -> str:
    """Maps a function over jobs with Beam, looking for what it leaves meanwhile.

    Args:
        options: of `parse`.
        todo: jobs of one type, one or more.
        task: a function of a module, called with each job on some worker.
        collect: looks for what `task` left; called every `POLL_S` seconds.

    Returns:
        What broke the pipeline, or ''.
    """
    import apache_beam as beam

    failure: list[BaseException] = []
    running: list[Any] = []
    before = _children(os.getpid())

    def work() -> None:
        try:
            pipeline = beam.Pipeline(options=options)
            jobs = pipeline | "jobs" >> beam.Create(list(todo)).with_output_types(type(todo[0]))
            # Without it, runners fuse all jobs into one worker.
            _ = jobs | "spread" >> beam.Reshuffle() | "task" >> beam.Map(task)
            running.append(pipeline.run())
            running[0].wait_until_finish()
        except BaseException as error:
            failure.append(error)

    # A thread, so that a signal to stop is heard at once.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            began = time.monotonic()
            thread.join(POLL_S)
            with contextlib.suppress(StorageError):  # the next look may reach the store again
                collect()
            thread.join(time.monotonic() - began - POLL_S)  # never looks longer than it waits
    except BaseException:
        for result in running:  # a job elsewhere would go on; DirectRunner cannot be cancelled
            with contextlib.suppress(Exception):
                result.cancel()
        for child in _children(os.getpid()) - before:  # and would leave its processes behind
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        raise
    return (str(failure[0]).strip() or repr(failure[0])).splitlines()[-1] if failure else ""


def _children(parent: int) -> set[int]:
    """All processes below one; none where there is no /proc."""
    found: set[int] = set()
    for listed in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that ended
            for child in map(int, listed.read_text().split()):
                found |= {child} | _children(child)
    return found


def write(job: shards.Job) -> None:
    """Writes one shard on a Beam worker; what is wrong with its samples becomes a file."""
    try:
        shards.write_shard(job)
    except RsjaxError as error:
        notes.write(job.root, _error(job), {"error": type(error).__name__, "message": str(error)})


def _error(job: shards.Job) -> str:
    return f"{notes.FOLDER}/{job.file}.error"
