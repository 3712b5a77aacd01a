"""Typical variation normalization as two other programs do it, for comparison.

Both add fixed amounts to covariances, where :class:`~deepprofiler.profiling.tvn.TVN` shrinks by a
rule: they depend on the scale of the features that they are given.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.profiling.affine import AffineMap
from deepprofiler.profiling.moments import CellMoments, Moments, pooled
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.shrinkage import OnControls, Unit, power, principal_axes
from deepprofiler.profiling.tables import counted, spoken

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
