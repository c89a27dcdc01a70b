import json
import math
import os
import signal
import subprocess
import sys
import threading
import time

import ml_collections
import numpy as np
import pytest
import toy
from test_doors import ROOT
from test_doors import run as command_line

from rsjax import config as configs
from rsjax import sealed
from rsjax.errors import ConfigError, RsjaxError
from rsjax.training import reproduce, sweep, sweep_array, sweep_plan, sweep_results
from rsjax.training.sweep import grid, zipped

SEEDS = [{"optimizer.learning_rate": rate, "seed": seed} for rate in (0.1, 0.2) for seed in (0, 1)]


@pytest.fixture
def config(tmp_path):
    return toy.config(tmp_path / "data", total_steps=2, eval_every_steps=0,
                      **{"schedule.warmup_steps": 0, "data.validation_split": ""})  # fmt: skip


class Fake:
    """Stands for the process of a run: leaves what a run leaves, or fails."""

    def __init__(self, fails=()):
        self.started, self.fails = [], set(fails)

    def Popen(self, command, stdout, stderr):
        folder = next(part for part in command if part.startswith("--workdir=")).split("=", 1)[1]
        self.folder = sweep.pathlib.Path(folder)
        number = int(self.folder.name[:3])
        self.started.append(number)
        self.code = 3 if number in self.fails else 0
        stdout.write(f"run {number}\nSomeError: it broke\n".encode())
        sealed.write_json(self.folder / "config.json", {})
        if not self.code:
            value = 0.5 + number / 100
            sealed.write_json(self.folder / "finished.json", {
                "step": 2, "split": "test", "mAP_macro": value, "loss": math.nan})  # fmt: skip
            sealed.write(self.folder / "eval" / "test.json", {"headline": "mAP_macro"})
        return self

    def wait(self):
        return self.code

    poll = wait


def fake(monkeypatch, fails=()):
    process = Fake(fails)
    monkeypatch.setattr(sweep.subprocess, "Popen", process.Popen)
    return process


def results(workdir):
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]


def test_grid_and_zipped():
    assert grid(**{"optimizer.learning_rate": (0.1, 0.2), "seed": range(2)}) == SEEDS
    assert zipped(a=[1, 2], b=["xy", "z"]) == [{"a": 1, "b": "xy"}, {"a": 2, "b": "z"}]
    for bad in ({"a": "text"}, {"a": 3}, {"a": []}):
        with pytest.raises(ConfigError, match="give a list of values"):
            grid(**bad)
    with pytest.raises(ConfigError, match="a has 2, b has 1"):
        zipped(a=[1, 2], b=[1])


def test_every_mistake_is_found_before_the_first_run(config):
    with pytest.raises(ConfigError) as error:
        sweep_plan.plan(config, [
            {"seed": 1}, {"optimizer.lr": 1}, {"batch_size": "x"}, {"batch_size": -1},
            {"seed": 1, "name": config.name}, {"model.name": "resnet51"}, {"mode": "eval"},
            {"seed.x": 1}, {"model.fields.width": 8, "model.fields.stage_sizes": (1,)},
        ])  # fmt: skip
    lines = str(error.value).splitlines()
    for number, part in ((1, "no field 'optimizer.lr'"), (2, "batch_size='x'"), (3, "(batch"),
                         (4, "the same config as run 0"), (5, "(model.name"), (6, "mode"),
                         (7, "no field 'seed.x'")):  # fmt: skip
        assert any(line.startswith(f"run {number} ") and part in line for line in lines), part
    assert not any(line.startswith(("run 0", "run 8")) for line in lines)


def test_overrides_reach_the_config_of_the_run_and_no_other(config):
    overrides = {"model.fields.width": 8, "data.bands": ("a/b",), "optimizer.learning_rate": 1,
                 "task.loss_options": {"focal": {"gamma": 1.5}},
                 "optimizer.factors": (("^fc", 0.5),)}  # fmt: skip
    found = sweep_plan.resolve(config, overrides)
    assert found.model.fields.width == 8
    assert config.model.fields.width == toy.TINY["width"]
    assert found.optimizer.learning_rate == 1.0
    assert found.data.bands == ("a/b",)
    # What is written for the process is the same config again.
    space = {}
    exec(reproduce.run_sheet(configs.to_json(found)), space)
    assert configs.to_json(space["get_config"]()) == configs.to_json(found)
    assert reproduce.restore(configs.to_json(found)) == found
    assert space["get_config"]().task.loss_options.focal.gamma == 1.5
    assert isinstance(found, ml_collections.ConfigDict)


