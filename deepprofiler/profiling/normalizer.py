"""The contract of every normalizer, what a fit reports, and normalizers that are affine maps."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.profiling.moments import CellMoments, Group, Moments
from deepprofiler.profiling.profiles import Profiles, require_mask

Unit = Literal["cells", "wells"]
ReferenceKind = Literal["controls", "all"]


@dataclass(frozen=True)
class LeftOut:
    """Why a feature is left out.

    Attributes
    ----------
    code : str
        ``no-spread``, ``no-median-deviation``, ``infinite``, ``too-large-to-square``,
        ``too-few-values``, ``one-value`` or ``undefined``. ``text``: read from a file of version
        1, which holds the reason in words.
    column : str or None
        Column of metadata, such as the plate, where a single group has this reason.
    group : object
        Value of that column.
    values : mapping
        Numbers that belong to the reason, by name.
    """

    code: str
    column: str | None = None
    group: Any = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchFit:
    """The fit of one batch: its number of control vectors, their rank, and their shrinkage."""

    batch: Any
    n: int
    rank: int
    shrinkage: float | None = None


@dataclass(frozen=True)
class PlateControls:
    """The number of negative control wells of a plate."""

    plate: Any
    n: int


@dataclass(frozen=True)
class LargestValue:
    """The largest absolute value after a normalization, and where it is.

    Attributes
    ----------
    profile : mapping
        The first columns of metadata of the profile.
    feature : str
    value : float
    """

    profile: Mapping[str, Any]
    feature: str
    value: float


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """What a normalizer was fitted on, and the numbers that describe the fit.

    Attributes
    ----------
    reference : {"controls", "all"}
        Negative controls, or all profiles.
    unit : {"cells", "wells"}
        What ``n`` counts.
    n : int or dict
        Number of wells or cells; from group to number where each group has its own reference.
    d : int
        Number of features given to the fit; for a fit on the controls' covariance, of those used.
    group : str or None
        Column of metadata whose values have a reference each.
    rank : int or None
        Rank of the reference's covariance.
    shrinkage : float or None
        Weight of the identity's multiple in the covariance, 0 … 1.
    added : float or None
        Number added to every eigenvalue, where that is the rule.
    batches : tuple of BatchFit
        Batches that were aligned.
    fewest_controls : PlateControls or None
        The plate whose controls were too few for a reference of each plate.
    missing : int
        Values that are missing before and after.
    largest : LargestValue or None
        Among the profiles of the fit, after normalization.
    largest_effect : float or None
        Largest absolute effect of a row or column.
    counts : tuple of float or None
        Smallest and largest number of cells of a well of the reference.
    mixed : mapping
        From a column of metadata to the number of its values that were mixed.
    """

    reference: ReferenceKind
    unit: Unit = "wells"
    n: int | dict[Any, int]
    d: int
    group: str | None = None
    rank: int | None = None
    shrinkage: float | None = None
    added: float | None = None
    batches: tuple[BatchFit, ...] = ()
    fewest_controls: PlateControls | None = None
    missing: int = 0
    largest: LargestValue | None = None
    largest_effect: float | None = None
    counts: tuple[float, float] | None = None
    mixed: Mapping[str, int] = field(default_factory=dict)


class Normalizer(ABC):
    """Fitted on some profiles, applied to others.

    As in scikit-learn, a parameter is kept in an attribute of the same name, so that a fitted
    normalizer can be saved and built again; what a fit learns has a trailing underscore.

    Attributes
    ----------
    name : str
        As a configuration names it. Registering a class in
        :data:`~deepprofiler.registry.NORMALIZERS` sets it.
    names_in_, names_ : list of str
        Features expected, and features returned.
    left_out_ : dict
        From a feature that is left out to a :class:`LeftOut`.
    fitted_ : FitSummary
        What the fit was made on.
    """

    name: ClassVar[str]
    names_in_: list[str]
    names_: list[str]
    left_out_: dict[str, LeftOut]
    fitted_: FitSummary

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

        None where they cannot be computed, since wells of one plate are treated differently: the
        normalizers after such a one are fitted on wells.
        """
        self._check_names(cells.names)
        return None

    def params(self) -> dict[str, Any]:
        """Return the values of the parameters by name."""
        return {key: getattr(self, key) for key in inspect.signature(type(self)).parameters}

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what :meth:`transform` needs, beside the attributes of every normalizer.

        Returns
        -------
        facts : dict
            Values that JSON can hold.
        arrays : dict
            Name to array.
        """

    @abstractmethod
    def restore(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Set what :meth:`state` returned."""

    def _check_names(self, names: list[str]) -> None:
        if not hasattr(self, "names_in_"):
            raise DataError(f"{type(self).__name__} is not fitted; call fit first")
        if names != self.names_in_:
            differ = sorted(set(names) ^ set(self.names_in_))
            problem = (
                f"{len(differ)} differ, such as {differ[0]}" if differ else "the order differs"
            )
            raise DataError(f"these are not the features of the fit: {problem}")


def control_rows(profiles: Profiles, controls: np.ndarray | None) -> np.ndarray:
    """Which profiles a fit on controls may use, (n,) bool; all where controls are not given."""
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
        is_diagonal = self.matrix.ndim == 1
        scaled: np.ndarray = features * self.matrix if is_diagonal else features @ self.matrix
        mapped: np.ndarray = scaled + self.offset
        return mapped

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
            "matrix": np.stack([affine.matrix for affine in maps]),
            "offset": np.stack([affine.offset for affine in maps]),
        }

    def restore(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Set the maps that :meth:`state` returned."""
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
