"""Profiles: a table of metadata beside a matrix of features, and the files that hold both.

In a file there is one row per profile and no index column; every column of metadata begins with
``Metadata_`` and every other column is a feature. pycytominer and copairs read such a table as it
is; give pycytominer the features with ``features=profiles.names``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from deepprofiler.columns import PREFIX
from deepprofiler.errors import DataError, nearest
from deepprofiler.profiling.profile_files import (
    check_columns,
    is_foreign,
    plain_name,
    read_table,
    write_table,
)

ROUNDING_STEPS = 8
"""A spread of fewer steps of the stored type is rounding noise: sums round more than once."""

# Attribute of a table, which Parquet keeps.
_PRECISION = "deepprofiler_precision"


@dataclass(frozen=True)
class Profiles:
    """Metadata and features of n profiles, row by row.

    Parameters
    ----------
    metadata : DataFrame
        n rows; every column begins with ``Metadata_``. Text stays text; a missing text is ``""``.
        The row labels are dropped: row i belongs to row i of the matrix.
    features : ndarray, (n, D)
        Floating point. Values that are not finite may be held; what cannot work with them says so.
    names : list of str
        D feature names.
    precision : str, optional
        Floating-point type that the values were stored in before they were averaged, such as
        ``float32``; by default, that of ``features``. Parquet files keep it. Normalizers leave out
        features that vary less than this type can express.

    Raises
    ------
    DataError
        Sizes differ, a name is blank, doubled or on the wrong side of the prefix.
    """

    metadata: pd.DataFrame
    features: np.ndarray
    names: list[str]
    precision: str | None = None

    def __post_init__(self) -> None:
        features = np.asarray(self.features)
        if not np.issubdtype(features.dtype, np.floating):
            features = features.astype(np.float64)
        if features.ndim != 2 or features.shape != (len(self.metadata), len(self.names)):
            raise DataError(
                f"features have shape {features.shape}, but there are {len(self.metadata)} rows "
                f"of metadata and {len(self.names)} feature names"
            )
        check_columns(list(map(str, self.metadata.columns)), list(map(str, self.names)))
        metadata = self.metadata.reset_index(drop=True)
        for name in metadata.columns:
            if not pd.api.types.is_numeric_dtype(metadata[name]):
                column = metadata[name].astype(object)
                metadata[name] = column.where(column.notna(), "").map(str)
        object.__setattr__(self, "metadata", metadata)
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "names", [str(name) for name in self.names])
        object.__setattr__(self, "precision", self.precision or str(features.dtype))

    def __len__(self) -> int:
        return len(self.metadata)

    def values(self, column: str) -> np.ndarray:
        """One column of the metadata, (n,).

        Raises
        ------
        DataError
            There is no such column; the nearest name is given.
        """
        if column not in self.metadata.columns:
            names = [str(name) for name in self.metadata.columns]
            hint = nearest(column, names) or f"; there are {', '.join(names)}"
            raise DataError(f"the profiles have no column {column}{hint}")
        values = self.metadata[column]
        return values.to_numpy(dtype=None if pd.api.types.is_numeric_dtype(values) else object)

    def subset(self, rows: npt.ArrayLike) -> Profiles:
        """Return the chosen rows: a mask (n,) or row numbers, in the order given."""
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise ValueError(f"a mask of shape {rows.shape} for {len(self)} profiles")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.intp)
        return replace(self, metadata=self.metadata.iloc[rows], features=self.features[rows])

    def with_features(self, features: np.ndarray, names: Sequence[str]) -> Profiles:
        """Return the same rows with other features, (n, E) and E names."""
        return replace(self, features=features, names=list(names))

    @property
    def rounding(self) -> float:
        """Share of a feature's magnitude below which its spread is rounding noise."""
        return ROUNDING_STEPS * float(np.finfo(self.precision or "float64").eps)

    def with_column(self, column: str, values: Any) -> Profiles:
        """Return a copy with one column of metadata added or replaced; ``values`` is (n,)."""
        return replace(self, metadata=self.metadata.assign(**{column: values}))

    def groups(self, columns: Sequence[str]) -> list[tuple[tuple[Any, ...], np.ndarray]]:
        """Rows that share the values of some columns.

        Blank values are a group of their own, so the sizes always add up to n.

        Parameters
        ----------
        columns : sequence of str
            Without any, all rows are one group with the key ``()``.

        Returns
        -------
        list of (tuple, ndarray)
            Each group's values and its row numbers, sorted by value.
        """
        columns = [columns] if isinstance(columns, str) else list(columns)
        for column in columns:
            self.values(column)
        if not columns:
            return [((), np.arange(len(self)))]
        grouped = self.metadata.groupby(columns, dropna=False, sort=True).indices
        keyed = [
            (key if isinstance(key, tuple) else (key,), np.asarray(rows))
            for key, rows in grouped.items()
        ]
        return sorted(keyed, key=lambda pair: [_blank_last(value) for value in pair[0]])

    def describe(self, row: int) -> str:
        """Return the first columns of a row in words, for messages."""
        return row_text(self.identity(row))

    def identity(self, row: int) -> dict[str, Any]:
        """Return the values of the first columns of a row, which tell it from others."""
        columns = self.metadata.columns[:4]
        return {str(name): self.metadata[name].iloc[row] for name in columns}

    def require_finite(self, rows: np.ndarray | None = None) -> None:
        """Raise DataError, naming profile and feature, where a value is not finite."""
        rows = np.arange(len(self)) if rows is None else rows
        broken = ~np.isfinite(self.features[rows])
        if broken.any():
            first, column = np.argwhere(broken)[0]
            count = int(broken.any(axis=1).sum())
            raise DataError(
                f"{count} of {len(rows)} profiles hold values that are not finite; the first is "
                f"{self.describe(int(rows[first]))}: {self.names[column]} is "
                f"{self.features[rows[first], column]}. Leave out those profiles or that feature"
            )

    def to_frame(self) -> pd.DataFrame:
        """Return one table: the metadata, then the features."""
        matrix = pd.DataFrame(self.features, columns=self.names)
        frame = pd.concat([self.metadata, matrix], axis=1)
        frame.attrs[_PRECISION] = self.precision
        return frame

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Profiles:
        """Split one table into metadata and features.

        ``Image_Metadata_…``, as CellProfiler writes, is read as ``Metadata_…``; so are columns of
        CellProfiler and CytoTable that say which image or object a row is, where it lies or how
        many parts it has, such as ``ImageNumber``, ``Image_FileName_DNA``, ``Cells_Parent_Nuclei``,
        ``Nuclei_Location_Center_X`` or ``Nuclei_Children_Cells_Count``.

        Raises
        ------
        DataError
            A column that is no metadata is not numeric or has no name.
        """
        foreign = is_foreign(map(str, frame.columns))
        frame = frame.rename(columns=lambda name: plain_name(str(name), foreign=foreign))
        metadata = [name for name in frame.columns if name.startswith(PREFIX)]
        names = [name for name in frame.columns if not name.startswith(PREFIX)]
        check_columns(metadata, names)
        for name in names:
            if not pd.api.types.is_numeric_dtype(frame[name]):
                raise DataError(
                    f"column {name} holds {frame[name].dtype}, not numbers: features are numbers; "
                    f"name it {PREFIX}{name} if it describes the profiles"
                )
        features = frame[names].to_numpy()
        if features.dtype == object:
            # Integers that may be missing.
            features = frame[names].to_numpy(dtype=np.float64, na_value=np.nan)
        return cls(frame[metadata], features, names, frame.attrs.get(_PRECISION))

    @classmethod
    def concat(cls, parts: Sequence[Profiles]) -> Profiles:
        """Profiles below one another; all have the same feature names, in any order.

        Raises
        ------
        DataError
            There are none, or their features or columns of metadata differ.
        """
        if not parts:
            raise DataError("there are no profiles to join")
        first = parts[0]
        blocks = []
        for part in parts:
            for kind, ours, theirs in (
                ("features", first.names, part.names),
                ("metadata", list(first.metadata.columns), list(part.metadata.columns)),
            ):
                differ = sorted(set(ours) ^ set(theirs))
                if differ:
                    raise DataError(
                        f"profiles with different {kind} cannot be joined: {len(differ)} only in "
                        f"one of them, such as {differ[0]}"
                    )
            order = {name: column for column, name in enumerate(part.names)}
            blocks.append(part.features[:, [order[name] for name in first.names]])
        metadata = pd.concat([part.metadata for part in parts], ignore_index=True)
        coarsest = max(parts, key=lambda part: part.rounding).precision
        columns = list(first.metadata.columns)
        return cls(metadata[columns], np.concatenate(blocks), first.names, coarsest)

    def write(self, path: Path) -> None:
        """Write ``.parquet``, ``.csv``, ``.csv.gz`` or ``.h5ad``; never a half-written file.

        Features in ``.h5ad`` are in single precision; the other kinds keep every digit.

        Raises
        ------
        DataError
            The name ends otherwise.
        ConfigError
            It ends in ``.h5ad``, and the package anndata is not installed.
        """
        write_table(self.to_frame(), Path(path))

    @classmethod
    def read(cls, path: Path, numeric: Sequence[str] = ()) -> Profiles:
        """Read what :meth:`write` wrote, or such a table made by another program.

        Parameters
        ----------
        path : Path
            ``.parquet``, ``.csv``, ``.csv.gz`` or ``.h5ad``.
        numeric : sequence of str
            Columns of metadata that are numbers in a CSV, such as the count of cells; all others
            are text there. Parquet knows by itself.

        Raises
        ------
        DataError
            The file is missing or unreadable, or holds a column that is neither.
        """
        frame = read_table(Path(path), numeric)
        try:
            return cls.from_frame(frame)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def _blank_last(value: Any) -> tuple[bool, Any]:
    """Sort key of a value that may be missing; pandas.NA compares with nothing."""
    return (True, 0) if pd.isna(value) else (False, value)


def row_text(identity: Mapping[str, Any]) -> str:
    """Return columns of metadata and their values in words: ``Plate P1, Well B03``."""
    return ", ".join(f"{name.removeprefix(PREFIX)} {value}" for name, value in identity.items())


def require_mask(rows: Any, n: int, what: str) -> np.ndarray:
    """Return a mask of n rows. Raises ValueError for row numbers, text or another length."""
    mask = np.asarray(rows)
    if mask.dtype != bool or mask.shape != (n,):
        raise ValueError(
            f"{what} is a mask: true and false for each of {n} profiles; found {mask.dtype} of "
            f"shape {mask.shape}"
        )
    return mask
