"""The index: sites, wells and plates, and what is known of them.

This is the only file that names ``Metadata_…`` columns. Every cell of the index is text from door
to door: ``000042``, ``1E5`` and ``NA`` stay what they are, and a blank is ``""``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from deepprofiler.columns import (
    check_channels,
    image_columns,
    listing,
    natural_ranks,
    prefixed,
    row_problems,
)
from deepprofiler.errors import ConfigError, DataError, nearest
from deepprofiler.files import replacing
from deepprofiler.roles import derive_roles, find_roles
from deepprofiler.sites import Site, Well, names_shared, page_sources
from deepprofiler.tables import named_columns, read_table, report

PREFIX = "Metadata_"
PLATE = "Metadata_Plate"
WELL = "Metadata_Well"
SITE = "Metadata_Site"
TREATMENT = "Metadata_Treatment"
COUNT = "Metadata_Cell_Count"
CELL = "Metadata_Cell"
FLAG = "Metadata_Few_Cells"
MEMBERS = "Metadata_Well_Count"
POSITIVE = "positive"


@dataclass(frozen=True, eq=False)
class Index:
    """The table of sites, checked.

    Rows are in natural order of plate, well and site: numbers inside names are compared as
    numbers, so that site 10 follows site 9.

    Attributes
    ----------
    path : Path
        Where it was read.
    table : DataFrame
        One row a site, in the order of ``sites``; all cells are text, blanks are ``""``.
    channels : tuple of str
        Columns that hold images, in order.
    roles : dict
        Role to the column that plays it; only of roles that are present or derivable.
    sites : list of Site
    notes : list of str
        What the reader ignored or noticed, one line each.
    control : str
        Value of the control column that means negative control.
    """

    path: Path
    table: pd.DataFrame
    channels: tuple[str, ...]
    roles: dict[str, str]
    sites: list[Site]
    notes: list[str]
    control: str = "negative"

    def has(self, role: str) -> bool:
        """Tell whether a column plays ``role``."""
        return role in self.roles

    def values(self, role: str) -> pd.Series:
        """Values of the column that plays ``role``, one a site, as text.

        Raises
        ------
        ConfigError
            No column plays the role.
        """
        if role not in self.roles:
            raise ConfigError(
                f"{self.path.name} has no column for the role `{role}`: add a column "
                f"{PREFIX}{role.capitalize()}, or name one in dataset.columns.{role} "
                f"(the columns are {listing(self.table.columns)})"
            )
        return self.table[self.roles[role]]

    @property
    def negative(self) -> pd.Series:
        """True for sites of negative controls; all False without a control column."""
        return self._control_is(self.control)

    @property
    def positive(self) -> pd.Series:
        """True for sites of positive controls; all False without a control column."""
        return self._control_is(POSITIVE)

    def _control_is(self, value: str) -> pd.Series:
        if not self.has("control"):
            return pd.Series(False, index=self.table.index)
        return self.values("control") == value

    @property
    def plates(self) -> list[str]:
        """Names of the plates, in order."""
        return list(dict.fromkeys(self.table[PLATE]))

    def wells(self, plate: str | None = None) -> list[Well]:
        """Wells in order, of one plate or of all."""
        sites = (site for site in self.sites if plate is None or site.plate == plate)
        wells = []
        for (name, well), group in groupby(sites, key=lambda site: (site.plate, site.well)):
            members = tuple(group)
            wells.append(Well(name, well, members, members[0].line))
        return wells

    def well_table(self) -> pd.DataFrame:
        """What is known of each well.

        Returns
        -------
        DataFrame
            One row a well, in the order of :meth:`wells`: plate, well, and every other
            ``Metadata_`` column that has one value in each well.

        Raises
        ------
        DataError
            A column that plays a role has two values in one well. (``split`` may: sites of one
            well may be divided.)
        """
        starts, wells = self._starts()
        first = starts[wells]
        kept = [PLATE, WELL]
        for column in self.table.columns:
            if not column.startswith(PREFIX) or column in (PLATE, WELL, SITE):
                continue
            values = self.table[column].to_numpy()
            other = np.flatnonzero(values != values[first])
            if not len(other):
                kept.append(column)
                continue
            roles = [r for r, name in self.roles.items() if name == column and r != "split"]
            if roles:
                row, start = self.sites[other[0]], self.sites[first[other[0]]]
                raise DataError(
                    f"{self.path.name} line {row.line}: well {row.well} of plate {row.plate} has "
                    f"{column} `{values[other[0]]}`, but line {start.line} has "
                    f"`{values[first[other[0]]]}`; the {' and '.join(roles)} of a well must be "
                    "the same at all of its sites"
                )
        return self.table.iloc[starts][kept].reset_index(drop=True)

    def split(self, parts: int) -> list[Index]:
        """Divide into parts of whole wells, in order, with about as many sites each.

        Raises
        ------
        ConfigError
            There are fewer wells than parts.
        """
        starts, _ = self._starts()
        if not 1 <= parts <= len(starts):
            raise ConfigError(
                f"{self.path.name} has {len(starts)} wells: it can be split into 1 to "
                f"{len(starts)} parts, not {parts}"
            )
        total = len(self.sites)
        bounds = [0]
        for part in range(1, parts):
            closest = int(np.abs(starts - total * part / parts).argmin())
            bounds.append(min(max(closest, bounds[-1] + 1), len(starts) - (parts - part)))
        edges = [*(int(starts[bound]) for bound in bounds), total]
        return [
            replace(
                self,
                table=self.table.iloc[start:stop].reset_index(drop=True),
                sites=self.sites[start:stop],
            )
            for start, stop in pairwise(edges)
        ]

    def write(self, path: Path) -> None:
        """Write the table as CSV, whole or not at all."""
        with replacing(path) as temporary:
            self.table.to_csv(temporary, index=False)

    def _starts(self) -> tuple[np.ndarray, np.ndarray]:
        """First row of each well (wells,), and the well of each row (sites,)."""
        names = self.table[[PLATE, WELL]].to_numpy()
        new = np.ones(len(names), dtype=bool)
        new[1:] = np.any(names[1:] != names[:-1], axis=1)
        return np.flatnonzero(new), np.cumsum(new) - 1


def read_index(
    path: Path,
    images: Path,
    *,
    channels: Sequence[str] = (),
    columns: Mapping[str, str | None] = MappingProxyType({}),
    control: str = "negative",
) -> Index:
    """Read and check the table of sites.

    Parameters
    ----------
    path : Path
        Delimited text; see :func:`deepprofiler.tables.read_table`.
    images : Path
        Folder that relative paths of images start from.
    channels : sequence of str
        Columns that hold images, in order. By default every column without the prefix
        ``Metadata_`` whose cells are names of TIFF or PNG files.
    columns : mapping
        Role to the name of the column that plays it, with or without ``Metadata_``; a role that
        is absent or None falls to the column of its own name, such as ``Metadata_Batch``.
    control : str
        Value of the control column that means negative control.

    Returns
    -------
    Index
        Columns that hold no images are renamed to begin with ``Metadata_``.

    Raises
    ------
    DataError
        The table cannot be read, lacks a column, has blank or repeated identifiers or blank
        paths; problems of rows are collected and shown with their lines.
    ConfigError
        A channel or role is named that the table does not have.
    """
    source = read_table(path)
    cells, positions, notes = named_columns(source)
    found = image_columns(path.name, cells, positions, skip=PREFIX)
    chosen = tuple(channels) or found
    check_channels(path.name, chosen, cells)
    pictures = [name for name in cells if name in {*found, *chosen}]
    table = pd.DataFrame(prefixed(path.name, cells, pictures, PREFIX), dtype=object)
    taken = [column for column in (COUNT, FLAG, MEMBERS, CELL) if column in table]
    notes += [f"{column} is not used: `analyze` writes a column of that name" for column in taken]
    table = table.drop(columns=taken)
    for column in (PLATE, WELL, SITE):
        if column not in table:
            raise DataError(
                f"{path.name} has no column {column}{nearest(column, table.columns)}; the columns, "
                f"separated by {source.delimiter}, are {listing(table.columns)}"
            )
    order = np.lexsort([natural_ranks(table[column]) for column in (SITE, WELL, PLATE)])
    table = table.iloc[order].reset_index(drop=True)
    lines = np.asarray(positions)[order].tolist()
    report(row_problems(path.name, table, lines, (PLATE, WELL, SITE), chosen))
    metadata = [column for column in table.columns if column not in pictures]
    roles = find_roles(path.name, metadata, columns, PREFIX)
    roles, table = derive_roles(roles, table, TREATMENT, PLATE)
    names = (table[column] for column in (PLATE, WELL, SITE))
    sources = page_sources(table, chosen, pictures)
    sites = [
        Site(plate, well, site, line, images, source, path.name, chosen, shared)
        for plate, well, site, line, source, shared in zip(
            *names, lines, sources, names_shared(sources), strict=True
        )
    ]
    index = Index(path, table, chosen, roles, sites, notes, control)
    repeated = int(table[list(chosen)].duplicated(keep=False).sum())
    if repeated:
        notes.append(f"{repeated} sites name the same images as another site")
    if index.has("control") and not index.negative.any():
        values = listing(dict.fromkeys(index.values("control")))
        notes.append(
            f"no site is a negative control: {roles['control']} is never `{control}` (it is "
            f"{values}); see dataset.control"
        )
    return index
