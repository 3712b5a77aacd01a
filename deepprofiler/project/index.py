"""The index: sites, wells and plates, and what is known of them.

This is the only file that names ``Metadata_…`` columns. Every cell of the index is text from door
to door: ``000042``, ``1E5`` and ``NA`` stay what they are, and a blank is ``""``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from deepprofiler.columns import (
    CELL,
    COUNT,
    FLAG,
    MEMBERS,
    PLATE,
    PREFIX,
    SITE,
    TREATMENT,
    WELL,
    natural_ranks,
    place_name,
)
from deepprofiler.config.roles import NEGATIVE, control_meaning, derive_roles, find_roles
from deepprofiler.delimited import named_columns, read_table, report
from deepprofiler.errors import ConfigError, DataError, counted, listing, nearest
from deepprofiler.files import replacing
from deepprofiler.imaging.read import ImageFile

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LOAD_FILE = re.compile(r"(Image_)?FileName_(.+)")
_LOAD_DATA = re.compile(r"(Image_)?PathName_(.+)")
_SOLVENT = r"dmso(?:[ _-].*)?"
# Between several mechanisms in one value, as in the Drug Repurposing Hub.
_SEPARATOR = "|"
_IMAGE = re.compile(r".*\.(tiff?|png)", re.IGNORECASE)


@dataclass(frozen=True)
class Site:
    """One field of view.

    Attributes
    ----------
    plate, well, site : str
    line : int
        Line of the index; the header is line 1.
    images : Path
        Folder that relative paths start from.
    sources : tuple of (str, int, int)
        Path, page and number of pages of each channel, in the index's order of channels.
    index : str
        Name of the index's file.
    channels : tuple of str
    shares_names : bool
        Whether other images differ from this site's only in their ending, or are the same.
    """

    plate: str
    well: str
    site: str
    line: int
    images: Path
    sources: tuple[tuple[str, int, int], ...]
    index: str = "index.csv"
    channels: tuple[str, ...] = ()
    shares_names: bool = False

    @property
    def name(self) -> str:
        """The site in words."""
        return f"plate {self.plate} well {self.well} site {self.site}"

    @property
    def files(self) -> tuple[ImageFile, ...]:
        """The files of the channels, in order; absolute paths stay as they are."""
        # Made when needed: half a million paths would take most of the time of reading.
        return tuple(ImageFile(self.images / name, *pages) for name, *pages in self.sources)


@dataclass(frozen=True)
class Well:
    """The sites of one well; ``line`` is that of the first site."""

    plate: str
    well: str
    sites: tuple[Site, ...]
    line: int


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
    repeats : tuple of str
        For each set of sites that name the same image files: their lines and those files.
    """

    path: Path
    table: pd.DataFrame
    channels: tuple[str, ...]
    roles: dict[str, str]
    sites: list[Site]
    notes: list[str]
    control: str = NEGATIVE
    repeats: tuple[str, ...] = ()

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
        return self._controls(lambda value: value == self.control)

    @property
    def positive(self) -> pd.Series:
        """True for sites of positive controls; all False without a control column."""
        return self._controls(lambda value: control_meaning(value) == "positive")

    def _controls(self, is_control: Callable[[str], bool]) -> pd.Series:
        if not self.has("control"):
            return pd.Series(False, index=self.table.index)
        return self.values("control").map(is_control).astype(bool)

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
            A column that plays a role has two values in one well; see :meth:`well_conflicts`.
        """
        report(self.well_conflicts())
        starts, wells = self._starts()
        first = starts[wells]
        kept = [PLATE, WELL]
        for column in self.table.columns:
            if column.startswith(PREFIX) and column not in (PLATE, WELL, SITE):
                values = self.table[column].to_numpy()
                if np.array_equal(values, values[first]):
                    kept.append(column)
        return self.table.iloc[starts][kept].reset_index(drop=True)

    def well_conflicts(self) -> list[str]:
        """Say which wells have two values of a column that plays a role, such as two labels.

        ``split`` may have two: sites of one well may be divided.

        Returns
        -------
        list of str
            A line for each well and column, with both lines of the index.
        """
        starts, wells = self._starts()
        roles: dict[str, list[str]] = defaultdict(list)
        for role, column in self.roles.items():
            if role != "split" and column not in (PLATE, WELL, SITE):
                roles[column].append(role)
        return [
            f"{conflict}; the {' and '.join(played)} of a well must be the same at all of its sites"
            for column, played in roles.items()
            for conflict in self._conflicts(column, starts[wells], "well {0.well} of plate")
        ]

    def control_doubts(self) -> list[str]:
        """Say where negative controls were probably not recognised, a line each."""
        doubts = []
        if not self.has("control"):
            doubts = [
                f"{self.path.name} has no control column, but {column} looks like one (it is "
                f"{listing(dict.fromkeys(self.table[column]), shown=5)}): set "
                f"dataset.columns.control to {column}"
                for column in self.table.columns
                if column.startswith(PREFIX) and column not in self.roles.values()
                if NEGATIVE in map(control_meaning, dict.fromkeys(self.table[column]))
            ]
        elif not self.negative.any():
            doubts = [self.without_negatives()]
        return doubts + self._untreated_without_mark()

    def without_negatives(self) -> str:
        """Say that the control column marks no negative control."""
        values = listing(dict.fromkeys(self.values("control")))
        return (
            f"no site is a negative control: {self.roles['control']} is never `{self.control}` "
            f"(it is {values}); see dataset.control"
        )

    def _untreated_without_mark(self) -> list[str]:
        """Name the first site of DMSO that is not marked as a negative control."""
        negative = self.negative
        for role in ("compound", "treatment", "label"):
            if not self.has(role):
                continue
            solvent = self.values(role).str.fullmatch(_SOLVENT, case=False).astype(bool)
            rows = np.flatnonzero(solvent & ~negative)
            if len(rows):
                line, row = min((self.sites[row].line, row) for row in rows)
                sites = counted(len(rows), "site", "sites")
                return [
                    f"{self.path.name} line {line}: {self.roles[role]} is "
                    f"`{self.values(role).iloc[row]}`, but the site is no negative control "
                    f"({sites} in all): it counts as a treatment; mark such sites with "
                    f"`{self.control}` in {self.roles.get('control', PREFIX + 'Control')}"
                ]
        return []

    def mechanism_doubts(self) -> list[str]:
        """Say where a mechanism holds a bar, as curated tables separate several by."""
        if not self.has("mechanism"):
            return []
        values = self.values("mechanism").astype(str)
        rows = np.flatnonzero(values.str.contains(_SEPARATOR, regex=False))
        if not len(rows):
            return []
        line, row = min((self.sites[row].line, row) for row in rows)
        first, several = values.iloc[row], values.iloc[rows].nunique()
        parts = " nor ".join(f"`{part.strip()}`" for part in first.split(_SEPARATOR))
        return [
            f"{self.path.name} line {line}: {self.roles['mechanism']} is `{first}`; {several} of "
            f"{values[values != ''].nunique()} mechanisms hold `{_SEPARATOR}`. Each is compared as "
            f"a whole: `{first}` matches neither {parts}; give one mechanism to each compound"
        ]

    def batch_conflicts(self) -> list[str]:
        """Say which plates have two batches, a line each, with both lines of the index."""
        if not self.has("batch"):
            return []
        _, starts, plates = np.unique(
            self.table[PLATE].to_numpy(str), return_index=True, return_inverse=True
        )
        return [
            f"{conflict}; a plate is of one batch: give plates of the same name names of their own"
            for conflict in self._conflicts(self.roles["batch"], starts[plates], "plate")
        ]

    def _conflicts(self, column: str, first: np.ndarray, place: str) -> list[str]:
        """Name the first row of each group whose value is not that of the group's first row.

        Parameters
        ----------
        column : str
        first : numpy.ndarray
            (sites,) first row of the group of each row.
        place : str
            What a group is, with ``{0}`` for its site, before the name of the plate.
        """
        values = self.table[column].to_numpy()
        other = np.flatnonzero(values != values[first])
        _, further = np.unique(first[other], return_index=True)
        conflicts = []
        for row in other[further]:
            site, start = self.sites[row], self.sites[first[row]]
            conflicts.append(
                f"{self.path.name} line {site.line}: {place.format(site)} {site.plate} has "
                f"{column} `{values[row]}`, but line {start.line} has `{values[first[row]]}`"
            )
        return conflicts

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
    control: str = NEGATIVE,
) -> Index:
    """Read and check the table of sites.

    Parameters
    ----------
    path : Path
        Delimited text; see :func:`deepprofiler.delimited.read_table`.
    images : Path
        Folder that relative paths of images start from.
    channels : sequence of str
        Columns that hold images, in order. By default every column without the prefix
        ``Metadata_`` whose cells are names of TIFF or PNG files.
    columns : mapping
        Role to the name of the column that plays it, with or without ``Metadata_``; a role that
        is absent or None falls to the column of its own name, such as ``Metadata_Batch``.
    control : str
        Value of the control column that means negative control; the default also stands for other
        names of it, such as ``negcon``.

    Returns
    -------
    Index
        Columns that hold no images are renamed to begin with ``Metadata_``.

    Raises
    ------
    DataError
        The table cannot be read, is one of CellProfiler's LoadData, lacks a column, has blank or
        repeated identifiers, wells or sites that are written in two ways, or blank paths; problems
        of rows are collected and shown with their lines.
    ConfigError
        A channel or role is named that the table does not have.
    """
    source = read_table(path)
    cells, positions, notes = named_columns(source)
    _refuse_load_data(path.name, cells, channels)
    image_columns = _image_columns(path.name, cells, positions, skip=PREFIX)
    channels = tuple(channels) or image_columns
    _check_channels(path.name, channels, cells)
    of_images = [name for name in cells if name in {*image_columns, *channels}]
    table = pd.DataFrame(_prefixed(path.name, cells, of_images, PREFIX), dtype=object)
    reserved = [column for column in (COUNT, FLAG, MEMBERS, CELL) if column in table]
    notes += [
        f"{column} is not used: `analyze` writes a column of that name" for column in reserved
    ]
    table = table.drop(columns=reserved)
    for column in (PLATE, WELL, SITE):
        if column not in table:
            raise DataError(
                f"{path.name} has no column {column}{nearest(column, table.columns)}; the columns, "
                f"separated by {source.delimiter}, are {listing(table.columns)}"
            )
    order = np.lexsort([natural_ranks(table[column]) for column in (SITE, WELL, PLATE)])
    table = table.iloc[order].reset_index(drop=True)
    lines = np.asarray(positions)[order].tolist()
    report(_row_problems(path.name, table, lines, (PLATE, WELL, SITE), channels))
    metadata = [column for column in table.columns if column not in of_images]
    roles = find_roles(path.name, metadata, columns, PREFIX)
    roles, table = derive_roles(roles, table, TREATMENT, PLATE)
    if "control" in roles and control == NEGATIVE:
        control, said = _negative_value(path.name, table[roles["control"]], lines)
        notes += said
    names = (table[column] for column in (PLATE, WELL, SITE))
    sources = _page_sources(table, channels, of_images)
    sites = [
        Site(plate, well, site, line, images, source, path.name, channels, shared)
        for plate, well, site, line, source, shared in zip(
            *names, lines, sources, _names_shared(sources), strict=True
        )
    ]
    index = Index(path, table, channels, roles, sites, notes, control, _repeated_files(sites))
    if index.repeats:
        more = f" (`check` lists {len(index.repeats)} such cases)" if index.repeats[1:] else ""
        notes.append(f"{index.repeats[0]}{more}")
    if index.has("control") and not index.negative.any():
        notes.append(index.without_negatives())
    return index


def _refuse_load_data(source: str, columns: Iterable[str], channels: Sequence[str]) -> None:
    """Refuse a table of CellProfiler's LoadData: the folder of a file is in a column of its own.

    Raises
    ------
    DataError
        A file's name and its folder are in two columns, and no channels are chosen.
    """
    listed = list(columns)
    folders = {match[2] for name in listed if (match := _LOAD_DATA.fullmatch(name))}
    names = [
        (name, match[2])
        for name in listed
        if (match := _LOAD_FILE.fullmatch(name)) and match[2] in folders
    ]
    if names and not channels:
        column, channel = names[0]
        raise DataError(
            f"{source} is a table of CellProfiler's LoadData (columns {listing(listed, shown=6)}): "
            f"file names are apart from their folders, for {listing(c for _, c in names)}. Give "
            f"each channel one column with the whole path, such as `{channel}` with folder and "
            f"{column} joined by `/`, and remove these columns; docs/how-to.md has a script. If "
            "the names alone are right below inputs/images, list the columns in dataset.channels"
        )


def _negative_value(source: str, values: pd.Series, lines: Sequence[int]) -> tuple[str, list[str]]:
    """Find the value of the control column that means negative control.

    Parameters
    ----------
    source : str
        Name of the file.
    values : Series
        The control column.
    lines : sequence of int
        Line of the file of each row.

    Returns
    -------
    value : str
        ``negative`` where none does.
    notes : list of str
        What each value is taken for, where one is not written as this program does.

    Raises
    ------
    DataError
        Two do.
    """
    first: dict[str, int] = {}
    for value, line in sorted(zip(values, lines, strict=True), key=lambda pair: pair[1]):
        first.setdefault(value, line)
    meanings = {value: meaning for value in first if (meaning := control_meaning(value))}
    negative = [value for value, meaning in meanings.items() if meaning == NEGATIVE]
    if len(negative) > 1:
        listed = " and ".join(f"`{value}` (line {first[value]})" for value in negative)
        raise DataError(
            f"{source}: {values.name} is {listed}, which both mean negative control; write it the "
            "same way in all lines, or name one of them in dataset.control"
        )
    if all(value == meaning for value, meaning in meanings.items()):
        return NEGATIVE, []
    kinds = ", ".join(
        f"`{value}` as {'treated' if meaning == 'treated' else f'{meaning} control'}"
        for value, meaning in meanings.items()
    )
    value = negative[0] if negative else NEGATIVE
    return value, [f"{values.name}: reads {kinds}; dataset.control names another negative control"]


def _image_columns(
    source: str, cells: Mapping[str, list[str]], lines: list[int], skip: str
) -> tuple[str, ...]:
    """Find the columns whose cells are names of TIFF or PNG files.

    Parameters
    ----------
    source : str
        Name of the file, for errors.
    cells : mapping
        Column to its cells.
    lines : list of int
        Line of the file of each cell.
    skip : str
        Columns that begin so hold no images.

    Returns
    -------
    tuple of str
        In the table's order; blank cells do not count.

    Raises
    ------
    DataError
        Most cells of a column are names of image files, but not all: the channel would vanish.
    """
    columns = []
    problems = []
    for column, values in cells.items():
        if column.startswith(skip):
            continue
        named = [(value, line) for value, line in zip(values, lines, strict=True) if value]
        other = [(value, line) for value, line in named if not _IMAGE.fullmatch(value)]
        if len(other) * 2 >= len(named):
            continue
        columns.append(column)
        problems += [
            f"{source} line {line}: channel {column} names `{value}`, which is not a .tif, .tiff "
            "or .png file like the others of the column"
            for value, line in other
        ]
    report(problems)
    return tuple(columns)


def _check_channels(source: str, channels: Sequence[str], columns: Iterable[str]) -> None:
    """Refuse channels that are not columns or that are named twice, and a table without any.

    Raises
    ------
    ConfigError
        A channel is named wrongly or twice.
    DataError
        There are no channels.
    """
    listed = list(columns)
    lines = [
        f"dataset.channels names `{name}`, which is not a column of {source}"
        + (nearest(name, listed) or f"; the columns are {listing(listed)}")
        for name in channels
        if name not in listed
    ]
    lines += [
        f"dataset.channels names `{name}` {count} times"
        for name, count in Counter(channels).items()
        if count > 1
    ]
    if lines:
        raise ConfigError("\n".join(lines))
    if not channels:
        raise DataError(
            f"{source} has no column of image files (.tif, .tiff or .png); the columns are "
            f"{listing(listed)}"
        )


def _prefixed(
    source: str, cells: Mapping[str, list[str]], plain: Iterable[str], prefix: str
) -> dict[str, list[str]]:
    """Let every column but the ``plain`` ones begin with ``prefix``.

    Raises
    ------
    DataError
        Two columns become one.
    """
    columns: dict[str, list[str]] = {}
    for name, values in cells.items():
        column = name if name in plain or name.startswith(prefix) else prefix + name
        if column in columns:
            raise DataError(
                f"{source} line 1: `{column}` and `{column.removeprefix(prefix)}` mean the same "
                "column; rename or remove one"
            )
        columns[column] = values
    return columns


def _row_problems(
    source: str,
    table: pd.DataFrame,
    lines: Sequence[int],
    identifiers: tuple[str, str, str],
    channels: Sequence[str],
) -> list[str]:
    """Find blank and repeated identifiers, blank paths, and addresses instead of paths.

    Parameters
    ----------
    source : str
        Name of the file.
    table : DataFrame
        Sorted, so that rows with the same identifiers follow each other.
    lines : sequence of int
        Line of the file of each row.
    identifiers : tuple of str
        Columns of plate, well and site.
    channels : sequence of str
        Columns of images.

    Returns
    -------
    list of str
        One message for each problem, in the order of lines.
    """
    problems: list[tuple[int, str]] = []
    for column in (*identifiers, *channels):
        kind = f"the path of channel {column}" if column in channels else column
        for row in np.flatnonzero(table[column].to_numpy() == "").tolist():
            problems.append((lines[row], f"{kind} is blank; fill it in or remove the line"))
    for column in channels:
        for row, value in enumerate(table[column]):
            if "://" in value and _URL.match(value):
                message = f"channel {column} names {value}; addresses are not supported yet"
                problems.append((lines[row], f"{message}, copy the images to this machine"))
    names = table[list(identifiers)].to_numpy()
    repeated = np.all((names[1:] == names[:-1]) & (names[1:] != ""), axis=1)
    for row in (np.flatnonzero(repeated) + 1).tolist():
        plate, well, site = names[row]
        message = (
            f"site {site} of well {well} on plate {plate} stands in line {lines[row - 1]} as well; "
            "each site must have one line"
        )
        problems.append((lines[row], message))
    problems += _spelling_problems(table, lines, identifiers)
    return [f"{source} line {line}: {message}" for line, message in sorted(problems)]


def _spelling_problems(
    table: pd.DataFrame, lines: Sequence[int], identifiers: tuple[str, str, str]
) -> list[tuple[int, str]]:
    """Find wells, and sites of a well, that are written in two ways: ``A1`` and ``A01``.

    Returns
    -------
    list of (int, str)
        Line and message for the first row of each further spelling.
    """
    rows = list(zip(*(table[column] for column in identifiers), lines, strict=True))
    names = {name for _, well, site, _ in rows for name in (well, site)}
    places = {name: place_name(name) for name in names}
    first_well: dict[str, tuple[str, int]] = {}
    first_site: dict[tuple[str, str, str], tuple[str, int]] = {}
    further: dict[tuple[str, ...], tuple[int, str]] = {}
    for plate, well, site, line in sorted(rows, key=lambda row: row[-1]):
        other, start = first_well.setdefault(places[well], (well, line))
        if other != well:
            message = (
                f"well `{well}` is written `{other}` in line {start}, and both are one place on a "
                "plate; write it the same way in all lines"
            )
            further.setdefault((well,), (line, message))
        key = (plate, places[well], places[site])
        other, start = first_site.setdefault(key, (site, line))
        if other != site:
            message = (
                f"site `{site}` of well {well} on plate {plate} is written `{other}` in line "
                f"{start}; write it the same way in all lines, or rename one of two sites"
            )
            further.setdefault((*key, site), (line, message))
    return list(further.values())


def _page_sources(
    table: pd.DataFrame, channels: Sequence[str], image_columns: Sequence[str]
) -> list[tuple[tuple[str, int, int], ...]]:
    """Find the path, page and number of pages of each channel, for each row.

    Columns that name one file in a row are the pages of that file, in the order of
    ``image_columns``: all columns of images, whether they are ``channels`` or not.
    """
    places = [list(image_columns).index(column) for column in channels]
    sources = []
    for row in zip(*(table[column].tolist() for column in image_columns), strict=True):
        if len(set(row)) == len(row):
            sources.append(tuple([(row[place], 0, 1) for place in places]))
        else:
            counts = [(row[:place].count(row[place]), row.count(row[place])) for place in places]
            names = [row[place] for place in places]
            sources.append(tuple((name, *pages) for name, pages in zip(names, counts, strict=True)))
    return sources


def _names_shared(sources: Sequence[tuple[tuple[str, int, int], ...]]) -> list[bool]:
    """Tell, for each site, whether a path without its ending is also that of another image."""
    stems = [[_stem(name) for name, _, pages in site if pages == 1] for site in sources]
    counts = Counter(stem for site in stems for stem in site)
    if len(counts) == counts.total():
        return [False] * len(sources)
    return [any(counts[stem] > 1 for stem in site) for site in stems]


def _repeated_files(sites: Sequence[Site]) -> tuple[str, ...]:
    """Say which sites name the same image files: one line for each set of sites."""
    named: dict[tuple[str, int, int], list[Site]] = defaultdict(list)
    for site in sites:
        for name, page, pages in site.sources:
            named[_plain(name), page, pages].append(site)
    files: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for (name, _, _), sharing in named.items():
        if len(sharing) > 1:
            files[tuple(sorted(site.line for site in sharing))].append(name)
    by_line = {site.line: site for site in sites} if files else {}
    messages = []
    for lines, names in sorted(files.items()):
        first, second, *others = (by_line[line] for line in lines)
        more = f", and {counted(len(others), 'more line', 'more lines')}," if others else ""
        messages.append(
            f"lines {first.line} ({first.name}) and {second.line} ({second.name}){more} name the "
            f"same image {listing(dict.fromkeys(names), shown=3)}; give each site its own"
        )
    return tuple(messages)


def _stem(name: str) -> str:
    return _plain(name.rpartition(".")[0])


def _plain(name: str) -> str:
    """Write a path in its shortest form."""
    # Most paths are in it, and half a million would take seconds.
    return str(Path(name)) if "./" in name or "//" in name else name
