"""Mean and covariance of many cells, without keeping the cells.

A well's cells are added and not kept; moments of wells, plates and batches are merged. All in
float64. A screen of P plates and D features needs 4 · P · D² bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepprofiler.errors import DataError


@dataclass(frozen=True)
class Moments:
    """Number, mean and scatter of vectors.

    Attributes
    ----------
    n : int
        Number of vectors.
    mean : ndarray, (D,)
    scatter : ndarray, (D, D)
        Sum of the outer products of the deviations from the mean: n times the covariance.
    """

    n: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def empty(cls, size: int) -> Moments:
        """Return the moments of no vectors of D = ``size`` features."""
        return cls(0, np.zeros(size), np.zeros((size, size)))

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """Return the moments of the rows of ``features`` (N, D); N may be 0."""
        features = np.asarray(features, np.float64)
        if not len(features):
            return cls.empty(features.shape[1])
        mean = features.mean(axis=0)
        deviations = features - mean
        return cls(len(features), mean, deviations.T @ deviations)

    def __add__(self, other: Moments) -> Moments:
        """Merge with the moments of other vectors (Chan et al. 1983: no cancellation)."""
        n = self.n + other.n
        if not n:
            return self
        step = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(step, step) * (self.n * other.n / n)
        return Moments(n, self.mean + step * (other.n / n), scatter)

    @property
    def covariance(self) -> np.ndarray:
        """(D, D), divided by n (the maximum-likelihood estimate, as shrinkage rules take it)."""
        return self.scatter / max(self.n, 1)

    @property
    def rank(self) -> int:
        """Rank of the covariance; what is below 1e-12 of its largest axis is rounding noise."""
        spread = np.abs(np.linalg.eigvalsh(self.scatter))
        rank = int((spread > 1e-12 * spread.max(initial=0)).sum())
        return max(0, min(rank, self.n - 1))


Group = tuple[tuple[str, Any], ...]


class CellMoments(Mapping[Group, Moments]):
    """Moments of cells by group, such as the negative controls of each plate.

    Like :class:`~deepprofiler.profiling.profiles.Profiles`, with moments in the place of features.
    A group is a tuple of pairs (column, value), so that its plate or batch can be read.

    Parameters
    ----------
    names : list of str
        D feature names.

    Attributes
    ----------
    kept : dict
        From a group to the number of cells, their mean (D,) and the upper triangle of their
        scatter, row by row, since it is symmetric.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.kept: dict[Group, tuple[int, np.ndarray, np.ndarray]] = {}
        self._upper = np.triu_indices(len(names))

    def __getitem__(self, group: Group) -> Moments:
        n, mean, triangle = self.kept[group]
        scatter = np.empty((len(mean), len(mean)))
        scatter[self._upper] = scatter.T[self._upper] = triangle
        return Moments(n, mean, scatter)

    def __setitem__(self, group: Group, moments: Moments) -> None:
        self.kept[group] = moments.n, moments.mean, moments.scatter[self._upper]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)

    def add(self, group: Mapping[str, Any], features: np.ndarray) -> int:
        """Add a well's cells to a group.

        Parameters
        ----------
        group : mapping
            Columns of metadata to values, such as the well's plate and batch.
        features : ndarray, (N, D)

        Returns
        -------
        int
            Number of cells left out since a feature of theirs is not finite.
        """
        finite = np.isfinite(features).all(axis=1)
        key = tuple(group.items())
        added = Moments.of(features[finite])
        self[key] = self[key] + added if key in self else added
        return int(len(features) - finite.sum())

    def by(self, column: str | None) -> dict[Any, Moments]:
        """Merge the groups by one column of metadata; without a column, all under ``""``.

        Raises
        ------
        DataError
            The groups do not have the column.
        """
        merged: dict[Any, Moments] = {}
        for key, moments in self.items():
            value = "" if column is None else self.value(key, column)
            merged[value] = merged[value] + moments if value in merged else moments
        return merged

    def changed(self, names: list[str], change: Callable[[Group, Moments], Moments]) -> CellMoments:
        """Return the moments of changed cells, computed again for each access to a group.

        Parameters
        ----------
        names : list of str
            Of the changed cells' features.
        change : callable
            From a group and its moments to those of the changed cells.
        """
        return _Changed(self, names, change)

    @staticmethod
    def value(group: Group, column: str) -> Any:
        """Return a group's value of a column. Raises DataError where there is none."""
        values = dict(group)
        if column not in values:
            raise DataError(
                f"the cells were grouped by {', '.join(values) or 'nothing'}; group them by "
                f"{column} too"
            )
        return values[column]


class _Changed(CellMoments):
    """Moments that are computed from those of another, and not kept."""

    def __init__(
        self,
        source: CellMoments,
        names: list[str],
        change: Callable[[Group, Moments], Moments],
    ) -> None:
        self.names = names
        self._source, self._change = source, change

    def __getitem__(self, group: Group) -> Moments:
        return self._change(group, self._source[group])

    def __setitem__(self, group: Group, moments: Moments) -> None:
        raise TypeError("add cells before they are changed")

    def __iter__(self) -> Iterator[Group]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)


def pooled(moments: Iterable[Moments], size: int) -> Moments:
    """Merge moments of D = ``size`` features into one."""
    total = Moments.empty(size)
    for part in moments:
        total = total + part
    return total
