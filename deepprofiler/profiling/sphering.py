"""Sphering: controls get the identity as their covariance (Kessy et al. 2018).

A normalizer of its own, offered beside TVN, which shares its algebra in ``shrinkage``.
"""

from __future__ import annotations

from typing import Literal, Self, get_args

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.normalizer import AffineMap, FitSummary, Unit
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.shrinkage import (
    OnControls,
    Rule,
    principal_axes,
    shrink,
)
from deepprofiler.registry import NORMALIZERS

Method = Literal["PCA", "ZCA", "PCA-cor", "ZCA-cor"]


@NORMALIZERS.register("sphering")
class Sphering(OnControls):
    """Whiten by the negative controls of the screen.

    With the shrunk covariance V Λ Vᵀ of the controls, y = (x − mean) V Λ^-½ (PCA), or turned back
    to the features, y = (x − mean) V Λ^-½ Vᵀ (ZCA: the nearest to the features themselves). The
    forms with ``-cor`` divide by the controls' standard deviations first, so that V Λ Vᵀ is their
    shrunk correlation.

    Parameters
    ----------
    method : {"PCA", "ZCA", "PCA-cor", "ZCA-cor"}
    shrinkage : "oas", "ledoit-wolf", "held-out" or float
        See :func:`~deepprofiler.profiling.shrinkage.shrink`: a number ε adds ε times the mean
        eigenvalue to every eigenvalue (of correlations: ε itself).
    fit_on : {"cells", "wells"}, optional
        Moments of the control cells, or profiles of the control wells. None: the cells where
        their moments are given, else the wells.

    Attributes
    ----------
    fitted_ : FitSummary
        With the number of vectors, the rank of their covariance, and its shrinkage.
    """

    def __init__(
        self,
        *,
        method: Method = "ZCA-cor",
        shrinkage: Rule = "oas",
        fit_on: Unit | None = None,
    ) -> None:
        if method not in get_args(Method):
            raise ValueError(f"method={method!r}; choose {', '.join(get_args(Method))}")
        super().__init__(batch=None, shrinkage=shrinkage, fit_on=fit_on)
        self.method = method

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
            There are fewer than 2 controls; their covariance lacks rank and is not shrunk; a
            value is not finite; with correlations, a feature does not vary among the controls.
        """
        reference = self._reference(profiles, controls, cells)
        deviation = np.ones(len(self._used))
        if self.method.endswith("-cor"):
            deviation = np.sqrt(np.maximum(np.diag(reference.total.covariance), 0))
            constant = np.flatnonzero(deviation <= 1e-10 * np.abs(self.mean_))
            if len(constant):
                raise DataError(
                    f"sphering: {len(constant)} features do not vary among the {reference.total.n} "
                    f"control {reference.unit}, such as {self._used[constant[0]]}: they have "
                    "no correlation; standardize first, which leaves such features out, or choose "
                    f"method {self.method.removesuffix('-cor')}"
                )
        scaled = AffineMap(1 / deviation, -self.mean_ / deviation)
        total = scaled.moments(reference.total)
        rank = self._checked_rank(total, reference.unit, "the screen")
        rows = None if reference.all_rows is None else scaled(reference.all_rows)
        shrunk = shrink(total, self.shrinkage, rows)
        values, vectors = principal_axes(shrunk.covariance)
        whitening = vectors / np.sqrt(values)
        self.names_ = [f"sphering_{axis}" for axis in range(len(self._used))]
        if self.method.startswith("ZCA"):
            whitening = whitening @ vectors.T
            self.names_ = self._used
        whitening = whitening / deviation[:, None]
        self.maps_ = {"": AffineMap(whitening, -self.mean_ @ whitening)}
        self.fitted_ = FitSummary(
            reference="controls",
            unit=reference.unit,
            n=total.n,
            d=len(self._used),
            rank=rank,
            shrinkage=shrunk.weight,
        )
        return self
