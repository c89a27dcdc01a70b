"""The machine that a figure was measured on, in one line."""

from __future__ import annotations

import os
import pathlib

import jax


def hardware() -> str:
    """The devices, the processor, the usable cores, the load at this moment, and the versions."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")
    wide = "AVX-512" if any("avx512f" in line for line in lines) else "no AVX-512"
    cores = len(os.sched_getaffinity(0))
    devices = "" if jax.default_backend() == "cpu" else f"{jax.devices()[0].device_kind}, "
    return (
        f"{devices}{name} ({wide}), {cores} cores, load {os.getloadavg()[0]:.1f}; "
        f"jax {jax.__version__}"
    )
