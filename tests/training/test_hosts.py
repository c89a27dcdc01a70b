import contextlib
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

from rsjax.errors import ConfigError
from rsjax.training import hosts, loop
from rsjax.training.logging import read

TESTS = pathlib.Path(__file__).resolve().parent.parent
STEPS, BATCH, TRAIN = 200, 16, 96
FIELDS = {"stem": "small", "width": 16, "stage_sizes": (1,), "dropout_rate": 0.2}
CHANGES = {
    "model.fields": FIELDS,
    "ema_decay": 0.9,
    "augment.d4": True,
    "augment.noise_std": 0.1,
    "augment.cutmix_alpha": 1.0,
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


class Processes:
    """Two processes of two devices each that train as a user starts them, and their outputs."""

    def __init__(self, data_dir, workdir, notes, pause_s=0.0, **changes):
        self.workdir, folder = workdir, notes.parent
        notes.mkdir(exist_ok=True)
        config = folder / "config.py"
        config.write_text(
            f"import pathlib, sys\nsys.path.insert(0, {str(TESTS)!r})\nimport consumed, toy\n"
            f"consumed.install(pathlib.Path({str(notes)!r}), {pause_s})\n"
            f"def get_config():\n    return toy.config({str(data_dir)!r}, "
            f"**{ {**CHANGES, **changes}!r})\n"
        )
        port = free_port()
        self.logs = [folder / f"{len(list(folder.glob('*.log')))}-{i}.log" for i in range(2)]
        self.running = []
        for index, log in enumerate(self.logs):
            command = [
                sys.executable, "-m", "rsjax.main", f"--config={config}", f"--workdir={workdir}",
                f"--coordinator_address=localhost:{port}", f"--process_id={index}",
            ]  # fmt: skip
            with log.open("w") as file:
                self.running.append(
                    subprocess.Popen(command, stdout=file, stderr=file, cwd=TESTS.parent, env=env())
                )

    def at_step(self, step):
        """Waits until the figures of a step are written."""
        until = time.monotonic() + 120
        while not any(row["step"] >= step for row in read(self.workdir)):
            assert all(p.poll() is None for p in self.running), self.output()
            assert time.monotonic() < until, self.output()
            time.sleep(0.05)
        return self

    def signal(self, index, number):
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
        return "\n".join(f"-- {log.name}\n{log.read_text()[-3000:]}" for log in self.logs)


def env():
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_NUM_PROCESSES": "2"}


def alone(data_dir, workdir, notes, stop_at=None, **changes):
    """The same run in this process, on its four devices; asked to stop after a step."""
    notes.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        consumed.install(notes, patch=patch.setattr)
        if stop_at:
            stop = contextlib.nullcontext(lambda step: step == stop_at)
            patch.setattr(loop, "watch", lambda: stop)
        return loop.train_and_evaluate(toy.config(data_dir, **CHANGES, **changes), workdir)


def assert_same_run(one, other):
    losses = [{r["step"]: r["train/loss"] for r in read(w) if "train/loss" in r}
              for w in (one, other)]  # fmt: skip
    common = sorted(losses[0].keys() & losses[1].keys())
    assert len(common) >= STEPS - 10  # a run that ends has not written its last step's
    for step in common:
        assert losses[0][step] == pytest.approx(losses[1][step], rel=1e-4), step
    states = leaves(one, STEPS), leaves(other, STEPS)
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        scale = np.abs(value).max() if value.size else 0
        np.testing.assert_allclose(
            value, states[1][name], rtol=0, atol=1e-4 * scale + 1e-7, err_msg=name
        )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    toy.write(path)
    return path


@pytest.fixture(scope="module")
def one(data_dir, tmp_path_factory):
    """(workdir, scalars, notes) of one process with four devices."""
    folder = tmp_path_factory.mktemp("one")
    scalars = alone(data_dir, folder / "run", folder / "notes")
    return folder / "run", scalars, folder / "notes"


@pytest.fixture(scope="module")
def chain(data_dir, tmp_path_factory):
    """One run that goes from hand to hand: other processes, other layouts, two signals, a kill."""
    folder = tmp_path_factory.mktemp("chain")
    workdir, told = folder / "run", {}

    def steps():
        return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())

    def two(name, at, who, number, **changes):
        run = Processes(data_dir, workdir, folder / name, 0.05, **changes).at_step(at)
        start = time.monotonic()
        run.signal(who, number)
        codes = run.codes()
        told[name] = codes, time.monotonic() - start, steps(), run

    two("a", 10, 1, signal.SIGTERM, **FSDP)
    stop = told["a"][2][-1] + 5
    told["b"] = alone(data_dir, workdir, folder / "b", stop)
    told["b stopped"] = stop, steps()
    two("c", stop + 10, 0, signal.SIGTERM, **MODEL)
    two("d", told["c"][2][-1] + 10, 1, signal.SIGKILL)
    told["e"] = alone(data_dir, workdir, folder / "e", **FSDP)
    return workdir, told, [folder / name for name in "abcde"]


