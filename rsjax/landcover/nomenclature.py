"""One nomenclature: class codes to class indices and back, names, colours, crosswalks."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rsjax.errors import NomenclatureError
from rsjax.landcover import tables

IGNORE = 255  # class index of pixels and samples without a label

_MAX_CODE = 65535
_COLUMNS = ["code", "name", "colour", "parent", "ignore"]

NAMES: tuple[str, ...] = tuple(sorted(path.stem for path in tables.FOLDER.glob("*.csv")))


@dataclasses.dataclass(frozen=True)
class Nomenclature:
    """Ordered classes; the position in `codes` is the class index.

    Attributes:
        name: name in `rsjax.landcover.NAMES`, or the user's own.
        title: full name.
        source: where codes, names and colours come from.
        codes: class codes as found on disk, 0 to 65535.
        names: class names.
        colours: class colours as `#rrggbb`.
        parents: for each class its code in the nomenclature `parent`, or None.
        ignore: codes that mean "not labelled"; `decode` writes the first.
        parent: name of the coarser nomenclature, or "".

    Raises:
        NomenclatureError: for repeated codes or names, a bad colour or code, more than 255
            classes, or columns of different lengths.
    """

    name: str
    title: str
    source: str
    codes: tuple[int, ...]
    names: tuple[str, ...]
    colours: tuple[str, ...]
    parents: tuple[int | None, ...]
    ignore: tuple[int, ...] = ()
    parent: str = ""

    def __post_init__(self) -> None:
        problems = []
        columns = (self.codes, self.names, self.colours, self.parents)
        if len({len(column) for column in columns}) > 1:
            lengths = ", ".join(str(len(column)) for column in columns)
            problems.append(f"codes, names, colours and parents differ in length ({lengths})")
        if not 1 <= len(self.codes) <= IGNORE:
            problems.append(f"{len(self.codes)} classes, expected 1 to {IGNORE}")
        for what, values in (("code", self.codes + self.ignore), ("name", self.names)):
            if repeated := sorted({str(value) for value in values if values.count(value) > 1}):
                problems.append(f"{what} given more than once: {', '.join(repeated)}")
        every = self.codes + self.ignore
        if bad := [c for c in every if not (isinstance(c, int) and 0 <= c <= _MAX_CODE)]:
            problems.append(f"codes that are not integers from 0 to {_MAX_CODE}: {bad}")
        if not all(self.names):
            problems.append("a class without a name")
        if wrong := [c for c in self.colours if not re.fullmatch("#[0-9a-fA-F]{6}", c)]:
            problems.append(f"colours that are not #rrggbb: {wrong}")
        if problems:
            raise NomenclatureError(f"nomenclature {self.name!r}: {'; '.join(problems)}")

    def __len__(self) -> int:
        return len(self.codes)

    @functools.cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        # The extra last entry stands for every code outside 0.._MAX_CODE.
        classes = np.full(_MAX_CODE + 2, IGNORE, np.uint8)
        known = np.zeros(_MAX_CODE + 2, bool)
        classes[list(self.codes)] = np.arange(len(self))
        known[list(self.codes + self.ignore)] = True
        return classes, known

    def encode(self, codes: np.ndarray, where: str = "") -> np.ndarray:
        """Class indices of codes.

        Args:
            codes: integers of any shape and width, as found on disk.
            where: file or key, for the error message.

        Returns:
            uint8 of the same shape, 255 where the code is one of `ignore`.

        Raises:
            NomenclatureError: codes that are in neither `codes` nor `ignore`, or not integers.
        """
        codes = _integers(codes, "class codes", where)
        classes, known = self._tables
        index = codes
        if codes.dtype not in (np.uint8, np.uint16):
            # uint64 beyond int64 wraps to negative, which is as unknown as it was; -1 is the last.
            index = np.clip(codes.astype(np.int64), -1, _MAX_CODE + 1)
        found = np.asarray(classes[index])
        # Most maps have few unlabelled pixels, and only those can hide an unknown code.
        if not known[index[found == IGNORE]].all():
            self._refuse(codes, ~known[index], "codes", where, self.codes + self.ignore)
        return found

    def decode(self, classes: np.ndarray, where: str = "") -> np.ndarray:
        """Codes of class indices, the inverse of `encode`; 255 becomes the first ignore code.

        Returns:
            uint8 where every code fits, otherwise uint16; the shape of `classes`.

        Raises:
            NomenclatureError: an index that is no class, 255 without an ignore code, or values
                that are not integers.
        """
        classes = _integers(classes, "class indices", where)
        valid = (classes >= 0) & (classes < len(self))
        if self.ignore:
            valid |= classes == IGNORE
        if not valid.all():
            known = tuple(range(len(self))) + ((IGNORE,) if self.ignore else ())
            self._refuse(classes, ~valid, "class indices", where, known)
        wide = max(self.codes + self.ignore) > np.iinfo(np.uint8).max
        table = np.zeros(IGNORE + 1, np.uint16 if wide else np.uint8)
        table[: len(self)] = self.codes
        table[IGNORE] = self.ignore[0] if self.ignore else table[IGNORE]
        return np.asarray(table[classes.astype(np.uint8)])

    def _refuse(
        self, values: np.ndarray, bad: np.ndarray, what: str, where: str, known: tuple[int, ...]
    ) -> None:
        unknown = np.unique(values[bad]).tolist()
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
        axes = "(row, col)" if bad.ndim == 2 else "index"
        shown = ", ".join(map(str, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
        raise NomenclatureError(
            f"{where + ': ' if where else ''}{what} {shown} are not in nomenclature "
            f"{self.name!r} ({int(bad.sum())} values, the first at {axes} {first}); "
            f"expected {', '.join(map(str, known))}. Use the nomenclature that the labels were "
            f"made with (known: {', '.join(NAMES)})"
        )

    def index(self, name: str, where: str = "") -> int:
        """Class index of a class name; an unknown name is a NomenclatureError."""
        try:
            return self.names.index(name)
        except ValueError:
            pass
        close = difflib.get_close_matches(name, self.names, 3, 0.6)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise NomenclatureError(
            f"{where + ': ' if where else ''}{name!r} is no class of nomenclature "
            f"{self.name!r}; {hint}Known: {'; '.join(self.names)}"
        )

    def multihot(self, names: Iterable[str], where: str = "") -> np.ndarray:
        """The classes named, as uint8 of shape (len(self),) with 1 for each."""
        target = np.zeros(len(self), np.uint8)
        for name in names:
            target[self.index(name, where)] = 1
        return target

    def crosswalk(
        self, other: Nomenclature, overrides: Mapping[int, int | None] | None = None
    ) -> np.ndarray:
        """Lookup table from class indices here to class indices of another nomenclature.

        The table comes from `crosswalks/`, or else from the parents' table, or else from
        `overrides` where these name every class.

        Args:
            other: the nomenclature to translate to.
            overrides: code here -> code there (None: ignore), in place of the table's entry.

        Returns:
            uint8 of shape (256,): `table[classes]` translates; 255 stays 255.

        Raises:
            NomenclatureError: no such crosswalk, a class without an entry, an unknown code.
        """
        from rsjax.landcover import crosswalk  # which needs this module's `load`

        return crosswalk.table(self, other, overrides or {})

    def to_json(self) -> dict[str, Any]:
        """The nomenclature as plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Nomenclature:
        """The inverse of `to_json`, also after a trip through a JSON file."""
        fields = {field.name for field in dataclasses.fields(cls)}
        if fields != data.keys():
            raise NomenclatureError(
                f"nomenclature as JSON has the keys {sorted(data)}, expected {sorted(fields)}; "
                "written by another version of rsjax?"
            )
        values: dict[str, Any] = dict(data)
        for key in ("codes", "names", "colours", "parents", "ignore"):
            values[key] = tuple(values[key])
        return cls(**values)


