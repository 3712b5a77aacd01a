"""Standardization: every feature by its mean and spread."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.profiling.affine import AffineMap, Normalizer
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.tables import spoken

CONTROLS_PER_PLATE = 16
"""Six wells of a plate are too few: their spread is off by a third, and NSC falls by it."""

LARGEST = 500.0
"""A standardized value beyond this is reported: its feature rules every similarity."""


class Standardize(Normalizer):
    """(x − mean) / standard deviation of every feature.

    A feature without a spread, or with infinite values, in the reference of any group is
    undefined: it is left out everywhere and listed. Missing values (NaN) are left out of mean and
    deviation, stay missing, and are counted in the notes.

    Parameters
    ----------
    plate : str, optional
        Column of metadata with the plate.
    per : {"auto", "screen", "plate"}
        ``screen``: over all wells given. ``plate``: on each plate's negative controls. ``auto``:
        per plate where every plate has at least 16 negative controls, else over the screen.

    Attributes
    ----------
    mean_, deviation_ : dict
        Of each group (plate, or ``""`` for the screen), (E,); the deviation is divided by n.
    n_ : dict
        Wells of each group's reference.
    largest_ : float
        Largest absolute value among all profiles given to ``fit``, after standardization.
    """

    def __init__(
        self, *, plate: str | None = None, per: Literal["auto", "screen", "plate"] = "auto"
    ) -> None:
        if per not in ("auto", "screen", "plate"):
            raise ValueError(f"per={per!r}; choose auto, screen or plate")
        if per == "plate" and plate is None:
            raise ValueError("per='plate' needs the name of the plate's column")
        self.plate = plate
        self.per = per

    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Learn mean and deviation from wells; see :class:`Normalizer`.

        Raises
        ------
        DataError
            A group has fewer than 2 wells in its reference, or no feature is defined.
        """
        self.notes_ = []
        reference = self._reference(profiles, controls)
        means, deviations, self.left_out_ = {}, {}, {}
        for key, rows in reference.items():
            where = f"{spoken(self.group_)} {key}" if self.group_ else "the screen"
            if len(rows) < 2:
                raise DataError(
                    f"standardize: {where} has {len(rows)} wells to fit on and needs 2 or more"
                )
            mean, deviation, undefined = _spread(profiles.features[rows].astype(np.float64))
            means[key], deviations[key] = mean, deviation
            for column, reason in undefined.items():
                self.left_out_.setdefault(profiles.names[column], f"{reason} in {where}")
        self.n_ = {key: len(rows) for key, rows in reference.items()}
        self.names_in_ = list(profiles.names)
        self.names_ = [name for name in profiles.names if name not in self.left_out_]
        if not self.names_:
            raise DataError(
                f"standardize: none of {len(profiles.names)} features varies; the first: "
                f"{profiles.names[0]} is {self.left_out_[profiles.names[0]]}"
            )
        self.columns_ = np.flatnonzero([name not in self.left_out_ for name in profiles.names])
        self.mean_ = {key: mean[self.columns_] for key, mean in means.items()}
        self.deviation_ = {key: one[self.columns_] for key, one in deviations.items()}
        self.maps_ = {
            key: AffineMap(1 / self.deviation_[key], -mean / self.deviation_[key])
            for key, mean in self.mean_.items()
        }
        self._report(profiles)
        return self

    def _reference(self, profiles: Profiles, controls: np.ndarray | None) -> dict[Any, np.ndarray]:
        """Return the rows that each group's mean is taken over, and set the group and a note."""
        everything = {"": np.arange(len(profiles))}
        self.group_ = None
        if self.per != "screen" and self.plate is not None and controls is not None:
            plates = {
                key: rows[np.asarray(controls, bool)[rows]]
                for (key,), rows in profiles.groups([self.plate])
            }
            fewest = min(plates, key=lambda key: len(plates[key]), default="")
            n = len(plates[fewest]) if plates else 0
            if self.per == "plate" or n >= CONTROLS_PER_PLATE:
                self.group_ = self.plate
                few = (
                    f"; fewer than {CONTROLS_PER_PLATE} are too few"
                    if n < CONTROLS_PER_PLATE
                    else ""
                )
                self.notes_.append(
                    f"standardize: on the negative controls of each of {len(plates)} plates, at "
                    f"least {n} wells{few}"
                )
                return plates
            self.notes_.append(
                f"standardize: over all {len(profiles)} wells of the screen, since plate {fewest} "
                f"has {n} negative controls and {CONTROLS_PER_PLATE} on every plate are needed"
            )
        elif self.per == "plate":
            raise DataError("standardize: per plate needs to know the negative controls")
        else:
            self.notes_.append(f"standardize: over all {len(profiles)} wells of the screen")
        return everything

    def _report(self, profiles: Profiles) -> None:
        if self.left_out_:
            name, reason = next(iter(self.left_out_.items()))
            self.notes_.append(
                f"standardize: {len(self.left_out_)} of {len(profiles.names)} features left out "
                f"as undefined, such as {name}: {reason}"
            )
        missing = int(np.isnan(profiles.features[:, self.columns_]).sum())
        if missing:
            self.notes_.append(f"standardize: {missing} missing values stay missing")
        scaled = np.abs(self.transform(profiles).features)
        scaled = np.where(np.isfinite(scaled), scaled, 0)
        self.largest_ = float(scaled.max(initial=0))
        if self.largest_ > LARGEST:
            row, column = np.unravel_index(int(scaled.argmax()), scaled.shape)
            self.notes_.append(
                f"standardize: {profiles.describe(int(row))}: {self.names_[column]} is "
                f"{self.largest_:.0f} deviations from the mean; beyond {LARGEST:.0f} one feature "
                "rules every similarity"
            )


def _spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Mean (D,), deviation (D,) and the reasons why columns are undefined, from values (n, D)."""
    known = ~np.isnan(values)
    n = known.sum(axis=0)
    filled = np.where(known & np.isfinite(values), values, 0)
    mean = filled.sum(axis=0) / np.maximum(n, 1)
    deviation = np.sqrt((np.where(known, filled - mean, 0) ** 2).sum(axis=0) / np.maximum(n, 1))
    # Below this share of the largest value a spread is rounding noise.
    constant = deviation <= 1e-10 * np.abs(filled).max(axis=0)
    undefined: dict[int, str] = {}
    for column in np.flatnonzero(constant | np.isinf(values).any(axis=0) | (n < 2)):
        if np.isinf(values[:, column]).any():
            undefined[int(column)] = "infinite values"
        elif n[column] < 2:
            undefined[int(column)] = f"only {n[column]} known values"
        else:
            undefined[int(column)] = f"no spread (all {values[known[:, column], column][0]:g})"
    return mean, deviation, undefined
