import json
from types import SimpleNamespace

import pytest

from rsjax.errors import DiskError
from rsjax.training.logging import Writer, read


def test_damaged_lines_are_left_out_and_said(tmp_path, caplog):
    lines = [b'{"step": 1, "train/loss": 0.5}', b'{"st', b"\xff\xfe", b'{"stfp": 2}', b"7"]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert read(tmp_path) == [{"step": 1, "train/loss": 0.5}]
    assert "4 damaged line(s)" in caplog.text


def full(*_):
    raise OSError(28, "No space left on device")


def failing(writer, monkeypatch, tensorboard):
    if tensorboard:
        monkeypatch.setattr(writer.board.events._py_recordio_writer, "flush", full)
    else:
        monkeypatch.setattr(writer, "file", SimpleNamespace(write=full, close=writer.file.close))
    writer.scalars(1, {"train/loss": 0.5})


@pytest.mark.parametrize("tensorboard", [False, True])
def test_a_full_disk_is_one_message(tmp_path, monkeypatch, tensorboard):
    writer = Writer(tmp_path, 0, tensorboard, "", {})
    with pytest.raises(DiskError, match=r"could not be written \(No space left"), writer:
        failing(writer, monkeypatch, tensorboard)
    if tensorboard:
        writer.board.events._py_recordio_writer.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == ([1] if tensorboard else [])
