"""Score profiles and their baselines under one protocol, by what the index knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from deepprofiler.columns import COUNT
from deepprofiler.errors import DataError
from deepprofiler.evaluation.accuracy import Accuracy
from deepprofiler.evaluation.evaluations import Evaluation, all_evaluations, choose
from deepprofiler.evaluation.measure import Measure
from deepprofiler.evaluation.resampling import Interval, percentiles
from deepprofiler.evaluation.retrieval import AveragePrecision
from deepprofiler.evaluation.screen import Screen
from deepprofiler.evaluation.similarity import nearest_profiles
from deepprofiler.files import replacing
from deepprofiler.profiling.averages import cell_count_profiles
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.project import Project

# The accuracies that reports begin with; what else is computed stands beside them.
_MAIN = ("NSC", "NSCB", "gene accuracy", "replicate accuracy")
SHUFFLES = 20


@dataclass(frozen=True)
class Scores:
    """The results of one method.

    Attributes
    ----------
    name, about : str
        As it stands in a sentence, and one line on what it is.
    results : dict
        NSC, NSCB, gene and replicate accuracy by name, as far as they were computed.
    measures : dict
        All other results by name.
    undefined : dict
        Name of an evaluation to the reason why it has no value.
    """

    name: str
    about: str
    results: dict[str, Accuracy] = field(default_factory=dict)
    measures: dict[str, Measure] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)

    @property
    def all(self) -> list[Measure]:
        """Every result."""
        return [*self.results.values(), *self.measures.values()]

    def add(self, measure: Measure) -> None:
        """Take one more result."""
        if isinstance(measure, Accuracy) and measure.name in _MAIN:
            self.results[measure.name] = measure
        else:
            self.measures[measure.name] = measure


def score(project: Project, wells: Profiles, *, name: str, about: str) -> Scores:
    """Evaluate profiles as the project's config says.

    Parameters
    ----------
    project : Project
        Its ``analyze.evaluate`` names evaluations; by default all that the index allows.
    wells : Profiles
        Normalized profiles of wells, controls too; wells with too few cells take no part.
    name, about : str
        See :class:`Scores`.

    Raises
    ------
    ConfigError
        An evaluation or a parameter does not exist, or a value cannot be used.
    """
    scores = Scores(name, about)
    screen = Screen.of(project, wells)
    for evaluation in chosen_evaluations(project, screen):
        why = evaluation.missing(screen)
        if not why:
            try:
                for measure in evaluation.compute(screen):
                    scores.add(measure)
            except DataError as error:
                why = str(error)
        if why:
            scores.undefined[evaluation.title] = why
    return scores


def shuffled_scores(project: Project, wells: Profiles) -> Scores:
    """Evaluate profiles whose labels are dealt out anew: what labels without meaning reach.

    Mechanisms are dealt among compounds, genes among treatments, treatments among wells. Values are
    means of the shuffles, and intervals hold 95 % of these. Parameters as for :func:`score`.
    """
    scores = Scores(
        "shuffled labels",
        f"the same profiles, their labels dealt out anew; mean of {SHUFFLES} shuffles",
    )
    screen = Screen.of(project, wells)
    for role in ("mechanism", "gene", "treatment"):
        chosen = [
            one
            for one in chosen_evaluations(project, screen)
            if one.shuffles == role and not one.missing(screen)
        ]
        try:
            dealt = list(screen.deals(role, SHUFFLES)) if chosen else []
        except DataError as error:
            scores.undefined.update({one.title: str(error) for one in chosen})
            continue
        for evaluation in chosen:
            try:
                for measures in zip(*map(evaluation.compute, dealt), strict=True):
                    scores.add(_mean(measures, role))
            except DataError as error:
                scores.undefined[evaluation.title] = str(error)
    return scores


def count_scores(project: Project, wells: Profiles) -> Scores:
    """Score the number of cells alone."""
    return score(
        project,
        cell_count_profiles(wells, count=COUNT),
        name="the cell count",
        about="one number a well: how many cells it has",
    )


def chosen_evaluations(project: Project, screen: Screen) -> list[Evaluation]:
    """Evaluations that were asked for, or those that the roles allow."""
    asked = project.config.analyze.evaluate
    if asked is not None:
        return choose(asked)
    if not len(screen.wells):
        return []
    return [one for one in all_evaluations() if not one.missing(screen)]


def _mean(measures: Sequence[Measure], role: str) -> Measure:
    """Mean of a measure over shuffles of a role's labels."""
    values = np.array([measure.value for measure in measures])
    interval = percentiles(values, f"range of {len(values)} shuffles")
    chances = [measure.chance for measure in measures if measure.chance is not None]
    return replace(
        measures[0],
        value=float(values.mean()),
        chance=float(np.mean(chances)) if chances else None,
        exact=interval,
        by_compound=interval,
        p_value=None,
        notes=(f"mean of {len(values)} shuffles of the {role}s",),
    )


