"""SIGTERM: one training process at random moments, prepare, and one of two processes."""

from __future__ import annotations

import signal
import socket
import time

from fault.lab import Lab, Row, broken_promises, digests


def train_sigterm(lab: Lab, tries: int) -> Row:
    """At random moments: it saves and exits 0; the same command goes on."""
    expected = lab.reference()
    row, early = Row("SIGTERM to training, at random times"), 0
    while row.tries < tries:
        workdir = lab.fresh("stopped")
        for _ in range(min(10, tries - row.tries)):
            run = lab.train(workdir)
            time.sleep(float(lab.rng.uniform(0.0, 3.5)))
            struck, sent = run.strike(signal.SIGTERM), time.perf_counter()
            ended = run.wait()
            if not struck:
                break
            row.tries += 1
            early += ended.code == -signal.SIGTERM
            row.seconds.append(time.perf_counter() - sent)
            row.unclear += ended.code not in (0, -signal.SIGTERM) or "Traceback" in ended.text
            row.lost += bool(broken_promises(workdir))
            row.message = row.message or ended.message
            if ended.code == 0 and "asked to stop" not in ended.text:
                break  # it was testing or reporting, and went on to its end
        ended = lab.train(workdir).wait()
        row.lost += ended.code != 0
        row.wrong += ended.code == 0 and lab.final(workdir) != expected
    row.note = f"{early} of them before anything had begun: ended by the signal itself; else exit 0"
    return row


def prepare_sigterm(lab: Lab, tries: int) -> Row:
    """At random moments of prepare with two workers: finished shards stay."""
    source, expected = lab.download(), lab.prepared()
    row, begun = Row("SIGTERM to prepare, two workers, at random times"), 0
    while row.tries < tries:
        data = lab.fresh("stopped")
        run = lab.prepare(source, data, workers=2)
        time.sleep(float(lab.rng.uniform(0.0, 1.5)))
        struck, sent = run.strike(signal.SIGTERM), time.perf_counter()
        ended = run.wait(30)
        if not struck or ended.code == 0:  # it was done
            continue
        row.tries += 1
        early = ended.code == -signal.SIGTERM
        begun += not early
        row.seconds.append(time.perf_counter() - sent)
        row.unclear += not early and not ended.clear
        row.message = row.message or ended.message
        again = lab.prepare(source, data).wait()
        row.lost += again.code != 0
        row.wrong += again.code == 0 and digests(data) != expected
    row.note = (
        f"{begun} of them while it was working; the others before it began, ended by the signal"
    )
    return row


def one_of_two(lab: Lab, tries: int) -> Row:
    """SIGTERM to one of two processes of a run: both save the same step and exit 0."""
    row = Row("SIGTERM to one of two processes")
    for number in range(max(tries // 4, 2)):
        workdir = lab.fresh("two")
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        runs = [
            lab.train(workdir, f"--coordinator_address=localhost:{port}", "--num_processes=2",
                      f"--process_id={i}", "--config.total_steps=2000",
                      "--config.eval_every_steps=500", "--config.tensorboard=False")
            for i in range(2)
        ]  # fmt: skip
        limit = time.perf_counter() + 60
        while time.perf_counter() < limit and not (workdir / "bundle").exists():
            if len(list((workdir / "checkpoints").glob("[0-9]*"))) > 0:
                break
            time.sleep(0.1)
        runs[number % 2].kill(signal.SIGTERM)
        sent = time.perf_counter()
        ended = [run.wait(120) for run in runs]
        row.tries += 1
        row.seconds.append(time.perf_counter() - sent)
        row.unclear += any(e.hung or "Traceback" in e.text for e in ended)
        row.lost += any(e.code for e in ended) or bool(broken_promises(workdir))
        row.message = row.message or next((e.message for e in ended if e.message), "")
    return row


CASES = {f.__name__: f for f in (train_sigterm, prepare_sigterm, one_of_two)}
