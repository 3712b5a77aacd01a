"""Delimited text as people save it: commas, semicolons or tabs, any line end, marked encodings."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deepprofiler.errors import DataError

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are all text, and the line each row came from.

    Attributes
    ----------
    path : Path
    delimiter : str
        Its name: comma, semicolon or tab.
    columns : list of str
        Names as in the first line; a nameless column is ``""``.
    rows : list of list of str
        Without surrounding blanks. A row may be longer or shorter than the header.
    lines : list of int
        Line of the file where each row begins; the file's first line is 1.
    """

    path: Path
    delimiter: str
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]


def read_table(path: Path) -> TextTable:
    """Read a delimited text file without taking anything for a number.

    The delimiter is the one that splits the first line into most columns. Lines may end in LF,
    CRLF or CR; empty lines are passed over and still counted. The encoding is UTF-8, with or
    without a byte order mark, or UTF-16 with one. The file may be compressed with gzip.

    Parameters
    ----------
    path : Path

    Returns
    -------
    TextTable

    Raises
    ------
    DataError
        The file is missing, empty, not text, in another encoding or wrongly quoted.
    """
    text = _decode(path).replace("\r\n", "\n").replace("\r", "\n")
    first = next(line for line in text.split("\n") if line.strip())
    counts = {mark: len(next(csv.reader([first], delimiter=mark))) for mark in _DELIMITERS}
    delimiter = max(counts, key=lambda mark: counts[mark])
    rows: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    end = 0
    try:
        for row in reader:
            if len(row) > 1 or any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(end + 1)
            end = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{path} line {end + 1}: {error}; write a quotation mark inside a cell twice, and "
            "close every quoted cell"
        ) from None
    return TextTable(path, _DELIMITERS[delimiter], rows[0], rows[1:], lines[1:])


def _decode(path: Path) -> str:
    """Give the text of a file, or say what it is instead."""
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if data.startswith(b"PK\x03\x04"):
        raise DataError(f"{path} is a spreadsheet or archive, not text; save it as `CSV UTF-8`")
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in data and not marked:
        raise DataError(f"{path} holds zero bytes, so it is not UTF-8 text; save it as `CSV UTF-8`")
    try:
        text = data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} {_explain(data, error)}; save it as `CSV UTF-8`") from None
    if not text.strip():
        raise DataError(f"{path} is empty ({len(data)} bytes); it must have at least a header")
    return text


def _explain(data: bytes, error: UnicodeDecodeError) -> str:
    """Say where a file stops being UTF-8, and what it probably is."""
    if error.encoding != "utf-8":
        return f"begins like UTF-16 but is not: {error.reason} at byte {error.start}"
    before = data[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    byte = data[error.start : error.start + 1]
    try:
        guess = f"in Windows-1252, which it probably is, `{byte.decode('cp1252')}`"
    except UnicodeDecodeError:
        guess = "of an unknown encoding"
    return f"line {before.count(10) + 1}: byte 0x{byte.hex().upper()} is not UTF-8 ({guess})"


def named_columns(table: TextTable) -> tuple[dict[str, list[str]], list[int], list[str]]:
    """Take a table apart into its named columns; rows without any text are left out.

    Parameters
    ----------
    table : TextTable

    Returns
    -------
    columns : dict
        Name to cells, in the file's order.
    lines : list of int
        Line of the file where each kept row begins.
    notes : list of str
        One line for each nameless column that held something and is ignored.

    Raises
    ------
    DataError
        Two columns have one name, there are no rows, or rows have too few or too many cells.
    """
    places = {place: name for place, name in enumerate(table.columns) if not _nameless(name)}
    _refuse_repeated(table, list(places.items()))
    kept = [(row, line) for row, line in zip(table.rows, table.lines, strict=True) if any(row)]
    if not kept:
        raise DataError(f"{table.path.name} has a header and no rows")
    if not places:
        raise DataError(f"{table.path.name} line 1: no column has a name")
    width, last = len(table.columns), max(places)
    report(
        f"{table.path.name} line {line}: {len(row)} cells, but the header has {width} columns "
        f"(separated by {table.delimiter}); quote cells that hold a {table.delimiter}"
        for row, line in kept
        if len(row) <= last or any(row[width:])
    )
    columns = {name: [row[place] for row, _ in kept] for place, name in places.items()}
    notes = [
        f"column {place + 1} has no name and is ignored"
        for place in range(width)
        if place not in places and any(row[place] for row, _ in kept if len(row) > place)
    ]
    return columns, [line for _, line in kept], notes


def report(problems: Iterable[str], shown: int = 20) -> None:
    """Raise one DataError with the first problems and the count of the others; or do nothing.

    Raises
    ------
    DataError
        There is a problem.
    """
    messages = list(problems)
    if not messages:
        return
    more = (
        f"\n… and {len(messages) - shown} more, {len(messages)} in all"
        if len(messages) > shown
        else ""
    )
    raise DataError("\n".join(messages[:shown]) + more)


def _nameless(name: str) -> bool:
    # pandas calls a nameless column `Unnamed: 0` when it writes a table again.
    return re.fullmatch(r"|Unnamed: \d+", name) is not None


def _refuse_repeated(table: TextTable, places: list[tuple[int, str]]) -> None:
    first: dict[str, int] = {}
    for place, name in places:
        if name in first:
            raise DataError(
                f"{table.path.name} line 1: columns {first[name] + 1} and {place + 1} are both "
                f"called `{name}`; rename or remove one"
            )
        first[name] = place
