"""Reading BigEarthNet patches: from GeoTIFFs, LMDB and ArrayRecord, side by side in one run.

    pip install lmdb
    python benchmarks/input.py --samples=BigEarthNet --out=input.md     # 4,000 patches, 1.5 GB

`--samples` is a BigEarthNet v2 download, however small (without it patches are simulated); its
Sentinel-2 patches are replicated by links to `--count`. Ways are timed in turn, `--rounds` times,
each on batches of 128 random patches; the table has medians of patches/s, the ratio to the first
way, and the CPU time of a patch. On one core everything runs there. On two, rsjax reads with two
threads in one process, as in training; all others get two processes that keep what they read
(which is more than they have in practice: a data loader also moves it to the trainer).

The peers' ways are written after their own sources: TorchGeo 0.7 (`datasets/bigearthnet.py`:
rasterio, every band resampled to 120 x 120 when it is read, float32) and ConfigILM 0.7
(`extra/BENv2_utils.py`: one safetensors value a patch in LMDB, every band to float32 and by
nearest neighbour to 120 x 120). What they add on top (transforms, collation) is left out.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")

import numpy as np
from hardware import hardware

from rsjax.datasets.patches import S2_GROUPS

BATCH = 128
BANDS = [band for bands, _, _ in S2_GROUPS.values() for band in bands]
IMAGES = [*S2_GROUPS, "label"]

Read = Callable[[np.ndarray], Any]


def torchgeo(folder: pathlib.Path) -> Read:
    """Rasterio on twelve GeoTIFFs, resampled to 120 x 120, float32."""
    import rasterio
    from rasterio.enums import Resampling

    from rsjax import datasets

    keys = datasets.get("bigearthnet")(folder / "download", sensors=("s2",), maps=False)
    names = keys.keys("train")
    patches = [
        folder / "download" / "BigEarthNet-S2" / name.rsplit("_", 2)[0] / name for name in names
    ]

    def one(index: int) -> np.ndarray:
        images = []
        for path in sorted(patches[index].glob("*.tif")):
            with rasterio.open(path) as file:
                images.append(
                    file.read(
                        indexes=1,
                        out_shape=(120, 120),
                        out_dtype="int32",
                        resampling=Resampling.bilinear,
                    )
                )
        return np.stack(images).astype(np.float32)

    return lambda batch: np.stack([one(i) for i in batch.tolist()])


def imagecodecs(folder: pathlib.Path) -> Read:
    """What `rsjax.prepare` reads with: strict header, imagecodecs, checked geography and label."""
    from rsjax import datasets

    dataset = datasets.get("bigearthnet")(folder / "download", sensors=("s2",), maps=False)
    keys = dataset.keys("train")
    return lambda batch: [dataset.read(keys[i]) for i in batch.tolist()]


@functools.cache  # LMDB opens a file once in a process
def _lmdb(folder: pathlib.Path) -> Callable[[int], dict[str, np.ndarray]]:
    import lmdb
    from safetensors.numpy import load

    database = lmdb.open(str(folder / "lmdb"), readonly=True, lock=False, readahead=False)

    def one(index: int) -> dict[str, np.ndarray]:
        with database.begin(write=False, buffers=True) as transaction:
            return load(bytes(transaction.get(b"%08d" % index)))

    return one


def lmdb_official(folder: pathlib.Path) -> Read:
    """LMDB + safetensors, every band to float32 and to 120 x 120, stacked."""
    one = _lmdb(folder)

    def grown(image: np.ndarray) -> np.ndarray:
        factor = 120 // image.shape[-1]
        image = np.float32(image)
        return image if factor == 1 else image.repeat(factor, 0).repeat(factor, 1)

    def patch(index: int) -> np.ndarray:
        bands = one(index)
        return np.stack([grown(bands[name]) for name in sorted(bands)])

    return lambda batch: np.stack([patch(i) for i in batch.tolist()])


def lmdb_native(folder: pathlib.Path) -> Read:
    """LMDB + safetensors, bands as stored, nothing joined."""
    one = _lmdb(folder)
    return lambda batch: [one(i) for i in batch.tolist()]


def array_record(folder: pathlib.Path) -> Read:
    """ArrayRecordDataSource: the bytes of each record, not parsed."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    source = _source(folder)
    plain = ArrayRecordDataSource(source.paths)
    return lambda batch: plain.__getitems__(batch.tolist())


def tfds(folder: pathlib.Path) -> Read:
    """TFDS's own reader of our shards."""
    import tensorflow_datasets as tfds

    data = tfds.builder_from_directory(str(_source(folder).manifest.root)).as_data_source("train")
    return lambda batch: data.__getitems__(batch.tolist())


def shards(folder: pathlib.Path) -> Read:
    """rsjax: ShardSource.read, one block per entry, native resolution and type."""
    return _source(folder).read


def _source(folder: pathlib.Path) -> Any:
    from rsjax.input.manifest import find
    from rsjax.input.source import ShardSource

    return ShardSource(find(folder / "data", "bigearthnet"), "train", IMAGES)


def take(source: Any, seed: int, count: int, threads: int, device: bool) -> None:
    """rsjax: `count` shuffled batches, read ahead, as training takes them."""
    import jax
    from jax.sharding import SingleDeviceSharding

    from rsjax.input import pipeline

    batches: Iterator[Any] = pipeline.train_batches(source, BATCH, seed, 0, count, threads, 4)
    if device:
        batches = iter(pipeline.OnMesh(batches, SingleDeviceSharding(jax.devices()[0])))
    for batch in batches:
        jax.block_until_ready(batch["s2_10m"])


