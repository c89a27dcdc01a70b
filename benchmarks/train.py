"""The training step of ResNet-50 on 12 bands of 120 px: rsjax and PyTorch, in one run.

    pip install torch
    python benchmarks/train.py --batch=512 --dtype=bfloat16          # a GPU
    python benchmarks/train.py --batch=16                             # a CPU, float32

Both start from the same raw batch on the device (uint16 at 10, 20 and 60 m) and do all that a step
does: bands to one grid, standardise, one of eight symmetries, forward, backward, AdamW. PyTorch is
measured as it comes, with channels_last, and with channels_last and torch.compile; with autocast
where the dtype is bfloat16. The ways are timed in turn, `--rounds` times; the table has medians.

Utilisation is the arithmetic that the model needs (XLA's count of the forward and backward pass
without preprocessing, for both) over what a matrix product of 8192 x 8192 (CPU: 2048 x 2048)
reaches in the same run and dtype. With `--data_dir`, prepared BigEarthNet shards, rsjax is also
timed with its input pipeline, and the share of time is given that the step waited for it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch shares the GPU

import jax
import jax.numpy as jnp
import numpy as np
from hardware import hardware

from rsjax import config as configs
from rsjax import models, tasks
from rsjax.datasets.patches import image_specs
from rsjax.input.preprocess import Inputs, preprocess
from rsjax.training import optimizer, step

CLASSES = 19


@dataclasses.dataclass
class Way:
    """One way to run a step: what it is called, how to run it, what is known before."""

    name: str
    run: Callable[[], Any]
    compile_s: float
    memory_mb: float


def inputs() -> Inputs:
    """All twelve Sentinel-2 bands at 10 m, with plausible statistics."""
    images = image_specs(("s2",), None)
    bands = tuple(f"{spec.sensor}/{band}" for spec in images.values() for band in spec.bands)
    return Inputs(images, bands, (1500.0,) * len(bands), (1000.0,) * len(bands), (120, 120))


def raw_batch(size: int) -> dict[str, np.ndarray]:
    """Random patches as the shards hold them."""
    rng = np.random.default_rng(0)
    batch = {
        name: rng.integers(0, 4000, (size, spec.height, spec.width, len(spec.bands)), np.uint16)
        for name, spec in inputs().images.items()
    }
    return {**batch, "label": (rng.random((size, CLASSES)) < 0.15).astype(np.uint8)}


def config_of(batch: int, dtype: str, model: str) -> Any:
    """The run sheet: AdamW, symmetries, nothing else."""
    c = configs.base().unlock()
    c.model.name, c.model.dtype = model, dtype
    c.batch_size = batch
    c.optimizer.weight_decay = 0.01
    c.augment.d4 = True
    return c.lock()


def ours(batch: dict[str, np.ndarray], config: Any) -> tuple[Way, int, Any]:
    """Rsjax's step as the training loop compiles it; the number of parameters; step and state."""
    what = inputs()
    task = tasks.make("multilabel", config.task.to_dict(), CLASSES, [1] * CLASSES)
    model = models.get(
        config.model.name, num_classes=CLASSES, dtype=jnp.dtype(config.model.dtype).type
    )
    schedule = optimizer.make_schedule(config, 1000, 0)
    shapes = jax.eval_shape(lambda: step.init_state(config, model, what, None))
    tx = optimizer.make_optimizer(config, shapes["params"], schedule)
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
    state = jax.jit(
        lambda: step.init_state(config, model, what, tx), compiler_options=quick
    )()  # fmt: skip
    rows = len(batch["label"])
    extra = {"index": np.arange(rows, dtype=np.int32), "valid": np.ones(rows, bool)}
    device = jax.device_put({**batch, **extra})
    train = step.make_train_step(config, model, task, what, tx, schedule)
    began = time.perf_counter()
    compiled = jax.jit(train, donate_argnums=0).lower(state, device).compile()
    seconds = time.perf_counter() - began
    held = [state]

    def run() -> None:
        held[0], measured = compiled(held[0], device)
        jax.block_until_ready(measured)

    memory = compiled.memory_analysis()
    used = (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 1e6 if memory else 0.0
    way = Way("rsjax", run, seconds, used)
    return way, sum(x.size for x in jax.tree.leaves(state["params"])), (compiled, held)


def arithmetic(config: Any) -> float:
    """Floating-point operations of forward and backward pass for one image, as XLA counts them."""
    what = inputs()
    model = models.get(config.model.name, num_classes=CLASSES)
    x = jax.ShapeDtypeStruct((1, *what.grid, len(what.bands)), jnp.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(x.shape), False))

    def loss(params: Any, stats: Any, x: jax.Array) -> jax.Array:
        variables = {"params": params, "batch_stats": stats}
        return model.apply(variables, x, True, mutable=["batch_stats"])[0].sum()

    lowered = jax.jit(jax.grad(loss)).lower(shapes["params"], shapes["batch_stats"], x)
    return float(lowered.cost_analysis()["flops"])


