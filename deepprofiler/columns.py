"""Columns of text: which hold images, what they lack, how names are ordered and found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from deepprofiler.errors import ConfigError, DataError, nearest
from deepprofiler.tables import report

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_IMAGE = re.compile(r".*\.(tiff?|png)", re.IGNORECASE)


def image_columns(
    source: str, cells: Mapping[str, list[str]], lines: list[int], skip: str
) -> tuple[str, ...]:
    """Find the columns whose cells are names of TIFF or PNG files.

    Parameters
    ----------
    source : str
        Name of the file, for errors.
    cells : mapping
        Column to its cells.
    lines : list of int
        Line of the file of each cell.
    skip : str
        Columns that begin so hold no images.

    Returns
    -------
    tuple of str
        In the table's order; blank cells do not count.

    Raises
    ------
    DataError
        Most cells of a column are names of image files, but not all: the channel would vanish.
    """
    found = []
    problems = []
    for column, values in cells.items():
        if column.startswith(skip):
            continue
        given = [(value, line) for value, line in zip(values, lines, strict=True) if value]
        other = [(value, line) for value, line in given if not _IMAGE.fullmatch(value)]
        if len(other) * 2 >= len(given):
            continue
        found.append(column)
        problems += [
            f"{source} line {line}: channel {column} names `{value}`, which is no .tif, .tiff or "
            ".png file, as the others of the column are"
            for value, line in other
        ]
    report(problems)
    return tuple(found)


def check_channels(source: str, channels: Sequence[str], columns: Iterable[str]) -> None:
    """Refuse channels that are no columns or that are named twice, and a table without any.

    Raises
    ------
    ConfigError
        A channel is named wrongly or twice.
    DataError
        There are no channels.
    """
    known = list(columns)
    lines = [
        f"dataset.channels names `{name}`, which is no column of {source}"
        + (nearest(name, known) or f"; the columns are {listing(known)}")
        for name in channels
        if name not in known
    ]
    lines += [
        f"dataset.channels names `{name}` {count} times"
        for name, count in Counter(channels).items()
        if count > 1
    ]
    if lines:
        raise ConfigError("\n".join(lines))
    if not channels:
        raise DataError(
            f"{source} has no column of image files (.tif, .tiff or .png); the columns are "
            f"{listing(known)}"
        )


def prefixed(
    source: str, cells: Mapping[str, list[str]], plain: Iterable[str], prefix: str
) -> dict[str, list[str]]:
    """Let every column but the ``plain`` ones begin with ``prefix``.

    Raises
    ------
    DataError
        Two columns become one.
    """
    columns: dict[str, list[str]] = {}
    for name, values in cells.items():
        column = name if name in plain or name.startswith(prefix) else prefix + name
        if column in columns:
            raise DataError(
                f"{source} line 1: `{column}` and `{column.removeprefix(prefix)}` mean the same "
                "column; rename or remove one"
            )
        columns[column] = values
    return columns


def row_problems(
    source: str,
    table: pd.DataFrame,
    lines: Sequence[int],
    identifiers: tuple[str, str, str],
    channels: Sequence[str],
) -> list[str]:
    """Find blank and repeated identifiers, blank paths, and addresses instead of paths.

    Parameters
    ----------
    source : str
        Name of the file.
    table : DataFrame
        Sorted, so that rows with the same identifiers follow each other.
    lines : sequence of int
        Line of the file of each row.
    identifiers : tuple of str
        Columns of plate, well and site.
    channels : sequence of str
        Columns of images.

    Returns
    -------
    list of str
        One message for each problem, in the order of lines.
    """
    found: list[tuple[int, str]] = []
    for column in (*identifiers, *channels):
        kind = f"the path of channel {column}" if column in channels else column
        for row in np.flatnonzero(table[column].to_numpy() == "").tolist():
            found.append((lines[row], f"{kind} is blank; fill it in or remove the line"))
    for column in channels:
        for row, value in enumerate(table[column]):
            if "://" in value and _URL.match(value):
                message = f"channel {column} names {value}; addresses are not supported yet"
                found.append((lines[row], f"{message}, copy the images to this machine"))
    names = table[list(identifiers)].to_numpy()
    repeated = np.all((names[1:] == names[:-1]) & (names[1:] != ""), axis=1)
    for row in (np.flatnonzero(repeated) + 1).tolist():
        plate, well, site = names[row]
        message = (
            f"site {site} of well {well} on plate {plate} stands in line {lines[row - 1]} as well; "
            "each site must have one line"
        )
        found.append((lines[row], message))
    return [f"{source} line {line}: {message}" for line, message in sorted(found)]


def natural_key(text: str) -> tuple[list[str | int], str]:
    """Sort key that compares numbers inside names as numbers: A2 before A10."""
    parts = re.split(r"(\d+)", text)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], text


def natural_ranks(values: Iterable[str]) -> np.ndarray:
    """Rank of each value in natural order, (n,) int; equal values have one rank."""
    listed = list(values)
    ordered = sorted(set(listed), key=natural_key)
    ranks = {value: rank for rank, value in enumerate(ordered)}
    return np.array([ranks[value] for value in listed], dtype=np.int64)


def listing(names: Iterable[str], shown: int = 20) -> str:
    """Name the first few in backticks, separated by commas."""
    listed = [f"`{name}`" for name in names]
    return ", ".join(listed[:shown]) + (", …" if len(listed) > shown else "")
