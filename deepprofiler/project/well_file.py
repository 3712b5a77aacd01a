"""The well file: features of one well's cells, written by ``profile`` and read by ``analyze``.

It is an AnnData file of cells × features, so that ``anndata.read_h5ad`` opens it, written with h5py
by the documented encodings (https://anndata.readthedocs.io, "On-disk format"):

- ``X (N, D) float32``: the features;
- ``obs``: a row for each cell: plate, well, site, number of the cell, x, y, and what the location
  file carried;
- ``var``: a row for each feature: layer, number in the layer, and channel where there is one;
- ``uns/deepprofiler``: what made the features, and what was left out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, PLATE, SITE, WELL
from deepprofiler.errors import DataError, require_system
from deepprofiler.files import open_versioned
from deepprofiler.project.freshness import Provenance

LOG = logging.getLogger(__name__)

FORMAT = "deepprofiler-well"
VERSION = 2
_ADVICE = "delete it and run `profile`"
_UNITS = {"x": "pixels", "y": "pixels"}
#: Columns of a cell that version 1 called otherwise.
_VERSION_1 = {"site": SITE, "cell": CELL}
_DAMAGE = (AttributeError, KeyError, OSError, ValueError, TypeError, RuntimeError)


@dataclass(frozen=True)
class DroppedCell:
    """A cell that could not be used: its site, the line of its location file, and the reason."""

    site: str
    line: str
    reason: str


@dataclass(frozen=True)
class WellProvenance:
    """What made the features of a well, and what was left out of it.

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
        Side S in pixels; 0 where no crops were cut.
    rescale : str
        The rule that scaled each crop.
    checkpoint : str
        Name of the weights.
    digest : str
        SHA-256 of the weights; of random weights, of what decides them.
    trained : bool
        False for random weights.
    made_from : Provenance or None
        What decides the features; None in files of version 1, which do not say it in this form.
    failed : dict
        Site that could not be used to the reason.
    dropped : tuple of DroppedCell
    version_1_packages : dict
        Package to version in files of version 1; later ones say it in ``made_from``.
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
    trained: bool = True
    made_from: Provenance | None = None
    failed: dict[str, str] = field(default_factory=dict)
    dropped: tuple[DroppedCell, ...] = ()
    version_1_packages: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Everything as JSON."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["dropped"] = [vars(cell) for cell in self.dropped]
        values["made_from"] = None if self.made_from is None else self.made_from.to_json()
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> WellProvenance:
        """Read what :meth:`to_json` gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            The text is something else.
        """
        values = json.loads(text)
        for name in ("names", "channels"):
            values[name] = tuple(values[name])
        values["dropped"] = tuple(DroppedCell(**cell) for cell in values["dropped"])
        if values["made_from"] is not None:
            values["made_from"] = Provenance.from_json(values["made_from"])
        return cls(**values)

    @classmethod
    def from_version_1(cls, text: str) -> WellProvenance:
        """Read what version 1 of the format wrote. Raises like :meth:`from_json`."""
        values = json.loads(text)
        del values["inputs"]
        values["version_1_packages"] = values.pop("versions")
        values["dropped"] = [
            {"site": site, "line": line, "reason": reason}
            for site, line, reason in values["dropped"]
        ]
        # Random weights were called so, and their digest was not that of a file's weights.
        trained = not (values["checkpoint"].startswith("random-") and values["rescale"] != "none")
        return cls.from_json(json.dumps(values | {"made_from": None, "trained": trained}))

    @property
    def versions(self) -> dict[str, str]:
        """Package to version, as far as the file says it."""
        return self.version_1_packages if self.made_from is None else self.made_from.versions


@dataclass(frozen=True)
class WellFeatures:
    """Features (N, D) float32 of a well's cells, their table (N rows) and what made them."""

    features: np.ndarray
    cells: pd.DataFrame
    provenance: WellProvenance


