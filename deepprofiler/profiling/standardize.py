"""Standardization: every feature by its own location and spread."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.normalizer import (
    Affine,
    AffineMap,
    FitSummary,
    LargestValue,
    LeftOut,
    PlateControls,
    ReferenceKind,
)
from deepprofiler.profiling.profiles import Profiles, require_mask
from deepprofiler.registry import NORMALIZERS

CONTROLS_PER_PLATE = 16
"""Six wells of a plate are too few: their spread is off by a third, and NSC falls by it."""

LARGEST = 500.0
"""Beyond this standardized value, one feature dominates every similarity."""

NORMAL = 1.482602218505602
"""Standard deviation over median absolute deviation, in a normal distribution."""

Per = Literal["auto", "screen", "plate"]


class PerFeature(Affine):
    """(x − location) / spread of every feature.

    A feature without a spread, or with infinite values, in the reference of any group is
    undefined: it is left out everywhere and listed. A spread of a few rounding steps of the type
    that the values were stored in is none. Missing values (NaN) are left out of location
    and spread, stay missing, and are counted.

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
    fitted_ : FitSummary
        With the number of wells of each group's reference, and the largest absolute value among
        all profiles given to ``fit``, after standardization.
    """

    def __init__(
        self, *, plate: str | None = None, per: Per = "auto", reference: ReferenceKind | None = None
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
    def _scale(
        self, values: np.ndarray, rounding: float
    ) -> tuple[np.ndarray, np.ndarray, dict[int, LeftOut]]:
        """Return location (D,), spread (D,) and undefined columns of values (n, D).

        ``rounding``: see :attr:`Profiles.rounding`.
        """

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
        reference = self._choose_reference(profiles, controls)
        locations, spreads = self._measure(profiles, reference)
        self._set_features(profiles.names)
        self.group_ = reference.column
        self.location_ = {key: location[self.columns_] for key, location in locations.items()}
        self.spread_ = {key: spread[self.columns_] for key, spread in spreads.items()}
        self.maps_ = {
            key: AffineMap(1 / self.spread_[key], -location / self.spread_[key])
            for key, location in self.location_.items()
        }
        self.fitted_ = FitSummary(
            reference=reference.kind,
            n={key: len(rows) for key, rows in reference.rows.items()},
            d=len(profiles.names),
            group=reference.column,
            fewest_controls=reference.fewest_controls,
            missing=int(np.isnan(profiles.features[:, self.columns_]).sum()),
            largest=self._largest(profiles),
        )
        return self

    def _choose_reference(self, profiles: Profiles, controls: np.ndarray | None) -> _Reference:
        """Choose the groups and their wells by ``per``, ``reference`` and the controls."""
        mask = None if controls is None else require_mask(controls, len(profiles), "controls")
        per, fewest = self.per, None
        if per == "auto":
            per = "screen"
            if self.plate is not None and mask is not None:
                fewest = self._fewest_controls(profiles, mask)
                per = "plate" if fewest.n >= CONTROLS_PER_PLATE else "screen"
        kind: ReferenceKind = self.reference or ("controls" if per == "plate" else "all")
        if kind == "controls" and mask is None:
            raise DataError(f"{self.name}: per {per} needs to know the negative controls")
        used = np.ones(len(profiles), bool) if kind == "all" or mask is None else mask
        if per == "screen" or self.plate is None:
            return _Reference(kind, None, {"": np.flatnonzero(used)}, fewest)
        rows = {key: rows[used[rows]] for (key,), rows in profiles.groups([self.plate])}
        return _Reference(kind, self.plate, rows)

    def _fewest_controls(self, profiles: Profiles, controls: np.ndarray) -> PlateControls:
        """Return the plate with the fewest negative controls, and their number."""
        counts = {
            key: int(controls[rows].sum()) for (key,), rows in profiles.groups([str(self.plate)])
        }
        plate = min(counts, key=lambda key: counts[key], default="")
        return PlateControls(plate, counts.get(plate, 0))

    def _measure(
        self, profiles: Profiles, reference: _Reference
    ) -> tuple[dict[Any, np.ndarray], dict[Any, np.ndarray]]:
        """Return location (D,) and spread (D,) of each group; sets ``left_out_``."""
        locations, spreads, self.left_out_ = {}, {}, {}
        for key, rows in reference.rows.items():
            if len(rows) < 2:
                where = f"{spoken(reference.column)} {key}" if reference.column else "the screen"
                raise DataError(
                    f"{self.name}: {where} has {len(rows)} wells to fit on and needs 2 or more"
                )
            values = profiles.features[rows].astype(np.float64)
            locations[key], spreads[key], undefined = self._scale(values, profiles.rounding)
            group = key if reference.column else None
            for column, reason in undefined.items():
                self.left_out_.setdefault(
                    profiles.names[column], replace(reason, column=reference.column, group=group)
                )
        return locations, spreads

    def _set_features(self, names: list[str]) -> None:
        """Set the features of input and output."""
        if not names:
            raise DataError(f"{self.name}: the profiles have no features")
        self.names_in_ = list(names)
        self.names_ = [name for name in names if name not in self.left_out_]
        if not self.names_:
            raise DataError(
                f"{self.name}: none of {len(names)} features varies; the first is {names[0]} "
                f"({self.left_out_[names[0]].code})"
            )
        self.columns_ = np.flatnonzero([name not in self.left_out_ for name in names])

    def _largest(self, profiles: Profiles) -> LargestValue:
        """Find the largest absolute value that is finite, after standardization."""
        scaled = np.abs(self.transform(profiles).features)
        scaled = np.where(np.isfinite(scaled), scaled, 0)
        row, column = np.unravel_index(int(scaled.argmax()), scaled.shape)
        return LargestValue(
            profiles.identity(int(row)), self.names_[int(column)], float(scaled[row, column])
        )


@dataclass(frozen=True)
class _Reference:
    """Wells that a standardization is fitted on.

    Attributes
    ----------
    kind : {"controls", "all"}
    column : str or None
        Column of metadata whose values have a reference each.
    rows : dict
        From the value of that column, or ``""``, to row numbers.
    fewest_controls : PlateControls or None
        Why the screen was chosen, where ``auto`` compared the plates.
    """

    kind: ReferenceKind
    column: str | None
    rows: dict[Any, np.ndarray]
    fewest_controls: PlateControls | None = None


@NORMALIZERS.register("standardize")
class Standardize(PerFeature):
    """(x − mean) / standard deviation of every feature; see :class:`PerFeature`.

    The deviation is divided by n.
    """

    def _scale(
        self, values: np.ndarray, rounding: float
    ) -> tuple[np.ndarray, np.ndarray, dict[int, LeftOut]]:
        is_present = ~np.isnan(values)
        n = is_present.sum(axis=0)
        filled = np.where(is_present & np.isfinite(values), values, 0)
        mean = filled.sum(axis=0) / np.maximum(n, 1)
        # What is too large to square has no deviation, and is left out as such.
        with np.errstate(over="ignore"):
            squares = (np.where(is_present, filled - mean, 0) ** 2).sum(axis=0)
        deviation = np.sqrt(squares / np.maximum(n, 1))
        return mean, deviation, _undefined(values, deviation, rounding * np.abs(mean), "no-spread")


@NORMALIZERS.register("robust")
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

    def __init__(
        self,
        *,
        plate: str | None = None,
        per: Per = "auto",
        reference: ReferenceKind | None = None,
        unscaled: bool = False,
    ) -> None:
        super().__init__(plate=plate, per=per, reference=reference)
        self.unscaled = unscaled

    def _scale(
        self, values: np.ndarray, rounding: float
    ) -> tuple[np.ndarray, np.ndarray, dict[int, LeftOut]]:
        # A column without known values has no median; it is left out by its count.
        filled = np.where(np.isnan(values).all(axis=0), 0, values)
        finite = np.where(np.isinf(filled), np.nan, filled)
        finite = np.where(np.isnan(finite).all(axis=0), 0, finite)
        median = np.nanmedian(finite, axis=0)
        deviation = np.nanmedian(np.abs(finite - median), axis=0)
        scale = 1.0 if self.unscaled else NORMAL
        noise = rounding * np.abs(median)
        undefined = _undefined(values, deviation, noise, "no-median-deviation")
        return median, deviation * scale, undefined


def _undefined(
    values: np.ndarray,
    spread: np.ndarray,
    noise: np.ndarray,
    code: Literal["no-spread", "no-median-deviation"],
) -> dict[int, LeftOut]:
    """Return the reasons why columns of values (n, D) have no usable spread (D,).

    ``noise`` (D,) is the spread that stored values have by rounding alone.
    """
    is_present = ~np.isnan(values)
    n = is_present.sum(axis=0)
    largest = np.where(is_present & np.isfinite(values), np.abs(values), 0).max(axis=0)
    # Arithmetic in double precision rounds as well, by a share of the largest value.
    noise = np.maximum(noise, 1e-10 * largest)
    unusable = (spread <= noise) | ~np.isfinite(spread) | np.isinf(values).any(axis=0) | (n < 2)
    undefined: dict[int, LeftOut] = {}
    for column in map(int, np.flatnonzero(unusable)):
        present = values[is_present[:, column], column]
        if np.isinf(present).any():
            undefined[column] = LeftOut("infinite")
        elif not np.isfinite(spread[column]):
            undefined[column] = LeftOut(
                "too-large-to-square", values={"largest": float(largest[column])}
            )
        elif n[column] < 2:
            undefined[column] = LeftOut("too-few-values", values={"n": int(n[column])})
        else:
            middle = float(np.median(present))
            # Equal up to rounding, like the spread itself.
            equal = int((np.abs(present - middle) <= noise[column]).sum())
            undefined[column] = LeftOut(
                code, values={"equal": equal, "n": int(n[column]), "value": middle}
            )
    return undefined
