"""Standardization: every feature by its own location and spread."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, Self

import numpy as np

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.normalizer import Affine, AffineMap
from deepprofiler.profiling.profile_files import require_mask
from deepprofiler.profiling.profiles import Profiles

CONTROLS_PER_PLATE = 16
"""Six wells of a plate are too few: their spread is off by a third, and NSC falls by it."""

LARGEST = 500.0
"""A standardized value beyond this is reported: its feature rules every similarity."""

NORMAL = 1.482602218505602
"""Standard deviation over median absolute deviation, in a normal distribution."""

Per = Literal["auto", "screen", "plate"]
Of = Literal["controls", "all"]


class PerFeature(Affine):
    """(x − location) / spread of every feature.

    A feature without a spread, or with infinite values, in the reference of any group is
    undefined: it is left out everywhere and listed. Missing values (NaN) are left out of location
    and spread, stay missing, and are counted in the notes.

    Parameters
    ----------
    plate : str, optional
        Column of metadata with the plate.
    per : {"auto", "screen", "plate"}
        ``screen``: one reference for all plates. ``plate``: each plate has its own. ``auto``: on
        each plate's negative controls where every plate has at least 16, else on all wells of the
        screen.
    reference : {"controls", "all"}, optional
        Negative controls, or all wells. None: controls of a plate, all wells of
        a screen. ``auto`` chooses by itself.

    Attributes
    ----------
    location_, spread_ : dict
        Of each group (plate, or ``""`` for the screen), (E,).
    n_ : dict
        Wells of each group's reference.
    largest_ : float
        Largest absolute value among all profiles given to ``fit``, after standardization.
    """

    def __init__(
        self, *, plate: str | None = None, per: Per = "auto", reference: Of | None = None
    ) -> None:
        if per not in ("auto", "screen", "plate"):
            raise ValueError(f"per={per!r}; choose auto, screen or plate")
        if reference not in (None, "controls", "all"):
            raise ValueError(f"reference={reference!r}; choose controls or all")
        if per == "plate" and plate is None:
            raise ValueError("per='plate' needs the name of the plate's column")
        if per == "auto" and reference is not None:
            raise ValueError("per='auto' chooses the reference by itself; give per as well")
        self.plate = plate
        self.per = per
        self.reference = reference

    @abstractmethod
    def _scale(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        """Location (D,), spread (D,) and why columns are undefined, from values (n, D)."""

    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Learn location and spread from wells; see :class:`Normalizer`.

        Raises
        ------
        DataError
            A group has fewer than 2 wells in its reference, or no feature is defined.
        """
        self.notes_ = []
        reference = self._reference(profiles, controls)
        locations, spreads, self.left_out_ = {}, {}, {}
        for key, rows in reference.items():
            where = f"{spoken(self.group_)} {key}" if self.group_ else "the screen"
            if len(rows) < 2:
                raise DataError(
                    f"{self.name}: {where} has {len(rows)} wells to fit on and needs 2 or more"
                )
            values = profiles.features[rows].astype(np.float64)
            locations[key], spreads[key], undefined = self._scale(values)
            for column, reason in undefined.items():
                self.left_out_.setdefault(profiles.names[column], f"{reason} in {where}")
        self.n_ = {key: len(rows) for key, rows in reference.items()}
        self.names_in_ = list(profiles.names)
        self.names_ = [name for name in profiles.names if name not in self.left_out_]
        if not profiles.names:
            raise DataError(f"{self.name}: the profiles have no features")
        if not self.names_:
            raise DataError(
                f"{self.name}: none of {len(profiles.names)} features varies; the first: "
                f"{profiles.names[0]} is {self.left_out_[profiles.names[0]]}"
            )
        self.columns_ = np.flatnonzero([name not in self.left_out_ for name in profiles.names])
        self.location_ = {key: one[self.columns_] for key, one in locations.items()}
        self.spread_ = {key: one[self.columns_] for key, one in spreads.items()}
        self.maps_ = {
            key: AffineMap(1 / self.spread_[key], -location / self.spread_[key])
            for key, location in self.location_.items()
        }
        self._report(profiles)
        return self

    def _reference(self, profiles: Profiles, controls: np.ndarray | None) -> dict[Any, np.ndarray]:
        """Return the rows of each group's reference, and set the group, reference and a note."""
        per, on, why = self.per, self.reference, ""
        known = None if controls is None else require_mask(controls, len(profiles), "controls")
        if per == "auto":
            per = "screen"
            if self.plate is not None and known is not None:
                fewest, n = self._fewest(profiles, known)
                per = "plate" if n >= CONTROLS_PER_PLATE else "screen"
                why = (
                    f", since plate {fewest} has {n} negative controls and {CONTROLS_PER_PLATE} "
                    "on every plate are needed"
                )
        on = on or ("controls" if per == "plate" else "all")
        if on == "controls" and known is None:
            raise DataError(f"{self.name}: per {per} needs to know the negative controls")
        chosen = np.ones(len(profiles), bool) if on == "all" or known is None else known
        what = "all wells" if on == "all" else "negative controls"
        if per == "screen" or self.plate is None:
            self.group_, self.reference_ = None, f"{what} of the screen"
            rows = np.flatnonzero(chosen)
            over = f"over all {len(rows)} wells" if on == "all" else f"on the {len(rows)} {what}"
            self.notes_.append(f"{self.name}: {over} of the screen{why}")
            return {"": rows}
        self.group_, self.reference_ = self.plate, f"{what} of each plate"
        groups = profiles.groups([self.plate])
        plates: dict[Any, np.ndarray] = {key: rows[chosen[rows]] for (key,), rows in groups}
        n = min((len(rows) for rows in plates.values()), default=0)
        few = f"; fewer than {CONTROLS_PER_PLATE} are too few" if n < CONTROLS_PER_PLATE else ""
        each = "the plate" if len(plates) == 1 else f"each of {len(plates)} plates"
        self.notes_.append(
            f"{self.name}: on {'the ' if on == 'controls' else ''}{what} of {each}, at least {n} "
            f"wells{few}"
        )
        return plates

    def _fewest(self, profiles: Profiles, controls: np.ndarray) -> tuple[Any, int]:
        """Return the plate with the fewest negative controls, and their number."""
        counts = {
            key: int(controls[rows].sum()) for (key,), rows in profiles.groups([str(self.plate)])
        }
        fewest = min(counts, key=lambda key: counts[key], default="")
        return fewest, counts.get(fewest, 0)

    def _report(self, profiles: Profiles) -> None:
        if self.left_out_:
            name, reason = next(iter(self.left_out_.items()))
            self.notes_.append(
                f"{self.name}: {len(self.left_out_)} of {len(profiles.names)} features left out "
                f"as undefined, such as {name}: {reason}"
            )
        missing = int(np.isnan(profiles.features[:, self.columns_]).sum())
        if missing:
            self.notes_.append(f"{self.name}: {missing} missing values stay missing")
        scaled = np.abs(self.transform(profiles).features)
        scaled = np.where(np.isfinite(scaled), scaled, 0)
        self.largest_ = float(scaled.max(initial=0))
        row, column = np.unravel_index(int(scaled.argmax()), scaled.shape)
        found = f"{profiles.describe(int(row))}: {self.names_[column]} is {self.largest_:.3g}"
        self.notes_.append(
            f"{self.name}: {found} spreads from the middle; beyond {LARGEST:.0f} one feature rules "
            "every similarity"
            if self.largest_ > LARGEST
            else f"{self.name}: the largest absolute value: {found}"
        )


