"""`samples.csv`, or class folders: which images there are, with masks, labels and splits."""

from __future__ import annotations

import csv
import dataclasses
import posixpath
import re

import numpy as np

from rsjax import landcover
from rsjax.datasets import files, splits
from rsjax.datasets.folder_card import ENTRY, FILE, Card
from rsjax.datasets.folder_images import EXTENSIONS
from rsjax.errors import DatasetError
from rsjax.landcover import Nomenclature

TABLE = "samples.csv"
SPLITS = ("train", "validation", "test")

_OWN = ("image", "mask", "label", "split")
_TAKEN = {ENTRY, "id", "crs", "transform"}  # entries of an example besides


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image: its files (names in the folder), label, split and further texts."""

    image: str
    line: int = 0  # in samples.csv
    mask: str = ""
    label: int | np.ndarray | None = None
    split: str = ""
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Samples:
    """All samples by key, the keys of each split, and the names of the further columns."""

    by_key: dict[str, Sample]
    splits: dict[str, list[str]]
    metadata: tuple[str, ...] = ()


def read(card: Card, source: files.Source) -> Samples:
    """The samples of a folder, from `samples.csv` or else from class folders; opens no image.

    Raises:
        DatasetError: names the line or file, what was found and what was expected.
        NomenclatureError: a class that is not in the label's nomenclature.
    """
    if source.exists(TABLE):
        found, metadata = _read_table(card, source)
    else:
        found, metadata = _list_folders(card, source), ()
    if not found:
        raise DatasetError(
            f"{source.describe(TABLE)}: no samples, expected one row an image (or, without this "
            f"file, images as <class>/<image>)"
        )
    by_key = {one.image: one for one in found}
    if card.split_rule == "column":
        parts = {split: [s.image for s in found if s.split == split] for split in SPLITS}
    else:
        classes = landcover.load(card.label_nomenclature or "")
        by_class: dict[str, list[str]] = {name: [] for name in classes.names}
        for one in found:
            by_class[classes.names[int(one.label)]].append(one.image)  # type: ignore[arg-type]
        parts = splits.stratified(by_class)
    return Samples(by_key, {split: keys for split, keys in parts.items() if keys}, metadata)


def _read_table(card: Card, source: files.Source) -> tuple[list[Sample], tuple[str, ...]]:
    where = source.describe(TABLE)
    try:
        text = source.read(TABLE).decode("utf-8-sig")
        rows = csv.reader(text.splitlines(keepends=True), strict=True)
        lines = [(rows.line_num, [cell.strip() for cell in row]) for row in rows if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{where}: {error}, expected a CSV file in UTF-8") from None
    header = lines[0][1] if lines else []
    _check_header(card, header, where)
    metadata = tuple(name for name in header if name not in _OWN)
    classes = landcover.load(card.label_nomenclature) if card.label_nomenclature else None
    found: dict[str, Sample] = {}
    for line, cells in lines[1:]:
        here = f"{where}:{line}"
        if len(cells) != len(header):
            raise DatasetError(
                f"{here}: {len(cells)} cells, expected {len(header)} ({', '.join(header)}); "
                "quote cells that contain commas"
            )
        row = dict(zip(header, cells, strict=True))
        image = _path(row["image"], "image", here)
        if image in found:
            raise DatasetError(
                f"{here}: {image} is also in line {found[image].line}, expected each image once; "
                "delete one of the rows"
            )
        if "split" in row and row["split"] not in SPLITS:
            raise DatasetError(f"{here}: split {row['split']!r}, expected {', '.join(SPLITS)}")
        found[image] = Sample(
            image=image,
            line=line,
            mask=_path(row["mask"], "mask", here) if "mask" in row else "",
            label=_label(row["label"], classes, card, here) if classes else None,
            split=row.get("split", ""),
            metadata={name: row[name] for name in metadata},
        )
    return list(found.values()), metadata


def _check_header(card: Card, header: list[str], where: str) -> None:
    """Refuses columns that are missing, double, unusable or contradict `dataset.json`."""
    needed = {
        "image": "the path of each image",
        **({"mask": f"{FILE} has a mask_nomenclature"} if card.mask_nomenclature else {}),
        **({"label": f"{FILE} has a label_nomenclature"} if card.label_nomenclature else {}),
        **({"split": f"{', '.join(SPLITS)}; or split_rule='stratified' in {FILE} where there is "
                     "one label an image"} if card.split_rule == "column" else {}),
    }  # fmt: skip
    found = f"columns {', '.join(header) or 'none'}"
    for name, why in needed.items():
        if name not in header:
            raise DatasetError(f"{where}: {found}, expected a column {name!r} ({why})")
    for name, field in (
        ("mask", "a mask_nomenclature"),
        ("label", "a label_nomenclature"),
        ("split", "split_rule='column'"),
    ):
        if name in header and name not in needed:
            raise DatasetError(
                f"{where}: a column {name!r}, expected {field} in {FILE} with it; "
                "give that, or delete the column"
            )
    for name in header:
        if header.count(name) > 1:
            raise DatasetError(f"{where}: column {name!r} twice, expected each once; rename one")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or (
            name in _TAKEN and name not in _OWN
        ):
            raise DatasetError(
                f"{where}: column {name!r}, expected letters, digits and _, and none of "
                f"{', '.join(sorted(_TAKEN - set(_OWN)))}; rename it"
            )


def _path(cell: str, column: str, here: str) -> str:
    """The normalised name of a file, which must stay inside the folder."""
    try:
        files.check_name(cell, here)
    except DatasetError:
        raise DatasetError(
            f"{here}: {column} {cell!r}, expected a path relative to the folder, with / and "
            "without '..'; move the file into the folder"
        ) from None
    if not cell.lower().endswith(EXTENSIONS):
        raise DatasetError(
            f"{here}: {column} {cell!r}, expected one of {', '.join(EXTENSIONS)}; convert the file"
        )
    return posixpath.normpath(cell)


def _label(cell: str, classes: Nomenclature, card: Card, here: str) -> int | np.ndarray:
    names = [name.strip() for name in cell.split(";")]
    if not all(names) or len(set(names)) < len(names):
        raise DatasetError(
            f"{here}: label {cell!r}, expected class names, each once; complete the row, or "
            "delete it"
        )
    if card.label == "multihot":
        return classes.multihot(names, here)
    if len(names) > 1 and cell not in classes.names:
        raise DatasetError(
            f"{here}: label {cell!r} has {len(names)} classes, expected one; several need "
            f"label='multihot' in {FILE}"
        )
    return classes.index(cell, here)


def _list_folders(card: Card, source: files.Source) -> list[Sample]:
    """The images of folders named as classes, class by class, sorted by name."""
    remedy = f"write {source.describe(TABLE)}"
    if card.mask_nomenclature or not card.label_nomenclature or card.label != "index":
        raise DatasetError(
            f"{source.describe(TABLE)}: no such file. Only images of one class each do without, "
            f"as <class>/<image> and with label_nomenclature (no mask_nomenclature) in {FILE}"
        )
    if card.split_rule != "stratified":
        raise DatasetError(
            f"{source.describe(TABLE)}: no such file, which would name the splits; set "
            f"split_rule='stratified' in {FILE}, or {remedy}"
        )
    classes = landcover.load(card.label_nomenclature)
    found = []
    for name in source.names():
        folder, _, file = name.rpartition("/")
        hidden = name.startswith(".") or "/." in name
        if not folder or hidden or not file.lower().endswith(EXTENSIONS):
            continue  # dataset.json, the nomenclature, what file managers leave behind
        found.append(Sample(name, label=classes.index(folder, source.describe(name))))
    return sorted(found, key=lambda one: (int(one.label), one.image))  # type: ignore[arg-type]
