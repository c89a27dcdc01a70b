"""How cost grows with the number of records: prepare, start, shuffle, resume, an epoch's memory.

    python benchmarks/scale.py --samples=BigEarthNet --folder=/big/disk --out=scale.md

Needs 165 KB of disk a record (33 GB for the largest of the default sizes), and removes it again.
Each figure comes from a process of its own. The download is `--samples` replicated by links (see
`replicas.py`), Sentinel-2 only; its reading is warm, that of the shards cold where they exceed
the memory. An epoch is read as training reads it, and every record must come exactly once.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np
from hardware import hardware

BATCH = 128
IMAGES = ["s2_10m", "s2_20m", "s2_60m", "label"]


def rss_mb() -> float:
    """Memory of this process that is its own, in MB."""
    fields = pathlib.Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def download(folder: pathlib.Path, samples: str, count: int) -> dict[str, Any]:
    """Writes the download by links."""
    import replicas

    origin, what = replicas.origin(samples, folder)
    began = time.perf_counter()
    replicas.replicate(origin, folder / "download", count)
    return {"links_s": time.perf_counter() - began, "what": what}


def prepare(folder: pathlib.Path) -> dict[str, Any]:
    """Runs the command, and once more when all is done."""
    command = [
        sys.executable, "-m", "rsjax.prepare", "--dataset=bigearthnet",
        f"--source={folder / 'download'}", f"--data_dir={folder / 'data'}",
        "--option=sensors=s2", "--option=maps=false",
    ]  # fmt: skip
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    data = folder / "data"
    gigabytes = sum(p.stat().st_size for p in data.rglob("*") if p.is_file()) / 1e9
    return {"prepare_s": seconds[0], "again_s": seconds[1], "peak_mb": peak, "gb": gigabytes}


def open_source(folder: pathlib.Path) -> Any:
    """The train split, as training opens it."""
    from rsjax.input.manifest import find
    from rsjax.input.source import ShardSource

    return ShardSource(find(folder / "data", "bigearthnet"), "train", IMAGES)


def start(folder: pathlib.Path, share: float) -> dict[str, Any]:
    """Time from nothing to the first batch, at a position in the epoch."""
    from rsjax.input import pipeline

    before = rss_mb()
    began = time.perf_counter()
    source = open_source(folder)
    opened = time.perf_counter() - began
    position = int(share * len(source))
    next(pipeline.train_batches(source, BATCH, 0, position, 1, threads=2))
    return {
        "open_s": opened,
        "first_batch_s": time.perf_counter() - began,
        "mb": rss_mb() - before,
        "shards": len(source.shards),
    }


def shuffle(folder: pathlib.Path) -> dict[str, Any]:
    """Time of the order of one batch: beginning, middle and end of the epoch, microseconds."""
    from rsjax.input.pipeline import order

    count = len(open_source(folder))
    times = []
    for position in (0, count // 2, count - BATCH):
        rounds = []
        for _ in range(50):
            began = time.perf_counter()
            order(np.arange(position, position + BATCH), count, 0)
            rounds.append(time.perf_counter() - began)
        times.append(1e6 * float(np.median(rounds)))
    return {"order_us": times}


def epoch(folder: pathlib.Path) -> dict[str, Any]:
    """Reads one epoch, counts every record, and watches the memory."""
    from rsjax.input import pipeline

    source = open_source(folder)
    count = len(source)
    steps = count // BATCH
    seen = np.zeros(count, np.uint8)
    memory = []
    began = time.perf_counter()
    for number, batch in enumerate(pipeline.train_batches(source, BATCH, 0, 0, steps, threads=2)):
        np.add.at(seen, batch["index"], 1)
        if number % max(1, steps // 20) == 0:
            memory.append(rss_mb())
    seconds = time.perf_counter() - began
    rest = pipeline.order(np.arange(steps * BATCH, count), count, 0)
    np.add.at(seen, rest, 1)  # the batch that straddles the epochs
    assert (seen == 1).all(), "a record came twice, or never"
    return {
        "epoch_s": seconds,
        "rate": steps * BATCH / seconds,
        "memory_mb": [memory[len(memory) // 10], memory[len(memory) // 2], memory[-1]],
    }


def many_shards(folder: pathlib.Path, count: int) -> dict[str, Any]:
    """Opens a split of so many shards (of two tiny records each), and then each of them.

    That is what a process does in the first epoch of a set that large.
    """
    import dataclasses

    from rsjax.input import build, manifest
    from rsjax.input.source import ShardSource

    made = build.build("eurosat", simulated(folder), folder / "data", workers=1)
    (shard,) = made.splits["train"]["shards"][:1]
    content = (made.root / shard["file"]).read_bytes()
    shards = []
    for number in range(count):
        file = f"eurosat-train.array_record-{number:05d}-of-{count:05d}"
        (made.root / file).write_bytes(content)
        shards.append({**shard, "file": file})
    train = {**made.splits["train"], "records": count * shard["records"], "shards": shards}
    manifest.save(dataclasses.replace(made, splits={**made.splits, "train": train}))
    before, began = rss_mb(), time.perf_counter()
    source = ShardSource(made.root, "train")
    opened = time.perf_counter() - began
    began = time.perf_counter()
    source.read(np.arange(0, len(source), shard["records"]))
    each = (time.perf_counter() - began) / count
    return {
        "open_s": opened,
        "open_each_us": 1e6 * each,
        "mb": rss_mb() - before,
        "files": len(os.listdir("/proc/self/fd")),
    }


def simulated(folder: pathlib.Path) -> pathlib.Path:
    """A download of the smallest images there are."""
    from rsjax.datasets.simulate import simulate

    simulate("eurosat", str(folder / "eurosat"), 20, seed=0)
    return folder / "eurosat"


def in_process(name: str, folder: pathlib.Path, *arguments: str) -> dict[str, Any]:
    """Runs one measurement in a process of its own."""
    command = [sys.executable, __file__, f"--folder={folder}", f"--measure={name}", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(size: int, folder: pathlib.Path, samples: str) -> dict[str, Any]:
    """All figures of one size."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found = {"records": size, **download(folder, samples, size), **prepare(folder)}
    found |= {"start": in_process("start", folder), **in_process("shuffle", folder)}
    found |= {"middle": in_process("start", folder, "--share=0.5")}
    found |= {"late": in_process("start", folder, "--share=0.99")}
    found |= in_process("epoch", folder)
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The figures, one column a size."""

    def three(values: list[float]) -> str:
        return " / ".join(f"{value:,.0f}" for value in values)

    lines = {
        "records": lambda r: f"{r['records']:,}",
        "shards, GB": lambda r: f"{r['start']['shards']} (train), {r['gb']:.1f}",
        "prepare, s": lambda r: f"{r['prepare_s']:.1f}",
        "prepare, records/s": lambda r: f"{r['records'] / r['prepare_s']:,.0f}",
        "prepare, largest process, MB": lambda r: f"{r['peak_mb']:,.0f}",
        "prepare again, nothing to do, s": lambda r: f"{r['again_s']:.1f}",
        "open the train split, ms": lambda r: f"{1e3 * r['start']['open_s']:.1f}",
        "... and the first batch, ms": lambda r: f"{1e3 * r['start']['first_batch_s']:.0f}",
        "the same at the middle of an epoch, ms": lambda r: (
            f"{1e3 * r['middle']['first_batch_s']:.0f}"
        ),
        "the same at 99 % of an epoch, ms": lambda r: f"{1e3 * r['late']['first_batch_s']:.0f}",
        "memory for that, MB": lambda r: f"{r['start']['mb']:.0f}",
        "order of a batch: first / middle / last, µs": lambda r: three(r["order_us"]),
        "an epoch, records/s": lambda r: f"{r['rate']:,.0f}",
        "memory at 10 / 50 / 100 % of it, MB": lambda r: three(r["memory_mb"]),
    }
    out = []
    for name, text in lines.items():
        out.append(f"| {name} | " + " | ".join(text(row) for row in rows) + " |")
    return [out[0], "|---" * (len(rows) + 1) + "|", *out[1:]]


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", default="", help="a BigEarthNet v2 download")
    parser.add_argument("--folder", required=True, help="scratch on a large disk; emptied")
    parser.add_argument("--sizes", default="2000,20000,200000")
    parser.add_argument("--out", default="")
    parser.add_argument("--measure", choices=["start", "shuffle", "epoch", "many_shards"])
    parser.add_argument("--shards", type=int, default=6250, help="of a split that has many")
    parser.add_argument("--share", type=float, default=0.0)
    options = parser.parse_args()
    folder = pathlib.Path(options.folder)
    if options.measure:
        more = {"start": (options.share,), "many_shards": (options.shards,)}
        arguments = more.get(options.measure, ())
        print(json.dumps(globals()[options.measure](folder, *arguments)))
        return
    rows = []
    for size in map(int, options.sizes.split(",")):
        rows.append(measure(size, folder / "scale", options.samples))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        shutil.rmtree(folder / "scale")
    (folder / "many").mkdir(parents=True)
    many = in_process("many_shards", folder / "many", f"--shards={options.shards}")
    shutil.rmtree(folder / "many")
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {hardware()}; {rows[0]['what']}.",
        "",
        *table(rows),
        "",
        f"A split of {options.shards:,} shards: open {1e3 * many['open_s']:.0f} ms; then, when a "
        f"record of each is read, {many['open_each_us']:.0f} µs a shard; in all {many['mb']:.0f} "
        f"MB and {many['files']:,} open files.",
    ]
    print("\n".join(lines))
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