def write_well(path: Path, well: WellFeatures) -> None:
    """Write a well file to ``path``, which the caller replaces into place.

    Parameters
    ----------
    path : Path
    well : WellFeatures
        The table of cells has a column ``Metadata_Site``. Columns of numbers keep their type; all
        others are written as text.

    Raises
    ------
    ValueError
        Features, cells and feature names do not fit one another.
    """
    provenance = well.provenance
    count, size = well.features.shape
    if len(well.cells) != count or len(provenance.names) != size:
        raise ValueError(
            f"{count} × {size} features for {len(well.cells)} cells and "
            f"{len(provenance.names)} names"
        )
    with h5py.File(path, "w") as file:
        _encode(file, "anndata", "0.1.0")
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        _write_array(file, "X", well.features.astype(np.float32, copy=False))
        _write_frame(file, "obs", _named_cells(well), _cell_names(well))
        _write_frame(file, "var", _features_table(provenance), list(provenance.names))
        _write_uns(file, provenance)
        for group in ("layers", "obsm", "obsp", "varm", "varp"):
            _encode(file.create_group(group), "dict", "0.1.0")


def read_provenance(path: Path) -> WellProvenance:
    """Read only what made a well file. Raises like :func:`read_well`."""
    with _open(path) as file:
        return _provenance(file)


def read_provenance_if_usable(path: Path) -> WellProvenance | None:
    """Read what made a well file; None where it is missing, or damaged, which is logged."""
    if not path.exists():
        return None
    try:
        return read_provenance(path)
    except DataError as error:
        LOG.info("%s; the well is computed again", error)
        return None


def read_well(path: Path) -> WellFeatures:
    """Read a well file.

    Parameters
    ----------
    path : Path
        Version 1 is read as well.

    Returns
    -------
    WellFeatures
        The table of cells has the columns ``Metadata_Site``, ``Metadata_Cell``, ``x``, ``y``, and
        what the location file carried.

    Raises
    ------
    DataError
        The file is not HDF5, is damaged, or is not a well file of this format.
    """
    with _open(path) as file:
        provenance = _provenance(file)
        try:
            first = int(file.attrs["version"]) == 1
            cells = _read_cells_version_1(file) if first else _read_cells(file)
            features = file["features" if first else "X"][:]
            if SITE not in cells and not len(cells):
                cells[SITE] = np.empty(0, object)
            expected = (len(cells), len(provenance.names))
            if features.shape != expected or features.dtype.kind != "f" or SITE not in cells:
                raise ValueError(
                    f"features {features.shape} {features.dtype}, where cells and names are "
                    f"{expected}"
                )
        except _DAMAGE as error:
            require_system(path, error)
            raise DataError(f"{path} is damaged ({error}); {_ADVICE}") from None
    return WellFeatures(features, cells, provenance)


def iterate(paths: Iterable[Path]) -> Iterator[WellFeatures]:
    """Read one well file after the other, so that only one is in memory."""
    for path in paths:
        yield read_well(path)


def _open(path: Path) -> h5py.File:
    versions = range(1, VERSION + 1)
    return open_versioned(
        path, FORMAT, versions=versions, advice=_ADVICE, missing="`profile` writes it"
    )


def _provenance(file: h5py.File) -> WellProvenance:
    try:
        if int(file.attrs["version"]) == 1:
            return WellProvenance.from_version_1(file.attrs["origin"])
        return WellProvenance.from_json(file["uns/deepprofiler/provenance"].asstr()[()])
    except _DAMAGE as error:
        require_system(Path(file.filename), error)
        raise DataError(f"{file.filename} is damaged ({error}); {_ADVICE}") from None


# -- AnnData's encodings -----------------------------------------------------------------------


def _encode(item: Any, kind: str, version: str) -> None:
    item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, version


def _write_array(group: h5py.Group, key: str, values: np.ndarray) -> h5py.Dataset:
    """Write numbers as ``array``, anything else as ``string-array``."""
    if values.dtype.kind in "biuf":
        dataset = group.create_dataset(key, data=values)
        _encode(dataset, "array", "0.2.0")
    else:
        texts = np.array([str(value) for value in values], dtype=object)
        dataset = group.create_dataset(key, data=texts, dtype=h5py.string_dtype())
        _encode(dataset, "string-array", "0.2.0")
    return dataset


def _write_text(group: h5py.Group, key: str, text: str) -> None:
    _encode(group.create_dataset(key, data=text, dtype=h5py.string_dtype()), "string", "0.2.0")


