"""Which run of a sweep a job of a cluster's array does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rsjax.errors import ConfigError
from rsjax.training.sweep_plan import Planned

AUTO = "auto"
DIGITS = 20  # no run has so many


class Scheduler(NamedTuple):
    """A scheduler's name, and the number of the array's task that does run 0."""

    name: str
    first: int


# Grid Engine and LSF number the tasks of an array from 1 on, and refuse 0. Sources: the manuals of
# sbatch, of PBS Professional, of qsub (Grid Engine) and of bsub (LSF).
VARIABLES = {
    "SLURM_ARRAY_TASK_ID": Scheduler("Slurm", 0),
    "PBS_ARRAY_INDEX": Scheduler("PBS", 0),
    "SGE_TASK_ID": Scheduler("Grid Engine", 1),
    "LSB_JOBINDEX": Scheduler("LSF", 1),
}
NO_ARRAY = {"SGE_TASK_ID": "undefined", "LSB_JOBINDEX": "0"}  # in a job that is no array


def choose(runs: Sequence[Planned], index: str, environment: Mapping[str, str]) -> Planned:
    """The run of `--index`.

    Args:
        runs: of the sweep.
        index: a number from 0, or `AUTO`: that of the array's task.
        environment: variables of the process.

    Raises:
        ConfigError: no such run; or, with `AUTO`, no scheduler's variable or several of them.
    """
    number, said = index, f"--index={index}"
    if index == AUTO:
        given = {name: environment[name] for name in VARIABLES if environment.get(name)}
        set_ = {k: v for k, v in given.items() if NO_ARRAY.get(k) != v}
        if len(set_) != 1:
            found = ", ".join(f"{k}={v}" for k, v in given.items()) or "none of them is set"
            known = ", ".join(f"{name} ({one.name})" for name, one in VARIABLES.items())
            raise ConfigError(
                f"{said} reads the number of an array's task from one of {known}: {found}. Submit "
                "an array (docs/sweeps.md), or give a number from 0"
            )
        ((variable, number),) = set_.items()
        said += f" ({variable}={number})"
        first = VARIABLES[variable].first
        if number.isdecimal() and len(number) < DIGITS and first:
            number = str(int(number) - first)
            said += f": run {number}"
    sound = number.isascii() and number.isdecimal() and len(number) < DIGITS
    if not sound or int(number) >= len(runs):
        said = said if len(said) < 200 else f"{said[:200]}..."
        raise ConfigError(f"{said}: the sweep has runs 0 to {len(runs) - 1}")
    return runs[int(number)]
