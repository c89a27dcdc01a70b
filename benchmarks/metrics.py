"""How fast the metrics are: against scikit-learn, scipy and torchmetrics, and a forward pass.

    pip install scikit-learn scipy
    pip install torchmetrics torch      # optional, another peer
    python benchmarks/metrics.py [--sizes=120,512] [--rounds=5] [--classes=19]
    python benchmarks/metrics.py --metrics=confusion,boundary --pixels=1000000

A call is one batch from class indices (confusion, boundary) or scores of each class and pixel
(multilabel, average precision) to the figures on the host; all ways get the same arrays, and their
figures are compared once. scipy's boundary F1 makes distance transforms for each image and class
that occurs, and only the counts of F1, where ours counts the bands of boundary IoU, too. Its
tolerance is 0.75 % of the diagonal. The ways are timed in turn, `--rounds` times, and the table has
medians. The last column is the CPU time as a share of that of the forward pass of a U-Net with a
ResNet-34 (`models.get("unet")`, 10 bands, float32) in the same rounds.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import sklearn.metrics
from hardware import hardware

from rsjax import metrics, models
from rsjax.metrics import boundary

try:
    import torch
    import torchmetrics
except ImportError:
    torchmetrics = None

BANDS = 10
TOLERANCE = 0.0075  # of the diagonal
# name of the way: one call, which returns a figure to compare
Ways = dict[str, Callable[[], float]]


def maps(images: int, size: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels in patches of about 12 pixels; predictions two pixels beside and 2 % noise."""
    rng = np.random.default_rng(0)
    patch = 12
    coarse = rng.integers(0, classes, (images, size // patch + 1, size // patch + 1), np.uint8)
    labels = coarse.repeat(patch, axis=1).repeat(patch, axis=2)[:, :size, :size].copy()
    predictions = np.roll(labels, 2, axis=1)
    noise = rng.random(labels.shape) < 0.02
    predictions[noise] = rng.integers(0, classes, noise.sum())
    return labels, predictions


def ours(name: str, figure: str, *options: Any, **batch: Any) -> Callable[[], float]:
    """One batch of a metric of rsjax: counted on the device, summed and divided on the host."""
    metric = metrics.get(name).for_classes(*options)
    counted = jax.jit(metric.from_model_output)
    batch = jax.device_put(batch)
    return lambda: metric.empty().merge(metrics.to_host(counted(**batch))).compute()[figure]


def confusion(images: int, size: int, classes: int) -> Ways:
    """The IoU of one class for each pixel."""
    labels, predictions = maps(images, size, classes)
    mask = np.ones(labels.shape, bool)
    batch = {"labels": labels, "predictions": predictions, "mask": mask}
    y, p = labels.ravel(), predictions.ravel()

    def sklearn_iou() -> float:
        matrix = sklearn.metrics.confusion_matrix(y, p, labels=np.arange(classes))
        hits = np.diagonal(matrix)
        return float(np.mean(hits / (matrix.sum(0) + matrix.sum(1) - hits)))

    ways = {"rsjax": ours("confusion", "iou_macro", classes, **batch), "scikit-learn": sklearn_iou}
    if torchmetrics:
        peer = torchmetrics.classification.MulticlassJaccardIndex(classes)
        tensors = torch.tensor(predictions.astype(np.int64)), torch.tensor(labels.astype(np.int64))
        ways["torchmetrics"] = torch_way(peer, *tensors)
    return ways


def boundary_f1(images: int, size: int, classes: int) -> Ways:
    """Boundary F1 of each image."""
    labels, predictions = maps(images, size, classes)
    radius = boundary.radius_of(TOLERANCE, "diagonal", (size, size))
    batch = {"labels": labels, "predictions": predictions, "mask": np.ones(labels.shape, bool)}
    figure = "boundary_f1_per_image_macro"
    return {
        "rsjax": ours("boundary", figure, classes, radius, **batch),
        "scipy": functools.partial(scipy_f1, labels, predictions, radius),
    }


def scipy_f1(labels: np.ndarray, predictions: np.ndarray, radius: float) -> float:
    """The same with distance transforms."""
    distance = scipy.ndimage.distance_transform_edt
    cross = scipy.ndimage.generate_binary_structure(2, 1)
    scores = []
    for pair in zip(predictions, labels, strict=True):
        each = []
        for c in np.union1d(*pair):
            edges = [(m == c) & scipy.ndimage.binary_dilation(m != c, cross) for m in pair]
            if not edges[0].any() or not edges[1].any():
                each += [0.0] * (edges[0].any() or edges[1].any())
                continue
            shares = [np.mean(distance(~b)[a] <= radius) for a, b in (edges, edges[::-1])]
            each.append(2 * shares[0] * shares[1] / max(sum(shares), 1e-300))
        scores.append(np.mean(each))
    return float(np.mean(scores))


def dense(images: int, size: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Multi-hot labels and logits of each pixel."""
    rng = np.random.default_rng(0)
    labels = (rng.random((images, size, size, classes)) < 0.2).astype(np.uint8)
    return labels, (rng.normal(size=labels.shape) + labels).astype(np.float32)


def multilabel(images: int, size: int, classes: int) -> Ways:
    """F1 at a probability of 0.5."""
    labels, logits = dense(images, size, classes)
    batch = {"labels": labels, "logits": logits, "mask": np.ones(labels.shape[:-1], bool)}
    y, scores = labels.reshape(-1, classes), logits.reshape(-1, classes)
    ways = {
        "rsjax": ours("multilabel", "f1_macro", classes, **batch),
        "scikit-learn": lambda: float(sklearn.metrics.f1_score(y, scores >= 0, average="macro")),
    }
    if torchmetrics:
        peer = torchmetrics.classification.MultilabelF1Score(classes)
        ways["torchmetrics"] = torch_way(peer, torch.tensor(scores), torch.tensor(y).long())
    return ways


def average_precision(images: int, size: int, classes: int) -> Ways:
    """Every score of every class ranked."""
    labels, logits = dense(images, size, classes)
    batch = {"labels": labels, "logits": logits, "mask": np.ones(labels.shape[:-1], bool)}
    y, scores = labels.reshape(-1, classes), logits.reshape(-1, classes)
    ways = {
        "rsjax": ours("average_precision", "mAP_macro", classes, **batch),
        "scikit-learn": lambda: float(sklearn.metrics.average_precision_score(y, scores)),
    }
    if torchmetrics:
        peer = torchmetrics.classification.MultilabelAveragePrecision(classes)
        ways["torchmetrics"] = torch_way(peer, torch.tensor(scores), torch.tensor(y).long())
    return ways


def torch_way(metric: Any, predictions: Any, target: Any) -> Callable[[], float]:
    """One batch of a torchmetrics metric."""

    def run() -> float:
        metric.reset()
        metric.update(predictions, target)
        return float(metric.compute())

    return run


def forward(images: int, size: int, classes: int) -> Callable[[], Any]:
    """A forward pass of the U-Net."""
    model = models.get("unet", num_classes=classes)
    x = jax.random.normal(jax.random.key(0), (images, size, size, BANDS))
    variables = jax.jit(lambda: model.init(jax.random.key(1), x[:1], False))()
    apply = jax.jit(lambda variables, x: jnp.argmax(model.apply(variables, x, False), axis=-1))
    return lambda: jax.block_until_ready(apply(variables, x))


CASES: dict[str, Callable[[int, int, int], Ways]] = {
    "confusion": confusion,
    "boundary": boundary_f1,
    "multilabel": multilabel,
    "average_precision": average_precision,
}


def measure(names: list[str], size: int, images: int, classes: int, rounds: int) -> list[str]:
    """The lines of the table for one size of image."""
    ways: dict[tuple[str, str], Callable[[], Any]] = {
        ("forward", "unet"): forward(images, size, classes)
    }
    for name in names:
        found = CASES[name](images, size, classes)
        figures = {way: run() for way, run in found.items()}
        np.testing.assert_allclose(list(figures.values()), figures["rsjax"], rtol=1e-4)
        ways |= {(name, way): run for way, run in found.items()}
    times: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in ways}
    for turn in range(rounds + 1):
        for key, run in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            measured = time.perf_counter() - wall, time.process_time() - cpu
            if turn:  # the first one warms up
                times[key].append(measured)
    medians = {
        key: tuple(statistics.median(column) for column in zip(*values, strict=True))
        for key, values in times.items()
    }
    whole = medians["forward", "unet"][1]
    lines = []
    for (name, way), (wall, cpu) in medians.items():
        ratio = wall / medians.get((name, "rsjax"), (wall, cpu))[0]
        lines.append(
            f"| {size} | {name} | {way} | {images / wall:,.1f} | {ratio:.1f} | "
            f"{1e3 * cpu / images:,.2f} | {100 * cpu / whole:.2f} % |"
        )
    return lines


def main() -> None:
    """Reads the command line, measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metrics", default=",".join(CASES), help=", ".join(CASES))
    parser.add_argument("--sizes", default="120,512")
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pixels", type=int, default=512 * 512, help="about so many in a batch")
    options = parser.parse_args()
    names = options.metrics.split(",")
    if unknown := set(names) - set(CASES):
        raise SystemExit(f"unknown {unknown}; known: {', '.join(CASES)}")
    print(
        f"{time.strftime('%Y-%m-%d')}, {hardware()}; {options.classes} classes, "
        f"{options.rounds} rounds, batches of about {options.pixels:,} pixels.\n"
    )
    print("| size | metric | way | images/s | time to rsjax's | CPU ms/image | of a forward pass |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for size in map(int, options.sizes.split(",")):
        images = max(1, options.pixels // size**2)
        lines = measure(names, size, images, options.classes, options.rounds)
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
