"""CellStore: single-cell crops on disk, addressed by row and read through a memory map.

A plate is one HDF5 file with the contiguous, uncompressed dataset ``crops (N, M, M, C) uint8``,
and beside it a Parquet table of the cells that are in it. A slot is kept for every located cell;
slots of sites that could not be read are missing from the table, and can be filled later.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.files import replacing
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


_TYPES = {"plate": str, "well": str, "site": str, "cell": np.int64, "x": float, "y": float}


class CellStoreWriter:
    """Write one plate's crops; used as a context manager.

    What was written becomes visible when the block ends without an exception. If the file exists
    and was made for the same cells, shape, channels and settings, its crops stay and more are
    added; else it is made anew.

    Parameters
    ----------
    path : Path
        The ``.h5`` file; the table is written beside it.
    cells : DataFrame
        All N located cells of the plate, one slot each in this order; columns ``plate``,
        ``well``, ``site`` (text), ``cell`` (row in the location file), ``x``, ``y`` (pixels).
    size : int
        Side M of the crops in pixels, margin included.
    channels : sequence of str
        C names, in order.
    settings : str
        Whatever else decides the crops; if the text differs, the file is made anew.

    Attributes
    ----------
    table : DataFrame
        The cells whose crops were there when the block was entered.
    """

    def __init__(
        self,
        path: Path,
        *,
        cells: pd.DataFrame,
        size: int,
        channels: Sequence[str],
        settings: str = "",
    ) -> None:
        self.path = path
        self._cells = _typed(cells)
        self._channels = list(channels)
        self._shape = (len(cells), size, size, len(self._channels))
        self._about = {
            "format": FORMAT,
            "version": VERSION,
            "channels": self._channels,
            "settings": settings,
        }
        self._stack = ExitStack()
        self._new = False
        self._file: h5py.File | None = None
        self._added: list[pd.DataFrame] = []
        none = np.empty((0, len(self._channels)), np.float32)
        self.table = self._rows(np.empty(0, int), none, none)

    def __enter__(self) -> CellStoreWriter:
        existing = self._existing()
        self._new = existing is None
        if existing is not None:
            self.table = existing
            return self
        temporary = self._stack.enter_context(replacing(self.path))
        self._file = h5py.File(temporary, "w")
        self._file.attrs["about"] = json.dumps(self._about)
        _create(self._file, self._shape)
        return self

    def write(
        self, rows: np.ndarray, crops: np.ndarray, minimum: np.ndarray, maximum: np.ndarray
    ) -> None:
        """Fill slots.

        Parameters
        ----------
        rows : (n,) int array
            Positions in the cells given to the writer, none twice.
        crops : (n, M, M, C) uint8 array
            Each channel scaled to 0 … 255.
        minimum, maximum : (n, C) float32 arrays
            What 0 and 255 stand for.
        """
        if len(rows) == 0:
            return
        if crops.dtype != np.uint8 or crops.shape != (len(rows), *self._shape[1:]):
            raise ValueError(
                f"crops are {crops.dtype} {crops.shape}, not uint8 {(len(rows), *self._shape[1:])}"
            )
        order = np.argsort(rows)
        first, last = int(rows[order[0]]), int(rows[order[-1]]) + 1
        # h5py writes a range far faster than single rows.
        where = slice(first, last) if last - first == len(rows) else rows[order]
        if self._file is None:
            # Only now: a store that has all its crops is not touched.
            self._file = h5py.File(self.path, "r+")
        self._file["crops"][where] = crops[order]
        self._added.append(self._rows(rows, minimum, maximum))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        if error is None and self._new:
            # Before the file is replaced: a table never describes a file other than its own.
            table_path(self.path).unlink(missing_ok=True)
        self._stack.__exit__(kind, error, trace)
        if error is None and (self._new or self._added):
            frames = [frame for frame in (self.table, *self._added) if len(frame)]
            table = pd.concat(frames) if frames else self.table
            with replacing(table_path(self.path)) as temporary:
                table.drop_duplicates("row", keep="last").sort_values("row").to_parquet(
                    temporary, index=False
                )

    def _existing(self) -> pd.DataFrame | None:
        """Table of the file that is there, if it can be added to."""
        try:
            with h5py.File(self.path, "r") as file:
                same = json.loads(file.attrs["about"]) == self._about
                same = same and file["crops"].shape == self._shape
            if not same:
                return None
            table = pd.read_parquet(table_path(self.path))
            cells = self._cells.iloc[table["row"].to_numpy()].reset_index(drop=True)
            return table if table[list(cells.columns)].equals(cells) else None
        except (OSError, KeyError, ValueError, IndexError):
            return None

    def _rows(self, rows: np.ndarray, minimum: np.ndarray, maximum: np.ndarray) -> pd.DataFrame:
        """Lines of the table for some slots."""
        table = self._cells.iloc[rows].reset_index(drop=True)
        table.insert(0, "row", np.asarray(rows, np.int64))
        for what, limits in (("minimum", minimum), ("maximum", maximum)):
            for channel, values in zip(self._channels, limits.T, strict=True):
                table[f"{what}_{channel}"] = values.astype(np.float32)
        return table


def _typed(cells: pd.DataFrame) -> pd.DataFrame:
    """Just the columns of the format, each of its type, numbered from 0."""
    return cells[list(_TYPES)].astype(_TYPES).reset_index(drop=True)


def _create(file: h5py.File, shape: tuple[int, ...]) -> None:
    """Make the dataset; its place in the file is fixed at once, so that it can be mapped."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    # Slots that are never written stay holes in the file.
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    # Equal crops, equal bytes.
    layout.set_obj_track_times(False)
    h5py.h5d.create(file.id, b"crops", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple(shape), layout)
