"""What the gallery reads of the shards: classes and places of many records, pixels of a few."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from rsjax.errors import ShardError
from rsjax.input import records
from rsjax.input.manifest import Manifest
from rsjax.input.source import ShardSource
from rsjax.landcover import IGNORE, Nomenclature

RECORDS = 20_000  # read at most, of all splits together
PIXELS = 2_000  # of each record, for the histograms


@dataclasses.dataclass(frozen=True)
class Found:
    """What was seen in the records.

    Attributes:
        read: records read of each split.
        examples: class index -> a record of the shown split that has the class.
        centres: {split: (N, 2)} longitude and latitude in degrees; empty without coordinates.
    """

    read: dict[str, int]
    examples: dict[int, int]
    centres: dict[str, np.ndarray]


def classes_of(made: Manifest) -> Nomenclature | None:
    """The classes that a sample of each is shown of: of the label, else of the mask, else None."""
    return made.nomenclature if made.info.label else made.mask_nomenclature


def scan(made: Manifest, split: str) -> Found:
    """Reads classes and places of at most `RECORDS` records, drawn with a fixed seed.

    Args:
        made: the shards.
        split: the split whose classes are looked for; places are read of all.

    Raises:
        ShardError: a record is damaged, or its coordinates cannot be read.
    """
    rng = np.random.default_rng(0)
    info, classes = made.info, classes_of(made)
    total = sum(entry["records"] for entry in made.splits.values())
    read, centres, examples = {}, {}, {}
    for name, entry in made.splits.items():
        count = entry["records"]
        some = count if total <= RECORDS else max(1, RECORDS * count // total)
        wanted = classes is not None and name == split
        if not count or not (wanted or info.georeferenced):
            continue
        indices = np.sort(rng.choice(count, min(some, count), replace=False))
        source = ShardSource(made.root, name, columns=[])
        there = np.zeros((len(indices), len(classes) if classes else 0), np.float32)
        places = []
        for row, index in enumerate(indices.tolist()):
            entries = source.entries(index)
            if wanted:
                there[row] = _shares(entries, made)
            if info.georeferenced:
                places.append(_centre(entries, made))
        read[name] = len(indices)
        if places:
            centres[name] = _degrees(places, f"{made.root}, split '{name}'")
        if wanted:
            for c in np.flatnonzero(there.any(axis=0)).tolist():
                # Of maps the record with most of the class; of labels any that has it.
                best = np.flatnonzero(there[:, c] == there[:, c].max())
                examples[c] = int(indices[rng.choice(best)])
    return Found(read, examples, centres)


def _shares(entries: records.Entries, made: Manifest) -> np.ndarray:
    """(C,) share of the record that each class has: 0 or 1 of labels."""
    count = len(classes_of(made) or ())
    if made.info.label == "index":
        return np.arange(count) == int(entries["label"][0])
    if made.info.label == "multihot":
        return records.tensor(entries, "label", "uint8", (count,))
    mask = records.tensor(entries, "mask", "uint8", made.info.mask or ())
    return np.bincount(mask.ravel(), minlength=IGNORE + 1)[:count] / mask.size


def _centre(entries: records.Entries, made: Manifest) -> tuple[str, float, float]:
    """Coordinate system of a record, and its centre there."""
    # The transform is that of the finest grid.
    name, spec = min(made.info.images.items(), key=lambda item: item[1].gsd_m)
    height, width = spec.height, spec.width
    if 0 in (height, width):
        *_, height, width, _ = (int(n) for n in entries[f"{name}/shape"])
    a, b, c, d, e, f = records.tensor(entries, "transform", "float64", (6,)).tolist()
    column, row = width / 2, height / 2
    return records.text(entries, "crs"), a * column + b * row + c, d * column + e * row + f


def _degrees(places: Sequence[tuple[str, float, float]], where: str) -> np.ndarray:
    """(N, 2) longitude and latitude of places in any coordinate systems."""
    import rasterio
    from rasterio.warp import transform

    systems = np.array([crs for crs, _, _ in places])
    xy = np.array([place[1:] for place in places])
    found = np.empty_like(xy)
    for crs in np.unique(systems).tolist():
        here = systems == crs
        try:
            found[here] = np.transpose(transform(crs, "EPSG:4326", *xy[here].T.tolist()))
        except (rasterio.errors.RasterioError, rasterio.errors.CRSError) as error:
            raise ShardError(
                f"{where}: the coordinate system {crs!r} cannot be read ({error}). Prepare the "
                "data again with a rasterio that knows it"
            ) from None
    return found


def band_values(
    made: Manifest, split: str, count: int
) -> tuple[dict[str, np.ndarray], dict[str, float], int]:
    """Pixels of random records, by entry.

    Args:
        made: the shards.
        split: the split.
        count: records to read at most.

    Returns:
        {entry: (P, bands)} pixels that are valid; {entry: share of the pixels that are nodata or
        not finite}; how many records were read.
    """
    rng = np.random.default_rng(1)
    source = ShardSource(made.root, split, columns=[])
    indices = np.sort(rng.choice(len(source), min(count, len(source)), replace=False))
    values: dict[str, list[np.ndarray]] = {name: [] for name in made.info.images}
    pixels, missing = dict.fromkeys(values, 0), dict.fromkeys(values, 0)
    for index in indices.tolist():
        entries = source.entries(index)
        for name, spec in made.info.images.items():
            image = records.tensor(entries, name, spec.dtype, spec.shape).reshape(
                -1, len(spec.bands)
            )
            valid = np.isfinite(image).all(axis=1)
            if spec.nodata is not None and not spec.missing_is_nan:
                valid &= (image != spec.nodata).any(axis=1)
            pixels[name] += len(image)
            missing[name] += int((~valid).sum())
            chosen = np.flatnonzero(valid)
            if len(chosen) > PIXELS:
                chosen = rng.choice(chosen, PIXELS, replace=False)
            values[name].append(image[chosen])
    shares = {name: missing[name] / max(pixels[name], 1) for name in values}
    return {name: np.concatenate(parts) for name, parts in values.items()}, shares, len(indices)
