import os
import pathlib
import subprocess
import sys

import pytest
import toy

from rsjax import doors
from rsjax.errors import ConfigError, DiskError, RsjaxError

ROOT = pathlib.Path(__file__).parent.parent


def run(module, *arguments, cwd=ROOT, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=cwd, text=True,
                          capture_output=True, check=False, env=environment)  # fmt: skip


def one_line(result):
    """A mendable error is one message, not a traceback."""
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def test_options_are_read_as_python_values():
    found = doors.options(["sensors=s2,s1", "maps=false", "labels=bigearthnet43", "n=3"])
    assert found == {"sensors": ("s2", "s1"), "maps": False, "labels": "bigearthnet43", "n": 3}
    with pytest.raises(ConfigError, match="name=value"):
        doors.options(["maps"])


def test_importing_rsjax_is_quick_and_starts_nothing():
    code = ("import sys, rsjax; heavy = {'jax', 'numpy', 'tensorflow', 'rasterio'};"
            "assert not heavy & set(sys.modules), heavy & set(sys.modules)")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_module_imports_tensorflow(tmp_path):
    toy.write(tmp_path)
    code = (
        "import sys; sys.path.insert(0, 'tests'); import importlib, pkgutil, rsjax\n"
        "for module in pkgutil.walk_packages(rsjax.__path__, 'rsjax.'):\n"
        "    importlib.import_module(module.name)\n"
        "import tensorflow_datasets as tfds\n"
        "assert 'tensorflow' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT,
                           capture_output=True, text=True)  # fmt: skip
    assert found.returncode == 0, found.stderr


def test_what_a_dependency_also_raises_is_not_told_before_the_message():
    say = "logging.getLogger('rasterio._env').info('GDAL said')"
    code = f"import logging; from rsjax import doors\ndoors.run(lambda argv: {say})"
    ended = subprocess.run([sys.executable, "-c", code], check=True, text=True, capture_output=True)
    assert ended.stdout + ended.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--config is missing"),
        (("--config=configs/eurosat_resnet.py", "stray"), "unknown arguments ['stray']"),
        (("--config=configs/eurosat_resnet.py", "--config.model.name=resnet51"),
         "model.name='resnet51': did you mean 'resnet50'"),
        (("--config=configs/nope.py",), "no config file configs/nope.py; in configs/ here"),
        (("--config=configs/eurosat_resnet.py", "--config.optimizer.lr=1"),
         "no field 'optimizer.lr'"),
        (("--config=configs/eurosat_resnet.py:gpu",), "choose of full, cpu"),
        (("--config=configs/eurosat_resnet.py", "--config.batch_size=x"), "batch_size"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line_are_one_message(arguments, message):
    assert message in one_line(run("rsjax.main", *arguments))


def test_without_shards_the_error_says_where_they_come_from(tmp_path):
    config = ROOT / "configs" / "bigearthnet_resnet.py"
    found = one_line(run("rsjax.main", f"--config={config}", cwd=tmp_path))
    for part in (str(tmp_path / "data" / "bigearthnet"), "https://zenodo.org/records/10891137",
                 "python -m rsjax.prepare --dataset=bigearthnet"):  # fmt: skip
        assert part in found


def test_print_config_shows_every_field_and_trains_nothing(tmp_path):
    config = ROOT / "configs" / "eurosat_resnet.py"
    found = run("rsjax.main", f"--config={config}", "--print_config", "--config.batch_size=32",
                cwd=tmp_path)  # fmt: skip
    assert found.returncode == 0, found.stderr
    rows = {line.split()[0]: line for line in found.stdout.splitlines()}
    assert "command line" in rows["batch_size"]
    assert "optimizer.learning_rate" in rows
    assert list(tmp_path.iterdir()) == []


def test_a_second_job_in_one_folder_is_refused(tmp_path):
    from rsjax import lock

    with lock.exclusive(tmp_path):
        code = f"from rsjax import lock\nwith lock.exclusive({str(tmp_path)!r}): pass"
        found = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT,
                               capture_output=True, text=True)  # fmt: skip
        assert f"in use by process {os.getpid()} on" in found.stderr
    with lock.exclusive(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    from rsjax import lock

    (tmp_path / "file").touch()
    with (
        pytest.raises(DiskError, match=r"\.lock: could not be written .*MB are free"),
        lock.exclusive(tmp_path / "file" / "run"),
    ):
        pass


def test_errors_have_one_family():
    assert issubclass(ConfigError, RsjaxError)
