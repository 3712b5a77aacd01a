"""Corrections for a well's position on its plate, and for its number of cells.

Two normalizers of their own: they read metadata of wells and no controls.
"""

from __future__ import annotations

import re
from typing import Any, Self

import numpy as np

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.normalizer import FitSummary, Normalizer, control_rows
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.registry import NORMALIZERS

ROUNDS = 20
"""Largest number of rounds of the median polish."""


@NORMALIZERS.register("well-position")
class WellPosition(Normalizer):
    """Remove each plate's row and column effects, by Tukey's median polish of every feature.

    The plate's overall level stays. On a plate whose rows or columns hold one treatment each, the
    treatment's effect is removed as well.

    Parameters
    ----------
    plate, well : str
        Columns of metadata; a well is named by letters and a number, such as ``B03``.

    Attributes
    ----------
    effects_ : dict
        From plate to the effect of each row and column, by its name: ``B`` and ``3`` to (D,).
    """

    def __init__(self, *, plate: str, well: str) -> None:
        self.plate = plate
        self.well = well

    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Learn from all wells of each plate; see :class:`Normalizer`.

        Raises
        ------
        DataError
            A value is not finite, or a well's name has no row and column.
        """
        profiles.require_finite()
        places = self._places(profiles)
        self.effects_: dict[Any, dict[str, np.ndarray]] = {}
        for (plate,), rows in profiles.groups([self.plate]):
            own = [places[row] for row in rows]
            doubled = next((place for place in own if own.count(place) > 1), None)
            if doubled:
                raise DataError(
                    f"well-position: {spoken(self.plate)} {plate} has more than one profile of "
                    f"well {''.join(doubled)}; give one profile a well"
                )
            self.effects_[plate] = _polish(profiles.features[rows].astype(np.float64), own)
        self.names_in_, self.names_ = list(profiles.names), list(profiles.names)
        self.left_out_ = {}
        self.fitted_ = FitSummary(
            reference="all",
            n={key: len(rows) for (key,), rows in profiles.groups([self.plate])},
            d=len(profiles.names),
            group=self.plate,
            largest_effect=max(
                float(np.abs(effect).max(initial=0))
                for effects in self.effects_.values()
                for effect in effects.values()
            ),
        )
        return self

    def transform(self, profiles: Profiles) -> Profiles:
        """Return the profiles without the effects of their places.

        Raises
        ------
        DataError
            The features are not those of the fit; a plate, row or column was not in it.
        """
        self._check_names(profiles.names)
        covered = self.covers(profiles)
        if not covered.all():
            first = int(np.flatnonzero(~covered)[0])
            raise DataError(
                f"well-position learns the effects of each plate on its own wells and cannot be "
                f"applied to others: {int((~covered).sum())} of {len(profiles)} profiles are of "
                f"plates, rows or columns without a well in the fit, such as "
                f"{profiles.describe(first)}. Fit it again with their wells, or leave it out of a "
                "chain that is applied to new plates"
            )
        features = profiles.features.astype(np.float64)
        plates = profiles.values(self.plate)
        for row, place in enumerate(self._places(profiles)):
            effects = self.effects_[plates[row]]
            features[row] -= effects[place[0]] + effects[place[1]]
        return profiles.with_features(features, self.names_)

    def covers(self, profiles: Profiles) -> np.ndarray:
        """Tell which profiles are of plates, rows and columns of the fit, (n,) bool."""
        plates = profiles.values(self.plate)
        return np.array(
            [
                all(name in self.effects_.get(plate, {}) for name in place)
                for plate, place in zip(plates, self._places(profiles), strict=True)
            ],
            bool,
        )

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the effects; see :class:`Normalizer`."""
        keys = [[plate, list(effects)] for plate, effects in self.effects_.items()]
        effects = [effect for by_name in self.effects_.values() for effect in by_name.values()]
        return {"places": keys}, {"effects": np.stack(effects)}

    def restore(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Set the effects that :meth:`state` returned."""
        effects = iter(arrays["effects"])
        self.effects_ = {
            plate: {name: next(effects) for name in names} for plate, names in facts["places"]
        }

    def _places(self, profiles: Profiles) -> list[tuple[str, str]]:
        """Row (letters) and column (digits) of each profile's well."""
        places = []
        for row, well in enumerate(profiles.values(self.well)):
            match = re.fullmatch(r"([A-Za-z]+)[-_ ]?0*([0-9]+)", str(well).strip())
            if match is None:
                raise DataError(
                    f"well-position: {profiles.describe(row)}: {spoken(self.well)} {well!r} is not "
                    "a row's letters and a column's number, such as B03"
                )
            places.append((match[1].upper(), match[2]))
        return places


@NORMALIZERS.register("cell-count")
class CellCount(Normalizer):
    """Remove the linear effect of the logarithm of the number of cells from every feature.

    y = x − slope · (log n − mean log n), where slope and mean are those of the negative controls:
    among treated wells, fewer cells may be the effect of interest.

    Parameters
    ----------
    count : str
        Column of metadata with the number of cells.

    Attributes
    ----------
    slope_ : ndarray, (D,)
        Change of a feature with the natural logarithm of the count.
    center_ : float
        Mean logarithm of the controls' counts.
    """

    def __init__(self, *, count: str) -> None:
        self.count = count

    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Learn from the negative control wells; see :class:`Normalizer`.

        Raises
        ------
        DataError
            There are fewer than 3 controls, all have the same count, a count is not above 0 or a
            value is not finite.
        """
        rows = np.flatnonzero(control_rows(profiles, controls))
        if len(rows) < 3:
            raise DataError(
                f"cell-count: the screen has {len(rows)} control wells and needs at least 3"
            )
        profiles.require_finite(rows)
        logs = self._logs(profiles)[rows]
        self.center_ = float(logs.mean())
        deviations = logs - self.center_
        spread = float(deviations @ deviations)
        if spread <= 1e-20 * len(rows):
            raise DataError(
                f"cell-count: all {len(rows)} control wells have the same number of cells, so "
                "its effect on a feature cannot be estimated"
            )
        values = profiles.features[rows].astype(np.float64)
        self.slope_ = deviations @ (values - values.mean(axis=0)) / spread
        self.names_in_, self.names_ = list(profiles.names), list(profiles.names)
        self.left_out_ = {}
        self.fitted_ = FitSummary(
            reference="controls",
            n=len(rows),
            d=len(profiles.names),
            counts=(float(np.exp(logs.min())), float(np.exp(logs.max()))),
        )
        return self

    def transform(self, profiles: Profiles) -> Profiles:
        """Return the profiles as if their wells had the controls' mean log count."""
        self._check_names(profiles.names)
        shift = np.outer(self._logs(profiles) - self.center_, self.slope_)
        return profiles.with_features(profiles.features - shift, self.names_)

    def covers(self, profiles: Profiles) -> np.ndarray:
        """Tell that all profiles can be transformed, (n,) bool."""
        return np.ones(len(profiles), bool)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return slope and center; see :class:`Normalizer`."""
        return {"center": self.center_}, {"slope": self.slope_}

    def restore(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Set slope and center that :meth:`state` returned."""
        self.center_, self.slope_ = facts["center"], arrays["slope"]

    def _logs(self, profiles: Profiles) -> np.ndarray:
        counts = profiles.values(self.count)
        if counts.dtype == object:
            raise DataError(
                f"cell-count: {self.count} holds text; read the profiles with "
                f"numeric=[{self.count!r}]"
            )
        wrong = np.flatnonzero(~(np.isfinite(counts) & (counts > 0)))
        if len(wrong):
            raise DataError(
                f"cell-count: {profiles.describe(int(wrong[0]))}: {self.count} is "
                f"{counts[wrong[0]]}, and only a number above 0 has a logarithm"
            )
        return np.log(counts.astype(np.float64))


def _polish(values: np.ndarray, places: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    """Median polish of one plate, every feature by itself; places without a well are missing.

    Returns
    -------
    dict
        From the name of a row or column to its effect, (D,). The median row has none, nor has
        the median column.
    """
    row_names = sorted({row for row, _ in places})
    column_names = sorted({column for _, column in places})
    rest = np.full((len(row_names), len(column_names), values.shape[1]), np.nan)
    for value, (row, column) in zip(values, places, strict=True):
        rest[row_names.index(row), column_names.index(column)] = value
    rows = np.zeros((len(row_names), values.shape[1]))
    columns = np.zeros((len(column_names), values.shape[1]))
    for _ in range(ROUNDS):
        # Every row and column that has a name has a well, so no median is over nothing.
        row_step = np.nanmedian(rest, axis=1)
        rest -= row_step[:, None]
        column_step = np.nanmedian(rest, axis=0)
        rest -= column_step
        rows += row_step
        columns += column_step
        moved = max(np.abs(row_step).max(initial=0), np.abs(column_step).max(initial=0))
        if moved <= 1e-10 * np.abs(values).max(initial=0):
            break
    # What all rows or all columns have is the plate's level, not an effect.
    effects = [*(rows - np.median(rows, axis=0)), *(columns - np.median(columns, axis=0))]
    return dict(zip([*row_names, *column_names], effects, strict=True))