def _write_frame(file: h5py.File, key: str, table: pd.DataFrame, names: list[str]) -> None:
    """Write a ``dataframe``: an index of names, and a data set for each column."""
    group = file.create_group(key)
    _encode(group, "dataframe", "0.2.0")
    keys = _column_keys(table)
    group.attrs["_index"] = "_index"
    # An empty list of text has no type of its own.
    group.attrs.create("column-order", np.array(keys, dtype=object), dtype=h5py.string_dtype())
    _write_array(group, "_index", np.array(names, dtype=object))
    for column_key, (name, column) in zip(keys, table.items(), strict=True):
        numeric = pd.api.types.is_numeric_dtype(column)
        values = column.to_numpy() if numeric else column.to_numpy(dtype=object)
        dataset = _write_array(group, column_key, values)
        if column_key != name:
            dataset.attrs["name"] = str(name)


def _column_keys(table: pd.DataFrame) -> list[str]:
    """Names under which HDF5 can hold the columns: a slash or a dot alone would be a path."""
    keys: list[str] = []
    for name in map(str, table.columns):
        key = name.replace("/", "|")
        key = f"{key}_" if key in (".", "..", "", "_index") else key
        while key in keys:
            key += "_"
        keys.append(key)
    return keys


def _named_cells(well: WellFeatures) -> pd.DataFrame:
    """Table of cells with plate and well, so that the files of many wells can be concatenated."""
    table = well.cells.drop(columns=[PLATE, WELL], errors="ignore").reset_index(drop=True)
    table.insert(0, PLATE, well.provenance.plate)
    table.insert(1, WELL, well.provenance.well)
    return table


def _cell_names(well: WellFeatures) -> list[str]:
    """Name each cell, the same in no two wells."""
    if not len(well.cells):
        # Where every site failed, the table has no column of sites.
        return []
    numbers = well.cells[CELL] if CELL in well.cells else range(len(well.cells))
    place = f"{well.provenance.plate}_{well.provenance.well}"
    return [
        f"{place}_{site}_{number}" for site, number in zip(well.cells[SITE], numbers, strict=True)
    ]


def _features_table(provenance: WellProvenance) -> pd.DataFrame:
    """Layer of each feature, its number in the layer, and its channel where there is one."""
    rows: list[tuple[str, int, str]] = []
    for layer, (first, end) in provenance.layers.items():
        for name in provenance.names[first:end]:
            channel, _, number = name.removeprefix(f"{layer}_").rpartition("_")
            rows.append((layer, int(number) if number.isdigit() else len(rows), channel))
    table = pd.DataFrame(rows, columns=["layer", "index", "channel"])
    return table if table["channel"].any() else table.drop(columns="channel")


def _write_uns(file: h5py.File, provenance: WellProvenance) -> None:
    """Write what made the features: for people key by key, for this program as JSON."""
    uns = file.create_group("uns")
    group = uns.create_group("deepprofiler")
    units = group.create_group("units")
    for item in (uns, group, units):
        _encode(item, "dict", "0.1.0")
    for name, unit in _UNITS.items():
        _write_text(units, name, unit)
    shown: Mapping[str, str] = {
        "plate": provenance.plate,
        "well": provenance.well,
        "rescale": provenance.rescale,
        "checkpoint": provenance.checkpoint,
        "digest": provenance.digest,
        "provenance": provenance.to_json(),
    }
    for name, text in shown.items():
        _write_text(group, name, text)
    _write_array(group, "channels", np.array(provenance.channels, dtype=object))
    _encode(group.create_dataset("crop_size", data=provenance.crop_size), "numeric-scalar", "0.2.0")


def _read_cells(file: h5py.File) -> pd.DataFrame:
    group = file["obs"]
    columns = {}
    for key in group.attrs["column-order"]:
        dataset = group[key]
        text = h5py.check_string_dtype(dataset.dtype) is not None
        columns[str(dataset.attrs.get("name", key))] = dataset.asstr()[:] if text else dataset[:]
    return pd.DataFrame(columns).drop(columns=[PLATE, WELL], errors="ignore")


def _read_cells_version_1(file: h5py.File) -> pd.DataFrame:
    columns = {}
    for _, dataset in sorted(file["cells"].items()):
        name = dataset.attrs["name"]
        text = h5py.check_string_dtype(dataset.dtype) is not None
        columns[_VERSION_1.get(name, name)] = dataset.asstr()[:] if text else dataset[:]
    return pd.DataFrame(columns)
