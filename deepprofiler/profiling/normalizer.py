"""What every step of a normalization is: fitted on some profiles, applied to others."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.tables import require_mask


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
