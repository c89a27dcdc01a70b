"""Bits flipped, files cut, missing and swapped: shards, manifest, notes, checkpoints, bundle."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from fault.lab import Lab, Row, copy, cut, digests, flip, steps

Damage = Callable[[pathlib.Path, np.random.Generator], None]


def _half(path: pathlib.Path, rng: np.random.Generator) -> None:
    cut(path, int(rng.integers(0, path.stat().st_size)))


def _at_64k(path: pathlib.Path, _: np.random.Generator) -> None:
    cut(path, 65536)


def _missing(path: pathlib.Path, _: np.random.Generator) -> None:
    path.unlink()


def _swapped(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Another shard of the same size under this name; made so by padding where sizes differ."""
    others = [p for p in path.parent.glob("*.array_record-*") if p != path]
    equal = [p for p in others if p.stat().st_size == path.stat().st_size]
    shutil.copyfile((equal or others)[int(rng.integers(0, len(equal or others)))], path)


def _padded(path: pathlib.Path, _: np.random.Generator) -> None:
    with path.open("ab") as file:
        file.write(bytes(4096))


# -- Shards: read as training reads them --------------------------------------------------------


def _read_all(root: pathlib.Path) -> str:
    """Digest of everything that training would be given."""
    from rsjax.input.source import ShardSource

    total = hashlib.sha256()
    for split in ("train", "validation", "test"):
        source = ShardSource(root, split)
        for start in range(0, len(source), 8):
            batch = source.read(np.arange(start, min(start + 8, len(source))))
            for name in sorted(batch):
                total.update(batch[name].tobytes())
    return total.hexdigest()


def _shards(lab: Lab, tries: int, name: str, damage: Damage, verify: bool = False) -> Row:
    lab.prepared()
    whole = next((lab.folder / "prepared").rglob("manifest.json")).parent

    def work() -> dict[str, Any]:
        import time

        from rsjax.errors import RsjaxError
        from rsjax.input import verify as verifying

        expected, row, rng = _read_all(whole), Row(name), lab.rng
        victims = sorted(p.name for p in whole.glob("*.array_record-*"))
        for _ in range(tries):
            root = copy(whole, lab.folder / "damaged" / "bigearthnet" / whole.name)
            victim = victims[int(rng.integers(0, len(victims)))]
            damage(root / victim, rng)
            began = time.perf_counter()
            row.tries += 1
            try:
                row.wrong += _read_all(root) != expected
                if verify:
                    list(verifying.verify(root))
                    row.wrong += 1  # bytes differ from the manifest's and nothing was said
            except RsjaxError as error:
                row.seconds.append(time.perf_counter() - began)
                row.message = row.message or f"{type(error).__name__}: {error}"
                row.unclear += victim not in str(error)
            except Exception as error:
                row.unclear += 1
                row.message = f"{type(error).__name__}: {error}"
        return vars(row)

    return Row(**lab.call(work))


def shard_flips(lab: Lab, tries: int) -> Row:
    """One bit; read as training does, then verified."""
    row = _shards(lab, 3 * tries, "bit flip in a shard, read, then --verify", flip, verify=True)
    row.note = "flips in padding and index are noticed by --verify only; what is read is right"
    return row


def shard_cuts(lab: Lab, tries: int) -> Row:
    """Cut at a random place."""
    return _shards(lab, tries, "shard cut short", _half)


def shard_at_64k(lab: Lab, tries: int) -> Row:
    """Cut at 64 KiB, where ArrayRecord reads empty records."""
    return _shards(lab, tries, "shard cut at exactly 64 KiB", _at_64k)


def shard_missing(lab: Lab, tries: int) -> Row:
    """Deleted."""
    return _shards(lab, tries, "shard missing", _missing)


def shard_swapped(lab: Lab, tries: int) -> Row:
    """Replaced by another shard."""
    return _shards(lab, tries, "shard replaced by another", _swapped, verify=True)


def shard_padded(lab: Lab, tries: int) -> Row:
    """Bytes appended."""
    return _shards(lab, tries, "zeros appended to a shard", _padded)


def shard_while_training(lab: Lab, tries: int) -> Row:
    """Removed, cut, swapped or flipped after training has started."""
    expected = lab.reference()
    row = Row("shard removed, cut, replaced or flipped while training")
    for number in range(tries):
        data = copy(lab.data, lab.folder / "damaged-toy")
        victim = sorted(data.rglob("*train.array_record-*"))[int(lab.rng.integers(0, 2))]
        damage = (_missing, _half, _swapped, flip)[number % 4]

        def before(victim: pathlib.Path = victim, damage: Damage = damage) -> None:
            from rsjax.training import logging

            update, rng = logging.Progress.update, np.random.default_rng(lab.count)

            def damaging(self: Any, step: int, note: str = "") -> None:
                if step == 3:
                    damage(victim, rng)
                update(self, step, note)

            logging.Progress.update = damaging

        workdir = lab.fresh("damaged")
        ended = lab.train(workdir, f"--config.data.data_dir={data}", before=before).wait()
        row.tries += 1
        if ended.code:
            row.heard(ended)
            row.unclear += victim.name not in ended.text
        else:
            row.wrong += lab.final(workdir) != expected
    row.note = (
        "a shard that is open is read on when it is unlinked: figures as unbroken, no message"
    )
    return row


