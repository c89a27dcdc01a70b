"""Many runs of one config: `python -m rsjax.sweep --config=FILE --sweep=FILE --workdir=DIR`.

The sweep has `get_sweep()`, a list of overrides. Run the same command again after an interruption:
finished runs are skipped, others resume. `--index=auto` runs one of them, that of the task of a
cluster's array (Slurm, PBS, Grid Engine, LSF); see docs/sweeps.md.
"""

import functools
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from rsjax import doors

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
CONFIG = config_flags.DEFINE_config_file("config", None, "Config file of all runs.", **SHARED)
SWEEP = flags.DEFINE_string("sweep", None, "Python file with get_sweep() -> list of overrides.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the sweep.", **SHARED)
INDEX = flags.DEFINE_string("index", "", "Number of the one run to do; auto: by the array's task.")
LIST = flags.DEFINE_bool("list", False, "List the runs and where they stand, and end.")


def main(argv: Sequence[str]) -> None:
    """Checks every run, then trains them, or the one that is chosen."""
    doors.refuse_arguments(argv)
    doors.require("config", CONFIG.value, "configs/eurosat_resnet.py:cpu")
    file = doors.require("sweep", SWEEP.value, "experiments/sweeps/eurosat_seeds.py")
    workdir = pathlib.Path(doors.require("workdir", WORKDIR.value, "runs/sweep")).absolute()
    from rsjax.training import sweep, sweep_array, sweep_plan

    runs = sweep_plan.plan(CONFIG.value, sweep_plan.load(file))
    sweep.check(workdir, runs)
    if LIST.value:
        print(sweep.listed(workdir, runs))
        return
    if INDEX.value:
        runs = [sweep_array.choose(runs, INDEX.value, os.environ)]
    with doors.stoppable("Finished runs are kept: run the same command again"):
        left = sweep.run_all(workdir, runs, functools.partial(print, flush=True))
    print(f"results: {workdir / 'results.md'}")
    if left:
        print(f"not finished: {', '.join(left)}. The same command resumes them", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    doors.run(main)