def test_folders_are_named_by_number_and_overrides(config):
    runs = sweep_plan.plan(config, [*SEEDS, {}, {"name": "a/../b " * 40}])
    names = [run.folder for run in runs]
    assert names[0] == "000-learning_rate_0.1-seed_0"
    assert names[4] == "004-as_it_is"
    assert "/" not in names[5]
    assert len(names[5]) <= 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "has no get_sweep"),
        ("def get_sweep(): return 1 / 0", "ZeroDivisionError"),
        ("def get_sweep(): return []", "expected a list of dicts"),
        ("def get_sweep(): return [3]", "expected a list of dicts"),
        ("from rsjax.training.sweep import grid\ndef get_sweep(): return grid(a=1)", "a=1: give"),
    ],
)
def test_sweep_files_that_cannot_be_read(tmp_path, text, message):
    (tmp_path / "sweep.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        sweep_plan.load(tmp_path / "sweep.py")
    with pytest.raises(ConfigError, match="no sweep file"):
        sweep_plan.load(tmp_path / "other.py")


def test_the_example_is_a_sweep_of_its_config():
    overrides = sweep_plan.load(ROOT / "experiments" / "sweeps" / "eurosat_seeds.py")
    space = {"__name__": "x"}
    exec((ROOT / "configs" / "eurosat_resnet.py").read_text(), space)
    runs = sweep_plan.plan(space["get_config"]("cpu"), overrides)
    assert len({run.folder for run in runs}) == len(runs) == 6


def test_a_failed_run_does_not_end_the_others(config, tmp_path, monkeypatch):
    runs, lines = sweep_plan.plan(config, SEEDS), []
    process = fake(monkeypatch, fails={1})
    left = sweep.run_all(tmp_path / "s", runs, lines.append)
    assert process.started == [0, 1, 2, 3]
    assert left == ["001-learning_rate_0.1-seed_1"]
    assert any("exit status 3" in line and "SomeError: it broke" in line for line in lines)
    found = results(tmp_path / "s")
    assert [row["status"] for row in found] == ["finished", "failed", "finished", "finished"]
    assert [row["overrides"] for row in found] == SEEDS
    assert found[2]["scalars"] == {"mAP_macro": 0.52, "loss": None}
    assert found[1]["scalars"] == {}
    # The same command: what is finished stays, the other one resumes.
    again = fake(monkeypatch)
    assert sweep.run_all(tmp_path / "s", runs, lines.append) == []
    assert again.started == [1]
    rows = (tmp_path / "s" / "results.md").read_text().splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    place = cells[0].index("mAP macro")
    assert [row[0] for row in cells[2:]] == ["0", "1", "mean ± standard deviation, 2 seeds", "2",
                                             "3", "mean ± standard deviation, 2 seeds"]  # fmt: skip
    deviation = np.std([0.50, 0.51], ddof=1)
    assert cells[4][place] == f"0.5050 ± {deviation:.4f}"
    assert cells[4][cells[0].index("optimizer.learning_rate")] == "0.1"
    assert cells[4][cells[0].index("seed")] == ""


def test_another_sweep_in_the_same_folder_is_refused(config, tmp_path, monkeypatch):
    process = fake(monkeypatch)
    sweep.run_all(tmp_path, sweep_plan.plan(config, SEEDS[:2]), lambda line: None)
    swapped = [SEEDS[1], SEEDS[2]]
    with pytest.raises(ConfigError) as error:
        sweep.run_all(tmp_path, sweep_plan.plan(config, swapped), lambda line: None)
    said = str(error.value)
    assert "run 0: seed was 0 and is now 1" in said
    assert "run 1: optimizer.learning_rate was 0.1 and is now 0.2" in said
    longer = sweep_plan.resolve(config, {"total_steps": 3})
    with pytest.raises(ConfigError, match="run 0: total_steps was 2 and is now 3"):
        sweep.check(tmp_path, sweep_plan.plan(longer, SEEDS))
    moved = sweep_plan.resolve(config, {"data.data_dir": "elsewhere"})
    sweep.check(tmp_path, sweep_plan.plan(moved, SEEDS))
    sweep.run_all(tmp_path, sweep_plan.plan(config, SEEDS), lambda line: None)
    assert process.started == [0, 1, 2, 3]


def test_a_run_that_failed_before_it_began_may_be_mended(config, tmp_path, monkeypatch):
    process = fake(monkeypatch, fails={0})
    sweep.run_all(tmp_path, sweep_plan.plan(config, SEEDS[:1]), lambda line: None)
    (process.folder / "config.json").unlink()  # as if it had refused its config
    sweep.run_all(tmp_path, sweep_plan.plan(config, SEEDS[2:3]), lambda line: None)
    assert process.started == [0, 0]
    assert [row["overrides"] for row in results(tmp_path)] == [SEEDS[2]]


def test_processes_that_write_one_table_at_a_time_lose_no_line(config, tmp_path, monkeypatch):
    """Each process ends half of the runs and writes the table after each, as fast as it can."""
    with monkeypatch.context() as patch:
        fake(patch)
        for run in sweep_plan.plan(config, [{"seed": seed} for seed in range(16)]):
            sweep._run(sweep.folder_of(tmp_path, run), run)
            finished = sweep.folder_of(tmp_path, run) / "finished.json"
            finished.rename(finished.with_name("held"))
    code = (
        "import pathlib, sys, time\nfrom rsjax.training import sweep_results\n"
        "here, mine = pathlib.Path(sys.argv[1]), int(sys.argv[2])\n"
        "(here / f'ready{mine}').touch()\n"
        "while not (here / f'ready{1 - mine}').exists(): time.sleep(0.001)\n"
        "for path in sorted(here.glob('*/held')):\n"
        "    if int(path.parent.name[:3]) % 2 == mine:\n"
        "        path.rename(path.with_name('finished.json'))\n"
        "        sweep_results.write_results(here)\n"
    )
    jobs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(mine)],
                         env={**os.environ, "PYTHONPATH": str(ROOT)})
        for mine in (0, 1)
    ]  # fmt: skip
    assert [job.wait(120) for job in jobs] == [0, 0]
    assert [row["status"] for row in results(tmp_path)] == ["finished"] * 16
    assert len((tmp_path / "results.md").read_text().splitlines()) == 2 + 16 + 1  # and the mean


