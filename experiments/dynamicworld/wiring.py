"""Which wiring of Dynamic World's network its own batch norms confirm, and real maps agree with.

    python experiments/dynamicworld/wiring.py forward_variables.npz DATA

DATA is the folder of `images.load`. Prints two tables in Markdown, see README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from images import Image, load, top_of_atmosphere
from network import Wiring, arrays, forward

from rsjax import landcover

PUBLISHED, LEVEL_2A = "published", "published, level 2A as it is"
WIRINGS: dict[str, Wiring] = {
    PUBLISHED: Wiring(),
    LEVEL_2A: Wiring(),
    "ReLU": Wiring(activation="relu"),
    "leaky ReLU 0.2": Wiring(activation="leaky_relu"),
    "ELU": Wiring(activation="elu"),
    "GELU": Wiring(activation="gelu"),
    "swish": Wiring(activation="swish"),
    "no activation": Wiring(activation="none"),
    "Mish before the norm": Wiring(order="activation_first"),
    "no Mish in the shortcut": Wiring(shortcut_activation=False),
    "Mish after the sum": Wiring(add_activation=True),
    "norms of dw3 and shortcut swapped": Wiring(swap_norms=True),
    "skip first in the concatenation": Wiring(swap_concat=True),
    "full resolution": Wiring(down="none"),
    "every second pixel": Wiring(down="nearest"),
    "mean of 2 x 2": Wiring(down="mean"),
    "upsampled before block 3": Wiring(up="third"),
    "log without logistic": Wiring(squash="log"),
    "reflectance as it is": Wiring(squash="plain"),
    "no unit length": Wiring(unit_length=False),
}
TINY = 1e-9  # of channels that one activation shuts for good


def moments(
    weights: Mapping[str, np.ndarray], images: Sequence[Image], wiring: Wiring
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[np.ndarray]]:
    """Mean before each norm over all images, mean variance within them; and the logits."""
    run = jax.jit(lambda x: forward(dict(weights), x, wiring))
    found: dict[str, list[Any]] = {}
    logits = []
    for image in images:
        values, seen = jax.device_get(run(image.pixels[None]))
        logits.append(values[0])
        for layer, pair in seen.items():
            found.setdefault(layer, []).append(pair)
    return {layer: tuple(np.mean(pairs, axis=0)) for layer, pairs in found.items()}, logits


def distances(
    weights: Mapping[str, np.ndarray], pooled: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, tuple[float, float, float, float]]:
    """How far what a norm sees is from what it remembers.

    Returns:
        layer -> (median over channels of |mean - stored| in stored standard deviations, median of
        log2 of the ratio of the variances, correlation over channels of their logarithms).
    """
    found = {}
    for layer, (mean, variance) in pooled.items():
        stored_mean, stored = (weights[f"{layer}/bn/{name}"] for name in ("mean", "var"))
        ratio = np.log2((variance + TINY) / stored)
        found[layer] = (
            float(np.median(np.abs(mean - stored_mean) / np.sqrt(stored))),
            float(np.median(ratio)),
            float(np.corrcoef(np.log(variance + TINY), np.log(stored))[0, 1]),
        )
    return found


def agreement(images: Sequence[Image], logits: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Shares of the pixels with a reference that agree: of the Amazon's polygons, of CORINE's.

    And the mean confidence of all images.
    """
    shares: dict[bool, list[np.ndarray]] = {True: [], False: []}
    confidence = []
    for image, values in zip(images, logits, strict=True):
        chosen = values.argmax(-1)
        right = np.take_along_axis(image.known, chosen[..., None], -1)[..., 0]
        shares[image.name.startswith("amazon")].append(right[image.known.any(-1)])
        odds = np.exp(values - values.max(-1, keepdims=True))
        confidence.append((odds.max(-1) / odds.sum(-1)).mean())
    polygons, corine = (float(np.concatenate(shares[name]).mean()) for name in (True, False))
    return polygons, corine, float(np.mean(confidence))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    parser.add_argument("data", type=pathlib.Path)
    options = parser.parse_args()
    weights, surface = arrays(options.weights), load(options.data)
    images = [dataclasses.replace(i, pixels=top_of_atmosphere(i.pixels)) for i in surface]
    print("| wiring | mean, deviations | variance, octaves | largest | correlation | polygons "
          "| CORINE | confidence |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    tables = {}
    for name, wiring in WIRINGS.items():
        given = surface if name == LEVEL_2A else images
        seen, logits = moments(weights, given, wiring)
        tables[name] = distances(weights, seen)
        means, ratios, correlations = np.array(list(tables[name].values())).T
        numbers = (
            np.median(means),
            np.median(np.abs(ratios)),
            np.abs(ratios).max(),
            np.median(correlations),
            *agreement(given, logits),
        )
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in numbers) + " |", flush=True)
        if name in (PUBLISHED, LEVEL_2A):
            shares(given, logits)
    print("\n| batch norm | mean, deviations | variance, octaves | correlation |\n"
          "|---|---|---|---|")  # fmt: skip
    for layer, row in tables[PUBLISHED].items():
        print(f"| {layer} | " + " | ".join(f"{value:.2f}" for value in row) + " |")


def shares(images: Sequence[Image], logits: Sequence[np.ndarray]) -> None:
    """Tells on the error stream what each image is mapped as, and what is known of it."""
    names = landcover.load("dynamicworld").names
    for image, values in zip(images, logits, strict=True):
        found = np.bincount(values.argmax(-1).ravel(), minlength=len(names)) / values[..., 0].size
        known = image.known.mean((0, 1))
        told = [
            ", ".join(f"{n} {v:.2f}" for n, v in zip(names, part, strict=True) if v >= 0.005)
            for part in (found, known)
        ]
        print(image.name, *told, *image.labels, sep=" | ", file=sys.stderr)


if __name__ == "__main__":
    main()
