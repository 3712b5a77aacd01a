"""Crops of single cells on disk: one store a plate, written once and read through a memory map.

A store is an HDF5 file with the contiguous, uncompressed dataset ``crops (N, M, M, C) uint8``, and
beside it a Parquet table of the cells that are in it. A slot is kept for every located cell; slots
of sites that could not be read are missing from the table and can be filled later.

Version 1 of the format had the columns ``plate``, ``well``, ``site`` and ``cell``, and held the
attributes as JSON in one attribute ``about``; it is still read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, PLATE, SITE, WELL
from deepprofiler.errors import DataError, require_system
from deepprofiler.files import open_versioned, replacing

FORMAT = "deepprofiler-cells"
VERSION = 2
#: Columns that say which cell a crop shows, and their types.
CELL_COLUMNS = {PLATE: str, WELL: str, SITE: str, CELL: np.int64, "x": float, "y": float}
_VERSION_1_COLUMNS = {"plate": PLATE, "well": WELL, "site": SITE, "cell": CELL}
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


def read_made_from(path: Path) -> str:
    """Read only what a store says it was made from. Raises like :class:`CellStore`."""
    return _read_header(path).made_from


class CellStore:
    """Read the crops of one or several plates as one array of rows.

    Parameters
    ----------
    paths : sequence of Path
        ``.h5`` files that :class:`CellStoreWriter` wrote, one a plate.

    Attributes
    ----------
    table : pandas.DataFrame
        All cells of all plates; positions 0 … N − 1 are the rows that :meth:`gather` takes.
        Columns ``row`` (slot in the file), ``Metadata_Plate``, ``Metadata_Well``,
        ``Metadata_Site``, ``Metadata_Cell`` (row in the location file), ``x``, ``y`` (pixels),
        and ``minimum_<channel>`` and ``maximum_<channel>`` of each channel.
    channels : tuple of str
        Names of the C channels, in order.
    size : int
        Side M of the crops in pixels, margin included.
    made_from : tuple of str
        What each file's writer was given.
    minimum, maximum : (N, C) float32 arrays
        What 0 and 255 stand for in each channel of each cell.

    Raises
    ------
    DataError
        A file or its table is missing or damaged, or its channels or crop side are not those of
        the first.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise DataError("there are no exported cells; run export-sc first")
        headers = [_read_header(path) for path in paths]
        first = headers[0]
        for path, header in zip(paths, headers, strict=True):
            if header.channels != first.channels:
                raise DataError(
                    f"{path}: channels are {header.channels}, those of {paths[0]} are "
                    f"{first.channels}; {_ADVICE}"
                )
            if header.size != first.size:
                raise DataError(
                    f"{path}: crops have side {header.size}, those of {paths[0]} have "
                    f"{first.size}; {_ADVICE}"
                )
        self.channels = tuple(first.channels)
        self.size = first.size
        self.made_from = tuple(header.made_from for header in headers)
        self._crops = [
            _map_crops(path, header) for path, header in zip(paths, headers, strict=True)
        ]
        tables = [_read_table(path, header) for path, header in zip(paths, headers, strict=True)]
        filled = [table for table in tables if len(table)] or tables[:1]
        self.table = pd.concat(filled, ignore_index=True)
        self._slot = self.table["row"].to_numpy(np.int64)
        self._file = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        self.minimum, self.maximum = (
            self.table[[f"{limit}_{channel}" for channel in self.channels]].to_numpy(np.float32)
            for limit in ("minimum", "maximum")
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


@dataclass(frozen=True)
class _Header:
    """What a store's HDF5 file says of its crops, and where they begin in it (bytes)."""

    channels: list[str]
    made_from: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Side M of the crops in pixels."""
        return self.shape[1]


def _read_header(path: Path) -> _Header:
    with open_versioned(path, FORMAT, versions=range(1, VERSION + 1), advice=_ADVICE) as file:
        try:
            if "about" in file.attrs:
                attributes = json.loads(file.attrs["about"])
                channels, made_from = attributes["channels"], attributes["settings"]
            else:
                channels, made_from = file.attrs["channels"], file["made_from"].asstr()[()]
            crops = file["crops"]
            return _Header(list(channels), str(made_from), crops.shape, crops.id.get_offset())
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise _damaged(path, error) from None


def _map_crops(path: Path, header: _Header) -> np.ndarray:
    if header.shape[0] == 0:
        return np.empty(header.shape, np.uint8)
    try:
        return np.memmap(path, np.uint8, "r", header.offset, header.shape)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _read_table(path: Path, header: _Header) -> pd.DataFrame:
    place = table_path(path)
    if not place.exists():
        raise DataError(f"{place} does not exist; {_ADVICE}")
    try:
        table = pd.read_parquet(place).rename(columns=_VERSION_1_COLUMNS)
        rows = table["row"].to_numpy()
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _damaged(place, error) from None
    if len(rows) and (rows.min() < 0 or rows.max() >= header.shape[0]):
        raise DataError(f"{place} names slot {rows.max()}, {path} has {header.shape[0]}; {_ADVICE}")
    return table


def _damaged(path: Path, error: Exception) -> DataError:
    require_system(path, error)
    return DataError(f"{path} is damaged: {error}; {_ADVICE}")


class CellStoreWriter:
    """Write one plate's crops; used as a context manager.

    What was written becomes visible when the block ends without an exception. If the file exists
    and holds crops of the same cells, side and channels that are still current, these stay and
    others are added; otherwise the file is replaced.

    Parameters
    ----------
    path : Path
        The ``.h5`` file; the table is written beside it.
    cells : pandas.DataFrame
        All N located cells of the plate, one slot each in this order; the columns of
        :data:`CELL_COLUMNS`.
    size : int
        Side M of the crops in pixels, margin included.
    channels : sequence of str
        C names, in order.
    made_from : str
        What else decides the crops, as text (JSON).
    is_current : callable, optional
        Tells whether crops are current, from the text that they were written with; by default
        where it is that of ``made_from``.

    Attributes
    ----------
    table : pandas.DataFrame
        The cells whose crops were there when the block was entered.
    made_from : str
        Written when the block ends; the caller may add to it until then.
    """

    def __init__(
        self,
        path: Path,
        *,
        cells: pd.DataFrame,
        size: int,
        channels: Sequence[str],
        made_from: str = "",
        is_current: Callable[[str], bool] | None = None,
    ) -> None:
        self.path = path
        self._cells = cells[list(CELL_COLUMNS)].astype(CELL_COLUMNS).reset_index(drop=True)
        self._channels = list(channels)
        self._shape = (len(cells), size, size, len(self._channels))
        self.made_from = made_from
        self._is_current = is_current or (lambda text: text == made_from)
        self._stack = ExitStack()
        self._is_new = False
        self._file: h5py.File | None = None
        self._added: list[pd.DataFrame] = []
        no_limits = np.empty((0, len(self._channels)), np.float32)
        self.table = self._table_of(np.empty(0, int), no_limits, no_limits)

    def __enter__(self) -> CellStoreWriter:
        existing = self._read_existing()
        self._is_new = existing is None
        if existing is not None:
            self.table = existing
            return self
        temporary = self._stack.enter_context(replacing(self.path))
        self._file = h5py.File(temporary, "w")
        self._write_attributes(self._file)
        _create_dataset(self._file, self._shape)
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
        if self._file is None:
            # Only now: a store that has all its crops is not touched.
            self._file = h5py.File(self.path, "r+")
            self._write_attributes(self._file)
        order = np.argsort(rows)
        first, last = int(rows[order[0]]), int(rows[order[-1]]) + 1
        # h5py writes a range far faster than single rows.
        where = slice(first, last) if last - first == len(rows) else rows[order]
        self._file["crops"][where] = crops[order]
        self._added.append(self._table_of(rows, minimum, maximum))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            if error is None:
                self._write_attributes(self._file)
            self._file.close()
        if error is None and self._is_new:
            # Before the file is replaced: a table never describes a file other than its own.
            table_path(self.path).unlink(missing_ok=True)
        self._stack.__exit__(kind, error, trace)
        if error is None and (self._is_new or self._added):
            frames = [frame for frame in (self.table, *self._added) if len(frame)]
            table = pd.concat(frames) if frames else self.table
            with replacing(table_path(self.path)) as temporary:
                table.drop_duplicates("row", keep="last").sort_values("row").to_parquet(
                    temporary, index=False
                )

    def _read_existing(self) -> pd.DataFrame | None:
        """Read the table of the present file, if crops can be added to that."""
        try:
            header = _read_header(self.path)
            table = _read_table(self.path, header)
            fits = header.shape == self._shape and header.channels == self._channels
            if not fits or not self._is_current(header.made_from):
                return None
            cells = self._cells.iloc[table["row"].to_numpy()].reset_index(drop=True)
            return table if table[list(cells.columns)].equals(cells) else None
        except (DataError, KeyError, IndexError):
            return None

    def _table_of(self, rows: np.ndarray, minimum: np.ndarray, maximum: np.ndarray) -> pd.DataFrame:
        """Make the lines of the table for some slots."""
        table = self._cells.iloc[rows].reset_index(drop=True)
        table.insert(0, "row", np.asarray(rows, np.int64))
        for name, limits in (("minimum", minimum), ("maximum", maximum)):
            for channel, values in zip(self._channels, limits.T, strict=True):
                table[f"{name}_{channel}"] = values.astype(np.float32)
        return table

    def _write_attributes(self, file: h5py.File) -> None:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["channels"] = np.array(self._channels, h5py.string_dtype())
        # Not an attribute: HDF5 holds no more than 64 kB in one.
        if "made_from" in file:
            del file["made_from"]
        file.create_dataset("made_from", data=self.made_from, dtype=h5py.string_dtype())
        # Of version 1.
        file.attrs.pop("about", None)


def _create_dataset(file: h5py.File, shape: tuple[int, ...]) -> None:
    """Create the dataset; its place in the file is fixed at once, so that it can be mapped."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    # Slots that are never written stay holes in the file.
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    # Equal crops, equal bytes.
    layout.set_obj_track_times(False)
    h5py.h5d.create(file.id, b"crops", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple(shape), layout)
