"""How a CPU should compute convolutions: `layers.conv2d` and `layers.matmul_on_cpu`, measured.

    python benchmarks/conv_cpu.py [--case=resnet18_64] [--batch=32] [--rounds=5]
    python benchmarks/conv_cpu.py --case=grouped [--batch=8] [--rounds=3]

Measured 2026-11-23 on 2 cores of an AMD EPYC without AVX-512, jax 0.10.2, shared with other work
(load 4 to 6), so that the CPU time per image tells more than the images/s; `--rounds=7`:

    resnet18_64, batch 32, float32, forward and backward
    rule                 images/s  ratio  CPU ms/image  temporary MiB
    native                    3.4   1.00         197.2            122
    1x1                       3.0   0.88         195.8            122
    1x1, map <= kernel       11.0   3.24          45.5            100
    1x1, map <= 8            11.6   3.41          38.0            128
    1x1, map <= 16           13.7   4.03          40.2            194
    1x1, 3x3                 11.4   3.35          38.8            194
    all                      14.7   4.32          31.0            262

For this model the shipped rule is 'all'. resnet18_60 and resnet50_120 are not yet measured.

Single convolutions, forward and backward, batch 32, same day and machine, median milliseconds;
'taps' adds up one product per tap, 'lax' uses `lax.conv_general_dilated_patches`:

    map, channels in-out, kernel/stride   native   slices + dot    taps     lax
    64, 12-64,    7x7/2                      595            193     759    1998
    30, 64-64,    3x3                        508            131     267    2406
    15, 128-128,  3x3                         91             94      96     817
    8, 256-256,   3x3                         80             80      75     433
    4, 256-512,   3x3/2                      122             11      12      30
    4, 512-512,   3x3                         85             63      76     268
    2, 512-512,   3x3                        845             16      19      35
    32, 64-64,    1x1                         85             18      18      20

At batch 8, above the limit of the shipped rule: 60, 64-64, 3x3 took 176 native and 249 as slices
+ dot; 120, 64-64, 3x3 took 1603 and 546: the limit costs speed there, and is for memory.

Grouped and depthwise 3x3 convolutions, `--case=grouped --rounds=3`, 2026-11-25, 2 cores of an AMD
EPYC with AVX-512, jax 0.10.2, shared with other work (load 8), batch 8, median milliseconds,
forward / forward and backward. Native gradients are so slow that there is no limit here: with 60
pixels, 128-128, 32 groups, batch 2, they took 11 s.

    map, channels, groups, stride, dilation          native       as shipped
    8, 256-256, 32, 1, 1                        8.5 / 1641.8     1.0 /  22.7
    2, 1024-1024, 32, 1, 1                      5.6 /  326.0     4.0 /   7.5
    16, 256-256, 32, 2, 1                       4.0 / 1694.9     3.1 /  20.8
    32, 64-64, 64, 1, 1                        14.3 /  112.0     0.4 / 103.4
    8, 728-728, 728, 1, 1                      28.7 /  312.0     0.5 /  30.6
    4, 728-728, 728, 1, 1                       7.9 /  107.3     0.2 /  19.6
    8, 728-728, 728, 1, 2                      24.0 /  256.8     0.6 /  78.9
    2, 1536-1536, 1536, 1, 1                   10.9 /  422.8     0.1 /   3.6

Also tried for ResNeXt's groups, forward and backward, at load 3 to 8, as multiples of the time of
what is shipped over five shapes: one product per group and tap 0.8 to 1.4; groups merged to 32
channels by kernels with zeros 0.5 to 1.7, to 16 channels 0.3 to 3; a product for each group 0.6
to 5.6; an einsum over patches with the groups inside 1.5 to 7; a dense kernel with zeros 1.9 to 65.
"""

from __future__ import annotations

import argparse
import functools
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence

os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
from hardware import hardware

from rsjax import models
from rsjax.models import layers

# name: (model, pixels, batch), 12 bands
CASES = {
    "resnet18_64": ("resnet18", 64, 128),
    "resnet18_60": ("resnet18", 60, 128),
    "resnet50_120": ("resnet50", 120, 32),
}

# map, channels in and out, groups, stride, dilation: 3x3 convolutions of ResNeXt-50 (32x4d) on
# 64-pixel images (the first two) and 224-pixel ones, and depthwise ones of Xception
GROUPED = (
    (8, 256, 256, 32, 1, 1),
    (2, 1024, 1024, 32, 1, 1),
    (16, 256, 256, 32, 2, 1),
    (32, 64, 64, 64, 1, 1),
    (8, 728, 728, 728, 1, 1),
    (4, 728, 728, 728, 1, 1),
    (8, 728, 728, 728, 1, 2),
    (2, 1536, 1536, 1536, 1, 1),
)

# map, channels in and out, kernel, padding, dilation: what the patches are too large for, of
# DeepLab v3's pyramid, FCN's fc6 on images of 120 pixels, and ordinary stages
WIDE = (
    (15, 2048, 256, 3, 12, 12),
    (15, 2048, 256, 3, 36, 36),
    (16, 512, 4096, 7, 0, 1),
    (30, 256, 256, 3, 1, 1),
    (120, 64, 64, 3, 1, 1),
)

