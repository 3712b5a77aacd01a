"""Write single-cell crops: the file that :mod:`deepprofiler.learning.cells` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
import pandas as pd

from deepprofiler.files import replacing
from deepprofiler.learning.cells import FORMAT, VERSION, table_path

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