class Standardize(PerFeature):
    """(x − mean) / standard deviation of every feature; see :class:`PerFeature`.

    The deviation is divided by n.
    """

    name = "standardize"

    def _scale(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        known = ~np.isnan(values)
        n = known.sum(axis=0)
        filled = np.where(known & np.isfinite(values), values, 0)
        mean = filled.sum(axis=0) / np.maximum(n, 1)
        # What is too large to square has no deviation, and is left out as such.
        with np.errstate(over="ignore"):
            squares = (np.where(known, filled - mean, 0) ** 2).sum(axis=0)
        deviation = np.sqrt(squares / np.maximum(n, 1))
        return mean, deviation, _undefined(values, deviation, "no spread")


class Robust(PerFeature):
    """(x − median) / median absolute deviation of every feature; see :class:`PerFeature`.

    Parameters
    ----------
    plate, per, reference
        See :class:`PerFeature`.
    unscaled : bool
        Divide by the deviation itself, as JUMP's recipe does. Else it is multiplied by 1.4826,
        which makes it the standard deviation of a normal distribution.
    """

    name = "robust"

    def __init__(
        self,
        *,
        plate: str | None = None,
        per: Per = "auto",
        reference: Of | None = None,
        unscaled: bool = False,
    ) -> None:
        super().__init__(plate=plate, per=per, reference=reference)
        self.unscaled = unscaled

    def _scale(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        # A column without known values has no median; it is left out by its count.
        known = np.where(np.isnan(values).all(axis=0), 0, values)
        finite = np.where(np.isinf(known), np.nan, known)
        finite = np.where(np.isnan(finite).all(axis=0), 0, finite)
        median = np.nanmedian(finite, axis=0)
        deviation = np.nanmedian(np.abs(finite - median), axis=0)
        scale = 1.0 if self.unscaled else NORMAL
        return median, deviation * scale, _undefined(values, deviation, "no median deviation")


def _undefined(values: np.ndarray, spread: np.ndarray, none: str) -> dict[int, str]:
    """Return the reasons why columns of values (n, D) have no usable spread (D,)."""
    known = ~np.isnan(values)
    n = known.sum(axis=0)
    largest = np.where(known & np.isfinite(values), np.abs(values), 0).max(axis=0)
    undefined: dict[int, str] = {}
    # Below this share of the largest value a spread is rounding noise.
    for column in np.flatnonzero(
        (spread <= 1e-10 * largest) | ~np.isfinite(spread) | np.isinf(values).any(axis=0) | (n < 2)
    ):
        ours = values[known[:, column], column]
        if np.isinf(ours).any():
            undefined[int(column)] = "infinite values"
        elif not np.isfinite(spread[column]):
            undefined[int(column)] = f"values too large to square (up to {largest[column]:.3g})"
        elif n[column] < 2:
            undefined[int(column)] = f"only {n[column]} known values"
        else:
            middle = float(np.median(ours))
            # Equal up to rounding, like the spread itself.
            same = int((np.abs(ours - middle) <= 1e-10 * largest[column]).sum())
            share = "all" if same == n[column] else f"{same} of {n[column]} are"
            undefined[int(column)] = f"{none} ({share} {middle:g})"
    return undefined
