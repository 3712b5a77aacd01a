"""Scores of a method: every evaluation that a screen allows, and the tables of their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import pandas as pd

from deepprofiler.columns import COUNT
from deepprofiler.errors import DataError
from deepprofiler.evaluation.accuracy import Accuracy
from deepprofiler.evaluation.evaluations import Evaluation, applicable_evaluations
from deepprofiler.evaluation.measure import Measure, Note, NoteCode
from deepprofiler.evaluation.resampling import Interval, percentiles
from deepprofiler.evaluation.retrieval import AveragePrecision
from deepprofiler.evaluation.screen import Screen
from deepprofiler.profiling.averages import cell_count_profiles

PERMUTATIONS = 20


@dataclass(frozen=True)
class Undefined:
    """Why an evaluation has no value.

    Attributes
    ----------
    title : str
        Of the evaluation.
    missing : str
        Role that the screen lacks, or ``batch`` where it has fewer than two batches; empty where
        there is an error.
    error : DataError or None
        What the computation raised.
    """

    title: str
    missing: str = ""
    error: DataError | None = None


@dataclass(frozen=True)
class Scores:
    """Results of one method, by evaluation.

    Keys are those of :func:`~deepprofiler.evaluation.evaluations.choose`: registered names, with
    parameters where an evaluation is listed twice.

    Attributes
    ----------
    name, description : str
        Name of the method within a sentence, and one line about it.
    main : dict
        The accuracies of main evaluations, such as ``nsc``.
    others : dict
        The measures of all other evaluations.
    undefined : dict
        Evaluations without a value, and why.
    """

    name: str
    description: str
    main: dict[str, Accuracy] = field(default_factory=dict)
    others: dict[str, tuple[Measure, ...]] = field(default_factory=dict)
    undefined: dict[str, Undefined] = field(default_factory=dict)

    @property
    def measures(self) -> list[Measure]:
        """Every measure; those of main evaluations come first."""
        return [*self.main.values(), *chain.from_iterable(self.others.values())]

    def of(self, key: str) -> tuple[Measure, ...]:
        """Measures of one evaluation; none where it is undefined."""
        return (self.main[key],) if key in self.main else self.others.get(key, ())

    def add(self, key: str, evaluation: Evaluation, measures: Sequence[Measure]) -> None:
        """Add the measures of an evaluation."""
        if evaluation.main and len(measures) == 1 and isinstance(measures[0], Accuracy):
            self.main[key] = measures[0]
        else:
            self.others[key] = tuple(measures)


def score(
    screen: Screen,
    evaluations: Mapping[str, Evaluation] | None = None,
    *,
    name: str,
    description: str = "",
) -> Scores:
    """Evaluate a screen.

    Parameters
    ----------
    screen : Screen
    evaluations : mapping, optional
        Key to evaluation; by default all that the screen allows.
    name, description : str
        See :class:`Scores`.
    """
    scores = Scores(name, description)
    if evaluations is None:
        evaluations = applicable_evaluations(screen)
    for key, evaluation in evaluations.items():
        if missing := evaluation.missing(screen):
            scores.undefined[key] = Undefined(evaluation.title, missing=missing)
            continue
        try:
            scores.add(key, evaluation, evaluation.measures(screen))
        except DataError as error:
            scores.undefined[key] = Undefined(evaluation.title, error=error)
    return scores


def shuffled_scores(screen: Screen, evaluations: Mapping[str, Evaluation] | None = None) -> Scores:
    """Evaluate a screen with permuted labels: the values that labels without meaning reach.

    See :meth:`~deepprofiler.evaluation.screen.Screen.permuted`. Values are means over the
    permutations, and intervals hold 95 % of them.

    Parameters
    ----------
    screen, evaluations
        As for :func:`score`.
    """
    scores = Scores(
        "shuffled labels",
        f"the same profiles with permuted labels; mean of {PERMUTATIONS} permutations",
    )
    if evaluations is None:
        evaluations = applicable_evaluations(screen)
    for role in ("mechanism", "gene", "treatment"):
        permutable = {
            key: evaluation
            for key, evaluation in evaluations.items()
            if evaluation.shuffles == role and not evaluation.missing(screen)
        }
        if not permutable:
            continue
        try:
            screens = list(screen.permuted(role, PERMUTATIONS))
        except DataError as error:
            for key, evaluation in permutable.items():
                scores.undefined[key] = Undefined(evaluation.title, error=error)
            continue
        for key, evaluation in permutable.items():
            try:
                results = zip(*map(evaluation.measures, screens), strict=True)
                scores.add(key, evaluation, [_mean(measures, role) for measures in results])
            except DataError as error:
                scores.undefined[key] = Undefined(evaluation.title, error=error)
    return scores


def count_scores(screen: Screen, evaluations: Mapping[str, Evaluation] | None = None) -> Scores:
    """Evaluate the number of cells of each well alone.

    Parameters
    ----------
    screen, evaluations
        As for :func:`score`; the features of the screen are not used.
    """
    return score(
        screen.with_wells(cell_count_profiles(screen.wells, count=COUNT)),
        evaluations,
        name="the cell count",
        description="one number per well: its number of cells",
    )


def _mean(measures: Sequence[Measure], role: str) -> Measure:
    """Mean of a measure over permutations of a role's labels."""
    values = np.array([measure.value for measure in measures])
    interval = percentiles(values, method="permutations")
    chances = [measure.chance for measure in measures if measure.chance is not None]
    return replace(
        measures[0],
        value=float(values.mean()),
        chance=float(np.mean(chances)) if chances else None,
        exact=interval,
        by_compound=interval,
        p_value=None,
        notes=(Note(NoteCode.PERMUTED, {"count": len(values), "role": role}),),
    )


