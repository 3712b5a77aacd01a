"""Profiles of another program: averaged, matched with ours by row, undefined features left out.

A file of its own: users match tables of other programs with it from Python as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.profiling.normalizer import LeftOut
from deepprofiler.profiling.profiles import Profiles


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
    """

    profiles: Profiles
    unknown: list[str]
    missing: list[str]


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
    return Profiles(table, means, profiles.names)


def join(ours: Profiles, theirs: Profiles, on: Sequence[str]) -> Joined:
    """Find the features of another table for our rows.

    Parameters
    ----------
    ours : Profiles
        One row for each combination of the columns ``on``.
    theirs : Profiles
        Rows that share those columns are averaged with :func:`defined_means`; a row whose
        features are all undefined is ignored. Whole numbers are compared as text.
    on : sequence of str

    Raises
    ------
    DataError
        Theirs lacks one of the columns, or no row is in both.
    """
    theirs = defined_means(_as_text(theirs, on), on)
    theirs = theirs.subset(np.isfinite(theirs.features).any(axis=1))
    rows = {key: row for row, key in enumerate(_keys(theirs, on))}
    wanted = _keys(ours, on)
    matched = np.array([key in rows for key in wanted], bool)
    own = set(wanted)
    unknown = [_row_text(key) for key in rows if key not in own]
    if not matched.any():
        raise DataError(
            f"none of its {len(rows)} rows is one of ours: it has {unknown[0] if unknown else ''}, "
            f"we have {_row_text(wanted[0]) if wanted else 'none'}; both must be written the same "
            "way"
        )
    features = theirs.features[[rows[key] for key in wanted if key in rows]]
    return Joined(
        ours.subset(matched).with_features(features, theirs.names),
        unknown,
        [_row_text(key) for key in wanted if key not in rows],
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


def _row_text(key: tuple[str, ...]) -> str:
    return " ".join(part or "(blank)" for part in key)