READERS: dict[str, Callable[[pathlib.Path], Read]] = {
    "GeoTIFFs as TorchGeo": torchgeo,
    "GeoTIFFs as rsjax.prepare": imagecodecs,
    "LMDB + safetensors as ConfigILM": lmdb_official,
    "LMDB + safetensors, native": lmdb_native,
    "ArrayRecordDataSource, bytes": array_record,
    "our shards through TFDS": tfds,
    "rsjax ShardSource": shards,
}
PIPELINES = {"rsjax pipeline, on the host": False, "rsjax pipeline, on the device": True}
SLOW = ("GeoTIFFs as TorchGeo",)  # a quarter of the patches is enough


def prepare(samples: str, folder: pathlib.Path, count: int) -> str:
    """Replicates, prepares, and writes the LMDB; says what the patches are, and how fast."""
    import replicas

    from rsjax.input import build

    origin, what = replicas.origin(samples, folder)
    if not (folder / "download").exists():
        replicas.replicate(origin, folder / "download", count)
    rates = []
    for workers in (1, os.cpu_count() or 1):
        data_dir = folder / ("data" if workers == 1 else f"data{workers}")
        began = time.perf_counter()
        build.build(
            "bigearthnet", folder / "download", data_dir, {"sensors": ("s2",), "maps": False},
            workers,
        )  # fmt: skip
        rates.append(f"{count / (time.perf_counter() - began):.0f} with {workers} processes")
    _write_lmdb(folder)
    return f"{count} {what}; rsjax.prepare, whole command, patches/s: {', '.join(rates)}"


def _write_lmdb(folder: pathlib.Path) -> None:
    import lmdb
    from safetensors.numpy import save

    source = _source(folder)
    database = lmdb.open(str(folder / "lmdb"), map_size=2**40)
    for start in range(0, len(source), BATCH):
        rows = np.arange(start, min(start + BATCH, len(source)))
        batch = source.read(rows)
        with database.begin(write=True) as transaction:
            for row in rows.tolist():
                bands = {
                    band: np.ascontiguousarray(batch[name][row - start, ..., i])
                    for name, (bands, _, _) in S2_GROUPS.items()
                    for i, band in enumerate(bands)
                }
                transaction.put(b"%08d" % row, save(bands))
    database.sync()


@functools.cache
def _opened(name: str, folder: str) -> Read:
    return READERS[name](pathlib.Path(folder))


def _task(name: str, folder: str, batches: list[np.ndarray]) -> float:
    began = time.process_time()
    for batch in batches:
        _opened(name, folder)(batch)
    return time.process_time() - began


def measure(folder: pathlib.Path, cores: int, rounds: int, batches: int) -> list[str]:
    """Rows of the table: patches/s and CPU time of each way on so many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    source = _source(folder)
    rng = np.random.default_rng(0)
    names = [*READERS, *PIPELINES]
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        for turn in range(rounds + 1):
            for name in names:
                much = max(batches // 4, 1) * cores if name in SLOW else batches * cores
                work = [rng.integers(0, len(source), BATCH) for _ in range(much)]
                began, used = time.perf_counter(), time.process_time()
                if name in PIPELINES:
                    take(source, turn, much, cores, PIPELINES[name])
                    spent = time.process_time() - used
                elif name == "rsjax ShardSource" or cores == 1:
                    spent = _threads(name, str(folder), work, cores)
                else:
                    parts = [(name, str(folder), work[i::cores]) for i in range(cores)]
                    spent = sum(pool.starmap(_task, parts, chunksize=1))
                if turn:  # the first one warms up
                    wall[name].append(much * BATCH / (time.perf_counter() - began))
                    cpu[name].append(1e3 * spent / (much * BATCH))
    first = statistics.median(wall[names[0]])
    return [
        f"| {name} | {cores} | {statistics.median(wall[name]):,.0f} "
        f"| {statistics.median(wall[name]) / first:.1f} | {statistics.median(cpu[name]):.3f} |"
        for name in names
    ]


def _threads(name: str, folder: str, work: list[np.ndarray], cores: int) -> float:
    from concurrent.futures import ThreadPoolExecutor

    began = time.process_time()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(_opened(name, folder), work))
    return time.process_time() - began


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", default="", help="a BigEarthNet v2 download")
    parser.add_argument("--count", type=int, default=4000, help="patches")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=8, help="batches of 128 a round and core")
    parser.add_argument("--folder", default="", help="scratch, kept; default: a temporary one")
    parser.add_argument("--out", default="", help="file for the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        what = prepare(options.samples, folder, options.count)
        all_cores = os.sched_getaffinity(0)
        lines = [
            f"{time.strftime('%Y-%m-%d')}, {hardware()}. {what}.",
            "",
            "| way | cores | patches/s | ratio | CPU ms/patch |",
            "|---|---|---|---|---|",
        ]
        for cores in range(1, min(len(all_cores), 2) + 1):
            os.sched_setaffinity(0, all_cores)
            lines += measure(folder, cores, options.rounds, options.batches)
    print("\n".join(lines))
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
