"""Corrections of all profiles together: each result depends on every profile of the fit.

Such a step knows the profiles of its fit, by their metadata, and no others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from deepprofiler.columns import spoken
from deepprofiler.errors import ConfigError, DataError, install_extra
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.normalizer import FitSummary, LeftOut, Normalizer
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.registry import NORMALIZERS


class Joint(Normalizer):
    """A normalizer that gives values to the profiles of its fit alone."""

    _rows: dict[tuple[str, ...], int]
    _features: np.ndarray

    @abstractmethod
    def _correct(self, profiles: Profiles) -> np.ndarray:
        """Return corrected features, (n, E); sets names_, left_out_ and fitted_."""

    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Correct the profiles; see :class:`Normalizer`.

        Raises
        ------
        DataError
            Two profiles have the same metadata; a value is not finite where it must be; there are
            too few profiles.
        """
        keys = _keys(profiles)
        self._rows = {key: row for row, key in enumerate(keys)}
        if len(self._rows) < len(keys):
            doubled = next(row for row, key in enumerate(keys) if self._rows[key] != row)
            raise DataError(
                f"{self.name} tells profiles apart by their metadata, and two have the same: "
                f"{profiles.describe(doubled)}; add a column such as the well"
            )
        self.names_in_ = list(profiles.names)
        self.left_out_ = {}
        self._features = self._correct(profiles)
        return self

    def transform(self, profiles: Profiles) -> Profiles:
        """Return the corrected profiles.

        Raises
        ------
        DataError
            The features are not those of the fit, or a profile was not in it.
        """
        self._check_names(profiles.names)
        rows = np.array([self._rows.get(key, -1) for key in _keys(profiles)], int)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            raise DataError(
                f"{self.name} corrects the profiles of one fit together and cannot be applied to "
                f"others: {len(unknown)} of {len(profiles)} were not among its {self.fitted_.n}, "
                f"such as {profiles.describe(int(unknown[0]))}. Fit it again on old and new plates "
                "together, or leave it out of a chain that is applied to new plates"
            )
        return profiles.with_features(self._features[rows], self.names_)

    def covers(self, profiles: Profiles) -> np.ndarray:
        """Tell which profiles were in the fit, (n,) bool."""
        return np.array([key in self._rows for key in _keys(profiles)], bool)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return nothing: the corrected profiles are not saved."""
        return {}, {}

    def restore(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Set no profiles: every transform is refused."""
        self._rows, self._features = {}, np.zeros((0, len(self.names_)))


@NORMALIZERS.register("rank-normal")
class RankNormal(Joint):
    """Rank-based inverse normal transformation of every feature over all profiles.

    Φ⁻¹((r − 3/8) / (n + 1/4)) of the rank r among the n known values (Blom 1958); equal values
    share the average of their ranks. Missing values stay missing. A feature without two different
    values is left out and listed; values that differ by rounding alone are not different.
    """

    offset = 3 / 8

    def _correct(self, profiles: Profiles) -> np.ndarray:
        from scipy.stats import norm, rankdata

        values = np.asarray(profiles.features, np.float64)
        is_present = np.isfinite(values)
        if np.isinf(values).any():
            profiles.require_finite(np.flatnonzero(np.isinf(values).any(axis=1)))
        scores = np.full(values.shape, np.nan)
        kept = []
        for column, name in enumerate(profiles.names):
            rows = np.flatnonzero(is_present[:, column])
            present = values[rows, column]
            if not len(rows) or np.ptp(present) <= profiles.rounding * abs(np.median(present)):
                self.left_out_[name] = LeftOut("one-value", values={"n": len(rows)})
                continue
            kept.append(column)
            share = (rankdata(present) - self.offset) / (len(rows) + 1 - 2 * self.offset)
            scores[rows, column] = norm.ppf(share)
        if not kept:
            raise DataError(f"rank-normal: none of {len(profiles.names)} features varies")
        self.names_ = [profiles.names[column] for column in kept]
        self.fitted_ = FitSummary(
            reference="all",
            n=len(values),
            d=len(profiles.names),
            missing=int(np.isnan(scores[:, kept]).sum()),
        )
        return scores[:, kept]


@NORMALIZERS.register("harmony")
class Harmony(Joint):
    """Harmony (Korsunsky et al. 2019): soft clusters in which batches are moved together.

    Needs the extra ``harmony`` (harmonypy). Clusters are penalized for a batch's surplus
    (theta = 2), and shifts are shrunk by ridge regression (lambda = 1), as in the publication.

    Parameters
    ----------
    batch : str or sequence of str
        Columns of metadata whose values are to be mixed.
    clusters : int, optional
        None: a thirtieth of the profiles, from 1 to 100.
    iterations : int
        At most this many; fewer where the objective no longer changes.
    seed : int
        Of the first clusters.
    """

    def __init__(
        self,
        *,
        batch: str | Sequence[str],
        clusters: int | None = None,
        iterations: int = 10,
        seed: int = 0,
    ) -> None:
        if clusters is not None and clusters < 1:
            raise ValueError(f"clusters={clusters}; give at least 1")
        if iterations < 1:
            raise ValueError(f"iterations={iterations}; give at least 1")
        self.batch = batch
        self.clusters = clusters
        self.iterations = iterations
        self.seed = seed

    def _correct(self, profiles: Profiles) -> np.ndarray:
        try:
            from harmonypy import run_harmony
        except ImportError:
            raise ConfigError(f"harmony needs harmonypy: {install_extra('harmony')}") from None
        profiles.require_finite()
        columns = [self.batch] if isinstance(self.batch, str) else list(self.batch)
        sizes = [len(profiles.groups([column])) for column in columns]
        if max(sizes, default=0) < 2:
            raise DataError(
                f"harmony: the profiles have one {spoken(columns[0]) if columns else 'batch'} "
                "only, so there is nothing to mix"
            )
        if self.clusters is not None and self.clusters > len(profiles):
            raise DataError(
                f"harmony: {self.clusters} clusters of {len(profiles)} profiles; lower clusters"
            )
        result = run_harmony(
            np.asarray(profiles.features, np.float64),
            profiles.metadata[columns].astype(str),
            columns,
            theta=2,
            lamb=1,
            nclust=self.clusters or min(100, max(1, round(len(profiles) / 30))),
            max_iter_harmony=self.iterations,
            # What its C++ takes.
            random_state=self.seed % 2**31,
            verbose=False,
        )
        self.names_ = list(profiles.names)
        self.fitted_ = FitSummary(
            reference="all",
            n=len(profiles),
            d=len(profiles.names),
            mixed=dict(zip(columns, sizes, strict=True)),
        )
        return np.asarray(result.Z_corr, np.float64)


def _keys(profiles: Profiles) -> list[tuple[str, ...]]:
    """Each profile's metadata as text."""
    return list(profiles.metadata.astype(str).itertuples(index=False, name=None))
