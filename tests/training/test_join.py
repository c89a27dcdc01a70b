import socket
import subprocess
import sys

import pytest
from test_hosts import TESTS, env, free_port

from rsjax.errors import ConfigError
from rsjax.training import join


def test_what_cannot_be_joined_is_one_message(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nimport toy\n"
        f"def get_config():\n    return toy.config({str(tmp_path)!r})\n"
    )
    port, other, two = free_port(), free_port(), "--num_processes=2"
    cases = {
        f"--coordinator_address=localhost:{port} {two} --process_id=1 --join_timeout_s=1":
            f"waited for 1 s: no answer from the coordinator localhost:{port}",
        f"--coordinator_address=localhost:{other} {two} --process_id=0 --join_timeout_s=1":
            "not all of the processes 1 to 1 have joined process 0",
        "--distributed": "no cluster that JAX can join",
    }  # fmt: skip
    command = [sys.executable, "-m", "rsjax.main", f"--config={config}", f"--workdir={tmp_path}/w"]
    running = [
        subprocess.Popen([*command, *flags.split()], stderr=subprocess.PIPE, text=True, env=env(1),
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
    flags = {name: given.get(name) for name in join.NAMES}
    return join.find_place(flags, given.get("environment", {}), detect)


def test_a_place_is_given_by_flags_or_the_environment_flags_first():
    assert place() is None
    variables = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert place(environment=variables) == join.Place("a:1", 4, 3)
    assert place(environment=variables, process_id=0) == join.Place("a:1", 4, 0)
    assert place(detect=True) == join.Place(None, None, None)
    assert place(detect=True, num_processes=2) == join.Place(None, 2, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_processes": 2, "process_id": 0}, "--coordinator_address .or JAX_COORD"),
        ({"coordinator_address": "a:1", "num_processes": 2, "process_id": 2}, r"lie in .0, 1."),
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
            join.join(join.Place(f"localhost:{port}", 2, 0), 1)
