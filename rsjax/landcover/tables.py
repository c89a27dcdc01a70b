"""The form of this package's CSV files: `# key: value` lines, a header, rows."""

from __future__ import annotations

import csv
import pathlib

from rsjax.errors import NomenclatureError

FOLDER = pathlib.Path(__file__).parent


def read(
    path: pathlib.Path, columns: list[str], optional: tuple[str, ...] = ()
) -> tuple[dict[str, str], list[tuple[int, dict[str, str]]]]:
    """The comments and rows of a table.

    Args:
        path: a UTF-8 CSV file, whose `# key: value` lines come first.
        columns: those of its header, in their order.
        optional: those that it may leave out; their cells are empty then.

    Returns:
        The comments by key, and the rows as (line number, {column: text}).

    Raises:
        NomenclatureError: no such file, another header, or a row with more or fewer columns.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NomenclatureError(f"{path}: cannot be read as a UTF-8 table: {error}") from error
    start = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    comments = {}
    for line in lines[:start]:
        key, _, value = line.removeprefix("#").partition(":")
        comments[key.strip()] = value.strip()
    reader = csv.reader(lines[start:])
    header = next(reader, [])
    absent = [column for column in optional if column not in header]
    if header != [column for column in columns if column not in absent]:
        spare = f" ({', '.join(optional)} may be left out)" if optional else ""
        raise NomenclatureError(
            f"{path}:{start + 1}: header {','.join(header)!r}, "
            f"expected {','.join(columns)!r}{spare}"
        )
    rows = []
    for cells in reader:
        number = start + reader.line_num
        if len(cells) != len(header):
            raise NomenclatureError(
                f"{path}:{number}: {len(cells)} columns, expected {len(header)} "
                f"({', '.join(header)}); quote names that contain commas"
            )
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        rows.append((number, row | dict.fromkeys(absent, "")))
    return comments, rows


def integer(text: str, path: pathlib.Path, line: int) -> int:
    """A class code; anything but a decimal integer is a NomenclatureError."""
    try:
        return int(text)
    except ValueError:
        raise NomenclatureError(f"{path}:{line}: {text!r} is no class code") from None
