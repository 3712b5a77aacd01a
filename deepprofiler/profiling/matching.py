"""Profiles of another program: averaged, matched with ours by row, undefined features left out.

A file of its own: users match tables of other programs with it from Python as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deepprofiler.columns import WELL, place_name
from deepprofiler.errors import DataError, counted
from deepprofiler.profiling.normalizer import LeftOut
from deepprofiler.profiling.profile_files import object_keys
from deepprofiler.profiling.profiles import Profiles, row_text


@dataclass(frozen=True)
class Joined:
    """Features of one table for rows of another.

    Attributes
    ----------
    profiles : Profiles
        Metadata of ours, features of theirs, for every row of ours that is in both.
    unknown : list of str
        Rows of theirs that ours does not have, in words.
    missing : list of str
        Rows of ours that theirs does not have, in words.
    respelled : list of (str, str)
        Wells of ours that theirs writes in another way, and how: ``A01`` and ``A1``.
    """

    profiles: Profiles
    unknown: list[str]
    missing: list[str]
    respelled: list[tuple[str, str]]


def defined_means(profiles: Profiles, by: Sequence[str]) -> Profiles:
    """Mean of each group of rows, each feature over the rows in which it is finite.

    Parameters
    ----------
    profiles : Profiles
        For instance a row for each cell.
    by : sequence of str
        Columns that make a group, for instance plate and well.

    Returns
    -------
    Profiles
        One row per group, sorted by its values, with only the columns ``by``; NaN where a feature
        is finite in no row of the group.
    """
    groups = profiles.groups(by)
    means = np.full((len(groups), len(profiles.names)), np.nan)
    for place, (_, rows) in enumerate(groups):
        values = profiles.features[rows].astype(np.float64)
        finite = np.isfinite(values)
        number = finite.sum(axis=0)
        total = np.where(finite, values, 0.0).sum(axis=0)
        np.divide(total, number, out=means[place], where=number > 0)
    table = pd.DataFrame([key for key, _ in groups], columns=list(by))
    return Profiles(table, means, profiles.names, profiles.precision)


def join(ours: Profiles, theirs: Profiles, on: Sequence[str]) -> Joined:
    """Find the features of another table for our rows.

    Parameters
    ----------
    ours : Profiles
        One row for each combination of the columns ``on``.
    theirs : Profiles
        Rows that share those columns are averaged with :func:`defined_means`; a row whose
        features are all undefined is ignored. Whole numbers are compared as text, and wells by
        their place on the plate: ``A1`` is ``A01``.
    on : sequence of str

    Raises
    ------
    DataError
        Theirs lacks one of the columns, one of the tables writes a well in two ways, or no row is
        in both.
    """
    require_different_objects(theirs)
    theirs = defined_means(_as_text(theirs, on), on)
    theirs = theirs.subset(np.isfinite(theirs.features).any(axis=1))
    their_keys, our_keys = _keys(theirs, on), _keys(ours, on)
    rows = {place: row for row, place in enumerate(_places(their_keys, on))}
    wanted = _places(our_keys, on)
    own = set(wanted)
    unknown = [_row_text(their_keys[row]) for place, row in rows.items() if place not in own]
    matched = np.array([place in rows for place in wanted], bool)
    if not matched.any():
        raise DataError(
            f"none of its {len(rows)} rows is one of ours: it has {unknown[0] if unknown else ''}, "
            f"we have {_row_text(our_keys[0]) if our_keys else 'none'}; both must be written the "
            "same way"
        )
    chosen = [rows[place] for place in wanted if place in rows]
    both = ours.metadata[matched]
    joined = Profiles(both, theirs.features[chosen], theirs.names, theirs.precision)
    wells = (
        list(zip(joined.values(WELL), theirs.values(WELL)[chosen], strict=True))
        if WELL in on
        else []
    )
    return Joined(
        joined,
        unknown,
        [_row_text(our_keys[row]) for row in np.flatnonzero(~matched)],
        [(str(own), str(other)) for own, other in wells if str(own) != str(other)],
    )


def require_different_objects(profiles: Profiles) -> None:
    """Refuse a table of single objects in which one occurs twice.

    CellProfiler numbers images from 1 in each folder of output. Tables of several folders that are
    joined by that number alone give the cells of each folder to the wells of all.

    Raises
    ------
    DataError
        Two rows have the same numbers of image and object, and do not differ in plate, well or
        another column of metadata that is not a place.
    """
    keys = object_keys(map(str, profiles.metadata.columns))
    if not keys:
        return
    repeated = profiles.metadata.duplicated(keys)
    if repeated.any():
        second = int(repeated.to_numpy().argmax())
        object_of = profiles.metadata.groupby(keys, dropna=False).ngroup().to_numpy()
        first = int((object_of == object_of[second]).argmax())
        numbers = {name: profiles.metadata[name].iloc[second] for name in keys}
        raise DataError(
            f"rows {first + 1} and {second + 1} are the same object ({row_text(numbers)}), and "
            f"{counted(int(repeated.sum()), 'row repeats', 'rows repeat')} another: ImageNumber "
            "begins at 1 in each folder of CellProfiler. Join Nuclei.csv and Image.csv within each "
            "folder before the folders are put together, and add a column that names the folder, "
            "such as Metadata_Site"
        )


def without_undefined(profiles: Profiles) -> tuple[Profiles, dict[str, LeftOut]]:
    """Leave out the features that are not finite in every profile.

    Returns
    -------
    profiles : Profiles
    left_out : dict
        Feature to the reason, with the number of profiles in which it is undefined.

    Raises
    ------
    DataError
        No feature is left.
    """
    broken = (~np.isfinite(profiles.features)).sum(axis=0)
    kept = np.flatnonzero(broken == 0)
    left_out = {
        profiles.names[column]: LeftOut(
            "undefined", values={"undefined": int(broken[column]), "n": len(profiles)}
        )
        for column in np.flatnonzero(broken)
    }
    if not len(kept):
        raise DataError(f"none of its {len(broken)} features is defined in every profile")
    names = [profiles.names[column] for column in kept]
    return profiles.with_features(profiles.features[:, kept], names), left_out


def _as_text(profiles: Profiles, columns: Sequence[str]) -> Profiles:
    """Write the columns as text; 24277 may have been read as a number."""
    for column in columns:
        values = profiles.values(column)
        if np.issubdtype(values.dtype, np.number):
            whole = np.isfinite(values) & (values == np.round(values))
            text = [
                str(int(value)) if good else str(value)
                for value, good in zip(values, whole, strict=True)
            ]
            profiles = profiles.with_column(column, text)
    return profiles


def _keys(profiles: Profiles, columns: Sequence[str]) -> list[tuple[str, ...]]:
    parts = [[str(value) for value in profiles.values(column)] for column in columns]
    return list(zip(*parts, strict=True))


def _places(keys: Sequence[tuple[str, ...]], columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Write the well of each key in one spelling.

    Raises
    ------
    DataError
        Two keys are one well in two spellings.
    """
    places = [
        tuple(
            place_name(part) if column == WELL else part
            for column, part in zip(columns, key, strict=True)
        )
        for key in keys
    ]
    first: dict[tuple[str, ...], tuple[str, ...]] = {}
    for place, key in zip(places, keys, strict=True):
        if (other := first.setdefault(place, key)) != key:
            raise DataError(
                f"the rows {_row_text(other)} and {_row_text(key)} are one well, written in two "
                "ways; write it in one way"
            )
    return places


def _row_text(key: tuple[str, ...]) -> str:
    return " ".join(part or "(blank)" for part in key)
