"""What every step of a normalization is: fitted on some profiles, applied to others."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.profiling.moments import CellMoments, Group, Moments
from deepprofiler.profiling.profile_files import require_mask
from deepprofiler.profiling.profiles import Profiles


class Normalizer(ABC):
    """Fitted on some profiles, applied to others.

    Parameters of a subclass are kept in attributes of the same name, so that a fitted step can be
    saved and made again.

    Attributes
    ----------
    name : str
        As a config names it, and as its notes and errors begin.
    names_in_, names_ : list of str
        Features expected, and features given.
    left_out_ : dict
        From a feature that is left out to the reason.
    reference_ : str
        What the step was fitted on, in words.
    n_ : int or dict
        How many wells or cells that were; a dict where each group has its own.
    notes_ : list of str
        What the fit did, in sentences: reference, n, d, rank, what was left out.
    """

    name: ClassVar[str]
    names_in_: list[str]
    names_: list[str]
    left_out_: dict[str, str]
    reference_: str
    n_: int | dict[Any, int]
    notes_: list[str]

    @abstractmethod
    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Learn from a reference.

        Parameters
        ----------
        profiles : Profiles
            Well profiles that may take part in a fit: those with enough cells.
        controls : ndarray of bool, (n,), optional
            Which of them are negative controls. None: all of them.
        cells : CellMoments, optional
            Moments of the negative controls' cells, in the same features.
        """

    @abstractmethod
    def transform(self, profiles: Profiles) -> Profiles:
        """Return the profiles in normalized features, (n, E) float64.

        Raises
        ------
        DataError
            The features are not those of the fit, or :meth:`covers` is False for a profile.
        """

    @abstractmethod
    def covers(self, profiles: Profiles) -> np.ndarray:
        """Tell which profiles can be transformed, (n,) bool."""

    def transform_moments(self, cells: CellMoments) -> CellMoments | None:
        """Return the moments of the cells in normalized features.

        None where they cannot be known, since wells of one plate are treated differently: what
        comes after such a step is fitted on wells.
        """
        self._check_names(cells.names)
        return None

    def params(self) -> dict[str, Any]:
        """Return what the step was made with, by parameter."""
        return {key: getattr(self, key) for key in inspect.signature(type(self)).parameters}

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what :meth:`transform` needs beside the attributes of every normalizer.

        Returns
        -------
        facts : dict
            What JSON can hold.
        arrays : dict
            Name to array.
        """

    @abstractmethod
    def restore(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take what :meth:`state` gave."""

    def _check_names(self, names: list[str]) -> None:
        if not hasattr(self, "names_in_"):
            raise DataError(f"{type(self).__name__} is not fitted; call fit first")
        if names != self.names_in_:
            differ = sorted(set(names) ^ set(self.names_in_))
            what = f"{len(differ)} differ, such as {differ[0]}" if differ else "the order differs"
            raise DataError(f"these are not the features of the fit: {what}")


def control_rows(profiles: Profiles, controls: np.ndarray | None) -> np.ndarray:
    """Which profiles a fit on controls may use, (n,) bool; all where controls are not known."""
    if controls is None:
        return np.ones(len(profiles), bool)
    return require_mask(controls, len(profiles), "controls")


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
