"""Typical variation normalization (Ando et al. 2017), with shrunk covariances.

Negative controls should look alike. Where they differ, the difference is nuisance: whitening
evens its directions out, and CORAL (Sun et al. 2016) gives every batch's controls the covariance
of all. With few controls a covariance is shrunk, by a rule that looks at the controls alone.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError, counted
from deepprofiler.profiling.moments import CellMoments, Moments, pooled
from deepprofiler.profiling.normalizer import AffineMap
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.shrinkage import (
    OnControls,
    Reference,
    Rule,
    Unit,
    power,
    principal_axes,
    shrink,
)


class TVN(OnControls):
    """Whiten by the negative controls, then give each batch's controls the covariance of all.

    In formulas, for row vectors: t = (x − mean) V Λ^-½ with the shrunk covariance V Λ Vᵀ of all
    controls, and y = t · C_batch^-½ · C_all^½ with the shrunk covariances of whitened controls.

    Parameters
    ----------
    batch : str, optional
        Column of metadata with the batch; None: whitening only.
    shrinkage : "oas", "ledoit-wolf", "held-out" or float
        See :func:`~deepprofiler.profiling.shrinkage.shrink`. Never chosen by looking at
        treatments.
    fit_on : {"cells", "wells"}, optional
        Moments of the control cells, or profiles of the control wells. None: the cells where
        their moments are given, else the wells.
    center_batches : bool
        Move the mean of each batch's controls to the mean of all.

    Attributes
    ----------
    n_, d_, rank_ : int
        Vectors (cells or wells) fitted on, features, rank of their covariance.
    shrinkage_ : float
        Weight of the identity's multiple in the covariance of all controls.
    mean_ : ndarray, (D,)
    whitening_ : ndarray, (D, D)
        V Λ^-½; a column per principal axis, the widest first.
    batches_ : DataFrame
        batch, n, rank, shrinkage.
    """

    name = "tvn"

    def __init__(
        self,
        *,
        batch: str | None = None,
        shrinkage: Rule = "oas",
        fit_on: Unit | None = None,
        center_batches: bool = False,
    ) -> None:
        super().__init__(batch=batch, shrinkage=shrinkage, fit_on=fit_on)
        self.center_batches = center_batches

    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Learn from negative controls; see :class:`Normalizer`.

        Raises
        ------
        DataError
            A batch has fewer than 2 controls; a covariance lacks rank and is not shrunk; a value
            is not finite; the controls do not vary.
        """
        reference = self._reference(profiles, controls, cells)
        # Ranks are taken before whitening, which would raise noise to the height of the axes.
        self.rank_ = self._checked_rank(reference.total, reference.unit, "the screen")
        ranks = self._ranks(reference)
        whole = shrink(reference.total, self.shrinkage, reference.everything)
        values, vectors = principal_axes(whole.covariance)
        self.whitening_, self.shrinkage_ = vectors / np.sqrt(values), whole.weight
        white = AffineMap(self.whitening_, -self.mean_ @ self.whitening_)
        self.names_ = [f"tvn_{axis}" for axis in range(self.d_)]
        self.notes_ = [
            f"tvn: fitted on {self.n_} control {reference.unit}, {self.d_} features, rank "
            f"{self.rank_}, shrinkage {self.shrinkage_:.3g}"
        ]
        self.maps_ = {"": white}
        if self.batch is not None:
            moments = reference.moments
            self._align(reference, ranks, white)
            fewest = min(moments, key=lambda key: moments[key].n)
            weights = self.batches_["shrinkage"]
            self.notes_.append(
                f"tvn: {counted(len(moments), 'batch', 'batches')} aligned, each on "
                f"{moments[fewest].n} control {reference.unit} or more (fewest in "
                f"{spoken(self.batch)} {fewest or '(blank)'}, rank {ranks[fewest]} of {self.d_}); "
                f"shrinkage {weights.min():.3g} to {weights.max():.3g}"
            )
        return self

    def _align(self, reference: Reference, ranks: dict[Any, int], white: AffineMap) -> None:
        """Add CORAL to the map of each batch."""
        everything = reference.everything
        total = shrink(
            white.moments(reference.total),
            self.shrinkage,
            None if everything is None else white(everything),
        )
        root = power(total.covariance, 0.5)
        self.maps_, table = {}, []
        for key in sorted(reference.moments):
            one = white.moments(reference.moments[key])
            rows = white(reference.rows[key]) if reference.rows else None
            batch = shrink(one, self.shrinkage, rows)
            coral = power(batch.covariance, -0.5) @ root
            moved = one.mean if self.center_batches else np.zeros(self.d_)
            self.maps_[key] = AffineMap(white.matrix @ coral, (white.offset - moved) @ coral)
            table.append((key, one.n, ranks[key], batch.weight))
        self.batches_ = pd.DataFrame(table, columns=["batch", "n", "rank", "shrinkage"])


ADDED_BY_AUTHORS = 1.0
ADDED_BY_EFAAR = 0.5


