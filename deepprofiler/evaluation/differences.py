"""Is one accuracy higher than another: NSCB's drop below NSC, or TVN against its absence."""

from __future__ import annotations

import numpy as np

from deepprofiler.evaluation.accuracy import Accuracy
from deepprofiler.evaluation.measure import Measure
from deepprofiler.evaluation.resampling import draws, percentiles


def difference(
    first: Accuracy, second: Accuracy, *, name: str, times: int = 2000, seed: int = 0
) -> Measure:
    """Second accuracy less the first, with an interval over the compounds of both.

    Each accuracy keeps its own denominator, as in the paper's table of drops (NSCB of 92 less NSC
    of 103). The same draw of compounds serves both, so that what they have in common cancels.

    Parameters
    ----------
    first, second : Accuracy
        Of one screen; their fixed outcomes are drawn.
    name : str
        Of the result, such as ``drop``.
    times, seed : int
        Of the bootstrap.

    Returns
    -------
    Measure
        ``value`` from -1 to 1; n counts the units that count in both, and a note tells the
        difference on these alone.

    Raises
    ------
    DataError
        No draw of compounds has units in both.
    """
    one, two = first.units, second.units
    names = np.union1d(one["cluster"].astype(str), two["cluster"].astype(str))
    sums, sizes = [], []
    for units in (one, two):
        codes = np.searchsorted(names, units["cluster"].astype(str))
        sums.append(np.bincount(codes, weights=units["right"], minlength=len(names)))
        sizes.append(np.bincount(codes, minlength=len(names)))
    drawn = draws(len(names), times, seed)
    with np.errstate(invalid="ignore"):
        means = [(drawn @ total) / (drawn @ size) for total, size in zip(sums, sizes, strict=True)]
    values = means[1] - means[0]
    both = one.merge(two, on="unit", suffixes=("_first", "_second"))
    notes = []
    if len(both):
        apart = (both["right_second"] - both["right_first"]).mean()
        notes.append(f"on the {len(both)} {first.unit} that count in both: {apart:+.3f}")
    return Measure(
        name=name,
        value=second.value - first.value,
        n=len(both),
        total=max(first.total, second.total),
        unit=first.unit,
        chance=second.chance - first.chance,
        exact=None,
        by_compound=percentiles(values, f"bootstrap over {len(names)} clusters"),
        metric=first.metric if first.metric == second.metric else "differing metrics",
        null=f"{second.name} of {second.n} less {first.name} of {first.n}",
        notes=tuple(notes),
    )
