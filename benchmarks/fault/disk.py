"""A disk that is full: a small tmpfs under the workdir, or under the shards."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable
from typing import Any

from fault.lab import Lab, Result, Row, broken_promises, digests, small_disk

ROOM = 256 * 2**20
NOTE = "threads of tensorstore may print `Event loop is closed` besides the message"


def _size(folder: pathlib.Path) -> int:
    """Bytes of a folder on a file system with pages of 4 KiB."""
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*") if p.is_file())


def _full(
    lab: Lab,
    row: Row,
    tries: int,
    need: int,
    command: Callable[[pathlib.Path, bool], Result],
    same: Callable[[pathlib.Path], bool],
    shares: tuple[float, float] = (0.02, 0.95),
) -> Row:
    """Runs a command on too small a disk, then again with room."""
    for _ in range(tries):
        place = lab.fresh("disk")
        try:
            with small_disk(place, int(lab.rng.uniform(*shares) * need) // 4096 * 4096) as resize:
                folder = place / "run"
                ended = command(folder, True)
                row.tries += 1
                if ended.code == 0:  # it fitted after all, or went on without: must be whole
                    row.wrong += not same(folder)
                    row.tries -= 1
                    continue
                row.heard(ended)
                row.lost += bool(broken_promises(folder))
                resize(ROOM)
                again = command(folder, False)
                row.lost += again.code != 0
                row.wrong += again.code == 0 and not same(folder)
                if again.code:
                    row.message = "AGAIN: " + again.text.strip().splitlines()[-1]
        except OSError as error:
            row.note = f"skipped: {error}"
            return row
        shutil.rmtree(place, ignore_errors=True)
    return row


def full_in_training(lab: Lab, tries: int) -> Row:
    """The workdir is on a disk of 2 to 95 % of what the run needs."""
    expected = lab.reference()
    row = Row("disk full in training", note=f"a tmpfs of 2 to 95 % of the space needed; {NOTE}")

    def command(folder: pathlib.Path, full: bool) -> Result:
        return lab.train(folder).wait()

    def same(folder: pathlib.Path) -> bool:
        return lab.final(folder) == expected

    return _full(lab, row, tries, _size(lab.folder / "unbroken"), command, same)


def full_while_saving(lab: Lab, tries: int) -> Row:
    """The disk fills just before a chosen checkpoint."""
    expected = lab.reference()
    row = Row("disk full when a checkpoint is saved", note=NOTE)

    def command(folder: pathlib.Path, full: bool) -> Result:
        at = int(lab.rng.integers(2, 16))

        def before() -> Any:
            from rsjax.training import checkpoints

            save = checkpoints.Checkpoints.save

            def filling(self: Any, step: int, *rest: Any) -> None:
                if step == at:
                    self.finish()
                    free = shutil.disk_usage(folder).free
                    (folder.parent / "filler").write_bytes(b"x" * max(free - 8192, 1))
                save(self, step, *rest)

            checkpoints.Checkpoints.save = filling

        return lab.train(folder, before=before if full else None).wait()

    def same(folder: pathlib.Path) -> bool:
        return lab.final(folder) == expected

    need = 8 * _size(lab.folder / "unbroken")
    return _full(lab, row, tries, need, command, same, (1.0, 1.0))


def full_in_prepare(lab: Lab, tries: int) -> Row:
    """The shards go to a disk of 2 to 95 % of what they need."""
    source, expected = lab.download(), lab.prepared()
    row = Row("disk full in prepare", note="a tmpfs of 2 to 95 % of the space that is needed")

    def command(folder: pathlib.Path, full: bool) -> Result:
        return lab.prepare(source, folder).wait()

    def same(folder: pathlib.Path) -> bool:
        return digests(folder) == expected

    return _full(lab, row, tries, _size(lab.folder / "prepared"), command, same)


CASES = {f.__name__: f for f in (full_in_training, full_while_saving, full_in_prepare)}
