"""Which features are used: those that vary, and one of each pair that says the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from deepprofiler.profiling import Profiles

Reading = Callable[[np.ndarray, float], np.ndarray]
"""From absolute correlations (D, D) and a limit to the columns that stay, (D,) bool."""


def only(profiles: Profiles, kept: np.ndarray) -> Profiles:
    """Profiles with the features of a mask (D,)."""
    names = [name for name, keep in zip(profiles.names, kept, strict=True) if keep]
    return profiles.with_features(profiles.features[:, kept], names)


def varied(profiles: Profiles) -> np.ndarray:
    """Which features are known everywhere and not near-constant, (D,) bool.

    Near-constant: the second most frequent value is less than a twentieth as frequent as the first
    (caret's ``nearZeroVar``, pycytominer's ``frequency_threshold``).
    """
    kept = np.isfinite(profiles.features).all(axis=0)
    for column in np.flatnonzero(kept):
        counts = np.sort(np.unique(profiles.features[:, column], return_counts=True)[1])
        kept[column] = len(counts) > 1 and counts[-2] / counts[-1] >= 0.05
    return kept


def largest_sum_goes(correlation: np.ndarray, limit: float) -> np.ndarray:
    """Of each pair above the limit, the one goes that correlates more with all, kept or not.

    The rule of caret's ``findCorrelation`` for many features, which the published recipe used, and
    of pycytominer's ``correlation_threshold``. Of two equal features the later goes.
    """
    # Rounded, for equal features have equal sums but for rounding.
    order = np.argsort(np.round(correlation.sum(axis=0), 9), kind="stable")
    kept = later_goes(correlation[np.ix_(order, order)], limit)
    return kept[np.argsort(order)]


def later_goes(correlation: np.ndarray, limit: float) -> np.ndarray:
    """Of each pair above the limit, the later column goes, whether or not the earlier is kept."""
    return ~(np.triu(correlation, 1) > limit).any(axis=0)


def earlier_goes(correlation: np.ndarray, limit: float) -> np.ndarray:
    """Of each pair above the limit, the earlier column goes, whether or not the later is kept."""
    return ~(np.tril(correlation, -1) > limit).any(axis=0)


def later_goes_unless_the_earlier_went(correlation: np.ndarray, limit: float) -> np.ndarray:
    """From the first column on, one goes if an earlier one that was kept resembles it."""
    kept = np.zeros(len(correlation), bool)
    for column in range(len(correlation)):
        kept[column] = not (correlation[kept, column] > limit).any()
    return kept


def earlier_goes_unless_the_later_went(correlation: np.ndarray, limit: float) -> np.ndarray:
    """As :func:`later_goes_unless_the_earlier_went`, from the last column on."""
    return later_goes_unless_the_earlier_went(correlation[::-1, ::-1], limit)[::-1]


def largest_sum_goes_one_by_one(correlation: np.ndarray, limit: float) -> np.ndarray:
    """The column with the largest sum among those kept in a pair goes, until no pair is left."""
    kept = np.ones(len(correlation), bool)
    while True:
        among = correlation * np.outer(kept, kept)
        paired = ((among > limit) & ~np.eye(len(among), dtype=bool)).any(axis=0)
        if not paired.any():
            return kept
        kept[np.where(paired, among.sum(axis=0), -1).argmax()] = False


READINGS: list[Reading] = [
    largest_sum_goes,
    later_goes,
    earlier_goes,
    later_goes_unless_the_earlier_went,
    earlier_goes_unless_the_later_went,
    largest_sum_goes_one_by_one,
]
"""Of "one of each pair with |r| above a limit"; the first is the one that counts."""


def select(
    profiles: Profiles,
    limit: float = 0.9,
    reading: Reading = largest_sum_goes,
    *,
    near_constant: bool = False,
) -> Profiles:
    """Features that vary (with ``near_constant``: all), and one of each pair above the limit."""
    varying = profiles if near_constant else only(profiles, varied(profiles))
    return only(varying, reading(np.abs(np.corrcoef(varying.features, rowvar=False)), limit))


def replicated(profiles: Profiles, treatment: str, least: float) -> np.ndarray:
    """Which features have a median correlation between replicates of ``least`` or more, (D,) bool.

    Over the treatments with three wells, which are most: the correlation of first and second,
    first and third, second and third wells across treatments.
    """
    groups = [rows for _, rows in profiles.groups([treatment]) if len(rows) == 3]
    wells = profiles.features[np.array(groups)]
    kept = np.empty(len(profiles.names), bool)
    for column in range(len(kept)):
        matrix = np.corrcoef(wells[:, :, column], rowvar=False)
        kept[column] = np.median([matrix[pair] for pair in combinations(range(3), 2)]) >= least
    return kept
