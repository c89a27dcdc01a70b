"""The folder of a dataset that TensorFlow Datasets wrote: its features, shards and records.

`features.json` says what a record holds, `dataset_info.json` how many records each shard has: the
records are counted without a look into terabytes of shards. The keys are `<shard file>#<record>`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from typing import Any

import numpy as np

from rsjax import storage
from rsjax.datasets import base, tf_example, tfrecord
from rsjax.errors import ConfigError, DatasetError


@dataclasses.dataclass(frozen=True)
class Feature:
    """What `features.json` says of one feature.

    Attributes:
        kind: 'Tensor', 'Scalar', 'Text', 'ClassLabel', ...
        shape: 0 where a size varies.
        dtype: numpy dtype name, or 'string'.
        encoding: 'none' for packed numbers, else 'bytes', 'zlib'.
    """

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = "string"
    encoding: str = "none"


class TfdsFolder:
    """The metadata and records of one folder.

    Attributes:
        name: of the dataset in TFDS.
        config: of it, or ''.
        version: e.g. '1.0.0'.
        counts: split -> records of each shard.
        features: name -> what it is.
        files: name -> content of the two JSON files.

    Args:
        root: the folder that holds `dataset_info.json`; a path or a URL.
        page: the dataset's page, for messages.

    Raises:
        DatasetError: metadata that are missing or not those of TFDS.
    """

    def __init__(self, root: str, page: str):
        self.root, self.page = root, page
        self.files = {name: self._load(name) for name in ("dataset_info.json", "features.json")}
        self._labels: dict[str, list[str]] = {}
        info = self._json("dataset_info.json")
        self.name, self.config = (str(info.get(k, "")) for k in ("name", "configName"))
        self.version = str(info.get("version", ""))
        self.counts: dict[str, list[int]] = {}
        try:
            for split in info["splits"]:
                self.counts[split["name"]] = [int(count) for count in split["shardLengths"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._refuse(
                "dataset_info.json", f"no splits with shardLengths ({error!r})"
            ) from None
        self.features = dict(_features(self._json("features.json")))
        if not self.features:
            raise self._refuse("features.json", "no features of a FeaturesDict")

    def classes(self, feature: str) -> list[str]:
        """The class names that lie beside, in `<feature>.labels.txt`; empty where none do."""
        name = f"{feature}.labels.txt"
        if name not in self._labels:
            path = os.path.join(self.root, name)
            text = storage.read(path).decode() if storage.is_file(path) else ""
            self._labels[name] = [line for line in text.splitlines() if line]
        return self._labels[name]

    def shard(self, split: str, index: int) -> str:
        """The name of a shard's file."""
        total = len(self.counts[split])
        return f"{self.name}-{split}.tfrecord-{index:05d}-of-{total:05d}"

    def chosen(self, split: str, shards: int) -> int:
        """How many shards of a split to read, after a look at what is there.

        Args:
            split: its name.
            shards: the first ones to use; 0 is all.

        Raises:
            DatasetError: one of them is not on disk.
            ConfigError: there are not so many.
        """
        total = len(self.counts[split])
        if shards > total:
            raise ConfigError(f"shards={shards}, split '{split}' of {self.root} has {total}")
        there = set(storage.names(self.root))
        wanted = [self.shard(split, index) for index in range(shards or total)]
        missing = [name for name in wanted if name not in there]
        if missing:
            first = wanted.index(missing[0])
            fewer = f", or use the first ones with shards={first}" if first else ""
            raise DatasetError(
                f"{os.path.join(self.root, missing[0])}: not there, as {len(missing)} of the "
                f"{len(wanted)} shards of split '{split}'. Download them from {self.page}{fewer}"
            )
        return len(wanted)

    def keys(self, split: str, shards: int) -> list[str]:
        """The keys of the first shards of a split; 0 is all. Errors as `chosen`."""
        return [
            f"{self.shard(split, index)}#{number}"
            for index in range(self.chosen(split, shards))
            for number in range(self.counts[split][index])
        ]

    def read(self, key: str) -> dict[str, np.ndarray | list[bytes]]:
        """The features of a record, flat; see `tf_example.parse`.

        Raises:
            DatasetError: the shard is missing, damaged, or has another number of records.
        """
        name, _, number = key.rpartition("#")
        file = tfrecord.open_file(os.path.join(self.root, name), self.page)
        split, index = self._place(name)
        expected = self.counts[split][index]
        if len(file) != expected:
            raise DatasetError(
                f"{file.path}: {len(file)} records, dataset_info.json says {expected}; "
                f"download the file again from {self.page}"
            )
        try:
            return tf_example.parse(file.read(int(number)))
        except ValueError as error:
            raise DatasetError(
                f"{self.where(key)}: {error}, expected a tf.train.Example; download the file "
                f"again from {self.page}"
            ) from None

    def knows(self, key: str) -> bool:
        """Whether a key is one of this folder's."""
        name, _, number = key.rpartition("#")
        try:
            split, index = self._place(name)
            return number.isdecimal() and int(number) < self.counts[split][index]
        except (ValueError, LookupError):
            return False

    def where(self, key: str) -> str:
        """File and record of a key, for messages."""
        name, _, number = key.rpartition("#")
        return f"{os.path.join(self.root, name)}, record {number}"

    def tensor(
        self, example: dict[str, np.ndarray | list[bytes]], feature: str, key: str
    ) -> np.ndarray:
        """One feature of a record in its shape and dtype.

        Raises:
            DatasetError: it is missing, of another kind or size, has values that its dtype does not
                hold, or several sizes that vary.
        """
        spec, found = self.features[feature], example.get(feature)
        wanted = f"{spec.dtype} {spec.shape}"
        if spec.encoding != "none" and isinstance(found, list) and len(found) == 1:
            found = self._decoded(found[0], spec, feature, key)
        if not isinstance(found, np.ndarray):
            told = "not there" if found is None else f"{len(found)} byte strings"
            raise self.refuse(key, feature, told, f"numbers, {wanted}")
        dtype = None if spec.dtype == "string" else np.dtype(spec.dtype)
        if dtype is None or (found.dtype.kind == "f") != (dtype.kind == "f"):
            kind = "floats" if found.dtype.kind == "f" else "integers"
            raise self.refuse(key, feature, f"{found.size} {kind}", wanted)
        if spec.shape.count(0) > 1:
            raise DatasetError(
                f"{os.path.join(self.root, 'features.json')}: feature '{feature}' is {wanted}, "
                f"where 0 is a size that varies, expected one such at most: the {found.size} "
                f"values of {key} do not say how they lie"
            )
        if found.dtype != dtype:
            with np.errstate(over="ignore"):
                cast = found.astype(dtype)
            # A narrower float rounds, which is no fault, but must not become infinite.
            lost = np.isinf(cast) & ~np.isinf(found) if dtype.kind == "f" else cast != found
            if lost.any():
                raise self.refuse(key, feature, f"value {found[lost][0]}", wanted)
            found = cast
        try:
            return found.reshape([size or -1 for size in spec.shape])
        except ValueError:
            raise self.refuse(key, feature, f"{found.size} values", wanted) from None

    def refuse(self, key: str, feature: str, found: str, expected: str) -> DatasetError:
        """The error for a feature of a record that is not as it should be."""
        return DatasetError(
            f"{self.where(key)}, feature '{feature}': {found}, expected {expected}; download the "
            f"file again from {self.page}"
        )

    def _decoded(self, content: bytes, spec: Feature, feature: str, key: str) -> np.ndarray:
        try:
            plain = zlib.decompress(content) if spec.encoding == "zlib" else content
            return np.frombuffer(plain, np.dtype(spec.dtype).newbyteorder("<"))
        except (zlib.error, ValueError, TypeError) as error:
            told = f"{len(content)} bytes ({error})"
            raise self.refuse(key, feature, told, f"{spec.encoding} of {spec.dtype}") from None

    def _place(self, name: str) -> tuple[str, int]:
        head, _, tail = name.rpartition(".tfrecord-")
        split, index = head.removeprefix(f"{self.name}-"), int(tail.split("-of-")[0])
        if name != self.shard(split, index):
            raise LookupError(name)
        return split, index

    def _load(self, name: str) -> bytes:
        try:
            return storage.read(os.path.join(self.root, name))
        except (FileNotFoundError, NotADirectoryError):
            raise DatasetError(
                f"{os.path.join(self.root, name)}: no such file, expected it beside the shards; "
                f"download it from {self.page}"
            ) from None

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self.files[name])
        except ValueError as error:
            raise self._refuse(name, f"not JSON ({error})") from None
        if not isinstance(found, dict):
            raise self._refuse(name, "not an object")
        return found

    def _refuse(self, name: str, found: str) -> DatasetError:
        return DatasetError(
            f"{os.path.join(self.root, name)}: {found}, expected what TFDS writes; download the "
            f"file again from {self.page}"
        )


