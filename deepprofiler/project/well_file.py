"""The well file: features of one well's cells, the border between learning and profiling.

An HDF5 file per well: ``features (N, D) float32``, the group ``cells`` with one dataset per column
in the same order, numbered, with the column's name as an attribute (a name such as ``px/µm`` would
be a path in HDF5), and attributes that say what made it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from deepprofiler.errors import DataError

LOG = logging.getLogger(__name__)

FORMAT = "deepprofiler-well"
VERSION = 1


@dataclass(frozen=True)
class Origin:
    """What made the features of a well.

    Attributes
    ----------
    plate, well : str
    names : tuple of str
        D feature names, ``<layer>_<index>`` or ``<layer>_<channel>_<index>``.
    layers : dict
        Layer name to its ``[first, last + 1]`` columns.
    channels : tuple of str
        Channel order of the network's input.
    crop_size : int
        Side S in pixels.
    rescale : str
        The rule that scaled each crop.
    checkpoint, digest : str
        Name and SHA-256 of the weights, or ``random`` and the seed.
    inputs : str
        Hash of everything but the weights that decides the features; a well is current while its
        inputs, its weights' digest and its feature names are.
    failed : dict
        Sites that could not be used, with the reason.
    dropped : tuple of (str, str, str)
        Cells that could not be used: site, line of its location file, reason.
    versions : dict
        Package name to version.
    """

    plate: str
    well: str
    names: tuple[str, ...]
    layers: dict[str, list[int]]
    channels: tuple[str, ...]
    crop_size: int
    rescale: str
    checkpoint: str
    digest: str
    inputs: str
    failed: dict[str, str] = field(default_factory=dict)
    dropped: tuple[tuple[str, str, str], ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    def to_text(self) -> str:
        """Everything as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Origin:
        """Read what :meth:`to_text` gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            The text is something else.
        """
        values = json.loads(text)
        for name in ("names", "channels"):
            values[name] = tuple(values[name])
        values["dropped"] = tuple(tuple(cell) for cell in values["dropped"])
        return cls(**values)


@dataclass(frozen=True)
class WellFeatures:
    """Features (N, D) float32 of a well's cells, their table (N rows) and their origin."""

    features: np.ndarray
    cells: pd.DataFrame
    origin: Origin


def write_well(path: Path, well: WellFeatures) -> None:
    """Write a well file to ``path``, which the caller replaces into place."""
    count, size = well.features.shape
    if len(well.cells) != count or len(well.origin.names) != size:
        raise ValueError(
            f"{count} × {size} features for {len(well.cells)} cells and "
            f"{len(well.origin.names)} names"
        )
    with h5py.File(path, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["origin"] = well.origin.to_text()
        file.create_dataset("features", data=well.features.astype(np.float32, copy=False))
        group = file.create_group("cells")
        for number, (name, column) in enumerate(well.cells.items()):
            key = f"{number:05d}"
            if pd.api.types.is_numeric_dtype(column):
                dataset = group.create_dataset(key, data=column.to_numpy())
            else:
                texts = column.astype(str).to_numpy(dtype=object)
                dataset = group.create_dataset(key, data=texts, dtype=h5py.string_dtype())
            dataset.attrs["name"] = str(name)


def read_origin(path: Path) -> Origin:
    """Read only what made a well file. Raises like :func:`read_well`."""
    with _open(path) as file:
        return _origin(file)


def finished_origin(path: Path) -> Origin | None:
    """Read what a well file was made of; None where it is missing, or damaged, which is logged."""
    if not path.exists():
        return None
    try:
        return read_origin(path)
    except DataError as error:
        LOG.info("%s; the well is done anew", error)
        return None


def read_well(path: Path) -> WellFeatures:
    """Read a well file.

    Raises
    ------
    DataError
        The file is not HDF5, is damaged, or is not a well file of this format.
    """
    with _open(path) as file:
        try:
            cells = {}
            for _, dataset in sorted(file["cells"].items()):
                name = dataset.attrs["name"]
                text = h5py.check_string_dtype(dataset.dtype) is not None
                cells[name] = dataset.asstr()[:] if text else dataset[:]
            features, origin = file["features"][:], _origin(file)
            table = pd.DataFrame(cells)
            if "site" not in table and not len(table):
                table["site"] = np.empty(0, object)
            expected = (len(table), len(origin.names))
            if features.shape != expected or features.dtype.kind != "f" or "site" not in table:
                raise ValueError(
                    f"features {features.shape} {features.dtype}, where cells and names are "
                    f"{expected}"
                )
            return WellFeatures(features, table, origin)
        except (KeyError, OSError, ValueError, TypeError, RuntimeError) as error:
            raise DataError(f"{path} is damaged ({error}); delete it and profile again") from None


def iterate(paths: Iterable[Path]) -> Iterator[WellFeatures]:
    """Read one well file after the other, so that only one is in memory."""
    for path in paths:
        yield read_well(path)


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; `profile` writes it") from None
    except OSError as error:
        raise DataError(
            f"{path} is not a readable HDF5 file ({error}); delete it and profile again"
        ) from None


def _origin(file: h5py.File) -> Origin:
    if file.attrs.get("format") != FORMAT:
        raise DataError(
            f"{file.filename} is not a well file of this program; delete it and profile again"
        )
    try:
        version = int(file.attrs["version"])
        if version > VERSION:
            raise DataError(
                f"{file.filename} has format version {version}; this program reads up to "
                f"{VERSION}: use a newer release"
            )
        return Origin.from_text(file.attrs["origin"])
    except (KeyError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{file.filename} is damaged ({error}); delete it and profile again"
        ) from None
