"""Typical variation normalization (Ando et al. 2017), with shrunk covariances.

Negative controls should look alike. Where they differ, the difference is nuisance: whitening
evens its directions out, and CORAL (Sun et al. 2016) gives every batch's controls the covariance
of all. With few controls a covariance is shrunk, by a rule that looks at the controls alone.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from deepprofiler.profiling.affine import AffineMap
from deepprofiler.profiling.moments import CellMoments
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
from deepprofiler.profiling.tables import counted, spoken


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
