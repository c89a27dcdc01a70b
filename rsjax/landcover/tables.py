"""The form of this package's CSV files: `# key: value` lines, a header, rows."""

from __future__ import annotations

import csv
import pathlib

from rsjax.errors import NomenclatureError

FOLDER = pathlib.Path(__file__).parent


def read(
    path: pathlib.Path, columns: list[str]
) -> tuple[dict[str, str], list[tuple[int, dict[str, str]]]]:
    """The comments and rows of a table.

    Args:
        path: a UTF-8 CSV file that begins with `# key: value` lines.
        columns: the header it must have.

    Returns:
        The comments by key, and the rows as (line number, {column: text}).

    Raises:
        NomenclatureError: no such file, another header, a row with more or fewer columns, or a
            file without `# source: ...`.
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
    if not comments.get("source"):
        raise NomenclatureError(f"{path}: no line `# source: ...` at its beginning")
    reader = csv.reader(lines[start:])
    header = next(reader, [])
    if header != columns:
        raise NomenclatureError(f"{path}:{start + 1}: header {header}, expected {columns}")
    rows = []
    for cells in reader:
        number = start + reader.line_num
        if len(cells) != len(columns):
            raise NomenclatureError(
                f"{path}:{number}: {len(cells)} columns, expected {len(columns)} "
                f"({', '.join(columns)}); quote names that contain commas"
            )
        rows.append((number, dict(zip(columns, (cell.strip() for cell in cells), strict=True))))
    return comments, rows


def integer(text: str, path: pathlib.Path, line: int) -> int:
    """A class code; anything but a decimal integer is a NomenclatureError."""
    try:
        return int(text)
    except ValueError:
        raise NomenclatureError(f"{path}:{line}: {text!r} is no class code") from None