def test_two_processes_equal_one_over_200_steps(data_dir, one, tmp_path):
    run = Processes(data_dir, tmp_path / "run", tmp_path / "notes")
    assert run.codes() == [0, 0], run.output()
    assert_same_run(one[0], tmp_path / "run")
    assert consumed.read(tmp_path / "notes") == consumed.read(one[2])
    first, second = (log.read_text() for log in run.logs)
    figures = json.loads((tmp_path / "run" / "eval" / "test.json").read_text())["scalars"]
    for name, value in one[1].items():
        assert figures[name] == pytest.approx(value, rel=1e-3), name
    assert f"workdir: {tmp_path / 'run'}" in first
    assert "workdir:" not in second
    assert "mAP_macro" not in second
    assert "[process 1] the imagery is SIMULATED" in second
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(("leg", "who"), [("a", 1), ("c", 0)])
def test_sigterm_to_either_process_saves_one_step_on_both(chain, leg, who):
    codes, _, steps, run = chain[1][leg]
    assert codes == [0, 0], run.output()
    for log in run.logs:
        assert f"asked to stop: saved step {steps[-1]};" in log.read_text()


def test_a_killed_peer_ends_the_others_within_30_seconds(chain):
    codes, seconds, _, run = chain[1]["d"]
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0
    assert seconds < 30
    assert "another task died" in run.logs[0].read_text()


def test_a_run_that_changes_its_processes_and_its_layout_is_the_same_run(chain, one):
    workdir, told, _ = chain
    assert told["b"] == {}
    assert told["b stopped"][0] == told["b stopped"][1][-1]
    assert_same_run(one[0], workdir)
    for name, value in one[1].items():
        assert told["e"][name] == pytest.approx(value, rel=1e-3), name


def test_every_sample_is_seen_once_an_epoch_whoever_reads(chain, one):
    _, _, legs = chain
    seen = {}
    for notes in legs:  # a later leg repeats what an earlier one did after its checkpoint
        seen |= consumed.read(notes)
    assert sorted(seen) == list(range(STEPS))
    assert seen == consumed.read(one[2])
    order = np.concatenate([seen[step] for step in range(STEPS)])
    assert len(order) == STEPS * BATCH
    whole = len(order) // TRAIN * TRAIN
    for epoch in order[:whole].reshape(-1, TRAIN):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(TRAIN))
    assert len(set(order[whole:])) == len(order) - whole


def test_the_rows_of_a_leg_were_shared_as_its_mesh_says(chain):
    def rows(leg, process):
        line = (chain[2][leg] / f"process-{process}.jsonl").read_text().splitlines()[0]
        return sorted(map(int, json.loads(line)["rows"]))

    assert [rows(0, 0), rows(0, 1)] == [list(range(8)), list(range(8, 16))]
    assert [rows(2, 0), rows(2, 1)] == [list(range(16))] * 2  # all devices along 'model'


def test_what_cannot_be_joined_is_one_message(tmp_path, data_dir):
    config = tmp_path / "config.py"
    config.write_text(
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nimport toy\n"
        f"def get_config():\n    return toy.config({str(data_dir)!r})\n"
    )
    port = free_port()
    cases = {
        f"--coordinator_address=localhost:{port} --process_id=1 --join_timeout_s=1":
            f"waited for 1 s: no answer from the coordinator localhost:{port}",
        f"--coordinator_address=localhost:{free_port()} --process_id=0 --join_timeout_s=1":
            "not all of the processes 1 to 1 have joined process 0",
        "--distributed": "no cluster that JAX can join",
        "--process_id=1": "give also --coordinator_address (or JAX_COORDINATOR_ADDRESS)",
    }  # fmt: skip
    command = [sys.executable, "-m", "rsjax.main", f"--config={config}", f"--workdir={tmp_path}/w"]
    running = [
        subprocess.Popen([*command, *flags.split()], stderr=subprocess.PIPE, text=True, env=env(),
                         cwd=TESTS.parent)
        for flags in cases
    ]  # fmt: skip
    for process, (flags, message) in zip(running, cases.items(), strict=True):
        _, told = process.communicate(timeout=120)
        assert process.returncode == 1, (flags, told)
        assert message in told
        assert "Traceback" not in told
        assert "stack trace" not in told


def place(detect=False, **given):
    flags = {name: given.get(name) for name in hosts.NAMES}
    return hosts.find_place(flags, given.get("environment", {}), detect)


def test_a_place_is_given_by_flags_or_the_environment_flags_first():
    assert place() is None
    variables = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert place(environment=variables) == hosts.Place("a:1", 4, 3)
    assert place(environment=variables, process_id=0) == hosts.Place("a:1", 4, 0)
    assert place(detect=True) == hosts.Place(None, None, None)
    assert place(detect=True, num_processes=2) == hosts.Place(None, 2, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_processes": 2, "process_id": 0}, "--coordinator_address .or JAX_COORD"),
        ({"coordinator_address": "a:1", "num_processes": 2, "process_id": 2}, "from 0 to 1"),
        ({"coordinator_address": "a", "num_processes": 2, "process_id": 0}, "host:port"),
        ({"coordinator_address": "a:99999", "num_processes": 2, "process_id": 0}, "host:port"),
        ({"environment": {"JAX_PROCESS_ID": "one"}}, "JAX_PROCESS_ID=one: must be a whole"),
    ],
)
def test_a_place_that_cannot_be_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        place(**given)


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on port {port}"):
            hosts.join(hosts.Place(f"localhost:{port}", 2, 0), 1)


def test_one_process_waits_for_nobody():
    hosts.barrier("alone")
    assert hosts.agree(True)
    assert not hosts.agree(False)
    assert jax.process_count() == 1