def ceiling(dtype: str) -> float:
    """Operations a second that a large matrix product reaches."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    a = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(a))
    times = []
    for _ in range(7):
        began = time.perf_counter()
        jax.block_until_ready(product(a))
        times.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(times)


def theirs(batch: dict[str, np.ndarray], dtype: str, parameters: int) -> list[Way]:
    """PyTorch's step, three times; none without PyTorch."""
    try:
        import torch
        import torch_resnet
    except ModuleNotFoundError:
        print("PyTorch is not installed: measured rsjax alone", file=sys.stderr)
        return []
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    what = inputs()
    ways = []
    for name, options in (
        ("PyTorch", {"channels_last": False, "compiled": False}),
        ("PyTorch channels_last", {"channels_last": True, "compiled": False}),
        ("PyTorch channels_last, compile", {"channels_last": True, "compiled": True}),
    ):
        mean, std = np.array(what.mean), np.array(what.std)
        run, count = torch_resnet.train_step(
            batch, mean, std, CLASSES, device, amp=dtype == "bfloat16", **options
        )
        if count != parameters:
            raise SystemExit(f"not the same model: {count} parameters, rsjax has {parameters}")
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        try:
            run()
        except Exception as error:  # e.g. no C++ compiler for torch.compile
            print(f"{name}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
            continue
        seconds = time.perf_counter() - began
        memory = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else float("nan")
        ways.append(Way(name, run, seconds, memory))
    return ways


def with_input(data_dir: str, config: Any, compiled: Any, held: Any, steps: int) -> str:
    """Images/s and the share of waiting with batches from shards, as the training loop takes."""
    from rsjax.input import pipeline
    from rsjax.input.manifest import find
    from rsjax.input.source import ShardSource

    source = ShardSource(find(data_dir, "bigearthnet"), "train", [*inputs().images, "label"])
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    threads = max(2, min(8, (os.cpu_count() or 2) // 2))
    read = pipeline.train_batches(source, config.batch_size, 0, 0, steps + 3, threads, 4)
    batches = pipeline.OnMesh(read, place)
    measured = None
    began = waited = 0.0
    for number, batch in enumerate(batches):
        if number == 3:
            jax.block_until_ready(measured)
            began, waited = time.perf_counter(), batches.wait_s
        previous = measured
        held[0], measured = compiled(held[0], batch)
        if previous is not None:
            jax.device_get(previous)
    jax.block_until_ready(measured)
    seconds = time.perf_counter() - began
    return (
        f"with input from shards, {threads} threads: {steps * config.batch_size / seconds:,.1f} "
        f"images/s, waited {100 * (batches.wait_s - waited) / seconds:.2f} % of the time"
    )


def preprocess_share(batch: dict[str, np.ndarray], seconds: float) -> float:
    """The share of a step that preprocessing alone takes."""
    run = jax.jit(preprocess(inputs()))
    images = jax.device_put({k: v for k, v in batch.items() if k != "label"})
    jax.block_until_ready(run(images))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(run(images))
        times.append(time.perf_counter() - began)
    return statistics.median(times) / seconds


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps a round")
    parser.add_argument("--data_dir", default="", help="prepared shards, for the input wait")
    parser.add_argument("--cache", default="", help="compilation cache, to see a second start")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    if options.cache:
        jax.config.update("jax_compilation_cache_dir", options.cache)
    batch = raw_batch(options.batch)
    config = config_of(options.batch, options.dtype, "resnet50")
    first, parameters, (compiled, held) = ours(batch, config)
    ways = [first, *theirs(batch, options.dtype, parameters)]
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for turn in range(options.rounds + 1):
        for way in ways:
            began = time.perf_counter()
            for _ in range(options.steps):
                way.run()
            if turn:
                times[way.name].append((time.perf_counter() - began) / options.steps)
    flops, most = arithmetic(config), ceiling(options.dtype)
    best = min(statistics.median(t) for n, t in times.items() if n != "rsjax") if ways[1:] else None
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {hardware()}. ResNet-50, 12 bands, 120 px, batch "
        f"{options.batch}, {options.dtype}; {flops / 1e9:.2f} GFLOP an image, matrix product "
        f"{most / 1e12:.3g} TFLOP/s.",
        "",
        "| way | images/s | to the best PyTorch | utilisation | first step or compile, s | MB |",
        "|---|---|---|---|---|---|",
    ]
    for way in ways:
        seconds = statistics.median(times[way.name])
        ratio = f"{best / seconds:.2f}" if best else "-"
        lines.append(
            f"| {way.name} | {options.batch / seconds:,.1f} | {ratio} "
            f"| {100 * flops * options.batch / seconds / most:.0f} % | {way.compile_s:.1f} "
            f"| {way.memory_mb:,.0f} |"
        )
    seconds = statistics.median(times["rsjax"])
    lines += ["", f"preprocessing: {100 * preprocess_share(batch, seconds):.1f} % of a step"]
    if options.data_dir:
        count = max(10, 4 * options.steps)
        lines.append(with_input(options.data_dir, config, compiled, held, count))
    print("\n".join(lines))
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
