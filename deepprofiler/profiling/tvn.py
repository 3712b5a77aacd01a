"""Typical variation normalization (Ando et al. 2017), with shrunk covariances.

Negative controls should look alike. Where they differ, the difference is nuisance: whitening
equalizes its directions, and CORAL (Sun et al. 2016) gives every batch's controls the covariance
of all. With few controls a covariance is shrunk, by a rule that uses the controls alone.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.profiling.moments import CellMoments, Moments, pooled
from deepprofiler.profiling.normalizer import AffineMap, BatchFit, FitSummary, Unit
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.shrinkage import (
    OnControls,
    Reference,
    Rule,
    power,
    principal_axes,
    shrink,
)
from deepprofiler.registry import NORMALIZERS


@NORMALIZERS.register("tvn")
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
    fitted_ : FitSummary
        With the number of vectors (cells or wells), the rank and shrinkage of the covariance of
        all controls, and the same of each batch.
    mean_ : ndarray, (D,)
    whitening_ : ndarray, (D, D)
        V Λ^-½; a column per principal axis, the widest first.
    """

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
        total = reference.total
        rank = self._checked_rank(total, reference.unit, "the screen")
        ranks = self._ranks(reference)
        whole = shrink(total, self.shrinkage, reference.all_rows)
        values, vectors = principal_axes(whole.covariance)
        self.whitening_ = vectors / np.sqrt(values)
        white = AffineMap(self.whitening_, -self.mean_ @ self.whitening_)
        self.names_ = [f"tvn_{axis}" for axis in range(len(self._used))]
        self.maps_ = {"": white}
        batches: tuple[BatchFit, ...] = ()
        if self.batch is not None:
            self.maps_, batches = self._align(reference, ranks, white)
        self.fitted_ = FitSummary(
            reference="controls",
            unit=reference.unit,
            n=total.n,
            d=len(self._used),
            rank=rank,
            shrinkage=whole.weight,
            batches=batches,
        )
        return self

    def _align(
        self, reference: Reference, ranks: dict[Any, int], white: AffineMap
    ) -> tuple[dict[Any, AffineMap], tuple[BatchFit, ...]]:
        """Return the map of each batch, whitening and CORAL, and what it was fitted on."""
        all_rows = reference.all_rows
        total = shrink(
            white.moments(reference.total),
            self.shrinkage,
            None if all_rows is None else white(all_rows),
        )
        root = power(total.covariance, 0.5)
        maps, fits = {}, []
        for key in sorted(reference.moments):
            moments = white.moments(reference.moments[key])
            rows = white(reference.rows[key]) if reference.rows else None
            batch = shrink(moments, self.shrinkage, rows)
            coral = power(batch.covariance, -0.5) @ root
            moved = moments.mean if self.center_batches else np.zeros(len(moments.mean))
            maps[key] = AffineMap(white.matrix @ coral, (white.offset - moved) @ coral)
            fits.append(BatchFit(key, moments.n, ranks[key], batch.weight))
        return maps, tuple(fits)


ADDED_BY_AUTHORS = 1.0
ADDED_BY_EFAAR = 0.5


@NORMALIZERS.register("tvn-authors")
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
        total = reference.total
        rank = self._checked_rank(total, reference.unit, "the screen")
        ranks = self._ranks(reference)
        values, vectors = principal_axes(total.covariance)
        # Rounding leaves eigenvalues a little below 0.
        axes = vectors / np.sqrt(np.maximum(values, 0) + ADDED_BY_AUTHORS)
        white = AffineMap(axes, -self.mean_ @ axes)
        self.names_ = [f"tvn_{axis}" for axis in range(len(self._used))]
        self.maps_ = {"": white}
        if self.batch is not None:
            identity = ADDED_BY_AUTHORS * np.eye(len(self._used))
            root = power(_about_zero(white.moments(total)) + identity, 0.5)
            self.maps_ = {}
            for key, moments in sorted(reference.moments.items()):
                own = _about_zero(white.moments(moments)) + identity
                coral = power(own, -0.5) @ root
                self.maps_[key] = AffineMap(axes @ coral, white.offset @ coral)
        self.fitted_ = FitSummary(
            reference="controls",
            unit=reference.unit,
            n=total.n,
            d=len(self._used),
            rank=rank,
            added=ADDED_BY_AUTHORS,
            batches=_batch_fits(reference, ranks),
        )
        return self


@NORMALIZERS.register("tvn-efaar")
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
        ranks = self._ranks(reference)
        turned, rank = self._rotation(reference, self._used)
        maps, moments = self._scaled_batches(reference, turned)
        self.maps_ = maps
        if self.batch is not None:
            identity = ADDED_BY_EFAAR * np.eye(rank)
            root = power(_unbiased(pooled(moments.values(), rank)) + identity, 0.5)
            for key, mapped in maps.items():
                coral = power(_unbiased(moments[key]) + identity, -0.5) @ root
                self.maps_[key] = AffineMap(mapped.matrix @ coral, mapped.offset @ coral)
        self.names_ = [f"tvn_{axis}" for axis in range(rank)]
        self.fitted_ = FitSummary(
            reference="controls",
            unit=reference.unit,
            n=reference.total.n,
            d=len(self._used),
            rank=rank,
            added=ADDED_BY_EFAAR,
            batches=_batch_fits(reference, ranks),
        )
        return self

    def _rotation(self, reference: Reference, names: list[str]) -> tuple[AffineMap, int]:
        """Return the map to the principal axes of all scaled controls, and their rank."""
        scale = _deviation(reference.total)
        if not scale.all():
            name = names[int(np.flatnonzero(scale == 0)[0])]
            raise DataError(
                f"{self.name}: feature {name} does not vary among the {reference.total.n} control "
                f"{reference.unit}; standardize first, which leaves such features out"
            )
        scaled = AffineMap(1 / scale, -self.mean_ / scale)
        whole = scaled.moments(reference.total)
        rank = self._checked_rank(whole, reference.unit, "the screen")
        _, axes = principal_axes(whole.covariance)
        axes = axes[:, :rank]
        return AffineMap(axes / scale[:, None], scaled.offset @ axes), rank

    def _scaled_batches(
        self, reference: Reference, turned: AffineMap
    ) -> tuple[dict[Any, AffineMap], dict[Any, Moments]]:
        """Return each batch's map to axes that are scaled on its controls, and their moments."""
        maps, scaled = {}, {}
        for key, moments in sorted(reference.moments.items()):
            along_axes = turned.moments(moments)
            deviation = _deviation(along_axes)
            if not deviation.all():
                where = f"{spoken(self.batch)} {key}" if self.batch else "the screen"
                raise DataError(
                    f"{self.name}: the {moments.n} control {reference.unit} of {where} do not vary "
                    "along an axis"
                )
            standard = AffineMap(1 / deviation, -along_axes.mean / deviation)
            maps[key] = AffineMap(
                turned.matrix / deviation, turned.offset / deviation + standard.offset
            )
            scaled[key] = standard.moments(along_axes)
        return maps, scaled


def _batch_fits(reference: Reference, ranks: dict[Any, int]) -> tuple[BatchFit, ...]:
    """Return what each batch was aligned on; empty where batches are not distinguished."""
    return tuple(BatchFit(key, reference.moments[key].n, ranks[key]) for key in sorted(ranks))


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
