"""Random spatial fields of the simulated landscapes."""

from __future__ import annotations

import functools

import numpy as np


def smooth(rng: np.random.Generator, count: int, size: int, scale: float) -> np.ndarray:
    """Smooth random fields of unit variance, float32 (count, size, size).

    Args:
        rng: source of randomness.
        count: number of fields.
        size: pixels a side.
        scale: size of the structures, in pixels.
    """
    kernel = _kernel(size, scale)
    coarse = rng.standard_normal((count, kernel.shape[1], kernel.shape[1]), np.float32)
    # Matrices this small are slower in a threaded BLAS, and would differ with its thread count.
    rows = np.einsum("ik,nkl->nil", kernel, coarse)
    fields: np.ndarray = np.einsum("jl,nil->nij", kernel, rows)
    return fields


@functools.lru_cache(maxsize=16)
def _kernel(size: int, scale: float) -> np.ndarray:
    """Gaussian weights from a coarse grid that reaches beyond the edges, (size, nodes)."""
    nodes = np.arange(-2 * scale, size + 2 * scale + 1, scale)
    weights = np.exp(-0.5 * ((np.arange(size)[:, None] - nodes) / scale) ** 2)
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    return weights.astype(np.float32)


def pattern(rng: np.random.Generator, kind: str, size: int, scale: float) -> np.ndarray:
    """Where the second of two surfaces lies in a scene, float32 (size, size) of 0 and 1.

    Args:
        rng: turns, shifts and bends the pattern.
        kind: 'blobs', 'halves', 'stripes', 'blocks', 'discs', 'line', 'cross' or 'one'.
        size: pixels a side.
        scale: repetitions over the scene; for 'line', 'cross' and 'one' the half width, as a
            share of half the scene.
    """
    turn = rng.uniform(0, np.pi)
    v, u = np.meshgrid(*2 * [np.linspace(-1, 1, size)], indexing="ij")
    x = u * np.cos(turn) - v * np.sin(turn) + rng.uniform(-0.3, 0.3)
    y = u * np.sin(turn) + v * np.cos(turn) + rng.uniform(-0.3, 0.3)
    bend = smooth(rng, 1, size, size / 3)[0] * 0.05
    px, py = (x * scale / 2) % 1, (y * scale / 2) % 1
    kinds = {
        "blobs": lambda: smooth(rng, 1, size, size / scale)[0] > 0,
        "halves": lambda: x + 4 * bend > 0,
        "stripes": lambda: px < 0.5,
        "blocks": lambda: (px < 0.65) & (py < 0.65),
        "discs": lambda: (px - 0.5) ** 2 + (py - 0.5) ** 2 < 0.1,
        "line": lambda: abs(x + bend) < scale,
        "cross": lambda: (abs(x) < scale) | (abs(y) < scale),
        "one": lambda: x**2 + y**2 < scale**2,
    }
    return np.asarray(kinds[kind]()).astype(np.float32)
