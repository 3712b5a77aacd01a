"""Tables of every measure under several methods, as a report shows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.evaluation.measure import Measure
from deepprofiler.evaluation.scores import Scores
from deepprofiler.evaluation.screen import Screen
from deepprofiler.report.findings import share
from deepprofiler.report.page import Table

_NOTE = (
    "In brackets the 95 % interval: over compounds where they are drawn anew, else the exact one. "
    "Bold: the best value of a row. ↓: the lower, the better. –: not computed."
)


def lower_is_better(screen: Screen) -> tuple[str, ...]:
    """Names of the measures that are the better, the lower they are."""
    # Not the drop: it is NSCB less NSC, so that the lowest value is the largest loss.
    return (f"silhouette by {spoken(screen.column('batch'))}",)


def measures(
    title: str, methods: Mapping[str, Scores], lower: Collection[str], *, folded: bool = False
) -> Table:
    """Put every measure in a row and every method in a column.

    Parameters
    ----------
    title : str
    methods : mapping
        Headings to scores.
    lower : collection of str
        Names of measures of which the lowest value is the best.
    folded : bool
        Whether it is shown only on request.
    """
    found = {
        heading: {measure.name: measure for measure in scores.all}
        for heading, scores in methods.items()
    }
    names = list(dict.fromkeys(name for one in found.values() for name in one))
    rows = {
        f"{name} ↓" if name in lower else name: [_said(one.get(name)) for one in found.values()]
        for name in names
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(methods))
    best = np.zeros((len(names), len(methods) + 1), bool)
    for row, name in enumerate(names):
        values = np.array(
            [one[name].value if name in one else np.nan for one in found.values()], float
        )
        known = values[~np.isnan(values)]
        if len(known) > 1:
            best[row, 1:] = values == (known.min() if name in lower else known.max())
    return Table(title, table.reset_index(names="measure"), _NOTE, best, folded)


def _said(measure: Measure | None) -> str:
    """Write a value with its interval."""
    if measure is None or np.isnan(measure.value):
        return "–"
    interval = measure.by_compound or measure.exact
    if interval is None or np.isnan([interval.low, interval.high]).any():
        return _short(measure.value)
    if interval.low == interval.high == measure.value:
        return f"{_short(measure.value)} (no spread)"
    return f"{_short(measure.value)} ({_short(interval.low)}–{_short(interval.high)})"


def _short(value: float) -> str:
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    return share(value) if abs(value) < 100 else f"{value:.0f}"