def test_the_table_is_written_under_a_lock(tmp_path):
    with sweep_results._turn(tmp_path / ".results.lock"):
        job = threading.Thread(target=sweep_results.write_results, args=(tmp_path,))
        job.start()
        job.join(0.2)
        assert job.is_alive()
        assert not (tmp_path / "results.md").exists()
    job.join()
    assert (tmp_path / "results.md").exists()


@pytest.mark.parametrize(("variable", "value", "number"), [
    ("SLURM_ARRAY_TASK_ID", "0", 0), ("SLURM_ARRAY_TASK_ID", "3", 3), ("PBS_ARRAY_INDEX", "2", 2),
    ("SGE_TASK_ID", "1", 0), ("SGE_TASK_ID", "4", 3), ("LSB_JOBINDEX", "1", 0),
    ("LSB_JOBINDEX", "4", 3),
])  # fmt: skip
def test_a_task_of_an_array_does_its_run(config, variable, value, number):
    runs = sweep_plan.plan(config, SEEDS)
    others = {"SGE_TASK_ID": "undefined", "LSB_JOBINDEX": "0", "HOME": "1"}  # jobs, no arrays
    assert sweep_array.choose(runs, "auto", {**others, variable: value}).number == number
    assert sweep_array.choose(runs, "1", {variable: value}).number == 1


@pytest.mark.parametrize(("index", "environment", "message"), [
    ("auto", {}, r"SLURM_ARRAY_TASK_ID \(Slurm\), PBS_ARRAY_INDEX.*none of them is set"),
    ("auto", {"SGE_TASK_ID": "undefined"}, "LSF.: SGE_TASK_ID=undefined. Submit an array"),
    ("auto", {"LSB_JOBINDEX": "0"}, "LSB_JOBINDEX=0. Submit"),
    ("auto", {"SLURM_ARRAY_TASK_ID": "1", "PBS_ARRAY_INDEX": "2"}, "TASK_ID=1, PBS_ARRAY_INDEX=2"),
    ("auto", {"SLURM_ARRAY_TASK_ID": "4"}, r"\(SLURM_ARRAY_TASK_ID=4\): the sweep has runs 0 to 3"),
    ("auto", {"SGE_TASK_ID": "5"}, r"\(SGE_TASK_ID=5\): run 4: the sweep has runs 0 to 3"),
    ("auto", {"SLURM_ARRAY_TASK_ID": "x"}, "TASK_ID=x"), ("4", {}, "--index=4: the sweep has runs"),
    ("9" * 5000, {}, "--index=9{100}.*: the sweep has runs 0 to 3"),
    ("auto", {"SGE_TASK_ID": "9" * 5000}, "SGE_TASK_ID=9{100}.*: the sweep has runs 0 to 3"),
    ("-1", {}, "--index=-1"), ("one", {}, "--index=one"),
])  # fmt: skip
def test_a_task_without_a_run_is_refused(config, index, environment, message):
    with pytest.raises(ConfigError, match=message):
        sweep_array.choose(sweep_plan.plan(config, SEEDS), index, environment)


def test_a_damaged_note_is_named(config, tmp_path, monkeypatch):
    fake(monkeypatch)
    run = sweep_plan.plan(config, SEEDS[:1])
    sweep.run_all(tmp_path, run, lambda line: None)
    note = sweep.folder_of(tmp_path, run[0]) / "sweep.json"
    note.write_text(note.read_text().replace("0.1", "0.3"))
    with pytest.raises(RsjaxError, match=r"sweep\.json: its checksum.*Delete it"):
        sweep.run_all(tmp_path, run, lambda line: None)


