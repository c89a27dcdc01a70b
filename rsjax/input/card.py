"""The card that lies beside prepared shards, `README.md`, and a run sheet to train on them.

It says what the dataset says of itself and what the manifest counted, with commands for the place
that the shards were written to. The same shards in the same place give the same card.
"""

from __future__ import annotations

import json
from typing import Any

from rsjax.datasets import describe
from rsjax.datasets.describe import NOT_STATED, stated, table
from rsjax.datasets.info import DatasetInfo
from rsjax.input.manifest import Manifest

FILE = "README.md"
PLACE = "DATA_DIR"  # stands for the folder of all prepared data, which may move
SHOWN = 20  # skipped samples that are named; the manifest names all
STEPS = 4  # of a series of varying length, in the run sheet
SIDE = 256  # pixels, of images of varying size, in the run sheet

_TASKS = {"index": "classification", "multihot": "multilabel"}  # of rsjax.tasks
_TO_READ = """\
import tensorflow_datasets as tfds  # no TensorFlow is imported

source = tfds.builder_from_directory({root}).as_data_source("{split}")
source[0]  # a dictionary: the entries above, and `id`"""


def run_sheet(info: DatasetInfo, data_dir: str = "") -> str:
    """A run sheet with which training starts: the entry that is drawn, all its bands.

    Args:
        info: the dataset.
        data_dir: folder or URL of prepared data; '' leaves that of `rsjax.config`.
    """
    entry = info.images[info.rgb[0]]
    side = info.mask[0] if info.mask else entry.height or SIDE
    lines = [f"c.data.grid_px = {side}"]
    if not (entry.height and entry.width):
        lines += [f"c.data.fit_px = {side}"]
    if entry.steps == 0:
        lines += [f"c.data.fit_steps = {STEPS}"]
    if "train" not in info.splits:
        lines += [f'c.data.train_split = "{next(iter(info.splits))}"']
    for split in ("validation", "test"):
        lines += [] if split in info.splits else [f'c.data.{split}_split = ""  # there is none']
    name, loops = "{SENSOR}/{band}", "for band in BANDS.split()"
    if entry.steps is not None:
        name, loops = f"{name}@{{step}}", f"for step in range({entry.steps or STEPS}) {loops}"
    task = "segmentation" if info.mask else _TASKS[info.label or "index"]
    model = "unet" if info.mask else "resnet50"
    body = [
        "c = configs.base().unlock()",
        f'c.name = "{info.name}"',
        f'c.data.dataset = "{info.name}"',
        *([f"c.data.data_dir = {json.dumps(data_dir)}"] if data_dir else []),
        f'c.data.bands = tuple(f"{name}" {loops})',
        *lines,
        f'c.task.name = "{task}"',
        f'c.model.name = "{model}"',
        "c.batch_size = c.eval_batch_size = 32",
        "c.total_epochs = 20.0",
        "c.augment.d4 = True",
        "return c.lock()",
    ]
    head = f"""\
from rsjax import config as configs

SENSOR = "{entry.sensor}"
BANDS = "{" ".join(entry.bands)}"


def get_config():
"""
    return head + "\n".join(f"    {line}" for line in body)


def beside(made: Manifest) -> str:
    """The card of prepared shards: the dataset's, with what was counted, computed and skipped.

    Args:
        made: the manifest.
    """
    info = made.info
    options = [f"--option={key}={_option(value)}" for key, value in sorted(made.options.items())]
    command = " ".join(
        [
            "python -m rsjax.prepare",
            f"--dataset={info.name}",
            f"--source=DIR --data_dir={PLACE}",
            *options,
        ]
    )
    rows = []
    for split, entry in made.splits.items():
        size = sum(shard["bytes"] for shard in entry["shards"]) / 1e6
        whole = f"{info.splits[split]:,}" if info.splits.get(split) else NOT_STATED
        rows.append(
            (split, f"{entry['records']:,}", whole, f"{len(entry['skipped']):,}",
             len(entry["shards"]), f"{size:.1f} MB")
        )  # fmt: skip
    head = ("split", "samples", "of the whole dataset", "skipped", "files", "size")
    warning = "**SIMULATED: this is no measured imagery, and no score on it means anything.**\n\n"
    parts = [
        f"# {stated(info.title)}\n\n{warning * made.simulated}Shards that rsjax prepared. This "
        "card is made from `manifest.json`, which has the checksums.",
        describe.facts(info),
        f"## Splits\n\n{table(head, rows)}{_skipped(made)}",
        f"## Images\n\n{describe.images(info)}",
    ]
    if info.label:
        counts = {split: entry["class_counts"] for split, entry in made.splits.items()}
        parts.append(describe.classes("Labels, in samples", made.nomenclature, counts))
    if info.mask:
        counts = {split: entry["mask_counts"] for split, entry in made.splits.items()}
        found = made.mask_nomenclature or made.nomenclature
        parts.append(describe.classes("Mask, in pixels", found, counts))
    read = _TO_READ.format(
        root=json.dumps(f"{PLACE}/{info.name}/{info.version}"), split=next(iter(made.splits))
    )
    parts += [
        describe.statistics(info, made.statistics, made.statistics_origin),
        describe.known_defects(info.name),
        f"`{PLACE}` below stands for the folder or bucket that holds "
        f"`{info.name}/{info.version}`, with this card: equal shards have equal cards.",
        f"## How they were made\n\n```\n{command}\n```\n\n"
        + table(
            ("", ""),
            [
                ("options", ", ".join(options).replace("--option=", "") or "defaults"),
                ("fingerprint of the source", f"`{made.source_fingerprint}`"),
                ("fingerprint of the shards", f"`{made.fingerprint()}`"),
            ],
        ),
        "## How to train\n\nA run sheet to start from, not a tuned recipe; save it as "
        f"`{info.name}.py`:\n\n```python\n{run_sheet(info, PLACE)}\n```\n\n```\n"
        f"python -m rsjax.main --config={info.name}.py --workdir=runs/{info.name}\n```",
        f"## How to read them without rsjax\n\n```python\n{read}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _skipped(made: Manifest) -> str:
    lines = []
    for split, entry in made.splits.items():
        if not entry["skipped"]:
            continue
        lines.append(f"\n\nSkipped in {split}:\n")
        lines += [f"- `{one['key']}`: {stated(one['reason'])}" for one in entry["skipped"][:SHOWN]]
        if more := len(entry["skipped"]) - SHOWN:
            lines += [f"- and {more:,} more, see `manifest.json`"] if more > 0 else []
    return "\n".join(lines)


def _option(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
