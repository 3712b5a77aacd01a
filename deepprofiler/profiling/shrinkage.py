"""Covariances from few vectors: shrinkage, powers, and the controls they are estimated on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.profiling.moments import CellMoments, Moments, pooled
from deepprofiler.profiling.normalizer import Affine, LeftOut, Unit, control_rows
from deepprofiler.profiling.profiles import Profiles

RULES = ("oas", "ledoit-wolf", "held-out")
Rule = Literal["oas", "ledoit-wolf", "held-out"] | float
# Weights that held-out likelihood chooses among, and the parts that are held out in turn.
WEIGHTS = np.linspace(0.01, 1, 100)
FOLDS = 5
# As a share of the mean variance: what lies below is rounding noise.
NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Shrunk:
    """A covariance (D, D) and the weight of the identity's multiple in it, 0 … 1."""

    covariance: np.ndarray
    weight: float


def shrink(moments: Moments, rule: Rule, rows: np.ndarray | None = None) -> Shrunk:
    """Estimate a covariance from few vectors: (1 − s) C + s · mean λ · I.

    Parameters
    ----------
    moments : Moments
        Their number and covariance C.
    rule : "oas", "ledoit-wolf", "held-out" or float
        ``oas``: Chen et al. 2010, from C and n alone. ``ledoit-wolf``: Ledoit and Wolf 2004; needs
        the rows. ``held-out``: the s of 0.01 … 1 under which rows that are left out in turn, a
        fifth each, are the most likely; needs the rows. A number ε ≥ 0: C + ε · mean λ · I, where
        0 does not shrink.
    rows : ndarray, (n, D), optional
        The vectors themselves.

    Raises
    ------
    DataError
        ``ledoit-wolf`` or ``held-out`` without rows.
    """
    covariance = moments.covariance
    size = len(covariance)
    level = float(np.trace(covariance)) / size
    if not isinstance(rule, str):
        return Shrunk(covariance + rule * level * np.eye(size), rule / (1 + rule))
    if rule != "oas" and rows is None:
        raise DataError(
            f"shrinkage {rule} needs every control's vector, but only the cells' moments were "
            "kept: choose shrinkage oas or fit_on wells"
        )
    if rule == "held-out":
        weight = _held_out(np.asarray(rows, np.float64))
    else:
        squares = float((covariance**2).sum())
        if rule == "oas":
            spread = (moments.n + 1) * (squares / size - level**2) / size
            above, below = squares / size**2 + level**2, spread
        else:
            fourth = float((((rows - moments.mean) ** 2).sum(axis=1) ** 2).mean())
            above, below = (fourth - squares) / moments.n, squares - size * level**2
        weight = min(1.0, max(0.0, above / below)) if below > 0 else 1.0
    return Shrunk((1 - weight) * covariance + weight * level * np.eye(size), weight)


def _held_out(rows: np.ndarray) -> float:
    """Weight under which normal distributions fitted on the other rows expect each part best."""
    part = np.arange(len(rows)) % min(FOLDS, len(rows))
    total = np.zeros(len(WEIGHTS))
    for fold in range(part.max() + 1):
        others = Moments.of(rows[part != fold])
        values, vectors = np.linalg.eigh(others.covariance)
        if values.mean() <= 0:
            # Constant rows have no principal directions.
            return 1.0
        # All weights share the eigenvectors; only the variances along them differ.
        variances = (1 - WEIGHTS[:, None]) * values.clip(0) + WEIGHTS[:, None] * values.mean()
        along = ((rows[part == fold] - others.mean) @ vectors) ** 2
        total -= (np.log(variances) * len(along) + along.sum(axis=0) / variances).sum(axis=1)
    return float(WEIGHTS[total.argmax()])


def check_rule(shrinkage: Rule) -> None:
    """Raise ValueError for a rule that :func:`shrink` does not have."""
    valid = (
        shrinkage in RULES
        if isinstance(shrinkage, str)
        else (np.isfinite(shrinkage) and shrinkage >= 0)
    )
    if not valid:
        raise ValueError(f"shrinkage={shrinkage!r}; choose {', '.join(RULES)} or a number ≥ 0")


def power(covariance: np.ndarray, exponent: float) -> np.ndarray:
    """Symmetric power of a positive definite matrix (D, D), such as its inverse root (−½)."""
    values, vectors = np.linalg.eigh(covariance)
    result: np.ndarray = (vectors * values**exponent) @ vectors.T
    return result


