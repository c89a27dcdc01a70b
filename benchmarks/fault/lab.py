"""What the families share: tiny data, real commands in forked processes, the promises of a run.

Everything heavy is imported once, before any device is started; each command then runs in a fork
of this process, as `python -m` would run it, without two seconds of imports.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import runpy
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

CONFIG = """
import toy
from rsjax import config


def get_config():
    c = toy.config({data!r}).unlock()
    c.model.fields = dict(toy.TINY, dropout_rate=0.2)
    c.ema_decay, c.augment.d4, c.augment.cutmix_alpha = 0.9, True, 1.0
    c.total_steps, c.eval_every_steps, c.checkpoint_every_steps = 16, 8, 1
    c.keep_latest, c.log_every_steps, c.tensorboard = 1, 1, True
    c.compilation_cache_dir = {cache!r}
    return c.lock()
"""


MESSAGE = re.compile(
    r"^(?:(?:Rsjax|Config|Nomenclature|Sensor|Dataset|Damaged|Scene|Shard|Checkpoint|Bundle|Disk)"
    r"Error: .*|"
    r".*(?:is damaged|gone or damaged|asked to stop|stopped by|left out).*)$",
    re.MULTILINE,
)


@dataclasses.dataclass
class Row:
    """What one kind of fault did.

    Attributes:
        fault: in words.
        tries: how often it was made.
        lost: tries after which promised work was gone, or the same command did not go on.
        wrong: tries that went on to other bytes, weights or figures without an error.
        unclear: tries that ended in a traceback, a hang, or without a word.
        seconds: from the fault, or from the start of the next command, to the message.
        message: first line of a message that was printed.
        note: what a reader of the table must know.
    """

    fault: str
    tries: int = 0
    lost: int = 0
    wrong: int = 0
    unclear: int = 0
    seconds: list[float] = dataclasses.field(default_factory=list)
    message: str = ""
    note: str = ""

    def heard(self, result: Result) -> None:
        """Counts a command that had to say something."""
        self.seconds.append(result.seconds)
        self.message = self.message or result.message
        self.unclear += not result.clear


@dataclasses.dataclass
class Result:
    """How a command ended: exit status (negative: signal), duration and all it printed."""

    code: int
    seconds: float
    text: str
    hung: bool = False

    @property
    def message(self) -> str:
        """The line that says what is wrong, without the time."""
        found = MESSAGE.search(self.text)
        return re.sub(r"^\d\d:\d\d:\d\d ", "", found[0]) if found else ""

    @property
    def clear(self) -> bool:
        """Whether it ended by itself, with a message, and no other error after it.

        Threads of tensorstore may still say that their event loop is closed: that is let pass.
        """
        found = MESSAGE.search(self.text)
        if not found or self.hung:
            return False
        after = re.findall(
            r"^[\w.]*(?:Error|Exception): .*", self.text[found.end() :], re.MULTILINE
        )
        return all(line == "RuntimeError: Event loop is closed" for line in after)


class Run:
    """A command in a fork of this process."""

    def __init__(self, out: pathlib.Path, work: Callable[[], Any]):
        self.out, self.began = out, time.perf_counter()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _child(out, work)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def strike(self, number: int) -> bool:
        """Sends a signal, unless it has ended; says whether it was sent."""
        alive = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        if alive:
            self.kill(number)
        return alive

    def wait(self, limit: float = 120) -> Result:
        """Waits for the end; kills what takes longer than `limit` seconds."""
        hung = False
        while (found := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            if time.perf_counter() - self.began > limit and not hung:
                hung = True
                self.kill()
            time.sleep(0.01)
        code = os.waitstatus_to_exitcode(found[1])
        text = self.out.read_text(errors="replace")
        return Result(code, time.perf_counter() - self.began, text, hung)


def _child(out: pathlib.Path, work: Callable[[], Any]) -> None:
    code = 1
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Lab:
    """A folder for one campaign: shards, downloads, reference runs, and commands on them."""

    def __init__(self, folder: pathlib.Path, seed: int = 0):
        self.folder, self.rng = folder.absolute(), np.random.default_rng(seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.count = 0
        self.unbroken: dict[str, Any] = {}  # once it was run
        _imports()
        import toy

        self.data = self.folder / "data"
        if not self.data.exists():
            toy.write(self.data)
        self.config = self.folder / "toy_run.py"
        cache = str(self.folder / "xla")
        self.config.write_text(CONFIG.format(data=str(self.data), cache=cache))

    def fresh(self, name: str = "try") -> pathlib.Path:
        """A folder name that was not used before."""
        self.count += 1
        return self.folder / f"{name}{self.count:04d}"

    def start(self, module: str, *arguments: str, before: Callable[[], Any] | None = None) -> Run:
        """Starts `python -m module arguments`; `before` runs in its process first."""

        def work() -> None:
            sys.argv = [module, *arguments]
            if before:
                before()
            runpy.run_module(module, run_name="__main__", alter_sys=True)

        self.count += 1
        return Run(self.folder / f"out{self.count:04d}.txt", work)

    def train(
        self, workdir: pathlib.Path, *more: str, before: Any = None, config: Any = None
    ) -> Run:
        """Starts the training of the toy run."""
        file = config or self.config
        return self.start(
            "rsjax.main", f"--config={file}", f"--workdir={workdir}", *more, before=before
        )

    def prepare(self, source: pathlib.Path, data: pathlib.Path, *more: str, **how: Any) -> Run:
        """Starts prepare on a BigEarthNet download, in shards of one MB and one process."""
        before = how.get("before")

        def small() -> None:
            from rsjax.input import shards

            shards.SHARD_BYTES = 2**20
            if before:
                before()

        return self.start(
            "rsjax.prepare", "--dataset=bigearthnet", f"--source={source}", f"--data_dir={data}",
            f"--workers={how.get('workers', 1)}", *more, before=small,
        )  # fmt: skip

    def call(self, function: Callable[[], Any]) -> Any:
        """The result of a function, as JSON types, computed in a fork."""
        self.count += 1
        answer = self.folder / f"answer{self.count:04d}.json"
        ended = Run(self.folder / f"out{self.count:04d}.txt",
                    lambda: answer.write_text(json.dumps(function()))).wait(600)  # fmt: skip
        if ended.code:
            raise RuntimeError(ended.text)
        return json.loads(answer.read_text())

    def reference(self) -> dict[str, Any]:
        """The toy run, unbroken: its final weights and figures. Run once."""
        workdir = self.folder / "unbroken"
        if not (workdir / "report.html").exists():
            ended = self.train(workdir).wait()
            if ended.code:
                raise RuntimeError(ended.text)
        self.unbroken = self.unbroken or self.final(workdir)
        return self.unbroken

    def download(self) -> pathlib.Path:
        """A simulated BigEarthNet download of 24 samples."""
        folder = self.folder / "download"
        if not folder.exists():
            from rsjax.datasets.simulate import simulate

            simulate("bigearthnet", folder, 24, seed=1)
        return folder

    def prepared(self) -> dict[str, str]:
        """Digests of the shards and the manifest of that download, prepared unbroken."""
        data = self.folder / "prepared"
        if not list(data.rglob("manifest.json")):
            ended = self.prepare(self.download(), data).wait()
            if ended.code:
                raise RuntimeError(ended.text)
        return digests(data)

    def final(self, workdir: pathlib.Path) -> dict[str, Any]:
        """What a finished run must agree on with any other: weights, figures, one row a step."""
        return self.call(lambda: _final(workdir))


def _imports() -> None:
    import flax  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import tensorboardX.event_file_writer  # noqa: F401
    import tensorflow_datasets  # noqa: F401

    import rsjax.datasets.simulate
    import rsjax.input.build
    import rsjax.input.verify
    import rsjax.training.examine
    import rsjax.training.loop  # noqa: F401


def _final(workdir: pathlib.Path) -> dict[str, Any]:
    import jax
    import orbax.checkpoint as ocp

    from rsjax import sealed
    from rsjax.training import logging

    step = max(steps(workdir))
    reader = ocp.PyTreeCheckpointer()
    folder = workdir / "checkpoints" / str(step) / "state"
    args = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
        reader.metadata(folder).item_metadata.tree,
    )
    tree = reader.restore(folder, restore_args=args)
    leaves = {
        jax.tree_util.keystr(k): hashlib.sha256(np.asarray(v).tobytes()).hexdigest()
        for k, v in jax.tree_util.tree_leaves_with_path(tree)
    }
    rows = [(r["step"], sorted(k.split("/")[0] for k in r)[-1]) for r in logging.read(workdir)]
    trained = {
        r["step"]: (r.get("train/loss"), r.get("validation/loss"), r.get("test/loss"))
        for r in logging.read(workdir)
    }
    return {
        "step": step,
        "leaves": leaves,
        "bundle": hashlib.sha256((workdir / "bundle/weights.safetensors").read_bytes()).hexdigest(),
        "figures": sealed.read(workdir / "eval/test.json")["scalars"],
        "report": "</html>" in (workdir / "report.html").read_text(),
        "doubled": len(rows) - len(set(rows)),
        "last": trained[step],
    }


def steps(workdir: pathlib.Path) -> list[int]:
    """The visible checkpoints of a run."""
    return sorted(int(p.name) for p in (workdir / "checkpoints").glob("[0-9]*") if p.name.isdigit())


def broken_promises(workdir: pathlib.Path) -> list[str]:
    """Checkpoints that can be seen but are not whole, and a bundle that cannot be opened."""
    from rsjax import bundle
    from rsjax.errors import RsjaxError
    from rsjax.training import checkpoints

    found = []
    for step in steps(workdir):
        if fault := checkpoints.check(workdir / "checkpoints" / str(step)):
            found.append(f"step {step}: {fault}")
    if (workdir / "bundle").exists() or (workdir / ".bundle.old").exists():
        try:
            bundle.load(workdir)
        except RsjaxError as error:
            found.append(str(error))
    return found


def digests(folder: pathlib.Path) -> dict[str, str]:
    """sha256 of the shards and metadata below a folder of prepared data."""
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and (".array_record" in p.name or p.name == "manifest.json")
        and not p.name.startswith(".") and ".shards" not in p.parts
    }  # fmt: skip


def flip(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    at = int(rng.integers(0, len(content)))
    content[at] ^= 1 << int(rng.integers(0, 8))
    path.write_bytes(content)


def cut(path: pathlib.Path, size: int) -> None:
    """Truncates a file."""
    os.truncate(path, size)


def copy(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """A copy of a folder or file."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def die_at_operation(folder: pathlib.Path, which: int, part: str = "") -> Callable[[], None]:
    """Kills this process with -9 at a file operation: the `which`-th whose path has `part`.

    Python's audit events say when a file is opened, renamed or removed, a folder made or removed.
    """
    events = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
    seen = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in events or (event == "open" and not _writes(arguments)):
            return
        path = _path(event, arguments)
        if str(folder) in path and part in path:
            seen[0] += 1
            if seen[0] == which:
                os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(hook)


def _path(event: str, arguments: tuple[Any, ...]) -> str:
    """All names of an operation; those relative to an open folder are resolved."""
    name = str(arguments[0])
    if event == "os.rename":
        return f"{name} {arguments[1]}"
    handle = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
    if isinstance(handle, int) and handle >= 0 and not name.startswith("/"):
        with contextlib.suppress(OSError):
            return os.path.join(os.readlink(f"/proc/self/fd/{handle}"), name)
    return name


def _writes(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    return bool(mode and set(str(mode)) & set("wax+")) or bool((flags or 0) & os.O_WRONLY)


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: int) -> Iterator[Callable[[int], None]]:
    """A tmpfs of so many bytes at `folder`; the function given resizes it.

    Raises:
        OSError: mounting is refused.
    """
    import subprocess

    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        raise OSError("mounting a tmpfs is refused here")

    def resize(now: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={now}", str(folder)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
