import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import consumed
import jax
import numpy as np
import pytest
import toy
from test_loop import leaves

from rsjax.training import hosts
from rsjax.training.logging import read

pytestmark = pytest.mark.once
TESTS = pathlib.Path(__file__).resolve().parent.parent
STEPS, BATCH, TRAIN = 200, 16, 96
CHANGES = {
    # Few activations: one that rounding pushes over the kink of a ReLU moves the run by 1e-4.
    "model.fields": {**toy.TINY, "stage_sizes": (1,), "dropout_rate": 0.2},
    "ema_decay": 0.9,
    "augment.d4": True,
    "augment.noise_std": 0.1,
    "total_steps": STEPS,
    "eval_every_steps": 100,
    "checkpoint_every_steps": 50,
    "log_every_steps": 1,
}
FSDP = {"mesh.rules": (("kernel", "fsdp"),)}
MODEL = {"mesh.rules": (("conv./kernel", "model"),), "mesh.model": 4}


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def env(devices):
    quick = "--xla_backend_optimization_level=0"  # compiled in seconds; the same in all runs
    flags = f"--xla_force_host_platform_device_count={devices} {quick}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


class Run:
    """Processes, with four devices in all, that train as a user starts them, and their outputs."""

    def __init__(self, data_dir, folder, name, processes, pause_s=0.0, only_second=(), **changes):
        self.workdir, self.notes = folder / "run", folder / name
        self.notes.mkdir(parents=True)
        config = self.notes / "config.py"
        config.write_text(
            f"import pathlib, sys\nsys.path.insert(0, {str(TESTS)!r})\nimport consumed, toy\n"
            "from rsjax.training import layout\nlayout.SMALL = 100  # as the model is\n"
            f"consumed.install(pathlib.Path({str(self.notes)!r}), {pause_s})\n"
            f"def get_config():\n    return toy.config({str(data_dir)!r}, "
            f"**{ {**CHANGES, **changes}!r})\n"
        )
        command = [sys.executable, "-m", "rsjax.main", f"--config={config}",
                   f"--workdir={self.workdir}"]  # fmt: skip
        if processes > 1:
            address = f"--coordinator_address=localhost:{free_port()}"
            command += [address, f"--num_processes={processes}"]
        self.logs = [self.notes / f"{index}.log" for index in range(processes)]
        self.running = []
        for index, log in enumerate(self.logs):
            own = {**env(4 // processes), "JAX_PROCESS_ID": str(index)} if processes > 1 else env(4)
            more = [f"--config.{k}={v}" for k, v in dict(only_second).items() if index]
            with log.open("w") as file:
                self.running.append(
                    subprocess.Popen([*command, *more], stdout=file, stderr=file, env=own,
                                     cwd=TESTS.parent)
                )  # fmt: skip

    def signal_at(self, step, index, number):
        """Sends a signal to one of the processes when the figures of a step are written."""
        until = time.monotonic() + 120
        while not any(row["step"] >= step for row in read(self.workdir)):
            assert all(p.poll() is None for p in self.running), self.output()
            assert time.monotonic() < until, self.output()
            time.sleep(0.05)
        self.running[index].send_signal(number)
        return self

    def codes(self):
        """Exit statuses; kills what has not ended after two minutes."""
        try:
            return [p.wait(120) for p in self.running]
        finally:
            for process in self.running:
                process.kill()

    def output(self):
        return "\n".join(f"-- {log}\n{log.read_text()[-3000:]}" for log in self.logs)

    def figures(self):
        return json.loads((self.workdir / "eval" / "test.json").read_text())["scalars"]

    def newest(self):
        folder = self.workdir / "checkpoints"
        return max(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def assert_same_end(one, other):
    losses = [{r["step"]: r["train/loss"] for r in read(run.workdir) if "train/loss" in r}
              for run in (one, other)]  # fmt: skip
    common = sorted(losses[0].keys() & losses[1].keys())
    assert len(common) >= STEPS - 10  # the figures of the last step of a run are not written
    for step in common:
        assert losses[0][step] == pytest.approx(losses[1][step], rel=1e-4), step
    states = leaves(one.workdir, STEPS), leaves(other.workdir, STEPS)
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        atol = 1e-4 * np.abs(value).max() + 1e-7
        np.testing.assert_allclose(value, states[1][name], rtol=0, atol=atol, err_msg=name)
    for name, value in one.figures().items():
        assert other.figures()[name] == pytest.approx(value, rel=1e-3), name


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    toy.write(path)
    return path


@pytest.fixture(scope="module")
def one(data_dir, tmp_path_factory):
    """The run of one process."""
    run = Run(data_dir, tmp_path_factory.mktemp("one"), "a", 1)
    assert run.codes() == [0], run.output()
    return run


@pytest.fixture(scope="module")
def chain(one, data_dir, tmp_path_factory):
    """One run in legs: other processes, other layouts; [(run, exit statuses, newest step)]."""
    folder = tmp_path_factory.mktemp("chain")
    legs, newest = [], 0
    for name, processes, who, changes in (("a", 2, 1, FSDP), ("b", 1, 0, {}), ("c", 2, 0, MODEL)):
        run = Run(data_dir, folder, name, processes, 0.05, **changes)
        run.signal_at(newest + 5, who, signal.SIGTERM)
        codes = run.codes()
        newest = run.newest()
        legs.append((run, codes, newest))
    run = Run(data_dir, folder, "d", 1, **FSDP)
    return [*legs, (run, run.codes(), run.newest())]


def test_two_processes_equal_one_over_200_steps(data_dir, one, tmp_path):
    two = Run(data_dir, tmp_path, "a", 2)
    assert two.codes() == [0, 0], two.output()
    assert_same_end(one, two)
    assert consumed.read(two.notes) == consumed.read(one.notes)
    first, second = (log.read_text() for log in two.logs)
    assert f"workdir: {two.workdir}" in first
    assert "workdir:" not in second
    assert "mAP_macro" not in second
    assert "[process 1] the imagery is SIMULATED" in second
    assert (two.workdir / "report.html").is_file()


def test_one_run_handed_from_two_processes_to_one_and_back(chain, one):
    sigterm_to_either_process_saves_one_step_on_both(chain)
    the_end_is_that_of_the_unbroken_run(chain, one)
    every_sample_is_seen_once_an_epoch(chain, one)
    a_process_reads_the_rows_of_its_place_in_the_mesh(chain)


def sigterm_to_either_process_saves_one_step_on_both(chain):
    for run, codes, newest in (chain[0], chain[2]):
        assert codes == [0, 0], run.output()
        for log in run.logs:
            assert f"asked to stop: saved step {newest};" in log.read_text()


def the_end_is_that_of_the_unbroken_run(chain, one):
    stops = [newest for _, _, newest in chain]
    assert stops == sorted(set(stops))
    assert stops[-1] == STEPS
    assert [codes for _, codes, _ in chain[1::2]] == [[0], [0]], chain[1][0].output()
    assert_same_end(one, chain[-1][0])


def every_sample_is_seen_once_an_epoch(chain, one):
    seen = {}
    for run, _, _ in chain:
        steps = consumed.read(run.notes)
        assert not seen.keys() & steps.keys()  # nothing twice
        seen |= steps
    assert sorted(seen) == list(range(STEPS))
    assert seen == consumed.read(one.notes)
    order = np.concatenate([seen[step] for step in range(STEPS)])
    assert len(order) == STEPS * BATCH
    whole = len(order) // TRAIN * TRAIN
    for epoch in order[:whole].reshape(-1, TRAIN):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(TRAIN))
    assert len(set(order[whole:])) == len(order) - whole


def a_process_reads_the_rows_of_its_place_in_the_mesh(chain):
    def rows(leg, process):
        notes = chain[leg][0].notes / f"process-{process}.jsonl"
        return sorted(map(int, json.loads(notes.read_text().splitlines()[0])["rows"]))

    assert [rows(0, 0), rows(0, 1)] == [list(range(8)), list(range(8, 16))]
    assert [rows(2, 0), rows(2, 1)] == [list(range(16))] * 2  # all devices along 'model'


def test_a_killed_peer_ends_the_others_within_30_seconds(data_dir, tmp_path):
    run = Run(data_dir, tmp_path, "a", 2, 0.05).signal_at(3, 1, signal.SIGKILL)
    start = time.monotonic()
    codes = run.codes()
    assert time.monotonic() - start < 30
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, -signal.SIGKILL), run.output()
    said = run.logs[0].read_text()  # by JAX's heartbeat, or by a collective before it
    assert "another task died" in said or "connection to another process is lost" in said
    assert "Traceback" not in said


def test_an_error_of_one_process_ends_all_and_is_told_by_all(data_dir, tmp_path):
    run = Run(data_dir, tmp_path, "a", 2, only_second={"data.data_dir": "/nowhere"})
    assert run.codes() == [1, 1], run.output()
    for log in run.logs:
        assert "no prepared shards of 'bigearthnet' in /nowhere" in log.read_text()
        assert "Traceback" not in log.read_text()
    assert "process 0 of 2 ends because another did. process 1 of 2:" in run.logs[0].read_text()


def test_processes_with_different_configs_are_refused(data_dir, tmp_path):
    rules = {"mesh.rules": (("conv", "fsdp"),)}
    run = Run(data_dir, tmp_path, "a", 2, only_second=rules)
    assert run.codes() == [1, 1], run.output()
    assert "mesh.rules=(('conv', 'fsdp'),) here, () for process 0" in run.logs[1].read_text()


def test_one_process_waits_for_nobody():
    hosts.barrier("alone")
    assert hosts.agree(True)
    assert not hosts.agree(False)
    assert jax.process_count() == 1
