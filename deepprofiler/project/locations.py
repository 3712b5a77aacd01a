"""Where the cells of a site are: reading and writing its location file."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from deepprofiler.delimited import TextTable, read_table
from deepprofiler.errors import DataError, listing
from deepprofiler.files import replacing
from deepprofiler.imaging.crop import overlaps

if TYPE_CHECKING:
    from deepprofiler.project.index import Index, Site

_X, _Y = "Nuclei_Location_Center_X", "Nuclei_Location_Center_Y"
#: Accepted names of the columns of x and y, the first that is there counts.
_CENTERS = (
    (_X, _Y),
    ("Location_Center_X", "Location_Center_Y"),
    ("AreaShape_Center_X", "AreaShape_Center_Y"),
)
_MISSING = {"", "nan", "na"}
_OWN = ("x", "y", "cell", "line", "plate", "well", "site")


def read_locations(path: Path) -> pd.DataFrame:
    """Read the cells of one site.

    Parameters
    ----------
    path : Path
        The original DeepProfiler's CSV, or CellProfiler's ``Nuclei.csv`` of one image; may be
        compressed with gzip. A header without rows is a site without cells.

    Returns
    -------
    DataFrame
        One row a cell in the file's order: ``x`` and ``y`` in pixels, float64, NaN where the
        file has a blank or NaN; then every other column of numbers (of CellProfiler's file, which
        has hundreds, only the area, called ``area``); last ``line``, the line of the file.
        Columns of text are not kept.

    Raises
    ------
    DataError
        The file is missing, empty, or not of this form; or a coordinate is text; or a
        CellProfiler file holds several images, or one object twice.
    """
    table = read_table(path)
    columns = {name: table.columns.index(name) for name in table.columns if name}
    pair = next((pair for pair in _CENTERS if set(pair) <= set(columns)), None)
    if pair is None:
        accepted = " or ".join(f"{x} and {y}" for x, y in _CENTERS)
        raise DataError(f"{path} has no columns {accepted}; it has {listing(columns)}")
    centers = dict(zip(("x", "y"), pair, strict=True))
    if "ImageNumber" in columns:
        _require_one_image(table, columns["ImageNumber"])
        if "ObjectNumber" in columns:
            _require_different_objects(table, columns["ObjectNumber"])
    if "ImageNumber" in columns or pair == _CENTERS[-1]:
        other = {"area": "AreaShape_Area"} if "AreaShape_Area" in columns else {}
    else:
        used = {name for names in _CENTERS for name in names}
        other = {
            f"location_{name}" if name in _OWN else name: name
            for name in columns
            if name not in used
        }
    values = {name: _numbers(table, columns[column], column) for name, column in centers.items()}
    for name, column in other.items():
        with suppress(DataError):
            values[name] = _numbers(table, columns[column], column)
    return pd.DataFrame(values | {"line": np.array(table.lines, dtype=np.int64)})


def _require_one_image(table: TextTable, place: int) -> None:
    numbers = {row[place] for row in table.rows if len(row) > place}
    if len(numbers) > 1:
        raise DataError(
            f"{table.path} holds the cells of {len(numbers)} images (ImageNumber "
            f"{listing(sorted(numbers), shown=5)}); write one file for each site"
        )


def _require_different_objects(table: TextTable, place: int) -> None:
    lines: dict[str, int] = {}
    for row, line in zip(table.rows, table.lines, strict=True):
        number = row[place] if len(row) > place else ""
        if number and lines.setdefault(number, line) != line:
            raise DataError(
                f"{table.path} lines {lines[number]} and {line}: ObjectNumber {number} occurs "
                "twice. ImageNumber begins at 1 in each folder of CellProfiler, so these are cells "
                "of several folders: split Nuclei.csv of each folder by Image.csv of the same "
                "folder"
            )


def _numbers(table: TextTable, place: int, column: str) -> np.ndarray:
    """One column as float64; blanks and NaN are NaN."""
    values = np.empty(len(table.rows))
    for number, row in enumerate(table.rows):
        text = row[place] if len(row) > place else ""
        try:
            # float() would read 1_000, which no other program does.
            values[number] = float("text" if "_" in text else text)
        except ValueError:
            if text.lower() not in _MISSING:
                raise DataError(
                    f"{table.path} line {table.lines[number]}: {column} is `{text}`, which is "
                    "not a number"
                ) from None
            values[number] = math.nan
    return values


def usable(
    table: pd.DataFrame, shape: tuple[int, int], size: int, path: Path
) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Tell which cells have a crop that holds at least one pixel of the image.

    Parameters
    ----------
    table : DataFrame
        From :func:`read_locations`.
    shape : tuple of int
        Height and width of the image in pixels.
    size : int
        Crop side in pixels.
    path : Path
        The location file, for the reasons.

    Returns
    -------
    inside : numpy.ndarray
        (N,) bool.
    reasons : list of (str, str)
        Line of the file and reason, for every other cell.
    """
    centers = table[["x", "y"]].to_numpy(dtype=np.float64)
    inside = overlaps(centers, shape, size)
    reasons = []
    for row in np.flatnonzero(~inside):
        x, y = centers[row].tolist()
        line = int(table["line"].iloc[row])
        why = (
            f"a crop of {size} pixels there lies off the image"
            if math.isfinite(x) and math.isfinite(y)
            else "the location is blank or not finite"
        )
        where = f"{path} line {line}: x = {x:g}, y = {y:g}"
        reasons.append((str(line), f"{where}: {why} ({shape[1]} pixels wide, {shape[0]} high)"))
    return inside, reasons


def write_locations(path: Path, x: np.ndarray, y: np.ndarray, **extra: np.ndarray) -> None:
    """Write the cells of one site in the original's form, whole or not at all.

    Parameters
    ----------
    path : Path
        Compressed with gzip where it ends in ``.gz``.
    x, y : numpy.ndarray
        (N,) pixels; N may be 0, which says that the site was imaged and has no cells.
    **extra : numpy.ndarray
        Further columns, (N,) each.
    """
    table = pd.DataFrame({_X: x, _Y: y, **extra})
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, compression="gzip" if path.suffix == ".gz" else None)


def require_own_locations(index: Index, path_of: Callable[[Site], Path]) -> None:
    """Refuse sites that would share a location file: well A-1 site 2 and well A site 1-2.

    Parameters
    ----------
    index : Index
    path_of : callable
        Gives the location file of a site.

    Raises
    ------
    DataError
        Two sites would; both lines of the index and the file are named.
    """
    first: dict[tuple[str, str], Site] = {}
    for site in index.sites:
        other = first.setdefault((site.plate, f"{site.well}-{site.site}"), site)
        if other is not site:
            raise DataError(
                f"{index.path.name} lines {other.line} and {site.line}: well {other.well} site "
                f"{other.site} and well {site.well} site {site.site} would have one location "
                f"file, {path_of(site)}; rename one of them"
            )
