"""The step ``evaluate``: score the profile, its baselines, other normalizations, and all layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from deepprofiler.commands import run_earlier
from deepprofiler.commands.analyze.aggregate import AggregatedWells, average_wells
from deepprofiler.commands.analyze.classical import classical_wells
from deepprofiler.commands.analyze.normalize import Normalization, NormalizedWells
from deepprofiler.errors import DataError, install_extra
from deepprofiler.evaluation.accuracy import Accuracy
from deepprofiler.evaluation.evaluations import Evaluation, applicable_evaluations, choose
from deepprofiler.evaluation.neighbours import neighbours_table
from deepprofiler.evaluation.scores import (
    Scores,
    average_precision_table,
    confusion_table,
    count_scores,
    score,
    scores_table,
    shuffled_scores,
    wrong_matches_table,
)
from deepprofiler.evaluation.screen import Screen
from deepprofiler.files import replacing
from deepprofiler.parameters import Choice
from deepprofiler.profiling.averages import with_enough_cells
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.tvn import TVN, AuthorsTVN, EfaarTVN
from deepprofiler.project import Project
from deepprofiler.project.outcome import LOG, Outcome
from deepprofiler.project.well_file import read_provenance_if_usable
from deepprofiler.report.wording import measure_text, note_text, undefined_text

PLAIN = "without normalization"
_TVN = (TVN.name, AuthorsTVN.name, EfaarTVN.name)


@dataclass(frozen=True)
class Evaluated:
    """Scores of an experiment.

    Attributes
    ----------
    screen : Screen
        The normalized wells that the profile's scores are of.
    methods : list of Scores
        The profile first, then its baselines.
    normalizations : dict
        Names such as ``standardize + tvn`` to the scores of the same features under each; the
        profile's own scores are among them.
    neighbours : DataFrame or None
        The table of ``neighbours.csv``; None where the index has no treatments.
    """

    screen: Screen
    methods: list[Scores]
    normalizations: dict[str, Scores]
    neighbours: pd.DataFrame | None


def evaluate_wells(
    project: Project, aggregated: AggregatedWells, normalized: NormalizedWells, outcome: Outcome
) -> Evaluated:
    """Score the profile, its baselines and other normalizations, and write the tables.

    Parameters
    ----------
    project : Project
    aggregated : AggregatedWells
        Of the layer that the profile is made of.
    normalized : NormalizedWells
    outcome : Outcome
        Takes the scores, and notes on what cannot be computed.

    Raises
    ------
    ConfigError
        An evaluation or a parameter does not exist, or a value cannot be used.
    """
    settings = project.config.analyze
    protocol = Protocol.of(project)
    screen = protocol.screen(normalized.wells)
    weights = aggregated.provenance
    profile_scores = score(
        screen,
        protocol.evaluations,
        name="the learned profile" if weights.trained else "the untrained profile",
        description=f"{project.config.train.model.name}, weights {weights.checkpoint}",
    )
    methods = [profile_scores]
    if settings.baselines and (profile_scores.main or profile_scores.undefined):
        methods += _random_weights(project, protocol, aggregated, outcome.notes)
        if project.config.crops.mode == "cells":
            methods.append(count_scores(screen, protocol.evaluations))
        else:
            outcome.notes.append("no baseline of cell counts: crops are not of single cells")
        methods.append(shuffled_scores(screen, protocol.evaluations))
    methods += _classical(project, protocol, aggregated.wells, outcome)
    normalizations = score_normalizations(
        protocol,
        aggregated,
        normalized,
        profile_scores,
        every=settings.baselines,
        notes=outcome.notes,
    )
    evaluated = Evaluated(
        screen,
        methods,
        normalizations,
        neighbours_table(screen) if screen.has("treatment") else None,
    )
    _write_tables(project.profiles_folder, evaluated)
    outcome.wrote.append(f"scores to {project.profiles_path('scores.csv')}")
    outcome.notes += _notes(methods)
    return evaluated


@dataclass(frozen=True)
class Protocol:
    """How profiles are normalized and scored: the same for the profile, baselines and layers.

    Attributes
    ----------
    roles : mapping
        Role to column.
    options : mapping
        Further arguments of :class:`~deepprofiler.evaluation.screen.Screen`.
    evaluations : mapping or None
        Configured evaluations; None: all that a screen allows.
    normalization : Normalization
    """

    roles: Mapping[str, str]
    options: Mapping[str, Any]
    evaluations: Mapping[str, Evaluation] | None
    normalization: Normalization

    @classmethod
    def of(cls, project: Project) -> Protocol:
        """Read all of it from configuration and index."""
        settings, index = project.config.analyze, project.index
        options = {
            "control": index.control,
            "aggregate": settings.aggregate,
            "weight": settings.weight,
            "seed": project.config.dataset.seed,
        }
        evaluations = None if settings.evaluate is None else choose(settings.evaluate)
        return cls(index.roles, options, evaluations, Normalization.of(project))

    def screen(self, wells: Profiles) -> Screen:
        """Screen of normalized wells."""
        return Screen(wells, self.roles, **self.options)

    def normalize(
        self, wells: Profiles, cells: CellMoments | None, steps: tuple[Choice, ...]
    ) -> Screen:
        """Fit steps on wells and the controls' cells, and apply them.

        Raises
        ------
        DataError
            A step cannot be fitted.
        """
        chain = self.normalization.fit(wells, cells, steps)
        return self.screen(chain.transform(wells.subset(chain.covers(wells))))


# Baselines.


def _random_weights(
    project: Project, protocol: Protocol, aggregated: AggregatedWells, notes: list[str]
) -> Iterator[Scores]:
    """Score the same network with random weights, if the profile is not of these itself."""
    seed = project.config.dataset.seed
    try:
        baseline = f"random-{seed}"
        if not _is_of_earlier_release(project, baseline, aggregated):
            run_earlier(project, "profile", "baseline of random weights", random_seed=seed)
        (layer,) = aggregated.layers
        untrained = average_wells(project, baseline).of_layer(layer)
        if untrained.provenance.digest == aggregated.provenance.digest:
            return
        steps = protocol.normalization.steps_for(aggregated.wells)
        screen = protocol.normalize(untrained.wells, untrained.cells, steps)
    except DataError as error:
        # Profiles and scores do not depend on it; the images may be elsewhere.
        notes.append(f"no baseline of random weights: {error}")
        return
    yield score(
        screen,
        protocol.evaluations,
        name="random weights",
        description=f"the same network with random weights, seed {seed}, normalized the same way",
    )


def _is_of_earlier_release(project: Project, baseline: str, aggregated: AggregatedWells) -> bool:
    """Whether all features, the baseline's too, are of a release that did not say their origin.

    Such features are used as they are, so that an old project is analyzed without its images.
    """
    if aggregated.provenance.made_from is not None:
        return False
    for well in project.index.wells():
        stored = read_provenance_if_usable(project.well_path(well.plate, well.well, baseline))
        if stored is None or stored.made_from is not None:
            return False
    LOG.info("the features with random weights are of an earlier release: used as they are")
    return True


def _classical(
    project: Project, protocol: Protocol, wells: Profiles, outcome: Outcome
) -> Iterator[Scores]:
    """Score classical features of the same wells, if there are any."""
    try:
        features = classical_wells(project, wells, outcome)
        if features is None:
            return
        # There are no moments of another program's cells, so every step is fitted on wells.
        screen = protocol.normalize(features, None, protocol.normalization.steps_for(wells))
    except DataError as error:
        outcome.notes.append(f"no baseline of classical features: {error}")
        return
    yield score(
        screen,
        protocol.evaluations,
        name="classical features",
        description=f"{project.config.analyze.classical}, {len(features.names)} features, "
        "normalized the same way, on wells",
    )


# Other normalizations of the same features.


def score_normalizations(
    protocol: Protocol,
    aggregated: AggregatedWells,
    normalized: NormalizedWells,
    profile_scores: Scores,
    *,
    every: bool,
    notes: list[str],
) -> dict[str, Scores]:
    """Score no normalization, standardization, TVN and Harmony beside the configured steps.

    Parameters
    ----------
    protocol : Protocol
    aggregated : AggregatedWells
        Of one layer.
    normalized : NormalizedWells
    profile_scores : Scores
        Of the configured steps, which are not scored again.
    every : bool
        False: only no normalization is scored.
    notes : list of str
        Takes notes on what cannot be computed.

    Returns
    -------
    dict
        Names such as ``standardize + tvn`` to scores, in the order of a table; ``profile_scores``
        are among them.
    """
    wells = aggregated.wells
    configured = protocol.normalization.steps_for(wells)
    plain = profile_scores
    if configured:
        plain = score(
            protocol.screen(normalized.before(aggregated)),
            protocol.evaluations,
            name=PLAIN,
            description="the same wells as aggregated, without analyze.normalize",
        )
    scores = {PLAIN: plain}
    for steps in _other_normalizations(protocol, wells, notes) if every else ():
        name = _name(steps)
        if steps == configured:
            scores[name] = profile_scores
            continue
        LOG.info("scoring the same features with %s for comparison", name)
        try:
            screen = protocol.normalize(wells, aggregated.cells, steps)
        except DataError as error:
            notes.append(f"no comparison with {name}: {error}")
            continue
        scores[name] = score(
            screen,
            protocol.evaluations,
            name=name,
            description="the same features with another normalization",
        )
    if all(profile_scores is not other for other in scores.values()):
        # The same steps with other parameters than the defaults get a name of their own.
        name = _name(configured)
        scores[f"{name}, as configured" if name in scores else name] = profile_scores
    return scores


def _other_normalizations(
    protocol: Protocol, wells: Profiles, notes: list[str]
) -> list[tuple[Choice, ...]]:
    """Steps to compare with, as far as the screen and the installation allow."""
    usable = with_enough_cells(wells)
    chains = [["standardize"]]
    if protocol.normalization.controls(usable).any():
        chains.append(["standardize", "tvn"])
    if len(set(usable.values(protocol.roles["batch"]))) > 1:
        if find_spec("harmonypy") is None:
            notes.append(f"no comparison with Harmony: {install_extra('harmony')}")
        else:
            chains.append(["standardize", "harmony"])
    return [tuple(Choice(name=name) for name in names) for names in chains]


def _name(steps: tuple[Choice, ...]) -> str:
    return " + ".join(step.name for step in steps)


# Tables and notes.


def _write_tables(folder: Path, evaluated: Evaluated) -> None:
    """Write the scores of all methods, and the matches of the profile."""
    profile_scores, *baselines = evaluated.methods
    others = [
        scores for scores in evaluated.normalizations.values() if scores is not profile_scores
    ]
    tables = {
        "scores.csv": scores_table([profile_scores, *baselines, *others]),
        "confusion.csv": confusion_table(profile_scores),
        "wrong-matches.csv": wrong_matches_table(profile_scores),
        "average-precision.csv": average_precision_table(profile_scores),
        "neighbours.csv": evaluated.neighbours,
    }
    for name, table in tables.items():
        if table is None:
            (folder / name).unlink(missing_ok=True)
        else:
            _write(folder / name, table)


def _write(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def _notes(methods: Sequence[Scores]) -> Iterator[str]:
    """Main accuracies of the profile and its baselines in words, and what is undefined."""
    profile_scores, *baselines = methods
    for key, result in profile_scores.main.items():
        yield "; ".join([measure_text(result), *map(note_text, result.notes)])
        for other in baselines:
            if key in other.main:
                yield f"  {other.name}: {measure_text(other.main[key])}"
    for reason in profile_scores.undefined.values():
        yield f"{reason.title}: {undefined_text(reason)}"
    for other in baselines:
        for key, reason in other.undefined.items():
            if key not in profile_scores.undefined:
                yield f"{other.name}: {reason.title}: {undefined_text(reason)}"


# Layers.


def write_layers(project: Project, aggregated: AggregatedWells, outcome: Outcome) -> None:
    """Write ``layers.csv``, the paper's Figure 7: accuracies by layer and normalization.

    With one layer, nothing is written, and an earlier table is removed.

    Parameters
    ----------
    project : Project
    aggregated : AggregatedWells
        Of all layers.
    outcome : Outcome
        Takes notes on layers that cannot be normalized.
    """
    path = project.profiles_path("layers.csv")
    if len(aggregated.layers) < 2:
        path.unlink(missing_ok=True)
        return
    LOG.info("scoring %d layers", len(aggregated.layers))
    _write(path, layers_table(Protocol.of(project), aggregated, outcome.notes))


def layers_table(protocol: Protocol, aggregated: AggregatedWells, notes: list[str]) -> pd.DataFrame:
    """Accuracies of every layer under the configured steps, these without TVN, and no steps.

    Parameters
    ----------
    protocol : Protocol
    aggregated : AggregatedWells
        Of all layers.
    notes : list of str
        Takes notes on layers that cannot be normalized.

    Returns
    -------
    DataFrame
        ``layer``, ``normalization``, ``metric``, ``value``, ``n``, and ``low`` and ``high`` of the
        exact interval.
    """
    rows = []
    for layer in aggregated.layers:
        features = aggregated.of_layer(layer)
        for steps in _with_and_without_tvn(protocol.normalization.steps_for(features.wells)):
            name = _name(steps) or "none"
            try:
                screen = protocol.normalize(features.wells, features.cells, steps)
            except DataError as error:
                notes.append(f"layers.csv lacks {layer} with {name}: {error}")
                continue
            rows += [
                (
                    layer,
                    name,
                    result.name,
                    result.value,
                    result.n,
                    result.exact.low,
                    result.exact.high,
                )
                for result in _accuracies(protocol, screen)
            ]
    columns = ["layer", "normalization", "metric", "value", "n", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _with_and_without_tvn(steps: tuple[Choice, ...]) -> list[tuple[Choice, ...]]:
    """Give the configured steps, these without TVN, and none; each once."""
    without = tuple(step for step in steps if step.name not in _TVN)
    by_name = {_name(chain): chain for chain in (steps, without, ())}
    return list(by_name.values())


def _accuracies(protocol: Protocol, screen: Screen) -> Iterator[Accuracy]:
    """Accuracies that are listed by layer; those that are undefined are left out."""
    evaluations = protocol.evaluations
    if evaluations is None:
        evaluations = applicable_evaluations(screen)
    listed = {key: evaluation for key, evaluation in evaluations.items() if evaluation.by_layer}
    scores = score(screen, listed, name="a layer")
    for key in listed:
        for measure in scores.of(key):
            if isinstance(measure, Accuracy):
                yield measure
