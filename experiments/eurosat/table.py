"""Prints the tables of an EuroSAT run: `python experiments/eurosat/table.py WORKDIR`."""

import json
import pathlib
import statistics
import sys


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
    main(pathlib.Path(sys.argv[1]))
