"""Difference of two accuracies: NSCB less NSC, or an accuracy with and without a normalization."""

from __future__ import annotations

import numpy as np

from deepprofiler.evaluation.accuracy import Accuracy
from deepprofiler.evaluation.measure import Measure, Note, NoteCode
from deepprofiler.evaluation.resampling import draws, percentiles


def difference(
    first: Accuracy, second: Accuracy, *, name: str, times: int = 2000, seed: int = 0
) -> Measure:
    """Second accuracy less the first, with an interval over the compounds of both.

    Each accuracy keeps its own denominator, as in the paper's table of drops (NSCB of 92 less NSC
    of 103). Both accuracies are computed on the same draws of compounds, so the interval is paired.

    Parameters
    ----------
    first, second : Accuracy
        Of one screen. Outcomes stay fixed, and their clusters are drawn.
    name : str
        Of the result, such as ``drop``.
    times, seed : int
        Of the bootstrap.

    Returns
    -------
    Measure
        ``value`` is between -1 and 1. n counts the units that count in both accuracies, and a note
        has the difference on these alone.

    Raises
    ------
    DataError
        No draw of compounds has units in both.
    """
    clusters = np.union1d(first.units["cluster"].astype(str), second.units["cluster"].astype(str))
    drawn = draws(len(clusters), times, seed)
    means = []
    for units in (first.units, second.units):
        codes = np.searchsorted(clusters, units["cluster"].astype(str))
        sums = np.bincount(codes, weights=units["right"], minlength=len(clusters))
        sizes = np.bincount(codes, minlength=len(clusters))
        # A draw without units of this accuracy has no mean.
        with np.errstate(invalid="ignore"):
            means.append((drawn @ sums) / (drawn @ sizes))
    both = first.units.merge(second.units, on="unit", suffixes=("_first", "_second"))
    notes = []
    if len(both):
        apart = float((both["right_second"] - both["right_first"]).mean())
        values = {"difference": apart, "count": len(both), "unit": first.unit}
        notes.append(Note(NoteCode.IN_BOTH, values))
    return Measure(
        name=name,
        value=second.value - first.value,
        n=len(both),
        total=max(first.total, second.total),
        unit=first.unit,
        chance=second.chance - first.chance,
        exact=None,
        by_compound=percentiles(means[1] - means[0], clusters=len(clusters)),
        metric=first.metric if first.metric == second.metric else "differing metrics",
        null=f"{second.name} of {second.n} less {first.name} of {first.n}",
        notes=tuple(notes),
    )
