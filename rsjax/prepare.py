"""From an official download to shards: `python -m rsjax.prepare --dataset=NAME --source=DIR ...`.

Run it again after an interruption: finished shards are kept. `--verify` rereads everything.
`--runner=DataflowRunner --beam="--project=P ..."` lets Apache Beam do it; see docs/prepare.md.
`--simulate=N` first writes a simulated download of N samples, in the official layout, to --source.
"""

from collections.abc import Sequence

from absl import flags

from rsjax import doors
from rsjax.errors import ConfigError

AGAIN = "Finished shards are kept: run the same command again"

DATASET = flags.DEFINE_string("dataset", None, "Name of the dataset: see rsjax.datasets.")
SOURCE = flags.DEFINE_string(
    "source", None, "Folder or archive of the official download; or a URL."
)
DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder that takes the shards; or a URL.")
OPTION = flags.DEFINE_multi_string("option", [], "name=value: an option of the dataset.")
SIMULATE = flags.DEFINE_integer("simulate", 0, "Samples to simulate into --source first.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the simulation.")
WORKERS = flags.DEFINE_integer("workers", 0, "Processes; 0: one per core.")
ON_ERROR = flags.DEFINE_enum("on_error", "raise", ["raise", "skip"], "What a damaged sample does.")
MAX_SKIPPED = flags.DEFINE_float("max_skipped", 0.001, "Largest share of a split to skip.")
RUNNER = flags.DEFINE_string("runner", "", "Apache Beam's runner; none: processes of this machine.")
BEAM = flags.DEFINE_string("beam", "", "Beam's own options, e.g. --beam='--direct_num_workers=2'.")
STALL_S = flags.DEFINE_float("stall_s", 600.0, "Seconds without a sample until a worker is hung.")
VERIFY = flags.DEFINE_bool("verify", False, "Reread all shards and their checksums.")


def main(argv: Sequence[str]) -> None:
    """Simulates, prepares or verifies, as the flags say."""
    doors.refuse_arguments(argv)
    dataset = doors.require("dataset", DATASET.value, "bigearthnet")
    from rsjax import storage
    from rsjax.datasets.simulate import simulate
    from rsjax.input import build, verify

    data_dir = doors.require("data_dir", DATA_DIR.value, "data")
    if VERIFY.value and not SOURCE.value:
        root = verify.find(data_dir, dataset)
    else:
        source = doors.require("source", SOURCE.value, "/data/BigEarthNet")
        if SIMULATE.value:
            if storage.is_remote(source):
                raise ConfigError(f"--source={source}: simulate into a local folder, then copy it")
            simulate(dataset, source, SIMULATE.value, SEED.value)
        with doors.stoppable(AGAIN):
            made = build.build(
                dataset,
                source,
                data_dir,
                doors.options(OPTION.value),
                WORKERS.value,
                ON_ERROR.value,
                MAX_SKIPPED.value,
                RUNNER.value,
                BEAM.value,
                STALL_S.value,
            )
        root = build.root_of(data_dir, made.info)
        doors.say_prepared(made, root)
    if VERIFY.value:
        for file, count in verify.verify(root):
            print(f"{file}: {count} records, sound")


if __name__ == "__main__":
    doors.run(main)
