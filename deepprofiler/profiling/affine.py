"""What every normalizer is: an affine map of the features for each group of profiles.

Since the maps are affine, the mean of mapped cells is the mapped mean, and the moments of cells
can be passed through a chain without reading the cells again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.profiling.moments import CellMoments, Moments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.tables import spoken


@dataclass(frozen=True)
class AffineMap:
    """x → x @ matrix + offset; matrix (D, E), or its diagonal (E,) alone; offset (E,)."""

    matrix: np.ndarray
    offset: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Map rows, (n, D) to (n, E)."""
        if self.matrix.ndim == 1:
            return features * self.matrix + self.offset
        return features @ self.matrix + self.offset

    def moments(self, moments: Moments) -> Moments:
        """Return the moments of mapped vectors."""
        if self.matrix.ndim == 1:
            scatter = moments.scatter * np.outer(self.matrix, self.matrix)
        else:
            scatter = self.matrix.T @ moments.scatter @ self.matrix
        return Moments(moments.n, self(moments.mean), scatter)


class Normalizer(ABC):
    """Fitted on some profiles, applied to others.

    Attributes
    ----------
    names_in_, names_ : list of str
        Features expected, and features given.
    columns_ : ndarray of int, (E,)
        Which of the expected features are used.
    group_ : str or None
        Column of metadata that decides the map; None: one map for all.
    maps_ : dict
        The map of each value of that column, under ``""`` where there is one for all.
    left_out_ : dict
        From a feature that is left out to the reason.
    notes_ : list of str
        What the fit did, in sentences: reference, n, d, rank, what was left out.
    """

    names_in_: list[str]
    names_: list[str]
    columns_: np.ndarray
    group_: str | None
    maps_: dict[Any, AffineMap]
    left_out_: dict[str, str]
    notes_: list[str]

    @abstractmethod
    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Learn the maps.

        Parameters
        ----------
        profiles : Profiles
            Well profiles that may take part in a fit: those with enough cells.
        controls : ndarray of bool, (n,), optional
            Which of them are negative controls. None: all of them.
        cells : CellMoments, optional
            Moments of the negative controls' cells, in the same features.
        """

    def transform(self, profiles: Profiles) -> Profiles:
        """Return the profiles in normalized features, (n, E) float64.

        Raises
        ------
        DataError
            The features are not those of the fit, or a group took no part in it.
        """
        self._check_names(profiles.names)
        features = np.empty((len(profiles), len(self.names_)))
        for key, rows in profiles.groups([self.group_] if self.group_ else []):
            chosen = profiles.features[np.ix_(rows, self.columns_)].astype(np.float64)
            features[rows] = self._map(key[0] if key else "")(chosen)
        return profiles.with_features(features, self.names_)

    def transform_moments(self, cells: CellMoments) -> CellMoments:
        """Return the moments of the cells in normalized features. Raises like transform."""
        self._check_names(cells.names)
        mapped = CellMoments(list(self.names_))
        for key, moments in cells.groups.items():
            value = cells.value(key, self.group_) if self.group_ else ""
            chosen = Moments(
                moments.n,
                moments.mean[self.columns_],
                moments.scatter[np.ix_(self.columns_, self.columns_)],
            )
            mapped.groups[key] = self._map(value).moments(chosen)
        return mapped

    def _map(self, value: Any) -> AffineMap:
        if value not in self.maps_:
            group = f"{spoken(self.group_ or '')} {value!r}"
            raise DataError(
                f"{type(self).__name__} was not fitted for {group}, only for "
                f"{', '.join(map(str, self.maps_))}: no profile of that group took part in "
                "the fit. Lower min_cells, or leave the group out"
            )
        return self.maps_[value]

    def _check_names(self, names: list[str]) -> None:
        if not hasattr(self, "maps_"):
            raise DataError(f"{type(self).__name__} is not fitted; call fit first")
        if names != self.names_in_:
            differ = sorted(set(names) ^ set(self.names_in_))
            what = f"{len(differ)} differ, such as {differ[0]}" if differ else "the order differs"
            raise DataError(f"these are not the features of the fit: {what}")
