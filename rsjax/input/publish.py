"""Joins the notes of finished shards into the manifest and the metadata that TFDS reads."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np

from rsjax import landcover, sealed, storage
from rsjax.datasets import leakage
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import ShardError
from rsjax.input import card, histograms, records, statistics
from rsjax.input import manifest as manifests
from rsjax.input.manifest import Manifest
from rsjax.input.shards import Job, open_dataset

SHARD = ("file", "records", "bytes", "sha256", "ends_sha256")  # what is said of each
METADATA = ("LICENSE", "features.json", "dataset_info.json")  # what TFDS writes


def publish(
    todo: list[Job], found: list[dict[str, Any]], max_skipped: float, source_fingerprint: str
) -> Manifest:
    """Joins the notes of all shards into the manifest and the metadata of TFDS.

    Args:
        todo: all shards.
        found: their notes.
        max_skipped: see `rsjax.input.build`.
        source_fingerprint: of the dataset when its shards were begun.

    Raises:
        ShardError: a larger share than `max_skipped` of a split was skipped.
    """
    job = todo[0]
    dataset = open_dataset(job.dataset, job.source, job.options)
    info: DatasetInfo = dataset.info
    stage = storage.stage(job.root)
    by_split: dict[str, list[dict[str, Any]]] = {}
    for one, note in zip(todo, found, strict=True):
        by_split.setdefault(one.split, []).append(note)
    splits = {}
    for split, parts in by_split.items():
        skipped = [s for p in parts for s in p["skipped"]]
        count = sum(p["records"] for p in parts)
        if len(skipped) > max_skipped * (count + len(skipped)):
            raise ShardError(
                f"{job.root}: {len(skipped)} of {count + len(skipped)} samples of split '{split}' "
                f"are damaged, more than --max_skipped={max_skipped:g}. The first: "
                f"{skipped[0]['reason']}"
            )
        splits[split] = {
            "records": count,
            "class_counts": np.sum([p["class_counts"] for p in parts], axis=0).tolist(),
            "mask_counts": np.sum([p["mask_counts"] for p in parts], axis=0).tolist()
            if info.mask
            else None,
            "skipped": skipped,
            "shards": [{k: p[k] for k in SHARD} for p in parts],
        }
    if check := getattr(dataset, "check_totals", None):  # see `build`
        check({split: entry["mask_counts"] for split, entry in splits.items()})
    origin = "train" if "train" in by_split else next(iter(by_split))
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for name, spec in info.images.items():
        parts = [p["sums"][name] for p in by_split[origin] if name in p["sums"]]
        if parts:
            merged = statistics.finish(statistics.merge(parts), spec.bands)
            table.setdefault(spec.sensor, {}).update(merged)
    made = Manifest(
        root=stage,
        info=info,
        options=dict(job.options),
        source_fingerprint=source_fingerprint,
        simulated=dataset.simulated,
        nomenclature=landcover.load(info.nomenclature),
        mask_nomenclature=landcover.load(info.mask_nomenclature)
        if info.mask_nomenclature
        else None,
        splits=splits,
        statistics=table,
        statistics_origin=f"every valid pixel of the {splits[origin]['records']} records of split "
        f"'{origin}', computed by rsjax.prepare",
    )
    with sealed.writing(stage):
        if storage.is_remote(job.root):
            for one in todo:
                (stage / one.file).touch()  # TFDS takes the names of splits from files
        _write_tfds(made)
        written = [name for name in METADATA if (stage / name).is_file()]
        made = dataclasses.replace(
            made,
            metadata={n: manifests.digest(stage / n) for n in written},
            histograms={
                split: histograms.save(stage, split, _joined(made, parts))
                for split, parts in by_split.items()
            },
        )
        page = card.beside(made)
        if hasattr(dataset, "report"):  # of datasets that rsjax splits by place
            page += leakage.page(dataset.report())
        sealed.replace(stage / card.FILE, page.encode())
        manifests.save(made)
    # Last what says that all is there, on an object store as after a power loss.
    counted = [kind["file"] for split in made.histograms.values() for kind in split.values()]
    for name in (*written, *counted, card.FILE, manifests.FILE):
        with sealed.writing(f"{job.root}/{name}"):
            storage.publish(stage / name, job.root, name)
    return dataclasses.replace(made, root=pathlib.Path(job.root))


def _joined(made: Manifest, parts: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The histograms of a split, from the notes of its shards in their order."""
    wanted = histograms.layout(made.info, made.nomenclature, made.mask_nomenclature)
    each = [histograms.unpack(note["histograms"], wanted) for note in parts]
    return {name: np.concatenate([one[name] for one in each]) for name in wanted}


def _write_tfds(made: Manifest) -> None:
    """Metadata with which TFDS reads the shards in a process that never heard of rsjax."""
    import tensorflow_datasets as tfds

    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    tfds.folder_dataset.write_metadata(
        data_dir=made.root,
        features=records.features(made.info, made.nomenclature.names),
        version=made.info.version,
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[s["records"] for s in entry["shards"]],
                num_bytes=sum(s["bytes"] for s in entry["shards"]),
                filename_template=tfds.core.ShardedFileTemplate(
                    data_dir=made.root,
                    template=template,
                    dataset_name=made.info.name,
                    split=split,
                    filetype_suffix="array_record",
                ),
            )
            for split, entry in made.splits.items()
        ],
        filename_template=template,
        check_data=False,  # would import TensorFlow; `verify` rereads everything instead
        description=made.info.title + (" (SIMULATED)" if made.simulated else ""),
        homepage=made.info.page,
        citation=made.info.citation,
        license=made.info.licence,
    )
