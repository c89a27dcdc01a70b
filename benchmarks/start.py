"""How long a start takes: `import rsjax`, and from the command to the first finished step.

    python benchmarks/start.py [--model=resnet50] [--rounds=3]

The command is `python -m rsjax.main` with the recipe of `configs/bigearthnet_resnet.py` on a few
simulated patches, in a fresh process each time: once with an empty compilation cache, then with
the cache that the first one left. The time ends with the first line that reports a step.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from hardware import hardware

ROOT = pathlib.Path(__file__).resolve().parent.parent


def seconds_to_import() -> float:
    """Median time of `import rsjax` in a fresh interpreter, less that of an empty program."""

    def once(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        return time.perf_counter() - began

    pairs = [once("import rsjax") - once("pass") for _ in range(9)]
    return statistics.median(pairs)


def seconds_to_first_step(model: str, batch: int, data: pathlib.Path, cache: pathlib.Path) -> float:
    """From the command to the report of its first step."""
    workdir = data / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    command = [
        sys.executable, "-m", "rsjax.main", "--config=configs/bigearthnet_resnet.py",
        f"--workdir={workdir}", f"--config.data.data_dir={data / 'shards'}",
        f"--config.model.name={model}", "--config.model.dtype=float32",
        f"--config.batch_size={batch}", f"--config.eval_batch_size={batch}",
        "--config.total_epochs=0.0", "--config.total_steps=8", "--config.schedule.warmup_steps=1",
        "--config.log_every_steps=1", f"--config.compilation_cache_dir={cache}",
    ]  # fmt: skip
    began = time.perf_counter()
    run = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert run.stderr
    lines = []
    for line in run.stderr:
        lines.append(line)
        if " train 2/8 " in line:  # reported while the second step runs
            took = time.perf_counter() - began
            run.kill()
            run.wait()
            return took
    raise SystemExit("the run ended before its first step:\n" + "".join(lines))


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder)
        command = [
            sys.executable, "-m", "rsjax.prepare", "--dataset=bigearthnet", "--simulate=64",
            f"--source={data / 'download'}", f"--data_dir={data / 'shards'}",
        ]  # fmt: skip
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        cold = seconds_to_first_step(options.model, options.batch, data, data / "cache")
        warm = [
            seconds_to_first_step(options.model, options.batch, data, data / "cache")
            for _ in range(options.rounds)
        ]
    print(f"{time.strftime('%Y-%m-%d')}, {hardware()}; {options.model}, batch {options.batch}.\n")
    print("| what | seconds |\n|---|---|")
    print(f"| import rsjax | {seconds_to_import():.3f} |")
    print(f"| first step, compilation cache empty | {cold:.1f} |")
    print(f"| first step, compilation cached (median of {len(warm)}) | "
          f"{statistics.median(warm):.1f} |")  # fmt: skip


if __name__ == "__main__":
    main()
