"""What temperature, thresholds and symmetries change on a held-out split, as a Markdown table.

    python experiments/probabilities/table.py RUN SHARDS [--split=test] [--block=PATTERN]

RUN is the workdir of a finished run (classification or multi-label) that was trained with
`task.temperature=fitted` or `task.thresholds=tuned`; SHARDS the folder of its shards. All rows are
of the same weights and the same samples; differences to the first row have 95 % intervals over
1,000 resampled test sets, drawn by sample, or by what PATTERN (a regex with one group) finds in the
ids. The figures are computed here from the probabilities, by NumPy and scikit-learn, and not by
`rsjax.metrics`: they check each other.
"""

import argparse
import dataclasses
import pathlib
import re

import numpy as np
from sklearn.metrics import f1_score

import rsjax
from rsjax.input.source import ShardSource

BINS = 15


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Of equal-width bins of the confidence (Guo et al. 2017, eq. 3)."""
    which = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = [abs(right[which == b].sum() - confidence[which == b].sum()) for b in range(BINS)]
    return float(np.sum(gaps) / len(right))


def figures(p: np.ndarray, labels: np.ndarray, threshold: np.ndarray) -> dict[str, float]:
    """Figures of probabilities (N, K) and labels (N,) or (N, K)."""
    if labels.ndim == 1:
        top, chosen = p.max(axis=1), p.argmax(axis=1)
        nll = -np.log(np.maximum(p[np.arange(len(p)), labels], 1e-30)).mean()
        right = chosen == labels
        ece = expected_calibration_error(top, right)
        return {"accuracy": right.mean(), "ECE": ece, "negative log-likelihood": nll}
    q = np.where(labels > 0, p, 1 - p)
    each = f1_score(labels, p >= threshold, average=None, zero_division=0)
    macro = each[labels.any(axis=0)].mean()  # over the classes that occur
    confidence = np.where(p >= 0.5, p, 1 - p)
    ece = expected_calibration_error(confidence.ravel(), ((p >= 0.5) == (labels > 0)).ravel())
    return {"macro F1": macro, "ECE": ece, "negative log-likelihood": -np.log(q).mean()}


def main() -> None:
    """Reads a run and its shards, prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("shards")
    parser.add_argument("--split", default="test")
    parser.add_argument("--block", default="")
    given = parser.parse_args()
    model = rsjax.load(given.run)
    entries = [*model.inputs.images, "label"]
    source = ShardSource(pathlib.Path(given.shards), given.split, columns=entries)
    everything = np.arange(len(source))
    batch = source.read(everything)
    labels = batch.pop("label")
    plain = dataclasses.replace(model, about={**model.about, "temperature": 1.0})

    def probabilities(one, tta):  # type: ignore[no-untyped-def]
        p = one.predict(batch, batch_size=120, tta=tta).probabilities.astype(np.float64)
        return np.clip(p, 1e-12, 1 - 1e-12) if labels.ndim == 2 else p

    # Thresholds are of probabilities with the temperature, which by itself changes no decision.
    tuned = model.about["task"].get("threshold", 0.5)
    cases = {"as trained": (probabilities(plain, "none"), 0.5)}
    fitted, symmetric = probabilities(model, "none"), probabilities(model, "d4")
    cases[f"temperature {model.temperature:.3f}"] = (fitted, 0.5)
    if np.ndim(tuned):
        cases["temperature and thresholds"] = (fitted, tuned)
    cases["D4"] = (probabilities(plain, "d4"), 0.5)
    cases["D4 and temperature"] = (symmetric, 0.5)
    if np.ndim(tuned):
        cases["D4, temperature and thresholds"] = (symmetric, tuned)

    blocks = everything
    if given.block:
        names = [re.search(given.block, text)[1] for text in source.ids(everything)]  # type: ignore[index]
        blocks = np.unique(names, return_inverse=True)[1]
    rng = np.random.default_rng(0)
    count = blocks.max() + 1
    members = [np.flatnonzero(blocks == b) for b in range(count)]
    draws = [
        np.concatenate([members[b] for b in rng.integers(0, count, count)]) for _ in range(1000)
    ]
    base = cases["as trained"]
    columns = list(figures(base[0], labels, base[1]))
    print(f"{len(labels)} samples, {count} blocks; 95 % intervals of the difference to row one\n")
    print("| probabilities | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    firsts = [figures(base[0][d], labels[d], base[1]) for d in draws]
    for name, (p, threshold) in cases.items():
        found, cells = figures(p, labels, threshold), []
        each = (
            firsts if name == "as trained" else [figures(p[d], labels[d], threshold) for d in draws]
        )
        for column in columns:
            change = [a[column] - b[column] for a, b in zip(each, firsts, strict=True)]
            low, high = np.quantile(change, (0.025, 0.975))
            said = "" if name == "as trained" else f" ({low:+.4f} to {high:+.4f})"
            cells.append(f"{found[column]:.4f}{said}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
