"""Prints the tables of EuroSAT runs: `python experiments/eurosat/table.py WORKDIR [WORKDIR ...]`.

One workdir: the run, its figures, one row a class. Several, e.g. of three seeds: one row a run, and
mean and spread.
"""

import json
import pathlib
import statistics
import sys


def compare(workdirs: list[pathlib.Path]) -> None:
    """Markdown: one row a run, then mean and standard deviation over the runs."""
    names = ("overall_accuracy", "average_accuracy", "kappa")
    print("| run | seed | test samples | " + " | ".join(n.replace("_", " ") for n in names) + " |")
    print("|---" * (3 + len(names)) + "|")
    values: dict[str, list[float]] = {name: [] for name in names}
    recipes = set()
    for workdir in workdirs:
        found = json.loads((workdir / "eval" / "test.json").read_text())
        scalars, config = found["scalars"], found["config"]
        recipes.add(json.dumps({**config, "seed": 0, "name": ""}, sort_keys=True))
        for name in names:
            values[name].append(scalars[name])
        cells = " | ".join(f"{scalars[name]:.4f}" for name in names)
        print(f"| {workdir.name} | {config['seed']} | {scalars['samples_counted']:.0f} | {cells} |")
    spread = (f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f}" for v in values.values())
    print("| mean ± standard deviation | | | " + " | ".join(spread) + " |")
    if len(recipes) > 1:
        print("\nThe runs differ in more than their seed: their spread is not that of one recipe.")


def main(workdir: pathlib.Path) -> None:
    """Markdown: the run, its figures, and one row a class."""
    found = json.loads((workdir / "eval" / "test.json").read_text())
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    rates = [row["train/images_per_s"] for row in rows if "train/images_per_s" in row]
    scalars, config = found["scalars"], found["config"]
    print(f"| run | {config['name']}, {config['model']['name']} {config['model']['fields']} |")
    print("|---|---|")
    print(f"| test samples | {scalars['samples_counted']:.0f} |")
    print(f"| overall accuracy | {scalars['overall_accuracy']:.4f} |")
    print(f"| average accuracy | {scalars['average_accuracy']:.4f} |")
    print(f"| kappa | {scalars['kappa']:.4f} |")
    print(f"| best validation accuracy | {found['validation']['overall_accuracy']:.4f} "
          f"at step {found['step']} |")  # fmt: skip
    print(f"| images/s, median | {statistics.median(rates):.0f} |")
    times = [row["time"] for row in rows if "time" in row]
    if times:
        print(f"| minutes, first to last figure | {(times[-1] - times[0]) / 60:.1f} |")
    print("\n| class | samples | precision | recall | F1 |\n|---|---|---|---|---|")
    names = json.loads((workdir / "bundle" / "rsjax.json").read_text())["nomenclature"]["names"]
    table = found["per_class"]
    for i, name in enumerate(names):
        print(f"| {name} | {table['support'][i]:.0f} | {table['precision'][i]:.4f} "
              f"| {table['recall'][i]:.4f} | {table['f1'][i]:.4f} |")  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 2:
        compare([pathlib.Path(name) for name in sys.argv[1:]])
    else:
        main(pathlib.Path(sys.argv[1]))
