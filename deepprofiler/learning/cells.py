"""CellStore: single-cell crops on disk, addressed by row and read through a memory map.

A plate is one HDF5 file with the contiguous, uncompressed dataset ``crops (N, M, M, C) uint8``,
and beside it a Parquet table of the cells that are in it. A slot is kept for every located cell;
slots of sites that could not be read are missing from the table, and can be filled later.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.learning.formats import require_format

FORMAT = "deepprofiler-cells"
VERSION = 1
_ADVICE = "run export-sc again"


def table_path(path: Path) -> Path:
    """Path of the table beside a store's HDF5 file."""
    return path.with_suffix(".parquet")


def margin(size: int, *, shift: int, rotations: bool) -> int:
    """Pixels M − S, both sides together, that keep augmented crops free of empty corners.

    Parameters
    ----------
    size, shift : int
        Side S of the network's crops, and the largest translation each way, in pixels.
    rotations : bool
        Whether crops are turned by any angle; flips and quarter turns need nothing.
    """
    if not rotations:
        return 2 * shift
    return 2 * math.ceil((size * (math.sqrt(2) - 1) + 2 * shift) / 2)


def read_settings(path: Path) -> str:
    """Read only what the writer of a store was given as settings. Raises like CellStore."""
    return str(_describe(path)[0]["settings"])


class CellStore:
    """Read the crops of one or several plates as one array of rows.

    Parameters
    ----------
    paths : sequence of Path
        ``.h5`` files that the writer made.

    Attributes
    ----------
    table : DataFrame
        All cells of all files; its positions 0 … N − 1 are the rows that :meth:`gather` takes.
    channels : tuple of str
        Names of the C channels, in order.
    size : int
        Side M of the crops in pixels, margin included.
    settings : tuple of str
        What each file's writer was given.

    Raises
    ------
    DataError
        A file or its table is missing, damaged, or does not go with the others.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise DataError(f"there are no exported cells; {_ADVICE.replace(' again', '')} first")
        opened = [_open(path) for path in paths]
        first = opened[0]
        for path, other in zip(paths, opened, strict=True):
            if other[1]["channels"] != first[1]["channels"]:
                raise DataError(
                    f"{path}: channels are {other[1]['channels']}, those of {paths[0]} are "
                    f"{first[1]['channels']}; {_ADVICE}"
                )
            if other[0].shape[1] != first[0].shape[1]:
                raise DataError(
                    f"{path}: crops have side {other[0].shape[1]}, those of {paths[0]} have "
                    f"{first[0].shape[1]}; {_ADVICE}"
                )
        self._crops = [crops for crops, _, _ in opened]
        self.channels: tuple[str, ...] = tuple(first[1]["channels"])
        self.size: int = first[0].shape[1]
        self.settings = tuple(str(about["settings"]) for _, about, _ in opened)
        tables = [table for _, _, table in opened]
        filled = [table for table in tables if len(table)] or tables[:1]
        self.table = pd.concat(filled, ignore_index=True)
        self._slot = self.table["row"].to_numpy(np.int64)
        self._file = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        self.minimum, self.maximum = (
            self.table[[f"{what}_{channel}" for channel in self.channels]].to_numpy(np.float32)
            for what in ("minimum", "maximum")
        )

    def __len__(self) -> int:
        return len(self.table)

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read crops.

        Parameters
        ----------
        rows : (n,) int array
            Positions in ``table``, in any order, repeats allowed.

        Returns
        -------
        crops : (n, M, M, C) uint8 array
        minimum, maximum : (n, C) float32 arrays
            What 0 and 255 stand for in each channel.
        """
        shape = (len(rows), self.size, self.size, len(self.channels))
        crops = np.empty(shape, np.uint8)
        files = self._file[rows]
        for file in np.unique(files):
            here = np.flatnonzero(files == file)
            crops[here] = self._crops[file][self._slot[rows[here]]]
        return crops, self.minimum[rows], self.maximum[rows]


def _open(path: Path) -> tuple[np.ndarray, dict[str, Any], pd.DataFrame]:
    """Memory map, description and table of one file."""
    if not path.exists() or not table_path(path).exists():
        missing = path if not path.exists() else table_path(path)
        raise DataError(f"{missing} does not exist; {_ADVICE}")
    about, shape, offset = _describe(path)
    try:
        crops: np.ndarray = (
            np.empty(shape, np.uint8)
            if shape[0] == 0
            else np.memmap(path, np.uint8, "r", offset, shape)
        )
        table = pd.read_parquet(table_path(path))
        rows = table["row"].to_numpy()
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _unusable(path, error) from None
    if len(rows) and (rows.min() < 0 or rows.max() >= shape[0]):
        raise DataError(
            f"{table_path(path)} names slot {rows.max()}, {path} has {shape[0]}; {_ADVICE}"
        )
    return crops, about, table


def _describe(path: Path) -> tuple[dict[str, Any], tuple[int, ...], int]:
    """Description of one file, and the shape of its crops and where they begin."""
    try:
        with h5py.File(path, "r") as file:
            about = json.loads(file.attrs["about"])
            require_format(path, about, FORMAT, VERSION)
            _ = about["channels"], about["settings"]
            return about, file["crops"].shape, file["crops"].id.get_offset()
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is not a usable store of cells: {error}; {_ADVICE}")