_registered: dict[str, Nomenclature] = {}


def register(nomenclature: Nomenclature) -> str:
    """Makes classes that are in no file, as a download names them, known to `load`.

    It holds for this process; the name is the same wherever the same classes are registered, and
    another one for other classes.

    Returns:
        What `load` takes: the nomenclature's name, '@' and a digest of its content.
    """
    content = json.dumps(nomenclature.to_json(), sort_keys=True).encode()
    name = f"{nomenclature.name}@{hashlib.sha256(content).hexdigest()[:16]}"
    _registered[name] = nomenclature
    return name


def load(name: str) -> Nomenclature:
    """The nomenclature of this name (see `NAMES`, `register`), or of the `.csv` at this path.

    Raises:
        NomenclatureError: an unknown name, or a file that `read_csv` refuses.
    """
    if name in _registered:
        return _registered[name]
    # A user's own file may change while the process lives; it is read again each time.
    return read_csv(name) if name.endswith(".csv") else _packaged(name)


@functools.cache
def _packaged(name: str) -> Nomenclature:
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise NomenclatureError(
            f"no nomenclature {name!r}; {hint}known: {', '.join(NAMES)}, or the path of a .csv file"
        )
    return read_csv(tables.FOLDER / f"{name}.csv")


def read_csv(path: str | pathlib.Path) -> Nomenclature:
    """A nomenclature from a CSV file; its name is the file's stem.

    The file begins with `# title: ...` and `# source: ...` (and `# parent: name` where each class
    has one), then a header and one row a class: code, name, colour, parent, ignore. The last two
    may be left out, as may the first lines: the source is "not stated" then. Rows with `yes` under
    `ignore` are codes that mean "not labelled"; they need no colour.

    Raises:
        NomenclatureError: a missing or malformed file, an unknown parent, or any inconsistency
            that `Nomenclature` refuses.
    """
    path = pathlib.Path(path)
    comments, rows = tables.read(path, _COLUMNS, optional=("parent", "ignore"))
    classes, ignore = [], []
    parent = comments.get("parent", "")
    for line, row in rows:
        if row["ignore"] not in ("", "yes"):
            raise NomenclatureError(
                f"{path}:{line}: {row['ignore']!r} under ignore, expected 'yes' or nothing"
            )
        code = tables.integer(row["code"], path, line)
        if row["ignore"]:
            ignore.append(code)
            continue
        up = tables.integer(row["parent"], path, line) if row["parent"] else None
        if parent and (up is None or up not in load(parent).codes):
            raise NomenclatureError(
                f"{path}:{line}: class {code} has parent {row['parent']!r}, which is no code of "
                f"{parent!r}"
            )
        if up is not None and not parent:
            raise NomenclatureError(f"{path}:{line}: a parent, but no line `# parent: name`")
        classes.append((code, row["name"], row["colour"], up))
    try:
        return Nomenclature(
            name=path.stem,
            title=comments.get("title", path.stem),
            source=comments.get("source", "not stated"),
            codes=tuple(c[0] for c in classes),
            names=tuple(c[1] for c in classes),
            colours=tuple(c[2] for c in classes),
            parents=tuple(c[3] for c in classes),
            ignore=tuple(ignore),
            parent=parent,
        )
    except NomenclatureError as error:
        raise NomenclatureError(f"{path}: {error}") from error


def _integers(values: np.ndarray, what: str, where: str) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise NomenclatureError(
            f"{where + ': ' if where else ''}{what} of dtype {values.dtype}, expected integers; "
            "mark missing pixels with an ignore code and convert with .astype(int)"
        )
    return values
