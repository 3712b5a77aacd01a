"""Typical variation normalization (Ando et al. 2017), with shrunk covariances.

Negative controls should look alike. Where they differ, the difference is nuisance: whitening
evens its directions out, and CORAL (Sun et al. 2016) gives every batch's controls the covariance
of all. With few controls a covariance is shrunk, by a rule that looks at the controls alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.profiling.affine import AffineMap, Normalizer
from deepprofiler.profiling.moments import CellMoments, Moments, pooled
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.tables import spoken

Rule = Literal["oas", "ledoit-wolf"] | float


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
    rule : "oas", "ledoit-wolf" or float
        ``oas``: Chen et al. 2010, from C and n alone. ``ledoit-wolf``: Ledoit and Wolf 2004; needs
        the rows. A number ε ≥ 0: C + ε · mean λ · I, where 0 does not shrink.
    rows : ndarray, (n, D), optional
        The vectors themselves.

    Raises
    ------
    DataError
        ``ledoit-wolf`` without rows.
    """
    covariance = moments.covariance
    size = len(covariance)
    level = float(np.trace(covariance)) / size
    if isinstance(rule, str):
        squares = float((covariance**2).sum())
        if rule == "oas":
            spread = (moments.n + 1) * (squares / size - level**2) / size
            above, below = squares / size**2 + level**2, spread
        else:
            if rows is None:
                raise DataError(
                    "shrinkage ledoit-wolf needs every control's vector, but only the cells' "
                    "moments were kept: choose shrinkage oas or fit_on wells"
                )
            fourth = float((((rows - moments.mean) ** 2).sum(axis=1) ** 2).mean())
            above, below = (fourth - squares) / moments.n, squares - size * level**2
        weight = min(1.0, max(0.0, above / below)) if below > 0 else 1.0
        return Shrunk((1 - weight) * covariance + weight * level * np.eye(size), weight)
    return Shrunk(covariance + rule * level * np.eye(size), rule / (1 + rule))


