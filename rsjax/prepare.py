"""From an official download to shards: `python -m rsjax.prepare --dataset=NAME --source=DIR ...`.

Run it again after an interruption: finished shards are kept. `--verify` rereads everything.
`--simulate=N` first writes a simulated download of N samples, in the official layout, to --source.
"""

from collections.abc import Sequence

from absl import flags

from rsjax import doors

DATASET = flags.DEFINE_string("dataset", None, "Name of the dataset: see rsjax.datasets.")
SOURCE = flags.DEFINE_string("source", None, "Folder or archive of the official download.")
DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder that takes the shards.")
OPTION = flags.DEFINE_multi_string("option", [], "name=value: an option of the dataset.")
SIMULATE = flags.DEFINE_integer("simulate", 0, "Samples to simulate into --source first.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the simulation.")
WORKERS = flags.DEFINE_integer("workers", 0, "Processes; 0: one per core.")
ON_ERROR = flags.DEFINE_enum("on_error", "raise", ["raise", "skip"], "What a damaged sample does.")
MAX_SKIPPED = flags.DEFINE_float("max_skipped", 0.001, "Largest share of a split to skip.")
VERIFY = flags.DEFINE_bool("verify", False, "Reread all shards and their checksums.")


def main(argv: Sequence[str]) -> None:
    """Simulates, prepares or verifies, as the flags say."""
    doors.refuse_arguments(argv)
    dataset = doors.require("dataset", DATASET.value, "bigearthnet")
    from rsjax.datasets.simulate import simulate
    from rsjax.input import build, manifest, verify

    data_dir = doors.require("data_dir", DATA_DIR.value, "data")
    if VERIFY.value and not SOURCE.value:
        root = manifest.find(data_dir, dataset)
    else:
        source = doors.require("source", SOURCE.value, "/data/BigEarthNet")
        if SIMULATE.value:
            simulate(dataset, source, SIMULATE.value, SEED.value)
        made = build.build(
            dataset,
            source,
            data_dir,
            doors.options(OPTION.value),
            WORKERS.value,
            ON_ERROR.value,
            MAX_SKIPPED.value,
        )
        root = made.root
        doors.say_prepared(made)
    if VERIFY.value:
        for file, count in verify.verify(root):
            print(f"{file}: {count} records, sound")


if __name__ == "__main__":
    doors.run(main)
