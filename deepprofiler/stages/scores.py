"""Score profiles and their baselines under one protocol, by what the index knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.metadata import COUNT
from deepprofiler.profiling.accuracy import Accuracy
from deepprofiler.profiling.aggregate import cell_count_profiles
from deepprofiler.profiling.measure import Measure
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.resampling import percentiles
from deepprofiler.project import Project
from deepprofiler.stages.evaluations import EVALUATIONS, Evaluation, choose
from deepprofiler.stages.screen import Screen

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
    return [one for one in EVALUATIONS.values() if not one.missing(screen)]


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
