"""kill -9 at random moments, and at chosen file operations, of training and of prepare."""

from __future__ import annotations

import pathlib
import signal
import time

from fault.lab import Lab, Row, broken_promises, die_at_operation, digests, steps

CHAIN = 10  # kills of one run, one after the other


def _chain(lab: Lab, row: Row, kills: int, part: str | None) -> int:
    """Kills one run up to `kills` times, then lets it end: nothing lost, the end the same."""
    workdir, newest, killed = lab.fresh("killed"), 0, 0
    span = {"": 250, "bundle": 16}.get(part or "", 60)  # about as many operations as a run has
    ended = None
    while killed < kills:
        if part is None:
            run = lab.train(workdir)
            time.sleep(float(lab.rng.uniform(0.05, 4.0)))
            run.kill()
        else:
            which = int(lab.rng.integers(1, span))
            run = lab.train(workdir, before=die_at_operation(workdir, which, part))
        ended = run.wait()
        if ended.code != -signal.SIGKILL:
            break  # it reached its end first: that is no try
        row.tries += 1
        killed += 1
        faults = broken_promises(workdir)
        now = max(steps(workdir), default=0)
        if faults or now < newest:
            row.lost += 1
            row.message = row.message or "; ".join(faults) or f"step {now} after step {newest}"
        newest = now
    else:
        ended = lab.train(workdir).wait()
    row.unclear += "Traceback" in ended.text
    row.lost += ended.code != 0
    row.wrong += ended.code == 0 and lab.final(workdir) != lab.reference()
    row.seconds.append(ended.seconds)
    if ended.code:
        row.message = row.message or ended.message or ended.text.strip().splitlines()[-1]
    return killed


def _training(lab: Lab, tries: int, name: str, part: str | None) -> Row:
    lab.reference()
    row, longest = Row(name), 0
    while row.tries < tries:
        longest = max(longest, _chain(lab, row, min(CHAIN, tries - row.tries), part))
    row.note = (
        f"up to {longest} kills of one run, each followed by the same command; after each, every "
        "visible checkpoint and the bundle are checked; at the end parameters, optimizer, batch "
        "statistics, moving average, bundle and figures equal those of the unbroken run by bits; "
        "the time is that of the last run"
    )
    row.message = row.message or "(none: it goes on)"
    return row


def train_any_moment(lab: Lab, tries: int) -> Row:
    """At a random time between start and end."""
    return _training(lab, tries, "kill -9 in training, at random times", None)


def train_any_file(lab: Lab, tries: int) -> Row:
    """At a random file operation anywhere in the workdir."""
    return _training(lab, tries, "kill -9 at any file operation of a run", "")


def train_saving(lab: Lab, tries: int) -> Row:
    """While a checkpoint is written, sealed or renamed."""
    return _training(lab, tries, "kill -9 while a checkpoint is saved", ".orbax-checkpoint-tmp")


def train_deleting(lab: Lab, tries: int) -> Row:
    """While an old checkpoint is deleted."""
    return _training(lab, tries, "kill -9 while a checkpoint is deleted", "_trash")


def train_bundle(lab: Lab, tries: int) -> Row:
    """While the bundle is written or replaced."""
    return _training(lab, tries, "kill -9 while the bundle is written", "bundle")


def prepare_any_file(lab: Lab, tries: int) -> Row:
    """At random file operations of prepare; finished shards stay, the end is the same bytes."""
    return _prepare(lab, tries, "kill -9 of prepare at any file operation", True)


def prepare_any_moment(lab: Lab, tries: int) -> Row:
    """At random times of prepare."""
    return _prepare(lab, tries, "kill -9 of prepare at random times", False)


def _prepare(lab: Lab, tries: int, name: str, by_file: bool) -> Row:
    source, expected = lab.download(), lab.prepared()
    row = Row(name, note="up to five kills of each run; shards and manifest compared by bits, and "
              "no finished shard is written again; the time is that of the last run")  # fmt: skip
    while row.tries < tries:
        data, before = lab.fresh("prepared"), {}
        for _ in range(min(5, tries - row.tries)):
            if by_file:
                which = int(lab.rng.integers(1, 20))
                run = lab.prepare(source, data, before=die_at_operation(data, which))
            else:
                run = lab.prepare(source, data)
                time.sleep(float(lab.rng.uniform(0.01, 0.25)))
                run.kill()
            ended = run.wait()
            row.unclear += "Traceback" in ended.text
            if ended.code != -signal.SIGKILL:
                break
            row.tries += 1
            now = _stamps(data)
            # What was finished stays: same file, not written again.
            row.lost += any(now.get(name) != stamp for name, stamp in before.items())
            before = now
        ended = lab.prepare(source, data).wait()
        row.seconds.append(ended.seconds)
        row.lost += ended.code != 0
        row.wrong += ended.code == 0 and digests(data) != expected
        if ended.code:
            row.message = ended.text.strip().splitlines()[-1]
    row.message = row.message or "(none: it goes on)"
    return row


def _stamps(data: pathlib.Path) -> dict[str, int]:
    """Shards that have their note: finished ones."""
    return {
        p.name: p.stat().st_mtime_ns
        for p in data.rglob("*.array_record-*")
        if (p.parent / ".shards" / f"{p.name}.json").exists() and not p.name.startswith(".")
    }


CASES = {
    f.__name__: f
    for f in (
        train_any_moment, train_any_file, train_saving, train_deleting, train_bundle,
        prepare_any_moment, prepare_any_file,
    )
}  # fmt: skip
