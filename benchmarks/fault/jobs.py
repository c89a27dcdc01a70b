"""Two jobs in one folder, and settings that changed between two runs."""

from __future__ import annotations

import pathlib
import signal
import time

from fault.lab import Lab, Row, broken_promises, copy, digests


def two_trainings(lab: Lab, tries: int) -> Row:
    """A second training in the workdir of one that runs."""
    expected, row = lab.reference(), Row("a second training in one workdir")
    for _ in range(max(tries // 5, 1)):
        workdir = lab.fresh("shared")
        first = lab.train(workdir)
        while not (workdir / ".lock").exists() or not (workdir / ".lock").stat().st_size:
            time.sleep(0.01)
        time.sleep(float(lab.rng.uniform(0, 1)))
        second = lab.train(workdir).wait()
        row.tries += 1
        row.heard(second)
        row.wrong += second.code == 0
        row.unclear += str(first.pid) not in second.text
        row.lost += first.wait().code != 0 or lab.final(workdir) != expected
    return row


def two_prepares(lab: Lab, tries: int) -> Row:
    """A second prepare into the folder of one that runs."""
    source, expected = lab.download(), lab.prepared()
    row = Row("a second prepare into one folder")
    for _ in range(max(tries // 5, 1)):
        data = lab.fresh("shared-data")

        def slow() -> None:
            from rsjax.input import shards

            write = shards.write_shard

            def slowly(*arguments: object) -> object:
                time.sleep(0.3)
                return write(*arguments)

            shards.write_shard = slowly

        first = lab.prepare(source, data, before=slow)
        while not list(data.rglob(".lock")) or not next(data.rglob(".lock")).stat().st_size:
            time.sleep(0.01)
        second = lab.prepare(source, data).wait()
        row.tries += 1
        row.heard(second)
        row.wrong += second.code == 0
        row.lost += first.wait().code != 0 or digests(data) != expected
    return row


def evaluation_beside_training(lab: Lab, tries: int) -> Row:
    """mode=eval on the workdir of a training that runs: it may, and neither disturbs the other."""
    expected, row = lab.reference(), Row("mode=eval beside a running training of the same workdir")
    for _ in range(max(tries // 5, 1)):
        workdir = copy(lab.folder / "unbroken", lab.fresh("shared"))
        again = lab.train(workdir)  # trains nothing more: tests and reports
        ended = lab.train(workdir, "--config.mode=eval").wait()
        row.tries += 1
        row.seconds.append(ended.seconds)
        row.message = row.message or ended.message
        row.unclear += "Traceback" in ended.text
        row.lost += again.wait().code != 0 or bool(broken_promises(workdir))
        row.wrong += lab.final(workdir) != expected
    row.message = row.message or "(none: both end well)"
    return row


SWAPPED = (
    "--config.data.bands=('sentinel2_l2a/B03','sentinel2_l2a/B02','sentinel2_l2a/B04',"
    "'sentinel1/VV','sentinel1/VH')"
)
CHANGES = (  # flags of the second run, what the message must name
    (("--config.batch_size=8",), "batch_size: 16 then, 8 now"),
    (("--config.seed=7",), "seed: 0 then, 7 now"),
    (("--config.data.train_split=train+validation",), "train_split"),
    (("--config.data.bands=('sentinel2_l2a/B02','sentinel2_l2a/B03')",), "conv1/kernel"),
    ((SWAPPED,), "bands"),
    (("--config.data.grid_px=16",), "grid"),
    (("--config.data.statistics=published",), "published"),
    (("--config.model.fields.width=8",), "params/conv1/kernel"),
    (("--config.optimizer.name=sgd",), "opt_state"),
    (("--config.ema_decay=0.0",), "ema"),
    (("--config.seed=7", "--config.resume_data=restart"), ""),
)


def changed_on_resume(lab: Lab, _: int) -> Row:
    """Batch size, seed, data, inputs, model, optimizer: refused by name, nothing touched."""
    row = Row("changed batch size, seed, data, inputs, model or optimizer on resume")
    workdir = lab.fresh("changed")
    first = lab.train(workdir)
    while not (workdir / "bundle").exists():
        time.sleep(0.02)
    first.kill(signal.SIGTERM)
    first.wait()
    for flags, named in CHANGES:
        trial = copy(workdir, lab.folder / "changed-trial")
        ended = lab.train(trial, *flags).wait()
        row.tries += 1
        if not named:  # asked for by name: goes on
            row.lost += ended.code != 0
            continue
        row.heard(ended)
        row.wrong += ended.code == 0
        row.unclear += named not in ended.text
        row.lost += bool(broken_promises(trial))
    other = copy(lab.data, lab.folder / "changed-data")
    _other_shards(lab, other)
    ended = lab.train(copy(workdir, trial), f"--config.data.data_dir={other}").wait()
    row.tries += 1
    row.heard(ended)
    row.wrong += ended.code == 0
    row.unclear += "shards:" not in ended.text and "inputs" not in ended.text
    return row


def _other_shards(lab: Lab, data: pathlib.Path) -> None:
    """The same dataset, prepared from other samples."""
    import shutil

    import toy

    shutil.rmtree(data)
    lab.call(lambda: str(toy.write(data, sizes=(("train", 80), ("validation", 40), ("test", 40)))))


CASES = {
    f.__name__: f
    for f in (two_trainings, two_prepares, evaluation_beside_training, changed_on_resume)
}
