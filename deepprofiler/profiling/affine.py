"""Affine maps of the features, one for each group of profiles.

Since the maps are affine, the mean of mapped cells is the mapped mean, and the moments of cells
can be passed through a chain without reading the cells again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.profiling.moments import CellMoments, Group, Moments
from deepprofiler.profiling.normalizer import Normalizer
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


class Affine(Normalizer):
    """A normalizer that is an affine map of the features for each group of profiles.

    Attributes
    ----------
    columns_ : ndarray of int, (E,)
        Which of the expected features are used.
    group_ : str or None
        Column of metadata that decides the map; None: one map for all.
    maps_ : dict
        The map of each value of that column, under ``""`` where there is one for all.
    """

    columns_: np.ndarray
    group_: str | None
    maps_: dict[Any, AffineMap]

    def transform(self, profiles: Profiles) -> Profiles:
        """Return the profiles in normalized features; see :class:`Normalizer`."""
        self._check_names(profiles.names)
        features = np.empty((len(profiles), len(self.names_)))
        for key, rows in profiles.groups([self.group_] if self.group_ else []):
            chosen = profiles.features[np.ix_(rows, self.columns_)].astype(np.float64)
            features[rows] = self._map(key[0] if key else "")(chosen)
        return profiles.with_features(features, self.names_)

    def transform_moments(self, cells: CellMoments) -> CellMoments:
        """Return the moments of the cells in normalized features. Raises like transform."""
        self._check_names(cells.names)
        maps = {
            group: self._map(cells.value(group, self.group_) if self.group_ else "")
            for group in cells
        }
        square = np.ix_(self.columns_, self.columns_)

        def mapped(group: Group, moments: Moments) -> Moments:
            mean, scatter = moments.mean[self.columns_], moments.scatter[square]
            return maps[group].moments(Moments(moments.n, mean, scatter))

        return cells.changed(list(self.names_), mapped)

    def covers(self, profiles: Profiles) -> np.ndarray:
        """Tell which profiles are of groups that took part in the fit, (n,) bool."""
        if self.group_ is None:
            return np.ones(len(profiles), bool)
        return np.array([value in self.maps_ for value in profiles.values(self.group_)], bool)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the maps; see :class:`Normalizer`."""
        maps = list(self.maps_.values())
        facts = {"group": self.group_, "keys": list(self.maps_)}
        return facts, {
            "columns": self.columns_,
            "matrix": np.stack([one.matrix for one in maps]),
            "offset": np.stack([one.offset for one in maps]),
        }

    def restore(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take the maps that :meth:`state` gave."""
        self.group_, self.columns_ = facts["group"], arrays["columns"]
        self.maps_ = {
            key: AffineMap(matrix, offset)
            for key, matrix, offset in zip(
                facts["keys"], arrays["matrix"], arrays["offset"], strict=True
            )
        }

    def _map(self, value: Any) -> AffineMap:
        if value not in self.maps_:
            group = f"{spoken(self.group_ or '')} {value!r}"
            raise DataError(
                f"{type(self).__name__} was not fitted for {group}, only for "
                f"{', '.join(map(str, self.maps_))}: no profile of that group took part in "
                "the fit. Lower min_cells, or leave the group out"
            )
        return self.maps_[value]
