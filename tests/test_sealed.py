import errno
import json
import math

import numpy as np
import pytest

from rsjax import sealed
from rsjax.errors import DiskError

DATA = {"format": 2, "mean": [0.1, 1e-30, -0.0, math.inf], "classes": ["ü", "b"], "sha256": "x",
        "nested": {"b": None, "a": True}}  # fmt: skip


def test_what_was_written_is_read(tmp_path):
    sealed.write(tmp_path / "a.json", DATA)
    assert sealed.read(tmp_path / "a.json") == DATA
    assert list(sealed.read(tmp_path / "a.json")) == list(DATA)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_white_space_may_change_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    sealed.write(path, DATA)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content, indent=4))
    assert sealed.read(path) == DATA
    content["mean"][0] = 0.2
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="edited by hand"):
        sealed.read(path)
    path.write_text("[1]")
    with pytest.raises(ValueError, match="no checksum"):
        sealed.read(path)


def test_every_single_flipped_bit_is_harmless_or_noticed(tmp_path):
    path = tmp_path / "a.json"
    sealed.write(path, DATA)
    whole = path.read_bytes()
    noticed = 0
    for bit in np.random.default_rng(0).permutation(8 * len(whole))[:1000]:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            found = sealed.read(path)
        except ValueError:
            noticed += 1
        else:
            assert json.dumps(found) == json.dumps(DATA)
    assert noticed > 900


def test_a_full_disk_is_one_message_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    sealed.write(path, DATA)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sealed.os, "fsync", full)
    with pytest.raises(DiskError, match=r"a\.json: .*No space left.*MB are free.*same command"):
        sealed.write(path, {"other": 1})
    assert sealed.read(path) == DATA
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_not_on_the_disk_is_no_secret(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"1")

    def refuse(_):
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(sealed.os, "fsync", refuse)
    sealed.sync(tmp_path)  # a folder: some network file systems cannot
    with pytest.raises(OSError, match="quota"):
        sealed.sync(path)


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    for name in (".a.json.17.tmp", ".test.tmp.npz", "a.json", ".lock"):
        (tmp_path / name).write_bytes(b"")
    sealed.clean(tmp_path, tmp_path / "absent")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "a.json"]
