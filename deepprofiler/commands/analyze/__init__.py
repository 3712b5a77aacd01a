"""From features of cells to a report, in four steps: aggregate, normalize, evaluate, report.

Each step is a file. Steps that are not asked for are read from disk where what they wrote is
current, and are done first where it is not.
"""

from __future__ import annotations

from collections.abc import Iterable

from deepprofiler.commands.analyze.aggregate import aggregate_wells
from deepprofiler.commands.analyze.evaluate import evaluate_wells, write_layers
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
        the report as ``analyze.report`` says. The report is made of scores, so that ``report``
        always evaluates.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        There is no such step, or a file or package that the configuration names does not exist.
    PluginError
        A normalizer, an evaluation or a parameter does not exist.
    DataError
        No well has cells, or the normalization cannot be fitted (its message says what it needs).
    """
    settings = project.config.analyze
    chosen = _chosen_steps(steps, report=settings.report)
    last = chosen[-1]
    require_analysis(project, report="report" in chosen)
    outcome = Outcome("analyze", then=_next_command(last, str(project.report_path)))

    aggregated = aggregate_wells(project, outcome, again="aggregate" in chosen)
    if last == "aggregate":
        return outcome

    layer = aggregated.of_layer(settings.layer)
    normalized = normalize_wells(project, layer, outcome, again="normalize" in chosen)
    if last == "normalize":
        return outcome

    if "evaluate" not in chosen:
        LOG.info("the report needs scores: evaluating first")
    evaluated = evaluate_wells(project, layer, normalized, outcome)
    write_layers(project, aggregated, outcome)
    if last == "report":
        write_report(project, layer, normalized, evaluated)
        outcome.wrote.append(f"the report {project.report_path}")
    return outcome


def _chosen_steps(steps: Iterable[str] | None, *, report: bool) -> list[str]:
    """Give the steps to do, in order."""
    if steps is None:
        return list(STEPS if report else STEPS[:-1])
    names = list(steps)
    for name in names:
        if name not in STEPS:
            raise ConfigError(
                f"--steps: no step {name or '(blank)'}{nearest(name, STEPS)}; there are "
                f"{', '.join(STEPS)}"
            )
    if not names:
        raise ConfigError(f"--steps: name at least one of {', '.join(STEPS)}")
    return [step for step in STEPS if step in names]


def _next_command(last: str, report: str) -> str:
    """Say what to do after the last step."""
    if last == "report":
        return f"open {report}"
    return f"analyze --steps {STEPS[STEPS.index(last) + 1]}"
