"""Columns of text: which hold images, how names are ordered, and what a misspelt one may mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import numpy as np

from deepprofiler.tables import report

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


def nearest(name: str, known: Iterable[str]) -> str:
    """Give ``; nearest is `…` `` where ``known`` holds a name much like ``name``, else nothing."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; nearest is `{found[0]}`" if found else ""


def listing(names: Iterable[str], shown: int = 20) -> str:
    """Name the first few in backticks, separated by commas."""
    listed = [f"`{name}`" for name in names]
    return ", ".join(listed[:shown]) + (", …" if len(listed) > shown else "")