def power(covariance: np.ndarray, exponent: float) -> np.ndarray:
    """Symmetric power of a positive definite matrix (D, D), such as its inverse root (−½)."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * values**exponent) @ vectors.T


class TVN(Normalizer):
    """Whiten by the negative controls, then give each batch's controls the covariance of all.

    In formulas, for row vectors: t = (x − mean) V Λ^-½ with the shrunk covariance V Λ Vᵀ of all
    controls, and y = t · C_batch^-½ · C_all^½ with the shrunk covariances of whitened controls.

    Parameters
    ----------
    batch : str, optional
        Column of metadata with the batch; None: whitening only.
    shrinkage : "oas", "ledoit-wolf" or float
        See :func:`shrink`. Never chosen by looking at treatments.
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

    def __init__(
        self,
        *,
        batch: str | None = None,
        shrinkage: Rule = "oas",
        fit_on: Literal["cells", "wells"] | None = None,
        center_batches: bool = False,
    ) -> None:
        known = (
            shrinkage in ("oas", "ledoit-wolf")
            if isinstance(shrinkage, str)
            else (np.isfinite(shrinkage) and shrinkage >= 0)
        )
        if not known:
            raise ValueError(f"shrinkage={shrinkage!r}; choose oas, ledoit-wolf or a number ≥ 0")
        if fit_on not in (None, "cells", "wells"):
            raise ValueError(f"fit_on={fit_on!r}; choose cells or wells")
        self.batch = batch
        self.shrinkage = shrinkage
        self.fit_on = fit_on
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
        if self.fit_on == "cells" and cells is None:
            raise DataError("tvn: fit_on cells needs the moments of the control cells")
        unit = "wells" if cells is None or self.fit_on == "wells" else "cells"
        if unit == "cells" and cells is not None and cells.names != profiles.names:
            raise DataError("tvn: the cells' features are not those of the profiles")
        moments, rows = self._reference(profiles, controls, cells if unit == "cells" else None)

        total = pooled(moments.values(), len(profiles.names))
        everything = np.concatenate(list(rows.values())) if rows else None
        self.n_, self.d_ = total.n, len(profiles.names)
        self.rank_ = self._checked_rank(total, unit, "all batches")
        # Ranks are taken before whitening, which would raise noise to the height of the axes.
        ranks = {
            key: self._checked_rank(one, unit, f"{spoken(self.batch)} {key}")
            for key, one in moments.items()
            if self.batch is not None
        }
        whole = shrink(total, self.shrinkage, everything)
        values, vectors = np.linalg.eigh(whole.covariance)
        axes = vectors[:, ::-1] / np.sqrt(values[::-1])
        # The sign of an axis is arbitrary: make its largest loading positive.
        axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(self.d_)])
        self.mean_, self.whitening_, self.shrinkage_ = total.mean, axes, whole.weight
        white = AffineMap(axes, -total.mean @ axes)

        self.names_in_ = list(profiles.names)
        self.names_ = [f"tvn_{axis}" for axis in range(self.d_)]
        self.columns_ = np.arange(self.d_)
        self.group_ = self.batch
        self.left_out_ = {}
        self.notes_ = [
            f"tvn: fitted on {self.n_} control {unit}, {self.d_} features, rank {self.rank_}, "
            f"shrinkage {self.shrinkage_:.3g}"
        ]
        self.maps_ = {"": white}
        if self.batch is not None:
            self._align(moments, ranks, rows, white)
            fewest = min(moments, key=lambda key: moments[key].n)
            self.notes_.append(
                f"tvn: {len(moments)} batches aligned, each on {moments[fewest].n} control {unit} "
                f"or more (fewest in {spoken(self.batch)} {fewest}, rank {ranks[fewest]} of "
                f"{self.d_}); shrinkage {self.batches_['shrinkage'].min():.3g} to "
                f"{self.batches_['shrinkage'].max():.3g}"
            )
        return self

    def _reference(
        self, profiles: Profiles, controls: np.ndarray | None, cells: CellMoments | None
    ) -> tuple[dict[Any, Moments], dict[Any, np.ndarray]]:
        """Moments of each batch's controls and, where wells are the reference, their rows."""
        size = len(profiles.names)
        chosen = np.ones(len(profiles), bool) if controls is None else np.asarray(controls, bool)
        groups = profiles.groups([self.batch] if self.batch else [])
        batches = {key[0] if key else "": indices[chosen[indices]] for key, indices in groups}
        rows: dict[Any, np.ndarray] = {}
        if cells is None:
            profiles.require_finite(np.flatnonzero(chosen))
            rows = {key: profiles.features[one].astype(float) for key, one in batches.items()}
            moments = {key: Moments.of(one) for key, one in rows.items()}
        else:
            moments = cells.by(self.batch)
            # A batch without a single control cell has no entry; it must still be named.
            moments.update({key: Moments.empty(size) for key in batches if key not in moments})
        return moments, rows

    def _checked_rank(self, moments: Moments, unit: str, where: str) -> int:
        """Rank of a reference, if it is enough to invert its covariance as configured."""
        size, rank = len(moments.mean), moments.rank
        needed = 2 if self.shrinkage != 0 else size + 1
        if moments.n < 2:
            raise DataError(
                f"tvn: {where} has {moments.n} control {unit} and needs at least {needed}; add "
                "negative controls, lower min_cells or pool batches"
            )
        if self.shrinkage == 0 and rank < size:
            raise DataError(
                f"tvn: without shrinkage the covariance of {where} cannot be inverted: rank {rank} "
                f"of {size} features from {moments.n} control {unit}; choose shrinkage oas or a "
                f"number above 0, or give at least {needed} controls and no doubled features"
            )
        if not rank:
            raise DataError(f"tvn: the {moments.n} control {unit} of {where} do not vary at all")
        return rank

    def _align(
        self,
        moments: dict[Any, Moments],
        ranks: dict[Any, int],
        rows: dict[Any, np.ndarray],
        white: AffineMap,
    ) -> None:
        """Add CORAL to the map of each batch."""
        total = white.moments(pooled(moments.values(), self.d_))
        everything = white(np.concatenate(list(rows.values()))) if rows else None
        root = power(shrink(total, self.shrinkage, everything).covariance, 0.5)
        self.maps_, table = {}, []
        for key in sorted(moments):
            one = white.moments(moments[key])
            batch = shrink(one, self.shrinkage, white(rows[key]) if rows else None)
            coral = power(batch.covariance, -0.5) @ root
            moved = one.mean if self.center_batches else np.zeros(self.d_)
            self.maps_[key] = AffineMap(white.matrix @ coral, (white.offset - moved) @ coral)
            table.append((key, one.n, ranks[key], batch.weight))
        self.batches_ = pd.DataFrame(table, columns=["batch", "n", "rank", "shrinkage"])
