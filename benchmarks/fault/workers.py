"""Worker processes of prepare that die or hang, and workers whose parent dies."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import time

from fault.lab import Lab, Row, digests


def _children(pid: int) -> list[int]:
    """Processes below `pid` that run Python code of a pool."""
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        for task in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                below = [int(p) for p in task.read_text().split()]
            except OSError:
                continue
            found += below
            todo += below
    return [p for p in found if "spawn_main" in _command(p)]


def _command(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _alive(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def _workers(lab: Lab, run: object, count: int = 2) -> list[int]:
    """The pool's workers, once they are there."""
    limit = time.perf_counter() + 20
    while time.perf_counter() < limit:
        found = _children(run.pid)
        if len(found) >= count:
            return found
        time.sleep(0.01)
    return []


def _struck(lab: Lab, tries: int, name: str, number: int, limit: float, *flags: str) -> Row:
    """One worker gets a signal at a random moment of its work."""
    source, expected, row = lab.download(), lab.prepared(), Row(name)
    while row.tries < tries:
        data = lab.fresh("struck")
        run = lab.prepare(source, data, *flags, workers=2)
        workers = _workers(lab, run)
        time.sleep(float(lab.rng.uniform(0.0, 2.5)))
        workers = [w for w in workers if _alive(w)]
        if not workers:
            run.wait()
            continue
        victim = workers[int(lab.rng.integers(0, len(workers)))]
        os.kill(victim, number)
        struck = time.perf_counter()
        ended = run.wait(limit)
        row.tries += 1
        if number == signal.SIGSTOP and _alive(victim):
            os.kill(victim, signal.SIGKILL)
        if ended.code == 0:
            row.wrong += digests(data) != expected
        else:
            row.heard(ended)
            row.seconds[-1] = time.perf_counter() - struck
        again = lab.prepare(source, data).wait()
        row.lost += again.code != 0
        row.wrong += again.code == 0 and digests(data) != expected
        row.unclear += any(_alive(w) for w in workers)
        shutil.rmtree(data, ignore_errors=True)
    return row


def dead(lab: Lab, tries: int) -> Row:
    """Kill -9 of a worker."""
    return _struck(lab, tries, "prepare: a worker is killed", signal.SIGKILL, 60)


def hung(lab: Lab, tries: int) -> Row:
    """A worker that is stopped for ever."""
    tries = max(tries // 3, 1)  # one that was still starting takes a minute to notice
    row = _struck(lab, tries, "prepare: a worker hangs", signal.SIGSTOP, 100, "--stall_s=3")
    row.note = "with --stall_s=3; a worker that has not started yet is given a minute"
    return row


def orphaned(lab: Lab, tries: int) -> Row:
    """Kill -9 of the parent: no worker is left."""
    source, expected = lab.download(), lab.prepared()
    row = Row("prepare: the parent is killed, workers must die with it")
    for _ in range(tries):
        data = lab.fresh("orphans")
        run = lab.prepare(source, data, workers=2)
        workers = _workers(lab, run)
        time.sleep(float(lab.rng.uniform(0.0, 2.0)))
        run.kill()
        run.wait()
        began = time.perf_counter()
        while any(map(_alive, workers)) and time.perf_counter() - began < 5:
            time.sleep(0.01)
        row.tries += 1
        row.seconds.append(time.perf_counter() - began)
        left = [w for w in workers if _alive(w)]
        row.unclear += bool(left)
        for worker in left:
            os.kill(worker, signal.SIGKILL)
        again = lab.prepare(source, data).wait()
        row.lost += again.code != 0
        row.wrong += again.code == 0 and digests(data) != expected
    row.message = "(none: all workers were gone)" if not row.unclear else "(workers were left)"
    return row


CASES = {f.__name__: f for f in (dead, hung, orphaned)}
