"""Mistakes on the command line: one message, exit status 1, before anything is written."""

from __future__ import annotations

from fault.lab import Lab, Row

TYPOS = (  # arguments, what the message must name
    (("--confg.lr=1",), "confg"),
    (("--config.optimizer.lr=1",), "optimizer.lr"),
    (("--config.steps=abc",), "steps"),
    (("--config.total_steps=abc",), "total_steps"),
    (("--config.total_steps=-3",), "total_steps"),
    (("--config.total_epochs=2",), "total_epochs"),
    (("--config.batch_size=0",), "batch_size"),
    (("--config.batch_size=16.5",), "batch_size"),
    (("--config.model.name=resnet19",), "resnet18"),
    (("--config.data.dataset=bigearthnt",), "bigearthnet"),
    (("--config.data.bands=('B02',)",), "data.bands"),
    (("--config.data.bands=('sentinel2_l2a/B2',)",), "B2"),
    (("--config.data.train_split=trian",), "trian"),
    (("--config.optimizer.learning_rate=nan",), "learning_rate"),
    (("--config.optimizer.name=adam",), "adamw"),
    (("--config.mode=evaluate",), "mode"),
    (("--config.model.fields.widht=8",), "widht"),
    (("--config.keep_latest=0",), "keep_latest"),
    (("stray",), "stray"),
    (("--work_dir=x",), "work_dir"),
)


def command_line(lab: Lab, _: int) -> Row:
    """Each of them once."""
    row = Row("typos in flags and config, impossible values, stray arguments")
    silent = []
    for arguments, named in TYPOS:
        workdir = lab.fresh("typo")
        ended = lab.train(workdir, *arguments).wait(60)
        row.tries += 1
        row.wrong += ended.code == 0
        bad = named not in ended.text or not ended.clear
        row.unclear += bad
        row.seconds.append(ended.seconds)
        row.lost += any(p.is_file() and p.name != ".lock" for p in workdir.rglob("*"))
        row.message = row.message or ended.message
        if bad or ended.code == 0:
            silent.append(arguments[0])
    row.note = "each named, before anything is written" + (f"; but not {silent}" if silent else "")
    return row


CASES = {"command_line": command_line}
