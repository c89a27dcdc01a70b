"""What a run costs: memory of a step, images a second, waiting for input, a profile."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import time
from typing import Any

import jax

from rsjax.input.pipeline import OnMesh

log = logging.getLogger("rsjax")


def compile_ahead(step: Any, *arguments: Any) -> Any:
    """Compiles a jitted step for these arguments and logs the memory that it takes."""
    start = time.perf_counter()
    compiled = step.lower(*arguments).compile()
    took = time.perf_counter() - start
    memory = compiled.memory_analysis()
    if memory is not None:
        held = memory.argument_size_in_bytes + memory.output_size_in_bytes
        log.info(
            "train step compiled in %.1f s; on each device %.0f MB of arguments and results and "
            "%.0f MB of temporary memory",
            took,
            (held - memory.alias_size_in_bytes) / 1e6,
            memory.temp_size_in_bytes / 1e6,
        )
    return compiled


class Meter:
    """Images a second, and the share of the time that the loop waited for input.

    The wait is an upper bound of what input costs: on an accelerator, part of it passes while the
    step before still runs.
    """

    def __init__(self, batch_size: int, batches: OnMesh, step: int):
        self.batch_size, self.batches = batch_size, batches
        self.restart(step)

    def restart(self, step: int) -> None:
        """Begins anew at a step that the device has finished, e.g. after an evaluation."""
        self.began, self.waited, self.step = time.perf_counter(), self.batches.wait_s, step

    def read(self, step: int) -> dict[str, float]:
        """Figures since the last call or restart; `step` is the last that the device finished."""
        if step <= self.step:
            return {}
        seconds = time.perf_counter() - self.began
        figures = {
            "images_per_s": (step - self.step) * self.batch_size / seconds,
            "input_wait_share": (self.batches.wait_s - self.waited) / seconds,
        }
        self.restart(step)
        return figures


def profile(workdir: pathlib.Path, step: int, first: int, count: int, state: Any) -> None:
    """Traces `count` steps from step `first` into `workdir/profile`; `first` 0 traces none."""
    if first and step == first:
        jax.profiler.start_trace(str(workdir / "profile"))
    elif first and step == first + count:
        jax.block_until_ready(state)
        stop_profile()


def stop_profile() -> None:
    """Ends a profile that is being written; without one, does nothing."""
    with contextlib.suppress(RuntimeError):  # "No profile started"
        jax.profiler.stop_trace()
