"""What a sweep tells of its runs, read from their folders: `results.jsonl` and `results.md`."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rsjax import sealed
from rsjax.errors import RsjaxError
from rsjax.training import recipes

ABOUT = "sweep.json"  # of one run: its overrides, its config and its last attempt
FINISHED = "finished.json"  # as rsjax.training.loop has it, which would import jax


def about_of(folder: pathlib.Path) -> dict[str, Any]:
    """What a sweep wrote of the run in a folder; empty if it wrote nothing.

    Raises:
        RsjaxError: it is damaged.
    """
    path = folder / ABOUT
    try:
        return sealed.read(path)
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise RsjaxError(f"{path}: {error}. Delete it: the run goes on where it stopped") from None


def _finished(path: pathlib.Path) -> dict[str, Any]:
    """What a run that is finished found: `split`, `step` and figures.

    Raises:
        RsjaxError: it is damaged.
    """
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        found, why = None, str(error)
    else:
        why = "expected a split and figures"
    if (
        not isinstance(found, dict)
        or not isinstance(found.get("split"), str)
        or not all(
            name == "split" or isinstance(value, int | float | None)
            for name, value in found.items()
        )
    ):
        raise RsjaxError(f"{path}: damaged ({why}). Delete it, and run the sweep again")
    return found


@dataclasses.dataclass(frozen=True)
class Row:
    """What lies on disk of one run."""

    number: int
    folder: str
    overrides: dict[str, Any]
    status: str
    seconds: float
    headline: str
    scalars: dict[str, Any]


def read_results(workdir: pathlib.Path) -> list[Row]:
    """Every run of which something lies in `workdir`, by number."""
    rows = []
    for path in sorted(workdir.glob(f"*/{ABOUT}")):
        folder, about = path.parent, about_of(path.parent)
        if not about:  # deleted since it was listed
            continue
        scalars, headline = {}, ""
        status = "failed" if about["exit_status"] else "stopped"
        if about["exit_status"] is None:
            status = "started"
        if (folder / FINISHED).is_file():
            found = _finished(folder / FINISHED)
            split, status = found.pop("split"), "finished"
            scalars = {k: v for k, v in found.items() if k != "step"}
            with contextlib.suppress(OSError, ValueError):  # a run without any evaluation
                headline = str(sealed.read(folder / "eval" / f"{split}.json")["headline"])
        rows.append(
            Row(about["number"], folder.name, about["overrides"], status, about["seconds"],
                headline, scalars)
        )  # fmt: skip
    return sorted(rows, key=lambda row: row.number)


def write_results(workdir: pathlib.Path) -> None:
    """Writes `results.jsonl` and `results.md` from what lies in the folders of the runs.

    Jobs that share the sweep take turns, so that the last to write has read all that is there.
    """
    with _turn(workdir / ".results.lock"):
        rows = read_results(workdir)
        lines = []
        for row in rows:
            entry = {"number": row.number, "folder": row.folder, "overrides": row.overrides,
                     "status": row.status, "seconds": row.seconds}  # fmt: skip
            test = {
                k: v if v is not None and math.isfinite(v) else None for k, v in row.scalars.items()
            }
            lines.append(json.dumps({**entry, "scalars": test}) + "\n")
        sealed.replace(workdir / "results.jsonl", "".join(lines).encode())
        sealed.replace(workdir / "results.md", markdown(rows).encode())


@contextlib.contextmanager
def _turn(path: pathlib.Path) -> Iterator[None]:
    """Waits for its turn; the kernel passes it on however a process ends."""
    with sealed.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115
    with file:
        with contextlib.suppress(OSError):  # a file system without locks: jobs may overtake
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def markdown(rows: Sequence[Row]) -> str:
    """One row a run, and mean ± standard deviation of runs that differ in `seed` only."""
    keys = list(dict.fromkeys(key for row in rows for key in row.overrides))
    headlines = dict.fromkeys(row.headline for row in rows if row.headline)
    every = dict.fromkeys([*headlines, *(name for row in rows for name in row.scalars)])
    names = [n for n in every if not n.endswith(("_counted", "_in_reference"))]
    head = ["number", *keys, "status", "minutes", *(name.replace("_", " ") for name in names)]
    lines = [_line(head), "|---" * len(head) + "|"]
    recipe = [{k: v for k, v in row.overrides.items() if k != "seed"} for row in rows]
    for members in recipes.groups([json.dumps(one, sort_keys=True) for one in recipe]):
        for i in members:
            lines.append(_line(_cells(rows[i], keys, names)))
        done = [rows[i] for i in members if rows[i].status == "finished"]
        if len(done) > 1:
            shared = [_value(recipe[members[0]], key) for key in keys]
            spread = [recipes.spread([row.scalars.get(name) for row in done]) for name in names]
            said = f"mean ± standard deviation, {len(done)} seeds"
            lines.append(_line([said, *shared, "", "", *spread]))
    return "\n".join(lines) + "\n"


def _cells(row: Row, keys: Sequence[str], names: Sequence[str]) -> list[str]:
    values = [recipes.spread([row.scalars.get(name)]) for name in names]
    return [str(row.number), *(_value(row.overrides, key) for key in keys), row.status,
            f"{row.seconds / 60:.1f}", *values]  # fmt: skip


def _value(overrides: Mapping[str, Any], key: str) -> str:
    return str(overrides[key]) if key in overrides else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
