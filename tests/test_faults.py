"""The quick part of the fault campaign: a few tries of the families that take seconds."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
QUICK = (
    "train_saving", "prepare_any_file", "shard_flips", "shard_cuts", "shard_at_64k",
    "shard_missing", "shard_swapped", "manifest_flips", "manifest_cuts", "note_flips",
    "bundle_flips", "two_prepares", "vrt_in_tif", "members_of_tar", "huge_raster", "command_line",
)  # fmt: skip
SILENT = ("train_saving", "prepare_any_file", "note_flips")  # they go on without a word


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("faults")
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    ended = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "faults.py", f"--only={','.join(QUICK)}",
         "--tries=1", f"--out={out}"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "| fault | tries | lost | wrong |" in ended.stdout
    return {p.stem.split(".")[1]: json.loads(p.read_text()) for p in (out / "rows").iterdir()}


@pytest.mark.once
@pytest.mark.parametrize("case", QUICK)
def test_nothing_is_lost_or_wrong_and_every_message_is_clear(rows, case):
    row = rows[case]
    assert row["tries"] >= 1, row
    assert (row["lost"], row["wrong"], row["unclear"]) == (0, 0, 0), row
    assert row["message"] or case in SILENT, row
