"""From cells to wells and from wells to treatments, with the counts going along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.profiling.profiles import Profiles

Weight = Literal["cells", "wells"]


class WellMeans:
    """Gathers the mean profile of one well after the other; the cells are not kept.

    Parameters
    ----------
    names : list of str
        D feature names.
    count : str
        Column of metadata that takes the number of cells.
    """

    def __init__(self, names: Sequence[str], count: str) -> None:
        self.names = list(names)
        self.count = count
        self._metadata: list[dict[str, Any]] = []
        self._means: list[np.ndarray] = []

    def add(self, metadata: Mapping[str, Any], features: np.ndarray) -> int:
        """Add a well.

        Parameters
        ----------
        metadata : mapping
            The well's columns of metadata.
        features : ndarray, (N, D)
            Its cells; N may be 0.

        Returns
        -------
        int
            Number of cells left out since a feature of theirs is not finite; they are in neither
            mean nor count.
        """
        if features.shape[1:] != (len(self.names),):
            raise DataError(
                f"a well holds features of shape {features.shape}, where others have "
                f"{len(self.names)} features: profile all wells with the same layers ({metadata})"
            )
        good = features[np.isfinite(features).all(axis=1)]
        self._metadata.append({**metadata, self.count: len(good)})
        if len(good):
            self._means.append(good.mean(axis=0, dtype=np.float64))
        return len(features) - len(good)

    def finish(self) -> tuple[Profiles, pd.DataFrame]:
        """Return what was gathered.

        Returns
        -------
        profiles : Profiles
            The wells with at least one cell, in the order added; a well without cells has no
            features, so it cannot be a row here.
        table : DataFrame
            Metadata and count of every well, those with 0 cells too.
        """
        table = pd.DataFrame(self._metadata)
        filled = table[table[self.count] > 0] if len(table) else table
        means = np.stack(self._means) if self._means else np.zeros((0, len(self.names)))
        return Profiles(filled, means, self.names), table


def flag_small_wells(profiles: Profiles, *, count: str, minimum: int, flag: str) -> Profiles:
    """Mark the wells with too few cells, which stay in the output and out of every fit.

    Parameters
    ----------
    profiles : Profiles
        One row per well.
    count : str
        Column with the number of cells.
    minimum : int
        The fewest cells of a well that is used for fits.
    flag : str
        Column that takes True for wells with fewer.
    """
    return profiles.with_column(flag, _counts(profiles, count) < minimum)


def group_means(
    profiles: Profiles,
    by: Sequence[str],
    *,
    count: str,
    members: str,
    weight: Weight = "cells",
) -> Profiles:
    """Mean profile of each group of wells, such as each treatment or each treatment in each batch.

    Parameters
    ----------
    profiles : Profiles
        One row per well.
    by : sequence of str
        Columns that make a group. Blank values are a group like any other.
    count : str
        Column with the number of cells; summed in the result.
    members : str
        Column that takes the number of wells.
    weight : {"cells", "wells"}
        A mean over all cells of the group (the paper), or over its wells.

    Returns
    -------
    Profiles
        One row per group, sorted by its values; of the metadata, the columns that have one value
        within every group are kept. The counts of wells add up to the number of rows given.

    Raises
    ------
    DataError
        There are no profiles, a column is missing or a count is not a number above 0.
    """
    if not len(profiles):
        raise DataError("there are no profiles to aggregate: no well has cells")
    counts = _counts(profiles, count)
    weights = counts if weight == "cells" else np.ones(len(profiles))
    groups = profiles.groups(by)
    means = np.stack(
        [np.average(profiles.features[rows], axis=0, weights=weights[rows]) for _, rows in groups]
    )
    first = np.array([rows[0] for _, rows in groups])
    number = np.empty(len(profiles), dtype=np.intp)
    for position, (_, rows) in enumerate(groups):
        number[rows] = position
    kept = [
        name
        for name in profiles.metadata.columns
        if name not in (count, members) and _constant(profiles.metadata[name], first[number])
    ]
    table = profiles.metadata.iloc[first][kept].reset_index(drop=True)
    table[count] = np.bincount(number, weights=counts).astype(np.int64)
    table[members] = np.bincount(number)
    return Profiles(table, means, profiles.names)


def cell_count_profiles(profiles: Profiles, *, count: str) -> Profiles:
    """Profiles whose only feature is the number of cells: a baseline that needs no images.

    One number has no angle; compare such profiles by ``metric="euclidean"``.
    """
    return profiles.with_features(_counts(profiles, count)[:, None], ["cell_count"])


def _constant(column: pd.Series, representative: np.ndarray) -> bool:
    """Tell whether each value equals that of its group's representative row."""
    codes, _ = pd.factorize(column, use_na_sentinel=False)
    return bool((codes == codes[representative]).all())


def _counts(profiles: Profiles, count: str) -> np.ndarray:
    values = profiles.values(count)
    if values.dtype == object:
        raise DataError(f"{count} holds text; read the profiles with numeric=[{count!r}]")
    wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(wrong):
        raise DataError(
            f"{profiles.describe(int(wrong[0]))}: {count} is {values[wrong[0]]}; a profile needs "
            "at least one cell"
        )
    return values.astype(np.float64)