SCORES = (
    "method",
    "metric",
    "value",
    "n",
    "unit",
    "left_out",
    "low",
    "high",
    "low_over_compounds",
    "high_over_compounds",
    "chance",
    "p_value",
    "similarity",
    "null",
)
_LABEL = ("label", "queries", "average_precision", "normalized", "p_value", "corrected_p_value")
_VOTES = ("label", "predicted", "units")
_WRONG = ("unit", "label", "nearest", "nearest_label", "similarity", "right")
_NEIGHBOURS = ("treatment", "group", "rank", "neighbour", "neighbour_group", "similarity")
_NEAREST = 5


def write_scores(project: Project, methods: Sequence[Scores], screen: Screen) -> None:
    """Write ``scores.csv`` of all methods, and the matches of the first one.

    Parameters
    ----------
    project : Project
    methods : sequence of Scores
    screen : Screen
        The profiles that the first method is of.
    """
    rows = [_row(method.name, measure) for method in methods for measure in method.all]
    _write(project, "scores.csv", pd.DataFrame(rows, columns=list(SCORES)))
    found = methods[0].all
    accuracies = [one for one in found if isinstance(one, Accuracy)]
    _write(project, "confusion.csv", _stack({one.name: one.votes for one in accuracies}, _VOTES))
    # Wells have no names of their own: their wrong matches say nothing that confusions do not.
    wrong = {one.name: one.wrong for one in accuracies if one.unit != "profiles"}
    _write(project, "wrong-matches.csv", _stack(wrong, _WRONG))
    labels = {one.name: one.labels for one in found if isinstance(one, AveragePrecision)}
    _write(project, "average-precision.csv", _stack(labels, _LABEL))
    if screen.has("treatment"):
        _write(project, "neighbours.csv", neighbours(screen))
    else:
        project.profiles_path("neighbours.csv").unlink(missing_ok=True)


def _row(method: str, measure: Measure) -> dict[str, object]:
    exact, compounds = measure.exact, measure.by_compound
    return {
        "method": method,
        "metric": measure.name,
        "value": measure.value,
        "n": measure.n,
        "unit": measure.unit,
        "left_out": measure.total - measure.n,
        "low": _bound(exact, "low"),
        "high": _bound(exact, "high"),
        "low_over_compounds": _bound(compounds, "low"),
        "high_over_compounds": _bound(compounds, "high"),
        "chance": measure.chance,
        "p_value": measure.p_value,
        "similarity": measure.metric,
        "null": measure.null,
    }


def _bound(interval: Interval | None, side: str) -> float | None:
    return None if interval is None else float(getattr(interval, side))


def _stack(tables: dict[str, pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """One table of several, the metric's name first."""
    parts = [table[list(columns)].assign(metric=name) for name, table in tables.items()]
    empty = pd.DataFrame(columns=["metric", *columns])
    return pd.concat(parts, ignore_index=True)[["metric", *columns]] if parts else empty


def neighbours(screen: Screen) -> pd.DataFrame:
    """Find the five nearest treatments of other compounds of each treatment.

    Parameters
    ----------
    screen : Screen

    Returns
    -------
    DataFrame
        Columns ``treatment, group, rank, neighbour, neighbour_group, similarity``; the group is the
        mechanism, else the gene, else blank. Empty where there is no neighbour.
    """
    try:
        profiles = screen.treatments
        treatment = screen.column("treatment")
        roles = [role for role in ("mechanism", "gene") if screen.has(role)]
        group = screen.column(roles[0]) if roles else treatment
        group = group if group in profiles.metadata else treatment
        found = nearest_profiles(
            profiles,
            name=treatment,
            controls=None,
            differ=[screen.column("compound")],
            count=_NEAREST,
            metric=screen.metric,
            shown=[group],
        )
    except DataError:
        # What is wrong with the profiles is said where they are scored.
        return pd.DataFrame(columns=list(_NEIGHBOURS))
    return pd.DataFrame(
        {
            "treatment": found[treatment],
            "group": found[group] if roles else "",
            "rank": found["rank"],
            "neighbour": found[f"neighbour_{treatment}"],
            "neighbour_group": found[f"neighbour_{group}"] if roles else "",
            "similarity": found["similarity"],
        }
    )


def _write(project: Project, name: str, table: pd.DataFrame) -> None:
    with replacing(project.profiles_path(name)) as temporary:
        table.to_csv(temporary, index=False)
