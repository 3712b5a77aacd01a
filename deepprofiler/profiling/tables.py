"""Tables of profiles in files: Parquet and CSV, without surprises in either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.files import replacing

PREFIX = "Metadata_"
"""Begins the name of every column that is no feature."""

MISSING_NUMBERS = ["", "nan", "NaN", "NA"]


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as the name of ``path`` says; an interrupted write leaves no file.

    Raises
    ------
    DataError
        The name does not end in .parquet, .csv or .csv.gz.
    """
    kind = _kind(path)
    with replacing(path) as temporary:
        _WRITERS[kind](frame, temporary)


def read_table(path: Path, numeric: Sequence[str]) -> pd.DataFrame:
    """Read a table; in CSV, metadata is text but for the columns in ``numeric``.

    Raises
    ------
    DataError
        The file is missing, damaged, of another kind, or its columns are not those of profiles.
    """
    kind = _kind(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        frame = _read_parquet(path) if kind == ".parquet" else _read_csv(path, numeric)
    except (OSError, ValueError, DataError) as error:
        raise DataError(f"{path}: {error}") from None
    return frame


def check_columns(metadata: list[str], names: list[str]) -> None:
    """Raise DataError for names that metadata or features cannot have."""
    for name in metadata:
        if not name.startswith(PREFIX):
            raise DataError(f"the metadata column {name} does not begin with {PREFIX}")
    for position, name in enumerate(names):
        if name.startswith(PREFIX):
            raise DataError(f"the feature {name} begins with {PREFIX}, as only metadata does")
        if not name.strip() or name.startswith("Unnamed: ") or name == "__index_level_0__":
            raise DataError(
                f"feature column {position + 1} has no name; if it is a saved row index, write the "
                "table without it (index=False)"
            )
    columns = metadata + names
    if len(set(columns)) < len(columns):
        doubled = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"the column {doubled} occurs more than once")


def spoken(column: str) -> str:
    """Return the name of a column of metadata as a word: ``Metadata_Plate`` is plate."""
    return column.removeprefix(PREFIX).replace("_", " ").lower()


def _kind(path: Path) -> str:
    kind = next((end for end in _WRITERS if path.name.lower().endswith(end)), None)
    if kind is None:
        raise DataError(f"{path}: profiles are kept as {', '.join(_WRITERS)}; rename it")
    return kind


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False)


def _write_gzip(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, compression="gzip")


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False)


_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".csv.gz": _write_gzip,
}


def _read_parquet(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    # Row numbers that pandas saved are dropped; an index with a name is a column like any other.
    return frame.reset_index(drop=frame.index.names == [None])


def _read_csv(path: Path, numeric: Sequence[str]) -> pd.DataFrame:
    text: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    # pandas would rename doubled columns without a word.
    names = pd.read_csv(path, header=None, nrows=1, **text).iloc[0].tolist()
    metadata = [name for name in names if plain_name(name).startswith(PREFIX)]
    numbers = [name for name in names if name not in metadata or name in numeric]
    check_columns([plain_name(name) for name in metadata], [n for n in names if n not in metadata])
    try:
        return pd.read_csv(
            path,
            dtype={name: "float64" if name in numbers else "str" for name in names},
            na_values=dict.fromkeys(numbers, MISSING_NUMBERS),
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except ValueError as error:
        table = pd.read_csv(path, **text)
        for name in numbers:
            known = table[name].mask(table[name].isin(MISSING_NUMBERS))
            wrong = np.flatnonzero(pd.to_numeric(known, errors="coerce").isna() & known.notna())
            if len(wrong):
                raise DataError(
                    f"line {wrong[0] + 2}, column {name}: {known.iloc[wrong[0]]!r} is not a "
                    f"number; name the column {PREFIX}{name} if it describes the profiles"
                ) from None
        raise DataError(str(error)) from None


def plain_name(name: str) -> str:
    """Return the name of a column without CellProfiler's mark of an image's metadata."""
    return name.removeprefix("Image_") if name.startswith(f"Image_{PREFIX}") else name
