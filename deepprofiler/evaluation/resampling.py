"""How certain a result is: intervals, and the same evaluation with permuted labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.evaluation.similarity import blank
from deepprofiler.profiling.profiles import Profiles, require_mask

_AT_A_TIME = 1_000_000


@dataclass(frozen=True)
class Interval:
    """Bounds of a confidence interval.

    Attributes
    ----------
    low, high : float
    level : float
        Between 0 and 1.
    method : {"clopper-pearson", "bootstrap", "permutations"}
    draws : int
        Draws or permutations; 0 where nothing was drawn.
    clusters : int
        Clusters that the bootstrap drew from.
    undefined : int
        Draws without a value, which are left out.
    """

    low: float
    high: float
    level: float
    method: Literal["clopper-pearson", "bootstrap", "permutations"]
    draws: int = 0
    clusters: int = 0
    undefined: int = 0


def clopper_pearson(right: float, n: int, level: float = 0.95) -> Interval:
    """Exact binomial interval of ``right`` of ``n`` (84 of 103: 0.73 to 0.89).

    Parameters
    ----------
    right : float
        Number of successes. Averages and ties make it fractional; the beta quantiles that define
        the interval are then taken at the fraction.
    n : int
        Number of trials.
    level : float

    Raises
    ------
    ValueError
        ``right`` is not between 0 and ``n``, or ``n`` is 0.
    """
    from scipy.stats import beta, binomtest

    if not 0 <= right <= n or n < 1:
        raise ValueError(f"right={right} must be between 0 and n={n}, and n at least 1")
    if float(right).is_integer():
        exact = binomtest(int(right), n).proportion_ci(level, method="exact")
        return Interval(float(exact.low), float(exact.high), level, "clopper-pearson")
    # binomtest takes whole numbers only. A fraction is neither 0 nor n.
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, right, n - right + 1))
    high = float(beta.ppf(1 - tail, right + 1, n - right))
    return Interval(low, high, level, "clopper-pearson")


def bootstrap(
    outcomes: np.ndarray,
    clusters: np.ndarray,
    *,
    times: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a mean, drawing whole clusters, such as compounds, with replacement.

    Outcomes stay fixed: if profiles were drawn, copies of one profile would match each other.

    Parameters
    ----------
    outcomes : ndarray, (n,)
        Results of the single units, such as 0 or 1.
    clusters : ndarray, (n,)
        Cluster of each unit.
    times : int
        Number of draws.
    level : float
    seed : int
    """
    names, codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.bincount(codes, weights=outcomes)
    sizes = np.bincount(codes)
    drawn = draws(len(names), times, seed)
    return percentiles((drawn @ sums) / (drawn @ sizes), clusters=len(names), level=level)


def draws(count: int, times: int, seed: int) -> np.ndarray:
    """How often each of ``count`` clusters is drawn, (times, count)."""
    rng = np.random.default_rng(seed)
    counts = np.empty((times, count))
    step = max(1, _AT_A_TIME // count)
    for start in range(0, times, step):
        rows = min(step, times - start)
        chosen = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        counted = np.bincount(chosen.ravel(), minlength=rows * count)
        counts[start : start + rows] = counted.reshape(rows, count)
    return counts


def percentiles(
    values: np.ndarray,
    *,
    clusters: int = 0,
    method: Literal["bootstrap", "permutations"] = "bootstrap",
    level: float = 0.95,
) -> Interval:
    """Interval between percentiles of the values of many draws.

    Parameters
    ----------
    values : ndarray, (times,)
        NaN where a draw has no value; these are left out and counted. Infinite values are values.
    clusters : int
        Clusters that were drawn from.
    method : {"bootstrap", "permutations"}
    level : float

    Raises
    ------
    DataError
        No value is defined.
    """
    defined = np.sort(values[~np.isnan(values)])
    if not len(defined):
        raise DataError(f"no interval: none of {len(values)} draws of clusters has a value")
    low, high = (
        _between(defined, share * (len(defined) - 1))
        for share in ((1 - level) / 2, (1 + level) / 2)
    )
    undefined = len(values) - len(defined)
    return Interval(low, high, level, method, len(values), clusters, undefined)


def _between(ordered: np.ndarray, place: float) -> float:
    """Value at a fractional place of ordered values, some of which may be infinite."""
    below, above = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
    return float(below if below == above else below + (place - int(place)) * (above - below))


class Scored(Protocol):
    """A result with a value and the value expected by chance."""

    @property
    def value(self) -> float:
        """The result."""

    @property
    def chance(self) -> float:
        """The value expected for random neighbours or a random order."""


@dataclass(frozen=True)
class Shuffled:
    """Results with permuted labels.

    Attributes
    ----------
    values : ndarray, (times,)
    mean, standard_error : float
        Of the values; the error is that of the mean.
    chance : float
        Mean of the chances of the same permutations.
    """

    values: np.ndarray
    mean: float
    standard_error: float
    chance: float


def permuted_labels(
    profiles: Profiles,
    column: str,
    *,
    unit: str | None,
    controls: np.ndarray | None,
    times: int,
    seed: int = 0,
) -> Iterator[Profiles]:
    """Profiles with permuted labels, such as mechanisms permuted among compounds.

    Doses of one compound keep a common mechanism, so that the task stays the same.

    Parameters
    ----------
    profiles : Profiles
    column : str
        The label to permute; rows where it is blank keep the blank.
    unit : str or None
        Column whose values have one label each; None: each row has its own.
    controls : ndarray of bool, (n,), or None
        Negative controls; they keep their label.
    times : int
        Number of permutations.
    seed : int

    Yields
    ------
    Profiles

    Raises
    ------
    DataError
        A unit has two labels.
    """
    labels = profiles.values(column)
    units = profiles.values(unit) if unit else np.arange(len(profiles))
    permuted = ~blank(labels)
    if controls is not None:
        permuted &= ~require_mask(controls, len(profiles), "controls")
    rows = np.flatnonzero(permuted)
    label_of: dict[object, object] = {}
    for row in rows:
        if label_of.setdefault(units[row], labels[row]) != labels[row]:
            raise DataError(
                f"{unit} {units[row]} has two values of {column}: {label_of[units[row]]} and "
                f"{labels[row]}; permute by a unit that has one"
            )
    names, pool = list(label_of), np.array(list(label_of.values()), dtype=object)
    rng = np.random.default_rng(seed)
    for _ in range(times):
        new_label = dict(zip(names, rng.permutation(pool), strict=True))
        new = labels.copy()
        new[rows] = [new_label[units[row]] for row in rows]
        yield profiles.with_column(column, new)


def shuffled(
    evaluate: Callable[[Profiles], Scored],
    profiles: Profiles,
    column: str,
    *,
    unit: str | None,
    controls: np.ndarray | None,
    times: int = 20,
    seed: int = 0,
) -> Shuffled:
    """Evaluate profiles with permuted labels; see :func:`permuted_labels`.

    Parameters
    ----------
    evaluate : callable
        From profiles to a result with ``value`` and ``chance``.
    profiles, column, unit, controls, times, seed
        As for :func:`permuted_labels`.

    Raises
    ------
    DataError
        As for :func:`permuted_labels`.
    """
    results = [
        evaluate(permuted)
        for permuted in permuted_labels(
            profiles, column, unit=unit, controls=controls, times=times, seed=seed
        )
    ]
    values = np.array([result.value for result in results])
    return Shuffled(
        values,
        float(values.mean()),
        float(values.std(ddof=1) / np.sqrt(times)) if times > 1 else float("nan"),
        float(np.mean([result.chance for result in results])),
    )
