"""The metadata of SeasoNet, from `meta.csv` to compact arrays.

Its 1,759,830 rows take three seconds, 185 MB, and 1.3 GB while they are read.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from rsjax import storage
from rsjax.datasets import files
from rsjax.errors import DatasetError
from rsjax.landcover import Nomenclature

SEASONS = ("Spring", "Summer", "Fall", "Winter", "Snow")
GRIDS = ("1", "2")

_COLUMNS = {
    "Season": pa.string(), "Grid": pa.string(), "Latitude": pa.float64(),
    "Longitude": pa.float64(), "Satellite": pa.string(), "Year": pa.int32(), "Month": pa.int32(),
    "Day": pa.int32(), "Classes": pa.string(), "Path": pa.string(),
}  # fmt: skip
_MAX_BYTES = 2**30  # the official file has 1,759,830 rows, about 240 MB


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Rows in the order of the file.

    Attributes:
        paths: folders of the patches, bytes of fixed width.
        order: rows sorted by path.
        season: index into `SEASONS`, int8.
        grid: index into `GRIDS`, int8.
        places: latitude and longitude in degrees, float64 (rows, 2).
        satellite: index into `satellites`, int8.
        satellites: names, as in the file.
        days: days of acquisition, datetime64[D].
        classes: a bit for each class index, uint64.
    """

    paths: np.ndarray
    order: np.ndarray
    season: np.ndarray
    grid: np.ndarray
    places: np.ndarray
    satellite: np.ndarray
    satellites: tuple[str, ...]
    days: np.ndarray
    classes: np.ndarray

    def row(self, path: str) -> int | None:
        """The row of a patch folder, or None."""
        name = path.encode()
        place = int(np.searchsorted(self.paths, name, sorter=self.order))
        if place == len(self.order) or self.paths[self.order[place]] != name:
            return None
        return int(self.order[place])


def content(root: files.Source, name: str) -> bytes:
    """A file of the source's top folder that may be larger than `files.MAX_BYTES`.

    Raises:
        DatasetError: it is missing or larger than any `meta.csv`.
    """
    path = os.path.join(root.path, name)
    size = storage.size(path) if root.exists(name) else None
    if size is None:
        raise root.missing(name)
    if size > _MAX_BYTES:
        raise DatasetError(
            f"{path}: {size:,} bytes, expected at most {_MAX_BYTES:,}; not the official metadata"
        )
    return storage.read(path)


def load(data: bytes, where: str, nomenclature: Nomenclature) -> Metadata:
    """Reads `meta.csv`.

    Args:
        data: its content.
        where: its path, for messages.
        nomenclature: of the codes under `Classes`.

    Raises:
        DatasetError: not this table, a missing value, an unknown season, grid or class, or a
            patch that is there twice.
    """
    table = _read(data, where)
    satellite, satellites = _categories(table["Satellite"])
    classes, lists = _categories(table["Classes"])
    bits = np.array([_bits(text, where, nomenclature) for text in lists], np.uint64)
    paths = np.array(table["Path"].cast(pa.binary()).to_pylist(), "S")
    order = np.asarray(pc.array_sort_indices(table["Path"])).astype(np.int64)
    ordered = paths[order]
    if (same := ordered[1:] == ordered[:-1]).any():
        raise _error(where, f"patch {ordered[1:][same][0].decode()} is there twice", "each once")
    return Metadata(
        paths=paths,
        order=order,
        season=_index(table["Season"], SEASONS, where),
        grid=_index(table["Grid"], GRIDS, where),
        places=np.stack([np.asarray(table[c]) for c in ("Latitude", "Longitude")], axis=-1),
        satellite=satellite.astype(np.int8),
        satellites=satellites,
        days=_days(table, where),
        classes=bits[classes],
    )


def rows(data: bytes, where: str, count: int) -> np.ndarray:
    """The rows of a split: positions in `meta.csv`, one a line, no header; int64.

    Raises:
        DatasetError: not such a list, or rows that are there twice or beyond the table.
    """
    if not data:
        raise _error(where, "an empty file", "one whole number a line")
    try:
        found = np.array(data.split()).astype(np.int64)
    except ValueError as error:
        raise _error(where, f"{error}", "one whole number a line and no header") from None
    if not found.size:
        return found
    if found.min() < 0 or found.max() >= count:
        raise _error(
            where, f"rows {found.min()} to {found.max()}", f"positions from 0 to {count - 1}"
        )
    if np.bincount(found).max() > 1:
        raise _error(where, f"row {np.bincount(found).argmax()} is listed twice", "each once")
    return found


def shared(some: np.ndarray, others: np.ndarray) -> tuple[int, str]:
    """How many places (rows, 2) are in both, and the first one as text."""
    one, other = (np.ascontiguousarray(x).view(np.complex128) for x in (some, others))
    both = np.intersect1d(one, other)
    return len(both), f"{both[0].real},{both[0].imag}" if len(both) else ""


def _read(data: bytes, where: str) -> pa.Table:
    options = csv.ConvertOptions(
        include_columns=list(_COLUMNS), column_types=_COLUMNS, strings_can_be_null=True
    )
    try:
        table = csv.read_csv(pa.BufferReader(data), convert_options=options)
    except (pa.ArrowException, KeyError) as error:
        said = " ".join(str(error).split())
        raise _error(where, f"unreadable ({said})", f"columns {', '.join(_COLUMNS)}") from error
    if not table.num_rows:
        raise _error(where, "no rows", "one for each patch")
    if empty := [name for name in _COLUMNS if table[name].null_count]:
        raise _error(where, f"missing values under {', '.join(empty)}", "none")
    return table.combine_chunks()


def _categories(column: pa.ChunkedArray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Indices and the distinct values they stand for."""
    array = pa.concat_arrays(column.dictionary_encode().unify_dictionaries().chunks)
    return np.asarray(array.indices), tuple(array.dictionary.to_pylist())


def _index(column: pa.ChunkedArray, known: tuple[str, ...], where: str) -> np.ndarray:
    indices, names = _categories(column)
    if unknown := set(names) - set(known):
        raise _error(where, f"unknown {sorted(unknown)}", f"one of {', '.join(known)}")
    return np.array([known.index(name) for name in names], np.int8)[indices]


def _days(table: pa.Table, where: str) -> np.ndarray:
    year, month, day = (np.asarray(table[name]) for name in ("Year", "Month", "Day"))
    first = (year - 1970).astype("M8[Y]").astype("M8[M]") + (month - 1)
    days = first.astype("M8[D]") + (day - 1)
    bad = (days.astype("M8[M]") != first) | (month < 1) | (month > 12)
    if bad.any():
        at = int(bad.argmax())
        raise _error(where, f"date {year[at]}-{month[at]}-{day[at]} in row {at}", "a day")
    return np.asarray(days)


def _bits(text: str, where: str, nomenclature: Nomenclature) -> int:
    """'2,3,12' as a number with the bits of these classes' indices set."""
    try:
        return sum({1 << nomenclature.codes.index(int(code)) for code in text.split(",")})
    except ValueError:
        known = f"{nomenclature.codes[0]} to {nomenclature.codes[-1]}"
        raise _error(
            where, f"Classes {text!r}", f"values from {known}, separated by commas"
        ) from None


def _error(where: str, found: str, expected: str) -> DatasetError:
    return DatasetError(
        f"{where}: {found}, expected {expected}. Download the file again from the dataset's page"
    )
