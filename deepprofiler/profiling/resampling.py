"""How sure a result is: intervals, and the same evaluation with shuffled labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.profiling.neighbours import blank
from deepprofiler.profiling.profiles import Profiles


@dataclass(frozen=True)
class Interval:
    """Bounds of a confidence interval, its level (0 … 1) and how it was made."""

    low: float
    high: float
    level: float
    method: str


def clopper_pearson(right: float, n: int, level: float = 0.95) -> Interval:
    """Exact binomial interval of ``right`` of ``n`` (84 of 103: 0.73 to 0.89).

    A fraction in ``right``, from averages and ties, is taken as it is.
    """
    from scipy.stats import beta

    if not 0 <= right <= n or n < 1:
        raise ValueError(f"{right} of {n} is no share")
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, right, n - right + 1)) if right > 0 else 0.0
    high = float(beta.ppf(1 - tail, right + 1, n - right)) if right < n else 1.0
    return Interval(low, high, level, "Clopper-Pearson")


def bootstrap(
    outcomes: np.ndarray,
    clusters: np.ndarray,
    *,
    times: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a mean when whole clusters, such as compounds, are drawn anew.

    Outcomes are fixed: were profiles drawn, a profile's copy would be its own best match.

    Parameters
    ----------
    outcomes : ndarray, (n,)
        Results of the single units, such as 0 or 1.
    clusters : ndarray, (n,)
        What each belongs to.
    """
    _, codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.bincount(codes, weights=outcomes)
    sizes = np.bincount(codes)
    rng = np.random.default_rng(seed)
    means = np.empty(times)
    for turn in range(times):
        drawn = rng.integers(len(sums), size=len(sums))
        means[turn] = sums[drawn].sum() / sizes[drawn].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, f"bootstrap over {len(sums)} clusters")


class Scored(Protocol):
    """A result with a value and the value that chance gives."""

    @property
    def value(self) -> float:
        """The result."""

    @property
    def chance(self) -> float:
        """Its expectation for a random neighbour or order."""


@dataclass(frozen=True)
class Shuffled:
    """Results with shuffled labels.

    Attributes
    ----------
    values : ndarray, (times,)
    mean, standard_error : float
        Of the values; the error is that of the mean.
    chance : float
        Mean of what a random choice would give in the same shuffles.
    """

    values: np.ndarray
    mean: float
    standard_error: float
    chance: float


def shuffled(
    evaluate: Callable[[Profiles], Scored],
    profiles: Profiles,
    column: str,
    *,
    unit: str,
    controls: np.ndarray | None,
    times: int = 20,
    seed: int = 0,
) -> Shuffled:
    """Evaluate again with labels dealt out anew among units, such as mechanisms among compounds.

    Doses of one compound keep a common mechanism, so that the task stays the same.

    Parameters
    ----------
    evaluate : callable
        From profiles to a result with ``value`` and ``chance``.
    profiles : Profiles
    column : str
        The label to shuffle; rows where it is blank keep the blank.
    unit : str
        Column of what has one label.
    controls : ndarray of bool, (n,), or None
        Negative controls; they keep their label.

    Raises
    ------
    DataError
        A unit has two labels.
    """
    labels, units = profiles.values(column), profiles.values(unit)
    dealt = ~blank(labels)
    if controls is not None:
        dealt &= ~np.asarray(controls, bool)
    rows = np.flatnonzero(dealt)
    label_of: dict[object, object] = {}
    for row in rows:
        if label_of.setdefault(units[row], labels[row]) != labels[row]:
            raise DataError(
                f"{unit} {units[row]} has two values of {column}: {label_of[units[row]]} and "
                f"{labels[row]}; shuffle by a unit that has one"
            )
    names, pool = list(label_of), np.array(list(label_of.values()), dtype=object)
    rng = np.random.default_rng(seed)
    values, chances = [], []
    for _ in range(times):
        deal = dict(zip(names, rng.permutation(pool), strict=True))
        new = labels.copy()
        new[rows] = [deal[units[row]] for row in rows]
        result = evaluate(profiles.with_column(column, new))
        values.append(result.value)
        chances.append(result.chance)
    return Shuffled(
        np.array(values),
        float(np.mean(values)),
        float(np.std(values, ddof=1) / np.sqrt(times)) if times > 1 else float("nan"),
        float(np.mean(chances)),
    )