def find(source: str, folders: tuple[str, ...], page: str) -> str:
    """The first of some folders in a source that holds `dataset_info.json`.

    Raises:
        DatasetError: none does.
    """
    for folder in folders:
        root = os.path.join(source, folder) if folder else source
        if storage.is_file(os.path.join(root, "dataset_info.json")):
            return root
    places = ", ".join(repr(os.path.join(folder, "dataset_info.json")) for folder in folders)
    there = ", ".join(storage.names(source)[:10]) or "nothing"
    raise DatasetError(
        f"{source}: none of {places} is there, but {there}; expected the official folder. "
        f"Download the dataset from {page}"
    )


def simulated(source: str) -> bool:
    """Whether a folder, or one of three above it, is a simulated download."""
    place = source if storage.is_remote(source) else os.path.abspath(source)
    for _ in range(4):
        if base.is_simulated(place):
            return True
        place = os.path.dirname(place)
        if place.endswith((":/", "://")):
            break
    return False


def _features(data: dict[str, Any], prefix: str = "") -> list[tuple[str, Feature]]:
    """Names and specs, of nested dictionaries with '/' between, as TFDS names them in records."""
    inner = data.get("featuresDict", data)
    found: list[tuple[str, Feature]] = []
    for name, one in dict(inner.get("features", {})).items():
        path = f"{prefix}{name}"
        kind = str(one.get("pythonClassName", "")).rpartition(".")[2]
        if "featuresDict" in one:
            found += _features(one, f"{path}/")
            continue
        length: tuple[int, ...] = ()
        if "sequence" in one:
            length = (max(int(one["sequence"].get("length", -1)), 0),)
            one = one["sequence"].get("feature", {})
            kind = str(one.get("pythonClassName", "")).rpartition(".")[2]
        spec: dict[str, Any] = next((one[k] for k in ("tensor", "scalar") if k in one), {})
        shape = spec.get("shape", {}).get("dimensions", [])
        found.append((
            path,
            Feature(
                kind,
                (*length, *(max(int(size), 0) for size in shape)),
                str(spec.get("dtype", "int64" if kind == "ClassLabel" else "string")),
                str(spec.get("encoding", "none")),
            ),
        ))  # fmt: skip
    return found
