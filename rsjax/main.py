"""Trains, or evaluates, what a config says: `python -m rsjax.main --config=configs/X.py`.

Run the same command again after an interruption: it resumes. Single fields are overridden by
`--config.field=value`; `--print_config` shows all of them and does nothing else.
"""

import json
import os
import pathlib
import re
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from rsjax import doors

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, e.g. configs/X.py:demo.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default: runs/NAME_OF_CONFIG.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One process of many, detected on Cloud TPU, Slurm, GKE, Open MPI."
)
flags.DEFINE_string(
    "coordinator_address", None, "One process of many: host:port of process 0, which listens there."
)
flags.DEFINE_integer("num_processes", None, "How many processes there are.", 1)
flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", 0)
JOIN_TIMEOUT = flags.DEFINE_integer("join_timeout_s", 300, "Seconds to wait for the others.", 1)
PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print every field of the config, and end.")


def main(argv: Sequence[str]) -> None:
    """Checks flags and config, then hands over to the loop."""
    doors.refuse_arguments(argv)
    doors.require("config", CONFIG.value, "configs/bigearthnet_resnet.py:demo")
    from rsjax import config as configs

    config, holder = CONFIG.value, flags.FLAGS["config"]
    configs.validate(config)
    if PRINT_CONFIG.value:
        print(configs.table(config, config_flags.get_override_values(holder)))
        return
    file = config_flags.get_config_filename(holder)
    default = re.sub(r"\W", "_", re.sub(r"\.py\b", "", pathlib.Path(file).name))
    workdir = pathlib.Path(WORKDIR.value or pathlib.Path("runs") / default).absolute()
    doors.log_to_stderr()

    from rsjax import models
    from rsjax.classic import fit_and_evaluate
    from rsjax.training import examine, hosts, join, loop

    train = fit_and_evaluate if config.model.name in models.CLASSIC else loop.train_and_evaluate
    run = {"train": train, "eval": examine.evaluate_checkpoint}[config.mode]
    given = {name: flags.FLAGS[name].value for name in join.NAMES}
    place = join.find_place(given, os.environ, DISTRIBUTED.value)
    with hosts.joined(place, JOIN_TIMEOUT.value) as index:
        doors.log_to_stderr(index)
        scalars = run(config, workdir)
    if index == 0:
        print(json.dumps(scalars, indent=1))
        print(f"workdir: {workdir}")


if __name__ == "__main__":
    doors.run(main)
