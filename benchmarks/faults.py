"""The fault campaign: breaks what can break, and counts what is lost, wrong or unclear.

`python benchmarks/faults.py --only=NAME,NAME --tries=20 --out=DIR` makes every fault (NAME is a
family or a case; without it all) on tiny shards and models, with the real commands. It prints a
table and keeps each row in DIR/rows, so that families can be run one by one; the table joins all
rows there. Linux; the full disks need the right to mount a tmpfs.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib
import json
import os
import pathlib
import platform
import sys
import textwrap
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
os.environ["JAX_PLATFORMS"] = "cpu"

from fault import lab as tools

FAMILIES = (
    "killing", "signals", "disk", "damage", "workers", "jobs", "numbers", "hostile", "typos",
    "downloads",
)  # fmt: skip


def cases() -> dict[str, tuple[str, object]]:
    """{family.case: (family, function)}."""
    found = {}
    for family in FAMILIES:
        module = importlib.import_module(f"fault.{family}")
        found |= {f"{family}.{name}": (family, function) for name, function in module.CASES.items()}
    return found


def table(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| fault | tries | lost | wrong | unclear | time to notice, s | message |",
        "|---|---|---|---|---|---|---|",
    ]
    notes = {}
    for row in rows:
        seconds = sorted(row["seconds"])
        spread = f"{seconds[len(seconds) // 2]:.1f} (≤ {seconds[-1]:.1f})" if seconds else ""
        mark = ""
        if row["note"]:
            mark = f" [{notes.setdefault(row['note'], len(notes) + 1)}]"
        message = textwrap.shorten(str(row["message"]), 300, placeholder=" ...").replace("|", "\\|")
        lines.append(
            f"| {row['fault']}{mark} | {row['tries'] or 'skipped'} | {row['lost']} | "
            f"{row['wrong']} | {row['unclear']} | {spread} | {message} |"
        )
    return "\n".join(lines + [""] + [f"[{i}] {note}  " for note, i in notes.items()]) + "\n"


def machine() -> str:
    """Hardware, date and versions, for the head of the table."""
    import jax
    import orbax.checkpoint

    cpu = platform.processor() or platform.machine()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    return (
        f"{datetime.date.today()}, {os.cpu_count()} cores of {cpu}, Python "
        f"{platform.python_version()}, jax {jax.__version__}, orbax-checkpoint "
        f"{orbax.checkpoint.__version__}"
    )


def main() -> None:
    """Runs the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="families or cases, joined by commas")
    parser.add_argument("--tries", type=int, default=20, help="of each random fault")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("faults"))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    known = cases()
    chosen = {
        name: function
        for name, (family, function) in known.items()
        if not asked.only or {family, name, name.split(".")[1]} & set(asked.only.split(","))
    }
    if not chosen:
        parser.error(f"--only={asked.only}: known are {', '.join([*FAMILIES, *known])}")
    lab = tools.Lab(asked.out / "lab", asked.seed)
    folder = asked.out / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    for name, function in chosen.items():
        began = time.perf_counter()
        row = function(lab, asked.tries)
        row.message = row.message.replace(f"{lab.folder}/", "")
        (folder / f"{name}.json").write_text(json.dumps(dataclasses.asdict(row)))
        print(
            f"{name}: {row.tries} tries, {row.lost} lost, {row.wrong} wrong, {row.unclear} "
            f"unclear, {time.perf_counter() - began:.0f} s  {row.message}",
            flush=True,
        )
    rows = [
        json.loads((folder / f"{n}.json").read_text())
        for n in known
        if (folder / f"{n}.json").exists()
    ]
    text = f"{machine()}\n\n{table(rows)}"
    (asked.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
