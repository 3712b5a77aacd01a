"""From cells to wells and from wells to treatments, with the counts going along."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from deepprofiler.columns import FLAG
from deepprofiler.errors import DataError
from deepprofiler.profiling.profiles import Profiles

Weight = Literal["cells", "wells"]
Statistic = Literal["mean", "median", "site-medians"]


class WellProfiles:
    """Gathers the profile of one well after the other; the cells are not kept.

    Parameters
    ----------
    names : list of str
        D feature names.
    count : str
        Column of metadata that takes the number of cells.
    statistic : {"mean", "median", "site-medians"}
        Over the cells of a well, feature by feature; ``site-medians`` is the mean of the medians
        of its sites, as in the original's handbook, so that a site with few cells counts as much.
    """

    def __init__(self, names: Sequence[str], count: str, statistic: Statistic = "mean") -> None:
        if statistic not in get_args(Statistic):
            raise ValueError(f"statistic={statistic!r}; choose {', '.join(get_args(Statistic))}")
        self.names = list(names)
        self.count = count
        self.statistic = statistic
        self._metadata: list[dict[str, Any]] = []
        self._profiles: list[np.ndarray] = []
        self._precision: str | None = None

    def add(
        self,
        metadata: Mapping[str, Any],
        features: np.ndarray,
        sites: npt.ArrayLike | None = None,
    ) -> int:
        """Add a well.

        Parameters
        ----------
        metadata : mapping
            The well's columns of metadata.
        features : ndarray, (N, D)
            Its cells; N may be 0.
        sites : array_like, (N,), optional
            The site of each cell; needed for ``site-medians``.

        Returns
        -------
        int
            Number of cells left out since a feature of theirs is not finite; they are in neither
            profile nor count.
        """
        if features.shape[1:] != (len(self.names),):
            raise DataError(
                f"a well holds features of shape {features.shape}, where others have "
                f"{len(self.names)} features: profile all wells with the same layers ({metadata})"
            )
        finite = np.isfinite(features).all(axis=1)
        good = features[finite]
        self._metadata.append({**metadata, self.count: len(good)})
        if len(good):
            own = None if sites is None else np.asarray(sites)[finite]
            self._profiles.append(self._profile(good, own))
            self._precision = str(features.dtype) if features.dtype.kind == "f" else None
        return len(features) - len(good)

    def _profile(self, features: np.ndarray, sites: np.ndarray | None) -> np.ndarray:
        if self.statistic == "mean":
            return np.asarray(features.mean(axis=0, dtype=np.float64))
        if self.statistic == "median":
            return np.asarray(np.median(features, axis=0), np.float64)
        if sites is None:
            raise ValueError("site-medians needs the site of each cell")
        medians = [np.median(features[sites == site], axis=0) for site in pd.unique(sites)]
        return np.asarray(np.mean(medians, axis=0, dtype=np.float64))

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
        features = np.stack(self._profiles) if self._profiles else np.zeros((0, len(self.names)))
        return Profiles(filled, features, self.names, self._precision), table


class CellSample:
    """Draws single cells, the same number from every well, while wells are read one by one.

    Where there are more wells than cells to draw, one cell each of randomly chosen wells is drawn.

    Parameters
    ----------
    wells : int
        Number of wells.
    cells : int
        Most cells to draw in all.
    seed : int
    """

    def __init__(self, wells: int, cells: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._per_well = max(1, cells // max(1, wells))
        self._wells = set(range(wells))
        if wells > cells:
            self._wells = set(self._rng.permutation(wells)[:cells].tolist())
        self._tables: list[pd.DataFrame] = []
        self._features: list[np.ndarray] = []

    def add(
        self,
        well: int,
        metadata: Mapping[str, Any],
        cells: pd.DataFrame,
        features: np.ndarray,
    ) -> None:
        """Draw from the cells of one well.

        Parameters
        ----------
        well : int
            Position of the well, from 0; wells must be added in order.
        metadata : mapping
            The well's columns of metadata.
        cells : DataFrame
            Columns to keep of each of its N cells.
        features : ndarray, (N, D)
            Cells with a feature that is not finite are drawn, and then left out.
        """
        if well not in self._wells:
            return
        rows = np.sort(self._rng.permutation(len(features))[: self._per_well])
        rows = rows[np.isfinite(features[rows]).all(axis=1)]
        if not len(rows):
            return
        table = pd.DataFrame([metadata] * len(rows))
        for name, column in cells.items():
            table[name] = column.to_numpy()[rows]
        self._tables.append(table)
        self._features.append(features[rows])

    def finish(self, names: Sequence[str], columns: Sequence[str]) -> Profiles:
        """Return the sampled cells; the table has no rows where no cell was drawn.

        Parameters
        ----------
        names : sequence of str
            D feature names.
        columns : sequence of str
            Columns of metadata of an empty table.
        """
        if not self._tables:
            empty = np.empty((0, len(names)), np.float32)
            return Profiles(pd.DataFrame(columns=list(columns)), empty, list(names))
        table = pd.concat(self._tables, ignore_index=True)
        return Profiles(table, np.concatenate(self._features), list(names))


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


def with_enough_cells(profiles: Profiles, *, flag: str = FLAG) -> Profiles:
    """Leave out the wells that are flagged for too few cells.

    Parameters
    ----------
    profiles : Profiles
        One row per well.
    flag : str
        Column that :func:`flag_small_wells` added.
    """
    return profiles.subset(~profiles.values(flag).astype(bool))


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
    return _grouped(profiles, by, count, members, weight, _weighted_mean)


def group_medians(
    profiles: Profiles,
    by: Sequence[str],
    *,
    count: str,
    members: str,
    weight: Weight = "cells",
) -> Profiles:
    """Median profile of each group of wells, feature by feature.

    Parameters
    ----------
    profiles, by, count, members
        As for :func:`group_means`.
    weight : {"cells", "wells"}
        With cells, each well counts as often as it has cells: a weighted median of wells, which is
        not the median of the cells themselves.

    Returns
    -------
    Profiles
        As from :func:`group_means`.

    Raises
    ------
    DataError
        As :func:`group_means`.
    """
    return _grouped(profiles, by, count, members, weight, _weighted_median)


def _grouped(
    profiles: Profiles,
    by: Sequence[str],
    count: str,
    members: str,
    weight: Weight,
    center: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Profiles:
    """Groups of wells, each by the center of its features (n, D) with weights (n,)."""
    if weight not in get_args(Weight):
        raise ValueError(f"weight={weight!r}; choose {' or '.join(get_args(Weight))}")
    if not len(profiles):
        raise DataError("there are no profiles to aggregate")
    counts = _counts(profiles, count)
    weights = counts if weight == "cells" else np.ones(len(profiles))
    groups = profiles.groups(by)
    centers = np.stack([center(profiles.features[rows], weights[rows]) for _, rows in groups])
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
    return Profiles(table, centers, profiles.names, profiles.precision)


def _weighted_mean(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.average(features, axis=0, weights=weights)


def _weighted_median(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Middle of where half of the weight lies below and half above, by feature."""
    order = np.argsort(features, axis=0)
    ranked = np.take_along_axis(features, order, axis=0)
    below = np.cumsum(weights[order], axis=0)
    half = below[-1] / 2
    low = (below >= half).argmax(axis=0)
    high = (below > half).argmax(axis=0)
    columns = np.arange(features.shape[1])
    return np.asarray((ranked[low, columns] + ranked[high, columns]) / 2)


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
