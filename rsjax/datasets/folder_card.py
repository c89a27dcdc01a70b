"""`dataset.json`: what the owner of a folder says about its images, checked at once."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
from typing import Any

from rsjax import sensors, storage
from rsjax.datasets import files
from rsjax.datasets.folder_images import Image
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.errors import DatasetError, SensorError

FILE = "dataset.json"
ENTRY = "image"  # name of the image entry of an example
NOT_STATED = "not stated"
EXAMPLE = (
    '{"sensor": "rgb", "bands": ["red", "green", "blue"], "gsd_m": 10, '
    '"mask_nomenclature": "classes.csv"}'
)

_LABELS = ("index", "multihot")
_RED_GREEN_BLUE = (660.0, 560.0, 490.0)  # nm
# What is drawn as black and white, in the quantity's own unit.
_DRAWN = {"reflectance": (0.0, 0.3), "backscatter": (0.0, 0.3)}
_DRAWN_UNIT = {"db": (-25.0, 0.0), "dn8": (0.0, 255.0)}


@dataclasses.dataclass(frozen=True)
class Card:
    """The fields of `dataset.json`; those without a default must be given.

    Attributes:
        sensor: name in `rsjax.sensors`.
        bands: the bands of the images in the order in which they are stored.
        gsd_m: ground sampling distance in metres.
        unit: name in `rsjax.sensors.UNITS`; may be left out where the sensor has only one.
        nodata: the value that marks missing pixels (in every band), or null.
        size: 'same' or 'varying', of the images.
        label: 'index' (one class an image) or 'multihot' (several, joined by ';').
        label_nomenclature: classes of the label: a name in `rsjax.landcover`, or a CSV file in the
            folder; null where there is no label.
        mask_nomenclature: the same of the masks.
        split_rule: 'column' (`split` of samples.csv), or 'stratified' (by label, see
            `rsjax.datasets.splits.stratified`).
        rgb: three bands to draw with; null: those nearest to red, green and blue.
        rgb_range: stored values drawn as black and white; null: usual ones of the unit.
        title: full name.
        version: as `major.minor.patch`.
        page: where the data are described.
        licence: as the owner states it.
        citation: one line.
    """

    sensor: str
    bands: tuple[str, ...]
    gsd_m: float
    unit: str = ""
    nodata: float | None = None
    size: str = "same"
    label: str = "index"
    label_nomenclature: str | None = None
    mask_nomenclature: str | None = None
    split_rule: str = "column"
    rgb: tuple[str, ...] | None = None
    rgb_range: tuple[float, ...] | None = None
    title: str = "Own patches"
    version: str = "1.0.0"
    page: str = NOT_STATED
    licence: str = NOT_STATED
    citation: str = NOT_STATED


_TEXT = ("a text", lambda v: isinstance(v, str) and bool(v))
_NUMBER = ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool))
_KINDS: dict[str, tuple[str, Any]] = {
    "bands": ("a list of band names", lambda v: _is_list(v, str) and len(v) > 0),
    "gsd_m": ("a number above 0", lambda v: _NUMBER[1](v) and 0 < v < float("inf")),
    "nodata": ("a finite number or null", lambda v: v is None or (_NUMBER[1](v) and v - v == 0)),
    "size": ("'same' or 'varying'", lambda v: v in ("same", "varying")),
    "label": ("'index' or 'multihot'", lambda v: v in _LABELS),
    "split_rule": ("'column' or 'stratified'", lambda v: v in ("column", "stratified")),
    "label_nomenclature": ("a text or null", lambda v: v is None or _TEXT[1](v)),
    "mask_nomenclature": ("a text or null", lambda v: v is None or _TEXT[1](v)),
    "rgb": ("three band names", lambda v: v is None or (_is_list(v, str) and len(v) == 3)),
    "rgb_range": (
        "[black, white], black below white",
        lambda v: v is None or (_is_list(v, int | float) and len(v) == 2 and v[0] < v[1]),
    ),
    "version": (
        "major.minor.patch",
        lambda v: isinstance(v, str) and bool(re.fullmatch(r"\d+\.\d+\.\d+", v)),
    ),
}


def _is_list(value: Any, kind: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, kind) for one in value)


def read(content: bytes, where: str, source: str) -> Card:
    """Parses and checks `dataset.json`.

    Args:
        content: of the file.
        where: its path, for messages.
        source: the folder; nomenclatures in it become paths.

    Raises:
        DatasetError: no JSON object, or everything that is wrong with its fields.
    """
    try:
        data = json.loads(content)
    except ValueError as error:
        raise DatasetError(f"{where}: no JSON ({error}), expected e.g. {EXAMPLE}") from None
    if not isinstance(data, dict):
        raise DatasetError(f"{where}: {data!r:.60}, expected an object, e.g. {EXAMPLE}")
    fields = {field.name: field for field in dataclasses.fields(Card)}
    problems = []
    for name, value in data.items():
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            problems.append(f"unknown field {name!r}; {hint}known: {', '.join(fields)}")
            continue
        expected, fits = _KINDS.get(name, _TEXT)
        if not fits(value):
            problems.append(f"{name}={value!r}, expected {expected}")
    required = [n for n, f in fields.items() if f.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in data]:
        problems.append(f"no field {', '.join(missing)}, expected e.g. {EXAMPLE}")
    if not problems:
        given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in data.items()}
        card, problems = _check(Card(**given), source)
    if problems:
        raise DatasetError(f"{where}: " + "; ".join(problems))
    return card


def _check(card: Card, source: str) -> tuple[Card, list[str]]:
    """What fields mean together: bands of the sensor, its unit, places of nomenclatures."""
    problems = []
    try:
        sensor = sensors.get(card.sensor)
        for band in card.bands:
            sensor.band(band)
        sensors.select(card.bands, card.rgb or card.bands)
    except SensorError as error:
        return card, [str(error)]
    if not card.unit and len(sensor.units) == 1:
        card = dataclasses.replace(card, unit=sensor.units[0])
    if card.unit not in sensor.units:
        problems.append(f"unit={card.unit!r}, expected one of {', '.join(sensor.units)}")
    if not card.label_nomenclature and not card.mask_nomenclature:
        problems.append("neither label_nomenclature nor mask_nomenclature, expected one or both")
    if card.size == "varying" and card.mask_nomenclature:
        problems.append("size='varying' with masks; cut images and masks to one size")
    if card.split_rule == "stratified" and (not card.label_nomenclature or card.label != "index"):
        problems.append("split_rule='stratified' needs one class an image (label='index')")
    for name in ("label_nomenclature", "mask_nomenclature"):
        if (value := getattr(card, name)) and value.endswith(".csv"):
            try:
                files.check_name(value, source)
            except DatasetError:
                problems.append(f"{name}={value!r}, expected a file inside the folder")
                continue
            if storage.is_remote(source):
                problems.append(f"{name}={value!r} of an object store; copy the folder to a disk")
            inside: dict[str, Any] = {name: os.path.join(source, value)}
            card = dataclasses.replace(card, **inside)
    return card, problems


def info(
    card: Card, first: Image, splits: dict[str, int], metadata: tuple[str, ...]
) -> DatasetInfo:
    """The dataset's card for everything downstream.

    Args:
        card: what the owner says.
        first: the first image, whose size, dtype and georeference all others must share.
        splits: split -> number of samples.
        metadata: names of the text entries.
    """
    height, width, _ = first.shape if card.size == "same" else (0, 0, 0)
    return DatasetInfo(
        name="folder",
        version=card.version,
        title=card.title,
        page=card.page,
        licence=card.licence,
        citation=card.citation,
        images={
            ENTRY: ImageSpec(
                card.sensor, card.bands, height, width, first.dtype, card.unit,
                float(card.gsd_m), card.nodata,
            )
        },
        label=card.label if card.label_nomenclature else None,
        nomenclature=card.label_nomenclature or card.mask_nomenclature or "",
        mask=(height, width) if card.mask_nomenclature else None,
        mask_nomenclature=card.mask_nomenclature,
        metadata=metadata,
        splits=splits,
        rgb=(ENTRY, drawn_bands(card)),
        rgb_range=drawn_range(card),
        georeferenced=first.georeferenced,
    )  # fmt: skip


def drawn_bands(card: Card) -> tuple[str, str, str]:
    """Bands to draw with: those stated, or those nearest to red, green and blue."""
    if card.rgb:
        red, green, blue = card.rgb
        return red, green, blue
    sensor = sensors.get(card.sensor)
    known = [(b, nm) for b in card.bands if (nm := sensor.band(b).wavelength_nm) is not None]
    if known:
        red, green, blue = (min(known, key=lambda k: abs(k[1] - nm))[0] for nm in _RED_GREEN_BLUE)
    elif {"red", "green", "blue"} <= set(card.bands):
        red, green, blue = "red", "green", "blue"
    else:
        red, green, blue = (card.bands * 3)[:3]
    return red, green, blue


def drawn_range(card: Card) -> tuple[float, float]:
    """Stored values to draw as black and white: those stated, or usual ones of the unit."""
    if card.rgb_range:
        black, white = card.rgb_range
        return float(black), float(white)
    if card.unit in _DRAWN_UNIT:
        return _DRAWN_UNIT[card.unit]
    scale, offset, quantity = sensors.UNITS[card.unit]
    black, white = _DRAWN[quantity]
    return (black - offset) / scale, (white - offset) / scale
