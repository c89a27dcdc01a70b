"""Notes which samples each training step is given, wherever rsjax trains."""

import json
import time

import jax

from rsjax.training import speed


def install(folder, pause_s=0.0, patch=setattr):
    """Appends {step: {row of the batch: record}} to a file of this process, step by step."""
    original = speed.compile_ahead

    def compile_ahead(*arguments):
        compiled = original(*arguments)
        path = folder / f"process-{jax.process_index()}.jsonl"

        def step(state, batch):
            rows = {}
            for shard in batch["index"].addressable_shards:
                first = shard.index[0].start or 0
                rows |= {first + i: int(record) for i, record in enumerate(shard.data)}
            with path.open("a") as file:
                file.write(json.dumps({"step": int(state["step"]), "rows": rows}) + "\n")
            time.sleep(pause_s)  # so that a signal comes in the middle
            return compiled(state, batch)

        return step

    patch(speed, "compile_ahead", compile_ahead)


def read(folder):
    """The records of every step, in the order of the batch; of a step done twice, the last."""
    steps = {}
    for file in folder.glob("*.jsonl"):
        of_process = {}
        for line in file.read_text().splitlines():
            noted = json.loads(line)
            of_process[noted["step"]] = {int(row): r for row, r in noted["rows"].items()}
        for step, rows in of_process.items():
            before = steps.setdefault(step, {})
            assert before.items() | rows.items() == (before | rows).items()  # nobody disagrees
            before |= rows
    return {step: [rows[i] for i in range(len(rows))] for step, rows in sorted(steps.items())}
