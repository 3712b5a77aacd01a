"""From single cells to evaluated treatments: average, normalize, match, report."""

from __future__ import annotations

from collections.abc import Iterable

from deepprofiler.commands.analyze.aggregate import aggregate_wells
from deepprofiler.commands.analyze.evaluate import evaluate, write_layers
from deepprofiler.commands.analyze.normalize import normalize_wells
from deepprofiler.commands.analyze.report import write_report
from deepprofiler.commands.analyze.requirements import require_analysis
from deepprofiler.errors import ConfigError, nearest
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
    aggregated = aggregate_wells(project, outcome, again="aggregate" in asked)
    if asked == ["aggregate"]:
        return outcome
    layer = aggregated.of_layer(settings.layer)
    normalized = normalize_wells(project, layer, outcome, again="normalize" in asked)
    if asked[-1] == "normalize":
        return outcome
    if "evaluate" not in asked:
        LOG.info("the report needs scores: evaluating first")
    evaluated = evaluate(project, layer, normalized, outcome)
    write_layers(project, aggregated, outcome)
    if "report" in asked:
        write_report(project, layer, normalized, evaluated)
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
