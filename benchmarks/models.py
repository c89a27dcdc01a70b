"""Every architecture, forward and training step: rsjax and the same network in PyTorch, in one run.

    pip install torch
    python benchmarks/models.py --batch=256 --dtype=bfloat16 --compile          # a GPU
    python benchmarks/models.py --batch=4                                        # a CPU, float32
    python benchmarks/models.py --models=resnet50,unet --batch=8 --rounds=5
    python benchmarks/models.py --models=all

The images are random, ten bands of 120 px, and lie on the device. A training step is forward,
backward and AdamW; the loss is cross-entropy of one class per image or per pixel. PyTorch is
measured as it comes and with channels_last, with `--compile` also with torch.compile (which can
take minutes a model), with autocast where the dtype is bfloat16. All ways are timed in turn,
`--rounds` times; the table has medians, and the ratio to the fastest PyTorch. The PyTorch networks
are those of the tests, which the rsjax models equal in output and gradient.

Memory: for rsjax what XLA plans for the training step (arguments and temporaries); for PyTorch the
peak that its allocator saw, on a GPU only.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
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
import optax
import torch
from hardware import hardware
from model_cases import CASES, Case
from torch.nn import functional

from rsjax import models

BANDS, CLASSES = 10, 19
# What a table's row stands for: the way, how to run it, seconds of the first call, memory.
Way = tuple[str, Callable[[], Any], float, float]


def ours(case: Case, x: np.ndarray, labels: np.ndarray, dtype: str) -> tuple[Way, Way]:
    """Forward pass and training step of rsjax."""
    model = models.get(case.name, num_classes=CLASSES, dtype=jnp.dtype(dtype).type, **case.fields)
    image, target = jax.device_put((x, labels))
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
    variables = jax.jit(lambda: model.init(keys, image, False), compiler_options=quick)()
    stats = variables.get("batch_stats", {})
    tx = optax.adamw(1e-4)

    def loss(params: Any, stats: Any, step: jax.Array) -> Any:
        logits, updates = model.apply(
            {"params": params, "batch_stats": stats},
            image,
            True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.fold_in(keys["dropout"], step)},
        )
        terms = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        return terms.mean(), updates.get("batch_stats", {})

    def train(state: Any) -> Any:
        params, stats, opt_state, step = state
        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params, stats, step)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state, step + 1), value

    forward, seconds = timed(
        lambda: jax.jit(lambda v, x: model.apply(v, x, False)).lower(variables, image).compile()
    )
    held = [(variables["params"], stats, tx.init(variables["params"]), jnp.zeros((), jnp.int32))]
    held[0] = jax.tree.map(jnp.copy, held[0])
    step, longer = timed(lambda: jax.jit(train, donate_argnums=0).lower(held[0]).compile())

    def run() -> None:
        held[0], value = step(held[0])
        jax.block_until_ready(value)

    plan = step.memory_analysis()
    used = (plan.argument_size_in_bytes + plan.temp_size_in_bytes) / 1e6 if plan else float("nan")
    return (
        ("rsjax", lambda: jax.block_until_ready(forward(variables, image)), seconds, float("nan")),
        ("rsjax", run, longer, used),
    )


def theirs(
    case: Case, x: np.ndarray, labels: np.ndarray, dtype: str, compiled: bool
) -> list[tuple[Way, Way]]:
    """The same for each way to run PyTorch."""
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    found = []
    for name, layout, compile_it in (
        ("PyTorch", torch.contiguous_format, False),
        ("PyTorch channels_last", torch.channels_last, False),
        ("PyTorch channels_last, compile", torch.channels_last, True),
    ):
        if compile_it and not compiled:
            continue
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        module = case.peer(BANDS, CLASSES).to(device).to(memory_format=layout)
        optimizer = torch.optim.AdamW(module.parameters(), 1e-4, fused=device == "cuda")
        image = torch.tensor(x, device=device).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        target = torch.tensor(labels, device=device).long()
        call = torch.compile(module) if compile_it else module

        def logits(call=call, image=image) -> torch.Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
                outputs = call(image)
            return (outputs[0] if isinstance(outputs, (tuple, list)) else outputs).float()

        def forward(module=module, logits=logits) -> None:
            module.eval()
            with torch.no_grad():
                wait(logits())

        def train(module=module, logits=logits, optimizer=optimizer, target=target) -> None:
            module.train()
            optimizer.zero_grad(set_to_none=True)
            value = functional.cross_entropy(logits(), target)
            value.backward()
            optimizer.step()
            wait(value.detach())

        try:
            _, first = timed(forward)
            _, longer = timed(train)
        except Exception as error:  # e.g. no C++ compiler for torch.compile
            what = f"{type(error).__name__}: {str(error)[:200]}"
            print(f"{case.title}, {name}: {what}", file=sys.stderr)
            continue
        peak = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else float("nan")
        found.append(((name, forward, first, float("nan")), (name, train, longer, peak)))
    return found


def wait(value: torch.Tensor) -> None:
    """Until the device has computed it."""
    float(value.reshape(-1)[0])


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns and how many seconds it took."""
    began = time.perf_counter()
    return call(), time.perf_counter() - began


def measure(ways: list[Way], rounds: int) -> dict[str, float]:
    """Median seconds of each way, run in turn; the first round is not counted."""
    times: dict[str, list[float]] = {way[0]: [] for way in ways}
    for turn in range(rounds + 1):
        for name, run, _, _ in ways:
            _, seconds = timed(run)
            if turn:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def rows(case: Case, options: argparse.Namespace) -> list[str]:
    """The lines of the table for one architecture."""
    rng = np.random.default_rng(0)
    shape = (options.batch, options.size, options.size)
    x = rng.normal(size=(*shape, BANDS)).astype(np.float32)
    labels = rng.integers(0, CLASSES, shape if case.pixels else shape[:1]).astype(np.int32)
    own = ours(case, x, labels, options.dtype)
    peers = theirs(case, x, labels, options.dtype, options.compile)
    lines = []
    for index, what in enumerate(("forward", "train step")):
        ways = [own[index], *(peer[index] for peer in peers)]
        seconds = measure(ways, options.rounds)
        best = min((s for name, s in seconds.items() if name != "rsjax"), default=float("nan"))
        for name, _, first, memory in ways:
            ratio = f"{best / seconds[name]:.2f}"
            used = "–" if memory != memory else f"{memory:,.0f}"
            lines.append(
                f"| {case.title} | {what} | {name} | {options.batch / seconds[name]:,.1f} | "
                f"{ratio} | {first:.1f} | {used} |"
            )
    return lines


def main() -> None:
    """Reads the command line, measures and prints the table, model by model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="", help="titles of model_cases, by commas, or 'all'")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=120)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--out", default="", help="a file for the table")
    options = parser.parse_args()
    chosen = [case.title for case in CASES if case.timed or options.models == "all"]
    if options.models not in ("", "all"):
        chosen = options.models.split(",")
    if unknown := set(chosen) - {case.title for case in CASES}:
        raise SystemExit(f"unknown {unknown}; known: {', '.join(c.title for c in CASES)}")
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {hardware()}, torch {torch.__version__}. {BANDS} bands, "
        f"{options.size} px, batch {options.batch}, {options.dtype}, {options.rounds} rounds.",
        "",
        "| model | what | way | images/s | to the best PyTorch | first call or compile, s | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for case in (case for case in CASES if case.title in chosen):
        new = rows(case, options)
        lines += new
        print("\n".join(new), flush=True)
        with contextlib.suppress(AttributeError):
            jax.clear_caches()
        gc.collect()
        if options.out:
            pathlib.Path(options.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