@pytest.mark.parametrize("content", [
    b"", b"[]", b'{"a": 1}', b"\xff", b'{"split": "test", "loss": "low"}', b'{"split": 3}',
])  # fmt: skip
def test_a_damaged_result_is_named(config, tmp_path, monkeypatch, content):
    fake(monkeypatch)
    run = sweep_plan.plan(config, SEEDS[:1])
    sweep.run_all(tmp_path, run, lambda line: None)
    (sweep.folder_of(tmp_path, run[0]) / "finished.json").write_bytes(content)
    with pytest.raises(RsjaxError, match=r"finished\.json: damaged \(.*\)\. Delete it, and run"):
        sweep_results.write_results(tmp_path)


def test_a_run_that_is_deleted_meanwhile_is_left_out(config, tmp_path, monkeypatch):
    fake(monkeypatch)
    sweep.run_all(tmp_path, sweep_plan.plan(config, SEEDS[:1]), lambda line: None)
    monkeypatch.setattr(sweep_results, "about_of", lambda folder: {})
    assert sweep_results.read_results(tmp_path) == []


def test_a_sweep_that_is_stopped_stops_its_run(config, tmp_path):
    code = (
        "import signal, sys, time, pathlib\n"
        "def stop(*_):\n    pathlib.Path('stopped').touch(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "pathlib.Path('ready').touch(); time.sleep(60)\n"
    )
    (tmp_path / "child.py").write_text(code)
    (tmp_path / "parent.py").write_text(
        "import pathlib, subprocess, sys\nfrom rsjax import doors\n"
        "from rsjax import config\nfrom rsjax.training import sweep, sweep_plan\n"
        "real = subprocess.Popen\n"
        "sweep.subprocess.Popen = lambda c, **k: real([sys.executable, 'child.py'], **k)\n"
        "here = pathlib.Path.cwd()\n"
        "runs = [sweep_plan.Planned(0, {'seed': 0}, config.base())]\n"
        "with doors.stoppable('again'):\n    sweep.run_all(here / 's', runs)\n"
    )
    process = subprocess.Popen([sys.executable, "parent.py"], cwd=tmp_path,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    end = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert (tmp_path / "stopped").exists()
    (row,) = sweep_results.read_results(tmp_path / "s")
    assert row.status == "stopped"


@pytest.mark.once
def test_two_runs_in_processes_of_their_own(tmp_path, monkeypatch):
    """The command itself: one run trains and is tested, the other one fails, one line says so."""
    toy.write(tmp_path / "data", sizes=(("train", 32), ("test", 16)))
    config = toy.config(
        tmp_path / "data", total_steps=2, eval_every_steps=0,
        compilation_cache_dir=os.environ.get("RSJAX_TEST_CACHE", ""),
        **{"schedule.warmup_steps": 0, "data.validation_split": "", "eval.bootstrap": 0},
    )  # fmt: skip
    sheet, file = tmp_path / "base.py", tmp_path / "sweep.py"
    sheet.write_text(reproduce.run_sheet(configs.to_json(config)))
    file.write_text("def get_sweep():\n    return [{'data.test_split': 'tset'}, {'seed': 3}]\n")
    command = (f"--config={sheet}", f"--sweep={file}", f"--workdir={tmp_path / 's'}")
    found = command_line("rsjax.sweep", *command)
    assert found.returncode == 1, found.stderr
    assert "no split 'tset'" in found.stdout
    assert "not finished: 000-test_split_tset." in found.stderr
    assert "Traceback" not in found.stderr
    bad, good = results(tmp_path / "s")
    assert (bad["status"], good["status"]) == ("failed", "finished")
    assert 0 <= good["scalars"]["mAP_macro"] <= 1
    assert good["seconds"] > 0
    assert (tmp_path / "s" / good["folder"] / "report.html").is_file()
    about = sealed.read(tmp_path / "s" / good["folder"] / "eval" / "test.json")
    assert about["config"]["seed"] == 3
    # In this process: the same sweep is listed, and a job of an array finds its run done.
    refused = command_line("rsjax.sweep", *command, "--index=auto", SLURM_ARRAY_TASK_ID="2")
    assert "--index=auto (SLURM_ARRAY_TASK_ID=2): the sweep has runs 0 to 1" in refused.stderr
    planned = sweep_plan.plan(config, sweep_plan.load(file))
    assert [line.split()[:2] for line in sweep.listed(tmp_path / "s", planned).splitlines()] == [
        ["0", "failed"], ["1", "finished"]
    ]  # fmt: skip
    process = fake(monkeypatch)
    assert sweep.run_all(tmp_path / "s", planned[1:], lambda line: None) == []
    assert process.started == []