# The tables of results, each named like its file.


def scores_table(methods: Sequence[Scores]) -> pd.DataFrame:
    """Every measure of every method, as in ``scores.csv``.

    Returns
    -------
    DataFrame
        ``method``; ``metric``, the name of the measure; ``value``, ``n``, ``unit``, ``left_out``;
        ``low`` and ``high`` of the exact interval; ``low_over_compounds`` and
        ``high_over_compounds`` of the bootstrap; ``chance``, ``p_value``, ``similarity``, ``null``.
    """
    rows = [(method.name, measure) for method in methods for measure in method.measures]
    columns = {column: [value(measure) for _, measure in rows] for column, value in _SCORES.items()}
    return pd.DataFrame({"method": [method for method, _ in rows], **columns})


_SCORES: dict[str, Callable[[Measure], object]] = {
    "metric": lambda measure: measure.name,
    "value": lambda measure: measure.value,
    "n": lambda measure: measure.n,
    "unit": lambda measure: measure.unit,
    "left_out": lambda measure: measure.total - measure.n,
    "low": lambda measure: _bound(measure.exact, "low"),
    "high": lambda measure: _bound(measure.exact, "high"),
    "low_over_compounds": lambda measure: _bound(measure.by_compound, "low"),
    "high_over_compounds": lambda measure: _bound(measure.by_compound, "high"),
    "chance": lambda measure: measure.chance,
    "p_value": lambda measure: measure.p_value,
    "similarity": lambda measure: measure.metric,
    "null": lambda measure: measure.null,
}


def _bound(interval: Interval | None, side: str) -> float | None:
    return None if interval is None else float(getattr(interval, side))


def confusion_table(scores: Scores) -> pd.DataFrame:
    """Units by label and prediction of every accuracy, as in ``confusion.csv``."""
    votes = {measure.name: measure.votes for measure in _accuracies(scores)}
    return _stack(votes, ["label", "predicted", "units"])


def wrong_matches_table(scores: Scores) -> pd.DataFrame:
    """Wrong matches of every accuracy, the most similar first, as in ``wrong-matches.csv``."""
    # Wells have no names of their own: their matches add nothing to the confusions.
    wrong = {
        measure.name: measure.wrong for measure in _accuracies(scores) if measure.unit != "profiles"
    }
    columns = ["unit", "label", "nearest", "nearest_label", "similarity", "right"]
    return _stack(wrong, columns)


def average_precision_table(scores: Scores) -> pd.DataFrame:
    """Average precision and p-values of each label, as in ``average-precision.csv``."""
    labels = {
        measure.name: measure.labels
        for measure in scores.measures
        if isinstance(measure, AveragePrecision)
    }
    columns = ["queries", "average_precision", "normalized", "p_value", "corrected_p_value"]
    return _stack(labels, ["label", *columns])


def _accuracies(scores: Scores) -> list[Accuracy]:
    return [measure for measure in scores.measures if isinstance(measure, Accuracy)]


def _stack(tables: Mapping[str, pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """One table of several, with the name of the measure in a first column ``metric``."""
    parts = [table[list(columns)].assign(metric=name) for name, table in tables.items()]
    empty = pd.DataFrame(columns=["metric", *columns])
    return pd.concat(parts, ignore_index=True)[["metric", *columns]] if parts else empty
