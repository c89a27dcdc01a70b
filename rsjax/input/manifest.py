"""The manifest beside the shards: what they are, where they came from, and their checksums.

`data_dir/name/version/manifest.json` is written last and names every shard, so a folder without
one is unfinished and a folder with one is whole. Readers need it and the shards, nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pathlib
from typing import Any

import numpy as np

from rsjax import sealed
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import ShardError
from rsjax.landcover import Nomenclature

FORMAT = 2  # 2: sealed
FILE = "manifest.json"
ENDS = 65536  # bytes


class NoShards(ShardError):
    """Nothing was prepared in this place yet."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything that readers know about prepared shards.

    Attributes:
        root: the folder of the shards.
        info: the dataset's card.
        options: options the dataset was opened with.
        source_fingerprint: sha256 over dataset, options, keys and metadata of the download.
        simulated: whether the imagery is simulated.
        nomenclature: classes of the label.
        mask_nomenclature: classes of the mask, or None.
        splits: per split: records, class_counts, mask_counts, skipped, shards (file, records,
            bytes, sha256, ends_sha256).
        statistics: {sensor: {band: {mean, std, min, max, pixels, nodata}}} in the stored unit.
        statistics_origin: where the statistics come from.
        metadata: {file: sha256} of the files beside the manifest that TFDS reads.
        histograms: {split: {'label' | 'mask': {file, sha256}}}: classes of each record, see
            `histograms`; empty where shards were prepared before these were kept.
    """

    root: pathlib.Path
    info: DatasetInfo
    options: dict[str, Any]
    source_fingerprint: str
    simulated: bool
    nomenclature: Nomenclature
    mask_nomenclature: Nomenclature | None
    splits: dict[str, dict[str, Any]]
    statistics: dict[str, dict[str, dict[str, Any]]]
    statistics_origin: str
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    histograms: dict[str, dict[str, dict[str, str]]] = dataclasses.field(default_factory=dict)

    def fingerprint(self) -> str:
        """One digest of all shards: equal data, equal digest."""
        lines = [
            f"{split} {shard['file']} {shard['sha256']}"
            for split, entry in sorted(self.splits.items())
            for shard in entry["shards"]
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def save(manifest: Manifest) -> None:
    """Writes the manifest, sealed; whole or absent."""
    data = {f.name: getattr(manifest, f.name) for f in dataclasses.fields(manifest)}
    del data["root"]
    data["info"] = manifest.info.to_json()
    data["nomenclature"] = manifest.nomenclature.to_json()
    if manifest.mask_nomenclature:
        data["mask_nomenclature"] = manifest.mask_nomenclature.to_json()
    sealed.write(manifest.root / FILE, {"format": FORMAT, **data})


def load(root: str | os.PathLike[str]) -> Manifest:
    """Reads the manifest of a folder of shards.

    Raises:
        ShardError: there is none, it is damaged, or it was written by another format.
    """
    root = pathlib.Path(root)
    path = root / FILE
    try:
        data = sealed.read(path)
    except FileNotFoundError:
        raise ShardError(
            f"{path}: not there; the shards were not prepared, or not to the end. "
            "Run `python -m rsjax.prepare` (again: it goes on where it stopped)"
        ) from None
    except (ValueError, OSError) as error:
        raise ShardError(
            f"{path}: {error}. Delete it and run `python -m rsjax.prepare` again: finished shards "
            "are kept"
        ) from None
    if data.pop("format", None) != FORMAT:
        raise ShardError(f"{path}: another manifest format than {FORMAT}; prepare the data again")
    try:
        data["info"] = DatasetInfo.from_json(data["info"])
        data["nomenclature"] = Nomenclature.from_json(data["nomenclature"])
        if data["mask_nomenclature"]:
            data["mask_nomenclature"] = Nomenclature.from_json(data["mask_nomenclature"])
        return Manifest(root=root, **data)
    except (KeyError, TypeError) as error:
        raise ShardError(f"{path}: damaged ({error!r}); prepare the data again") from None


def histograms(made: Manifest, split: str, kind: str) -> np.ndarray:
    """The classes of each record of a split, or of several joined by '+'.

    Args:
        made: the manifest.
        split: e.g. 'train' or 'train+validation'.
        kind: 'label', zeros and ones; or 'mask', pixels, the last column those that are ignored.

    Returns:
        (N, K) or (N, K_mask + 1) unsigned integers, in the order of the records.

    Raises:
        ShardError: there are none, or a file is missing or damaged.
    """
    if not (made.info.mask if kind == "mask" else made.info.label):
        raise ShardError(f"{made.root}: {made.info.title} has no {kind}s")
    parts = []
    for name in split.split("+"):
        if name not in made.splits:
            raise ShardError(f"{made.root}: no split '{name}'; it has {', '.join(made.splits)}")
        entry = made.histograms.get(name, {}).get(kind)
        again = "Run `python -m rsjax.prepare` again: finished shards are kept"
        if entry is None:
            raise ShardError(
                f"{made.root}: the shards were prepared by an rsjax that did not count the classes "
                f"of each record. {again}, but the download must be there"
            )
        path = made.root / entry["file"]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ShardError(f"{path}: {error.strerror}. {again}") from None
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise ShardError(f"{path}: its sha256 is not that of the manifest. {again}")
        array = np.load(io.BytesIO(content), allow_pickle=False)
        if len(array) != made.splits[name]["records"]:
            raise ShardError(f"{path}: {len(array)} rows, not one for each record. {again}")
        parts.append(array)
    return np.concatenate(parts)


def digest(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ends_digest(path: str | os.PathLike[str]) -> str:
    """The sha256 of the first and the last 64 KiB of a shard.

    Cheap enough to check whenever a shard is opened, and another for every shard: two of equal
    size that were swapped would be read without a word.
    """
    with open(path, "rb") as file:
        head = file.read(ENDS)
        file.seek(max(os.fstat(file.fileno()).st_size - ENDS, 0))
        return hashlib.sha256(head + file.read(ENDS)).hexdigest()


def find(data_dir: str | os.PathLike[str], name: str, version: str | None = None) -> pathlib.Path:
    """The folder of a dataset's shards under `data_dir`.

    Raises:
        NoShards: none is there.
        ShardError: several are there and no `version` is chosen; names them.
    """
    if "://" in (url := os.fspath(data_dir)):
        copy = "gcloud storage cp -r" if url.startswith("g") else "aws s3 sync"
        raise ShardError(
            f"{url}: shards are read from a disk. Copy them, e.g. `{copy} {url}/{name} data/{name}`"
            ", and give --config.data.data_dir=data"
        )
    parent = pathlib.Path(data_dir) / name
    found = sorted(p.parent for p in parent.glob(f"*/{FILE}"))
    if version:
        found = [p for p in found if p.name == version]
    if len(found) == 1:
        return found[0]
    if found:
        raise ShardError(
            f"{parent}: several versions ({', '.join(p.name for p in found)}); "
            "choose one with --config.data.version, or move the others away"
        )
    raise NoShards(f"no prepared shards of '{name}' in {parent.absolute()}")