# -- Manifest, notes, plan ------------------------------------------------------------------------


def manifest_flips(lab: Lab, tries: int) -> Row:
    """One bit of the manifest; then read as training does."""
    return _manifest(lab, 5 * tries, "bit flip in manifest.json", flip)


def manifest_cuts(lab: Lab, tries: int) -> Row:
    """The manifest cut short."""
    return _manifest(lab, tries, "manifest.json cut short", _half)


def _manifest(lab: Lab, tries: int, name: str, damage: Damage) -> Row:
    lab.prepared()
    whole = next((lab.folder / "prepared").rglob("manifest.json"))

    def work() -> dict[str, Any]:
        import time

        from rsjax.errors import ShardError
        from rsjax.input import manifest

        row, root = Row(name), lab.folder / "damaged-manifest"
        root.mkdir(exist_ok=True)
        expected = manifest.load(whole.parent)
        for _ in range(tries):
            shutil.copyfile(whole, root / "manifest.json")
            damage(root / "manifest.json", lab.rng)
            row.tries += 1
            began = time.perf_counter()
            try:
                found = manifest.load(root)
                same = all(
                    str(getattr(found, k)) == str(getattr(expected, k))
                    for k in vars(expected)
                    if k != "root"
                )
                row.wrong += not same
            except ShardError as error:
                row.seconds.append(time.perf_counter() - began)
                row.message = row.message or f"ShardError: {error}"
            except Exception as error:
                row.unclear += 1
                row.message = f"{type(error).__name__}: {error}"
        return vars(row)

    return Row(**lab.call(work))


def note_flips(lab: Lab, tries: int) -> Row:
    """One bit of a shard's note or of the plan, between two runs of prepare."""
    source, expected = lab.download(), lab.prepared()
    row = Row("bit flip in a note of a shard or in the plan, then prepare again")
    for _ in range(tries):
        data = copy(lab.folder / "prepared", lab.folder / "damaged-notes")
        next(data.rglob("manifest.json")).unlink()
        notes = sorted(next(data.rglob(".shards")).iterdir())
        flip(notes[int(lab.rng.integers(0, len(notes)))], lab.rng)
        ended = lab.prepare(source, data).wait()
        row.tries += 1
        if ended.code:
            row.heard(ended)
        else:
            row.wrong += digests(data) != expected
    row.note = row.note or "a damaged note: its shard is written again, to the same bytes"
    return row


# -- Checkpoints, bundle, figures -------------------------------------------------------------


def _workdir(lab: Lab, tries: int, name: str, pick: Callable[..., Any], damage: Damage) -> Row:
    expected, row = lab.reference(), Row(name)
    for _ in range(tries):
        workdir = copy(lab.folder / "unbroken", lab.folder / "damaged-run")
        files = [p for p in pick(workdir) if p.is_file() and p.stat().st_size]
        damage(files[int(lab.rng.integers(0, len(files)))], lab.rng)
        ended = lab.train(workdir).wait()
        row.tries += 1
        row.lost += ended.code != 0
        row.wrong += ended.code == 0 and lab.final(workdir) != expected
        row.unclear += "Traceback" in ended.text
        if ended.message:
            row.seconds.append(ended.seconds)
            row.message = row.message or ended.message
    return row


def _newest(workdir: pathlib.Path) -> list[pathlib.Path]:
    return sorted((workdir / "checkpoints" / str(max(steps(workdir)))).rglob("*"))


def checkpoint_flips(lab: Lab, tries: int) -> Row:
    """One bit anywhere in the newest checkpoint."""
    row = _workdir(lab, tries, "bit flip in the newest checkpoint", _newest, flip)
    row.note = "the step before is used and the rest trained again, to the same bits"
    return row


def checkpoint_cuts(lab: Lab, tries: int) -> Row:
    """A file of the newest checkpoint cut short."""
    return _workdir(lab, tries, "file of the newest checkpoint cut short", _newest, _half)


def checkpoint_missing(lab: Lab, tries: int) -> Row:
    """A file of the newest checkpoint deleted."""
    return _workdir(lab, tries, "file of a checkpoint missing", _newest, _missing)


def bundle_flips(lab: Lab, tries: int) -> Row:
    """One bit of the bundle, then the training command again."""
    row = _workdir(
        lab, tries, "bit flip in the bundle", lambda w: sorted((w / "bundle").iterdir()), flip
    )
    row.note = "written anew from the best checkpoint, to the same bits"
    return row


def figures_flips(lab: Lab, tries: int) -> Row:
    """One bit of metrics.jsonl or of the evaluation's files; the command writes the report anew."""

    def pick(workdir: pathlib.Path) -> list[pathlib.Path]:
        return [workdir / "metrics.jsonl", *sorted((workdir / "eval").iterdir())]

    row = _workdir(lab, tries, "bit flip in metrics.jsonl or eval/", pick, flip)
    row.note = (
        "metrics.jsonl is a log without checksums: a flipped digit stays; weights do not read it"
    )
    return row


CASES = {
    f.__name__: f
    for f in (
        shard_flips, shard_cuts, shard_at_64k, shard_missing, shard_swapped, shard_padded,
        shard_while_training, manifest_flips, manifest_cuts, note_flips, checkpoint_flips,
        checkpoint_cuts, checkpoint_missing, bundle_flips, figures_flips,
    )
}  # fmt: skip