# name: the rule, of the output (H, W) and the shape of the kernel (k, k, C, D)
Rule = Callable[[tuple[int, ...], tuple[int, ...]], bool]
RULES: dict[str, Rule] = {
    "native": lambda grid, kernel: False,
    "1x1": lambda grid, kernel: kernel[0] == 1,
    "1x1, map <= kernel": lambda grid, kernel: kernel[0] == 1 or grid[0] <= kernel[0],
    "1x1, map <= 8": lambda grid, kernel: kernel[0] == 1 or grid[0] <= 8,
    "1x1, map <= 16": lambda grid, kernel: kernel[0] == 1 or grid[0] <= 16,
    "1x1, 3x3": lambda grid, kernel: kernel[0] <= 3,
    "all": lambda grid, kernel: True,
    "as shipped": layers.matmul_on_cpu,
}


def compile_step(
    model_name: str, size: int, batch: int
) -> tuple[Callable[[], tuple[float, float]], float]:
    """One forward and backward pass as a timer (wall, CPU seconds); its temporary memory in MiB."""
    model = models.get(model_name, num_classes=19)
    images = jax.random.normal(jax.random.key(0), (batch, size, size, 12))
    labels = jnp.arange(batch) % 19
    variables = jax.jit(model.init, static_argnums=2)(jax.random.key(1), images[:1], False)

    # Images are an argument: XLA would fold the patches of a constant while compiling.
    def loss(params: dict, images: jax.Array) -> jax.Array:
        logits, _ = model.apply(
            {**variables, "params": params}, images, True, mutable=["batch_stats"]
        )
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(batch), labels])

    compiled = jax.jit(jax.value_and_grad(loss)).lower(variables["params"], images).compile()

    def run() -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(variables["params"], images))
        return time.perf_counter() - wall, time.process_time() - cpu

    memory = compiled.memory_analysis()
    return run, memory.temp_size_in_bytes / 2**20 if memory else float("nan")


def measure(case: str, batch: int | None, rounds: int) -> None:
    """Prints the table of one case: medians of interleaved runs, ratio to native."""
    name, size, default = CASES[case]
    batch = batch or default
    steps = {}
    for rule, function in RULES.items():
        layers.matmul_on_cpu = function  # type: ignore[assignment]
        jax.clear_caches()
        steps[rule] = compile_step(name, size, batch)
    seconds: dict[str, list[tuple[float, float]]] = {rule: [] for rule in RULES}
    for turn in range(rounds + 1):
        for rule, (run, _) in steps.items():
            measured = run()
            if turn:  # the first one warms up
                seconds[rule].append(measured)
    print(f"\n{case}, batch {batch}, float32, forward and backward")
    print(f"{'rule':<20} images/s  ratio  CPU ms/image  temporary MiB")
    native = statistics.median(wall for wall, _ in seconds["native"])
    for rule, (_, memory) in steps.items():
        wall, cpu = (statistics.median(times) for times in zip(*seconds[rule], strict=True))
        print(
            f"{rule:<20} {batch / wall:8.1f} {native / wall:6.2f} "
            f"{1e3 * cpu / batch:13.1f} {memory:14.0f}"
        )


def measure_single(title: str, shapes: Sequence[tuple[int, ...]], batch: int, rounds: int) -> None:
    """Prints median milliseconds of single convolutions, native and as shipped.

    Shapes are (map, channels in and out, groups, kernel, stride, padding, dilation).
    """
    print(f"\n{title}, batch {batch}, float32, median ms: forward, forward and backward")
    what = "map, channels, groups, kernel, stride, padding, dilation"
    print(f"{what:<56} {'native':>16} {'as shipped':>16}")
    for size, channels, features, groups, taps, *rest in shapes:
        strides, padding, dilation = rest
        x = jax.random.normal(jax.random.key(0), (batch, size, size, channels))
        kernel = jax.random.normal(jax.random.key(1), (taps, taps, channels // groups, features))
        native = functools.partial(
            jax.lax.conv_general_dilated,
            window_strides=(strides, strides),
            padding=[(padding, padding)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=layers.DIMENSION_NUMBERS,
            feature_group_count=groups,
        )
        shipped = functools.partial(
            layers.conv2d, strides=strides, padding=padding, dilation=dilation, groups=groups
        )
        cells = []
        for form in (native, shipped):
            times = [milliseconds(function, x, kernel, rounds) for function in both_ways(form)]
            cells.append(f"{times[0]:7.1f} {times[1]:8.1f}")
        name = f"{size}, {channels}-{features}, {groups}, {taps}, {strides}, {padding}, {dilation}"
        print(f"{name:<56} {cells[0]:>16} {cells[1]:>16}", flush=True)


def both_ways(form: Callable[..., jax.Array]) -> tuple[Callable[..., object], ...]:
    """A convolution, and it with both gradients."""

    def backward(x: jax.Array, kernel: jax.Array) -> object:
        y, pull = jax.vjp(form, x, kernel)
        return y, pull(jnp.cos(y))

    return jax.jit(form), jax.jit(backward)


def milliseconds(
    function: Callable[..., object], x: jax.Array, kernel: jax.Array, rounds: int
) -> float:
    """Median wall time of a call, after one that compiles."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        jax.block_until_ready(function(x, kernel))
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=[*CASES, "grouped", "wide"], action="append")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(time.strftime("%Y-%m-%d"), hardware(), flush=True)
    grouped = [(m, c, d, g, 3, s, r, r) for m, c, d, g, s, r in GROUPED]
    wide = [(m, c, d, 1, k, 1, p, r) for m, c, d, k, p, r in WIDE]
    single = {"grouped": (grouped, 8), "wide": (wide, 4)}
    for case in options.case or (*CASES, *single):
        if case in single:
            shapes, batch = single[case]
            measure_single(case, shapes, options.batch or batch, options.rounds)
        else:
            measure(case, options.batch, options.rounds)


if __name__ == "__main__":
    main()
