"""From single cells to evaluated treatments: average, normalize, match, report."""

from __future__ import annotations

from collections.abc import Iterable

from deepprofiler.columns import FLAG
from deepprofiler.commands.analyze.aggregate import (
    Gathered,
    gather,
    main_layer,
    read_aggregated,
    write_aggregated,
)
from deepprofiler.commands.analyze.evaluate import baselines, classical, corrections, write_layers
from deepprofiler.commands.analyze.normalize import (
    Normalized,
    normalize,
    read_normalized,
    write_treatments,
)
from deepprofiler.commands.analyze.report import write_report
from deepprofiler.commands.analyze.requirements import require_analysis
from deepprofiler.commands.profile import RANDOM, profile
from deepprofiler.errors import ConfigError, nearest
from deepprofiler.evaluation.scores import Scores, score, write_scores
from deepprofiler.evaluation.screen import Screen, unnamed
from deepprofiler.project import Project
from deepprofiler.project.outcome import LOG, Outcome

STEPS = ("aggregate", "normalize", "evaluate", "report")


def analyze(project: Project, *, steps: Iterable[str] | None = None) -> Outcome:
    """Write ``outputs/<experiment>/profiles`` and ``report/index.html``.

    Parameters
    ----------
    project : Project
    steps : iterable of str, optional
        Of ``aggregate``, ``normalize``, ``evaluate`` and ``report``, those to do; by default all,
        the report as ``analyze.report`` says. The others are taken from what is in ``profiles``;
        where that is missing or was made otherwise, they are done first. The report is drawn from
        an evaluation, which is done with it.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        There is no such step, or a name in the config does not exist.
    DataError
        No well has cells, or the normalization cannot be fitted (its message says what it needs).
    """
    settings = project.config.analyze
    asked = _asked(steps, report=settings.report)
    require_analysis(project, report="report" in asked)
    outcome = Outcome("analyze", then=_then(project, asked))
    everything = _aggregated(project, outcome, again="aggregate" in asked)
    if asked == ["aggregate"]:
        return outcome
    gathered = everything.of_layer(main_layer(project, everything.origin))
    done = _normalized(project, gathered, outcome, again="normalize" in asked)
    if asked[-1] == "normalize":
        return outcome
    if "evaluate" not in asked:
        LOG.info("the report needs an evaluation: evaluating first")
    methods, corrected = _evaluated(project, gathered, done, outcome)
    write_layers(project, everything, outcome)
    if "report" in asked:
        write_report(project, gathered, done, methods, corrected)
        outcome.wrote.append(f"the report {project.report_path}")
    return outcome


def _asked(steps: Iterable[str] | None, *, report: bool) -> list[str]:
    """Give the steps to do, in their order."""
    if steps is None:
        return list(STEPS if report else STEPS[:-1])
    named = list(steps)
    for name in named:
        if name not in STEPS:
            raise ConfigError(
                f"--steps: no step {name or '(blank)'}{nearest(name, STEPS)}; there are "
                f"{', '.join(STEPS)}"
            )
    if not named:
        raise ConfigError(f"--steps: name at least one of {', '.join(STEPS)}")
    return [step for step in STEPS if step in named]


def _then(project: Project, asked: list[str]) -> str:
    if asked[-1] == "report":
        return f"open {project.report_path}"
    return f"analyze --steps {STEPS[STEPS.index(asked[-1]) + 1]}"


def _aggregated(project: Project, outcome: Outcome, *, again: bool) -> Gathered:
    """Average the cells of each well, or read the averages; all layers."""
    found = None
    if not again:
        found, why = read_aggregated(project)
        if found is None:
            LOG.info("%s: aggregating first", why)
    if found is None:
        if not all(
            project.well_path(well.plate, well.well).exists() for well in project.index.wells()
        ):
            LOG.info("wells have no features yet: running profile first")
            profiled = profile(project)
            outcome.left_out = {f"{what} (profile)": n for what, n in profiled.left_out.items()}
        found = gather(project)
        write_aggregated(project, found)
        outcome.wrote.append(f"averages of {len(found.wells)} wells to {project.profiles_folder}")
    if found.not_finite:
        outcome.left_out["cells with features that are not finite"] = found.not_finite
    if found.unknown_sites:
        outcome.notes.append(
            f"cells of {found.unknown_sites} site(s) that the index does not have took no part"
        )
    if none := len(found.counts) - len(found.wells):
        outcome.notes.append(f"{none} well(s) without cells are in counts.csv only")
    if few := int(found.wells.values(FLAG).sum()):
        outcome.notes.append(
            f"{few} well(s) with fewer than {project.config.analyze.min_cells} cells took no part "
            "in any fit or score; they are in the tables, flagged"
        )
    return found


def _normalized(
    project: Project, gathered: Gathered, outcome: Outcome, *, again: bool
) -> Normalized:
    """Normalize the wells of one layer, or read them."""
    found = None
    if not again:
        found, why = read_normalized(project, gathered)
        if found is None:
            LOG.info("%s: normalizing first", why)
    if found is None:
        found = normalize(project, gathered)
        outcome.wrote.append(f"{len(found.wells)} normalized wells to {project.profiles_folder}")
    write_treatments(project, found.wells)
    if project.index.has("treatment") and (n := int(unnamed(project.index, found.wells).sum())):
        outcome.notes.append(f"{n} well(s) with a blank treatment are in no treatment's profile")
    if lost := len(gathered.wells) - len(found.wells):
        outcome.notes.append(
            f"{lost} well(s) cannot be normalized, and are only in wells-unnormalized.parquet: "
            f"they have fewer than {project.config.analyze.min_cells} cells, and no well of their "
            "plate or batch has more, or a step knows only the wells of its fit"
        )
    return found


def _evaluated(
    project: Project, gathered: Gathered, done: Normalized, outcome: Outcome
) -> tuple[list[Scores], dict[str, Scores]]:
    """Score the profile, its baselines and other corrections, and write what came of it."""
    settings = project.config.analyze
    untrained = gathered.origin.checkpoint.startswith(RANDOM)
    methods = [
        score(
            project,
            done.wells,
            name="the untrained profile" if untrained else "the learned profile",
            about=f"{project.config.train.model.name}, weights {gathered.origin.checkpoint}",
        )
    ]
    if settings.baselines and (methods[0].results or methods[0].undefined):
        methods += baselines(project, gathered, done, outcome)
    methods += classical(project, gathered, outcome)
    corrected = corrections(project, gathered, done, methods[0], outcome)
    others = [scores for scores in corrected.values() if scores is not methods[0]]
    write_scores(project, [*methods, *others], Screen.of(project, done.wells))
    outcome.wrote.append(f"scores to {project.profiles_path('scores.csv')}")
    for name, result in methods[0].results.items():
        outcome.notes.append(
            f"{result}; {'; '.join(result.notes)}" if result.notes else f"{result}"
        )
        for other in methods[1:]:
            if name in other.results:
                outcome.notes.append(f"  {other.name}: {other.results[name]}")
    outcome.notes += [f"{what}: {why}" for what, why in methods[0].undefined.items()]
    outcome.notes += [
        f"{other.name}: {what}: {why}"
        for other in methods[1:]
        for what, why in other.undefined.items()
        if what not in methods[0].undefined
    ]
    return methods, corrected
