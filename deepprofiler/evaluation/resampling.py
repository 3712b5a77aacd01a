"""How sure a result is: intervals, and the same evaluation with shuffled labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.evaluation.similarity import blank
from deepprofiler.profiling.profile_files import require_mask
from deepprofiler.profiling.profiles import Profiles

_AT_A_TIME = 1_000_000


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
    names, codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.bincount(codes, weights=outcomes)
    sizes = np.bincount(codes)
    drawn = draws(len(names), times, seed)
    means = (drawn @ sums) / (drawn @ sizes)
    return percentiles(means, f"bootstrap over {len(names)} clusters", level)


def draws(count: int, times: int, seed: int) -> np.ndarray:
    """How often each of ``count`` clusters is drawn, (times, count)."""
    rng = np.random.default_rng(seed)
    often = np.empty((times, count))
    step = max(1, _AT_A_TIME // count)
    for start in range(0, times, step):
        rows = min(step, times - start)
        chosen = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        counted = np.bincount(chosen.ravel(), minlength=rows * count)
        often[start : start + rows] = counted.reshape(rows, count)
    return often


def percentiles(values: np.ndarray, method: str, level: float = 0.95) -> Interval:
    """Interval between the percentiles of values of many draws; undefined ones are left out.

    Parameters
    ----------
    values : ndarray, (times,)
        NaN where a draw has no value; infinite values are values.
    method : str
        What was drawn; how many draws are undefined is added.

    Raises
    ------
    DataError
        No value is defined.
    """
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        raise DataError(f"{method}: none of {len(values)} draws has a value")
    if len(known) < len(values):
        method += f", {len(values) - len(known)} of {len(values)} draws undefined"
    low, high = (
        _between(known, share * (len(known) - 1)) for share in ((1 - level) / 2, (1 + level) / 2)
    )
    return Interval(low, high, level, method)


def _between(ordered: np.ndarray, place: float) -> float:
    """Value at a fractional place of ordered values, some of which may be infinite."""
    below, above = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
    return float(below if below == above else below + (place - int(place)) * (above - below))


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


def deals(
    profiles: Profiles,
    column: str,
    *,
    unit: str | None,
    controls: np.ndarray | None,
    times: int,
    seed: int = 0,
) -> Iterator[Profiles]:
    """Profiles with labels dealt out anew among units, such as mechanisms among compounds.

    Doses of one compound keep a common mechanism, so that the task stays the same.

    Parameters
    ----------
    profiles : Profiles
    column : str
        The label to shuffle; rows where it is blank keep the blank.
    unit : str or None
        Column of what has one label; None: each row has its own.
    controls : ndarray of bool, (n,), or None
        Negative controls; they keep their label.

    Raises
    ------
    DataError
        A unit has two labels.
    """
    labels = profiles.values(column)
    units = profiles.values(unit) if unit else np.arange(len(profiles))
    dealt = ~blank(labels)
    if controls is not None:
        dealt &= ~require_mask(controls, len(profiles), "controls")
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
    for _ in range(times):
        deal = dict(zip(names, rng.permutation(pool), strict=True))
        new = labels.copy()
        new[rows] = [deal[units[row]] for row in rows]
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
    """Evaluate again with labels dealt out anew; see :func:`deals`.

    Parameters
    ----------
    evaluate : callable
        From profiles to a result with ``value`` and ``chance``.
    profiles, column, unit, controls, times, seed
        As for :func:`deals`.

    Raises
    ------
    DataError
        As for :func:`deals`.
    """
    results = [
        evaluate(dealt)
        for dealt in deals(profiles, column, unit=unit, controls=controls, times=times, seed=seed)
    ]
    values = np.array([result.value for result in results])
    return Shuffled(
        values,
        float(values.mean()),
        float(values.std(ddof=1) / np.sqrt(times)) if times > 1 else float("nan"),
        float(np.mean([result.chance for result in results])),
    )