class AuthorsTVN(OnControls):
    """TVN as in the notebook of the paper's authors (DeepProfilerExperiments, BBBC021).

    t = (x − mean) V (Λ + 1)^-½ with the covariance V Λ Vᵀ of all controls, and y = t · (C_batch +
    I)^-½ · (C_all + I)^½, where the C are second moments of whitened controls about the mean of
    all of them. The notebook takes the mean over the sites of a well, a week as a batch, and the
    median of the sites as the profile of a treatment: that is for whoever aggregates.

    Parameters
    ----------
    batch : str, optional
        Column of metadata with the batch; None: whitening only.
    fit_on : {"cells", "wells"}
        The notebook's reference are site profiles, so wells are the default.
    """

    name = "tvn-authors"

    def __init__(self, *, batch: str | None = None, fit_on: Unit = "wells") -> None:
        super().__init__(batch=batch, shrinkage=ADDED_BY_AUTHORS, fit_on=fit_on)

    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Learn from negative controls; see :class:`Normalizer`.

        Raises
        ------
        DataError
            A batch has fewer than 2 controls, which do not vary, or a value is not finite.
        """
        reference = self._reference(profiles, controls, cells)
        self.rank_ = self._checked_rank(reference.total, reference.unit, "the screen")
        self._ranks(reference)
        values, vectors = principal_axes(reference.total.covariance)
        # Rounding leaves eigenvalues a little below 0.
        axes = vectors / np.sqrt(np.maximum(values, 0) + ADDED_BY_AUTHORS)
        white = AffineMap(axes, -self.mean_ @ axes)
        self.names_ = [f"tvn_{axis}" for axis in range(self.d_)]
        self.notes_ = [
            f"{self.name}: fitted on {self.n_} control {reference.unit}, {self.d_} features, rank "
            f"{self.rank_}; {ADDED_BY_AUTHORS:g} added to every eigenvalue"
        ]
        self.maps_ = {"": white}
        if self.batch is not None:
            identity = ADDED_BY_AUTHORS * np.eye(self.d_)
            root = power(_about_zero(white.moments(reference.total)) + identity, 0.5)
            self.maps_ = {}
            for key, moments in sorted(reference.moments.items()):
                own = _about_zero(white.moments(moments)) + identity
                coral = power(own, -0.5) @ root
                self.maps_[key] = AffineMap(axes @ coral, white.offset @ coral)
            self.notes_.append(
                f"{self.name}: {counted(len(self.maps_), 'batch', 'batches')} aligned"
            )
        return self


class EfaarTVN(OnControls):
    """TVN as in EFAAR_benchmarking (Celik et al. 2024).

    Centre and scale on all controls, rotate to their principal axes, centre and scale on each
    batch's controls, then y = t · (C_batch + ½ I)^-½ · (C_all + ½ I)^½. Covariances divide by
    n − 1, deviations by n. Axes without variance among the controls are left out.

    Parameters
    ----------
    batch : str, optional
        Column of metadata with the batch; None: scale, rotate and scale only.
    fit_on : {"cells", "wells"}, optional
        As for :class:`~deepprofiler.profiling.tvn.TVN`.
    """

    name = "tvn-efaar"

    def __init__(self, *, batch: str | None = None, fit_on: Unit | None = None) -> None:
        super().__init__(batch=batch, shrinkage=ADDED_BY_EFAAR, fit_on=fit_on)

    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Learn from negative controls; see :class:`Normalizer`.

        Raises
        ------
        DataError
            A batch has fewer than 2 controls, or they do not vary along an axis; a feature does
            not vary among all controls; a value is not finite.
        """
        reference = self._reference(profiles, controls, cells)
        self._ranks(reference)
        scale = _deviation(reference.total)
        if not scale.all():
            name = profiles.names[int(np.flatnonzero(scale == 0)[0])]
            raise DataError(
                f"{self.name}: feature {name} does not vary among the {self.n_} control "
                f"{reference.unit}; standardize first, which leaves such features out"
            )
        scaled = AffineMap(1 / scale, -self.mean_ / scale)
        whole = scaled.moments(reference.total)
        self.rank_ = self._checked_rank(whole, reference.unit, "the screen")
        _, axes = principal_axes(whole.covariance)
        axes = axes[:, : self.rank_]
        turned = AffineMap(axes / scale[:, None], scaled.offset @ axes)
        maps, moments = {}, {}
        for key, one in sorted(reference.moments.items()):
            ours = turned.moments(one)
            deviation = _deviation(ours)
            if not deviation.all():
                where = f"{spoken(self.batch)} {key}" if self.batch else "the screen"
                raise DataError(
                    f"{self.name}: the {one.n} control {reference.unit} of {where} do not vary "
                    "along an axis"
                )
            again = AffineMap(1 / deviation, -ours.mean / deviation)
            maps[key] = AffineMap(
                turned.matrix / deviation, turned.offset / deviation + again.offset
            )
            moments[key] = again.moments(ours)
        self.maps_ = maps
        if self.batch is not None:
            identity = ADDED_BY_EFAAR * np.eye(self.rank_)
            root = power(_unbiased(pooled(moments.values(), self.rank_)) + identity, 0.5)
            for key, mapped in maps.items():
                coral = power(_unbiased(moments[key]) + identity, -0.5) @ root
                self.maps_[key] = AffineMap(mapped.matrix @ coral, mapped.offset @ coral)
        self.names_ = [f"tvn_{axis}" for axis in range(self.rank_)]
        self.notes_ = [
            f"{self.name}: fitted on {self.n_} control {reference.unit}, {self.d_} features, rank "
            f"{self.rank_}; {counted(len(maps), 'batch', 'batches')} aligned, "
            f"{ADDED_BY_EFAAR:g} added to every eigenvalue"
        ]
        return self


def _about_zero(moments: Moments) -> np.ndarray:
    """Second moments (D, D) about the origin, not about the mean."""
    return moments.covariance + np.outer(moments.mean, moments.mean)


def _deviation(moments: Moments) -> np.ndarray:
    """Standard deviation of every feature, (D,); 0 where it is rounding noise."""
    deviation = np.sqrt(np.maximum(np.diag(moments.covariance), 0))
    return np.where(deviation > 1e-10 * np.abs(moments.mean), deviation, 0.0)


def _unbiased(moments: Moments) -> np.ndarray:
    """Covariance (D, D), divided by n − 1."""
    return moments.scatter / (moments.n - 1)
