"""The names of metadata columns, and the natural order of the names in them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

PREFIX = "Metadata_"
PLATE = "Metadata_Plate"
WELL = "Metadata_Well"
SITE = "Metadata_Site"
TREATMENT = "Metadata_Treatment"
COUNT = "Metadata_Cell_Count"
CELL = "Metadata_Cell"
FLAG = "Metadata_Few_Cells"
MEMBERS = "Metadata_Well_Count"

_NUMBERED = re.compile(r"(?:([A-Za-z]+)[-_ ]?)?0*([0-9]+)")


def spoken(column: str) -> str:
    """Return the name of a metadata column as a word: ``Metadata_Plate`` is plate."""
    return column.removeprefix(PREFIX).replace("_", " ").lower()


def place_name(name: str) -> str:
    """Write the name of a well or site in one spelling: ``A01``, ``a1`` and ``A-001`` are ``A1``.

    Names that are not letters and a number, or a number alone, stay as they are.
    """
    match = _NUMBERED.fullmatch(name)
    return f"{(match[1] or '').upper()}{match[2]}" if match else name


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