def principal_axes(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (D,), the largest first, and eigenvectors in columns (D, D).

    The sign of an axis is arbitrary; its largest loading is made positive.
    """
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    return values, vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), range(len(values))])


@dataclass(frozen=True)
class Reference:
    """The negative controls that a fit is made on.

    Attributes
    ----------
    unit : {"cells", "wells"}
        What the vectors are.
    moments : dict
        Of each batch's controls; under ``""`` where there are no batches.
    rows : dict
        The vectors themselves, where they are wells.
    """

    unit: Unit
    moments: dict[Any, Moments]
    rows: dict[Any, np.ndarray]

    @property
    def total(self) -> Moments:
        """Moments of all controls."""
        return pooled(self.moments.values(), len(next(iter(self.moments.values())).mean))

    @property
    def all_rows(self) -> np.ndarray | None:
        """All vectors, (n, D), where they are wells; else None."""
        return np.concatenate(list(self.rows.values())) if self.rows else None

    def of_features(self, columns: np.ndarray) -> Reference:
        """Return the same controls in some of their features only, E column numbers."""
        square = np.ix_(columns, columns)
        moments = {
            key: Moments(part.n, part.mean[columns], part.scatter[square])
            for key, part in self.moments.items()
        }
        return Reference(
            self.unit, moments, {key: rows[:, columns] for key, rows in self.rows.items()}
        )


class OnControls(Affine):
    """A map that is fitted on the negative controls' covariance.

    A feature that varies among the controls by rounding alone is left out and listed: whitening
    would raise the noise to the height of the other features.

    Parameters
    ----------
    batch : str or None
        Column of metadata with the batch; None: batches are not distinguished.
    shrinkage : "oas", "ledoit-wolf", "held-out" or float
        See :func:`shrink`; 0 needs covariances of full rank.
    fit_on : {"cells", "wells"}, optional
        Moments of the control cells, or profiles of the control wells. None: the cells where
        their moments are given, else the wells.

    Attributes
    ----------
    fitted_ : FitSummary
        With the number of vectors (cells or wells) and the rank of their covariance.
    mean_ : ndarray, (D,)
    """

    def __init__(self, *, batch: str | None, shrinkage: Rule, fit_on: Unit | None) -> None:
        check_rule(shrinkage)
        if fit_on not in (None, "cells", "wells"):
            raise ValueError(f"fit_on={fit_on!r}; choose cells or wells")
        self.batch = batch
        self.shrinkage = shrinkage
        self.fit_on = fit_on

    def _reference(
        self, profiles: Profiles, controls: np.ndarray | None, cells: CellMoments | None
    ) -> Reference:
        """Gather the controls in the features that are used, and check that there are enough."""
        if self.fit_on == "cells" and cells is None:
            raise DataError(f"{self.name}: fit_on cells needs the moments of the control cells")
        unit: Unit = "wells" if cells is None or self.fit_on == "wells" else "cells"
        if unit == "cells" and cells is not None and cells.names != profiles.names:
            raise DataError(f"{self.name}: the cells' features are not those of the profiles")
        is_control = control_rows(profiles, controls)
        groups = profiles.groups([self.batch] if self.batch else [])
        batches = {key[0] if key else "": indices[is_control[indices]] for key, indices in groups}
        rows: dict[Any, np.ndarray] = {}
        if unit == "wells" or cells is None:
            profiles.require_finite(np.flatnonzero(is_control))
            rows = {key: profiles.features[own].astype(float) for key, own in batches.items()}
            moments = {key: Moments.of(own) for key, own in rows.items()}
        else:
            moments = cells.by(self.batch)
            # A batch without a control cell has no entry, and the error must still name it.
            empty = Moments.empty(len(profiles.names))
            moments.update({key: empty for key in batches if key not in moments})
        if not moments:
            raise DataError(f"{self.name}: there are no profiles to fit on")
        reference = Reference(unit, moments, rows)
        total = reference.total
        self._check_size(total, unit, "the screen")
        is_noise = _is_rounding(total, profiles.rounding)
        self.names_in_ = list(profiles.names)
        self.columns_ = np.flatnonzero(~is_noise)
        self.mean_ = total.mean[self.columns_]
        self.group_ = self.batch
        self.left_out_ = {
            profiles.names[column]: LeftOut(
                "no-spread",
                values={"equal": total.n, "n": total.n, "value": float(total.mean[column])},
            )
            for column in np.flatnonzero(is_noise)
        }
        return reference.of_features(self.columns_) if is_noise.any() else reference

    @property
    def _used(self) -> list[str]:
        """Names of the features that are used."""
        return [self.names_in_[column] for column in self.columns_]

    @property
    def _unshrunk(self) -> bool:
        """Whether so little is added to a covariance that rounding takes it away."""
        return not isinstance(self.shrinkage, str) and self.shrinkage < NEGLIGIBLE

    def _check_size(self, moments: Moments, unit: str, where: str) -> int:
        """Return how many controls a reference needs. Raises DataError for fewer than 2."""
        needed = len(moments.mean) + 1 if self._unshrunk else 2
        if moments.n < 2:
            raise DataError(
                f"{self.name}: {where} has {moments.n} control {unit} and needs at least {needed}; "
                "add negative controls, lower min_cells or pool batches"
            )
        return needed

    def _checked_rank(self, moments: Moments, unit: str, where: str) -> int:
        """Rank of a reference, if it is enough to invert its covariance as configured."""
        needed = self._check_size(moments, unit, where)
        size, rank = len(moments.mean), moments.rank
        if self._unshrunk and rank < size:
            raise DataError(
                f"{self.name}: without shrinkage the covariance of {where} cannot be inverted: "
                f"rank {rank} of {size} features from {moments.n} control {unit}; choose shrinkage "
                f"oas or a number above 0, or give at least {needed} controls and no duplicated "
                "features"
            )
        if not rank:
            raise DataError(f"{self.name}: the {moments.n} control {unit} of {where} do not vary")
        return rank

    def _ranks(self, reference: Reference) -> dict[Any, int]:
        """Return the checked rank of each batch; empty where batches are not distinguished."""
        if self.batch is None:
            return {}
        return {
            key: self._checked_rank(
                moments, reference.unit, f"{spoken(self.batch)} {key or '(blank)'}"
            )
            for key, moments in reference.moments.items()
        }


def _is_rounding(moments: Moments, rounding: float) -> np.ndarray:
    """Tell which features vary by rounding alone, (D,) bool; a constant has no rounding."""
    deviation = np.sqrt(np.maximum(np.diag(moments.covariance), 0))
    noisy: np.ndarray = (deviation > 0) & (deviation <= rounding * np.abs(moments.mean))
    return noisy
